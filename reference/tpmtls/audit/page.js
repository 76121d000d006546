"use strict";
const all = selector => [...document.querySelectorAll(selector)];
const target = link => document.getElementById(decodeURIComponent(link.getAttribute("href").slice(1)));
const profiles = all("section.profile"), links = all("nav a"), card = document.getElementById("card");
const every = links.at(-1);
let opener = null, pinned = false;

// Which profile is shown is in the address.
function show(section) {
  profiles.forEach(each => { each.hidden = section !== null && each !== section; });
  links.forEach(link => {
    if (target(link) === (section ?? every)) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  });
  all("[data-of]").forEach(reason =>
    reason.classList.toggle("other", section !== null && !reason.dataset.of.split(" ").includes(section.id)));
}
function route() {
  close();
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1))), section = wanted?.closest("section.profile");
  if (wanted === every) show(null);
  else if (section) show(section);
  else if (!profiles.some(each => !each.hidden) || !links.some(link => link.hasAttribute("aria-current"))) show(profiles[0] ?? null);
  if (section && wanted !== section) wanted.scrollIntoView({ block: "center" });
}
links.forEach((link, at) => {
  link.addEventListener("click", event => { event.preventDefault(); history.pushState(null, "", link.getAttribute("href")); route(); });
  link.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = links[(at + step + links.length) % links.length];
    next.focus();
    next.click();
  });
});

// The card beside what is pointed at. It says what the row, or the cell, of a table says.
const make = (tag, ...content) => { const made = document.createElement(tag); made.append(...content); return made; };
const contents = node => [...node.cloneNode(true).childNodes];
function secret(row) {
  const heads = [...row.closest("table").tHead.rows[0].cells], list = make("dl");
  [...row.cells].slice(1).forEach((cell, at) => {
    if (!cell.textContent && !cell.firstElementChild) return;
    const said = make("dd", ...contents(cell));
    said.className = cell.className;
    list.append(make("dt", heads[at + 1].textContent), said);
  });
  let above = row;
  while (above.className === "part") above = above.previousElementSibling;
  const names = above === row ? [row] : [above, row], code = make("code", names.map(each => each.cells[0].textContent).join("/")), link = make("a", "row in the table");
  link.href = `#${row.id}`;
  return [make("h4", code), list, make("p", link)];
}
function verdict(cell) {
  const attacker = cell.parentElement.cells[0].textContent, goal = cell.closest("table").tHead.rows[0].cells[cell.cellIndex].textContent;
  const profile = cell.closest("section").querySelector("h2").textContent, found = [make("h4", `${attacker}: ${goal}`), make("p", profile, ": ")];
  const word = cell.firstElementChild, note = cell.querySelector("small");
  found[1].append(make("b", word.firstChild.textContent));
  if (note) found[1].append(`, ${note.textContent}`);
  if (word.matches("a")) found.push(...contents(target(word)));
  return found;
}
function open(link, pin) {
  const found = target(link), cell = found?.matches("td") ? found : link.closest("td");
  if (!found) return;
  close();
  const shut = make("button", "×");
  shut.setAttribute("aria-label", "close");
  shut.addEventListener("click", () => { const last = opener; close(); last?.focus(); });
  card.replaceChildren(shut, ...(found.matches("tr") ? secret(found) : verdict(cell)));
  card.hidden = false;
  opener = link;
  pinned = pin;
  link.classList.add("open");
  const box = (link.querySelector("use") ?? link).getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = card;
  const below = box.bottom + 8 + height <= innerHeight || box.top < height + 8;
  card.style.left = `${Math.max(8, Math.min(box.left, document.documentElement.clientWidth - width - 8)) + scrollX}px`;
  card.style.top = `${(below ? box.bottom + 8 : box.top - height - 8) + scrollY}px`;
}
function close() {
  opener?.classList.remove("open");
  opener = null;
  pinned = false;
  card.hidden = true;
}
all("svg.schedule a, a.v").forEach(link => {
  const node = link.closest("svg");
  if (node) {
    link.addEventListener("mouseenter", () => { if (!pinned) open(link, false); });
    link.addEventListener("mouseleave", () => { if (!pinned) close(); });
    link.addEventListener("focus", () => { if (opener !== link && link.matches(":focus-visible")) open(link, true); });
  }
  link.addEventListener("click", event => { event.preventDefault(); event.stopPropagation(); open(link, true); });
});
document.addEventListener("click", event => { if (!card.contains(event.target)) close(); });
document.addEventListener("keydown", event => { if (event.key === "Escape" && opener) { const last = opener; close(); last.focus(); close(); } });
addEventListener("hashchange", route);
addEventListener("popstate", route);
document.documentElement.classList.add("js");
route();
