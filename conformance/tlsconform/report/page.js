"use strict";
const rows = [...document.querySelectorAll("details.row")];
const choice = name => document.getElementById(name);
const controls = ["verdict", "role", "level", "text"].map(choice);
function apply() {
  const [verdict, role, level, text] = controls.map(control => control.value.toLowerCase());
  let shown = 0;
  for (const row of rows) {
    const fits = (!verdict || row.dataset.verdict === verdict) && (!role || row.dataset.role === role)
      && (!level || row.dataset.level === level) && (!text || row.textContent.toLowerCase().includes(text));
    row.hidden = !fits;
    shown += fits;
  }
  choice("shown").textContent = `${shown} of ${rows.length}`;
}
controls.forEach(control => control.addEventListener("input", apply));
choice("reset").addEventListener("click", () => { controls.forEach(c => { c.value = ""; }); apply(); });
document.querySelectorAll("[data-show]").forEach(link => link.addEventListener("click", () => {
  choice("verdict").value = link.dataset.show; choice("role").value = link.dataset.of; apply();
}));
addEventListener("beforeprint", () => rows.forEach(row => { row.open = row.dataset.verdict === "violates"; }));
apply();
