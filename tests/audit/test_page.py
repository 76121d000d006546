"""The page: what is on it, and that it works in a real browser without a network."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests import chromium
from tests.audit.fabricated import PROFILES, fabricate
from tpmtls.audit.answer import QUESTION, answer
from tpmtls.audit.derivations import Scene
from tpmtls.audit.drawing import HEIGHT, Drawing, width_of
from tpmtls.audit.exposure import Exposure, carried, exposure, host_memory, places
from tpmtls.audit.html import page
from tpmtls.audit.model import (
    Audit,
    Cell,
    Crossed,
    Moment,
    Observation,
    SecretSeen,
    Stay,
    Step,
    Unavailable,
)
from tpmtls.audit.verdicts import cells

MOMENTS = (Moment("before", 0, 0, 1), Moment("1 ServerHello", 1, 2, 5), Moment("after", 0, 6, 9))
OUT = Crossed("tpm", "out", "TPM2_HMAC", "clear", 3)
HIDDEN = replace(OUT, direction="in", via="TPM2_Load", visibility="encrypted", times=2)


@cache
def audit() -> Audit:
    observations = [fabricate(profile) for profile in PROFILES]
    return Audit("1.2", "2026-01-02", observations, [c for o in observations for c in cells(o)])


def secret(*crossings: Crossed, stays: tuple[Stay, ...] = ()) -> SecretSeen:
    return SecretSeen(1, "main_secret", "", "TPM2_HMAC", stays, crossings)


def observation(*secrets: SecretSeen) -> Observation:
    suite = "TLS_AES_128_GCM_SHA256"
    return Observation(
        "x",
        "X",
        suite,
        "secp256r1",
        None,
        psk=False,
        early_data=False,
        moments=MOMENTS,
        secrets=secrets,
    )


# -- how far a secret is exposed -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (secret(OUT, HIDDEN, stays=(Stay("tpm", 3, 9), Stay("host", 1, 9))), Exposure.HOST),
        (secret(stays=(Stay("host", 3, 3),)), Exposure.HOST),
        (secret(OUT, HIDDEN, stays=(Stay("host", 3, 3),)), Exposure.PASSES),
        (secret(stays=(Stay("model", 3, 9), Stay("host", 3, 4))), Exposure.PASSES),
        (secret(OUT, HIDDEN, stays=(Stay("tpm", 3, 3),)), Exposure.PASSES),
        (secret(HIDDEN, stays=(Stay("tpm", 3, 3),)), Exposure.ENCRYPTED),
        (secret(stays=(Stay("model", 3, 3),)), Exposure.INSIDE),
        (secret(), Exposure.ABSENT),
    ],
)
def test_the_worst_counts(seen: SecretSeen, expected: Exposure) -> None:
    assert exposure(seen) is expected


def test_places_and_crossings_are_said_by_moments() -> None:
    seen = secret(OUT, HIDDEN, stays=(Stay("tpm", 1, 4), Stay("host", 9, 9, stored=True)))
    assert places(observation(), seen) == (
        "tpm: before – 1 ServerHello",
        "disk, in clear: after",
    )
    assert carried(observation(), seen) == (
        "1 ServerHello: TPM2_HMAC out, clear; TPM2_Load in ×2, encrypted",
    )
    assert host_memory(observation(), seen) == ("", "at times", "at times")
    assert host_memory(observation(), secret(stays=(Stay("host", 2, 8),))) == (
        *("", "always", "at times"),
    )


# -- the drawing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_secret_has_a_box_and_no_two_boxes_overlap(profile: str) -> None:
    scene = Scene(fabricate(profile))
    drawings = [Drawing(scene, connection) for connection in scene.connections]
    drawn = {node.id for drawing in drawings for node in drawing.nodes}
    assert {scene.canonical(each) for each in scene.observation.secrets} <= drawn
    for drawing in drawings:
        for at, one in enumerate(drawing.nodes):
            assert width_of(one.name) <= one.width, f"{one.name} sticks out"
            assert one.right <= drawing.width
            assert one.y + HEIGHT <= drawing.height
            for other in drawing.nodes[at + 1 :]:
                apart = one.right <= other.x or other.right <= one.x
                assert apart or abs(one.y - other.y) >= HEIGHT, (one, other)


# -- the page --------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """All tags with their attributes, and whether they are nested well."""

    VOID = frozenset({"meta", "br", "wbr"})
    EMPTY = frozenset({"path", "rect", "circle", "use"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.EMPTY
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


@cache
def tags() -> list[tuple[str, dict[str, str | None]]]:
    return Tags(page(audit())).tags


def test_it_is_small_and_refers_to_nothing_but_itself() -> None:
    text = page(audit())
    assert len(text.encode()) < 400_000
    assert not re.search(r"https?:|src=|@import|<link", text)
    ids = [attributes["id"] for _, attributes in tags() if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags():
        reference = attributes.get("href")
        assert reference is None or reference.removeprefix("#") in ids


def test_each_secret_is_in_the_table_and_in_the_drawing() -> None:
    rows = {a["id"] for tag, a in tags() if tag == "tr" and "id" in a}
    nodes = {(a.get("href") or "").removeprefix("#") for _, a in tags() if "aria-label" in a}
    assert len(rows) == sum(len(each.secrets) for each in audit().observations)
    assert rows <= nodes


def test_each_verdict_has_a_cell_and_each_derivation_is_there_once() -> None:
    linked = [a for tag, a in tags() if tag == "td" and "id" in a]
    assert len(linked) == sum(bool(cell.derivation or cell.note) for cell in audit().cells)
    said = page(audit()).partition("<section id=compare>")[0]
    for word in ("yes", "while there", "no", "not applicable"):
        expected = sum(cell.verdict == word for cell in audit().cells)
        assert len(re.findall(rf'class="v [a-z]+">{word}<', said)) == expected
    reasons = [a for tag, a in tags() if tag == "li" and "data-of" in a]
    assert len(reasons) == len({cell.derivation for cell in audit().cells if cell.derivation})


def test_everything_is_escaped() -> None:
    evil = "<script>alert('1')</script>&\""
    seen = SecretSeen(1, evil, evil, evil, (), (replace(OUT, via=evil),))
    moments = tuple(replace(each, name=evil) for each in MOMENTS)
    step = Step(evil, (evil,), evil)
    cell = Cell("host", evil, "forge records", "yes", (step,), evil)
    made = replace(
        observation(seen), profile=evil, title=evil, tpm=evil, claim=evil, moments=moments
    )
    missing = Unavailable(evil, evil, evil)
    text = page(Audit(evil, evil, [replace(made, group=evil)], [cell], [missing], [evil]))
    Tags(text)
    assert text.count("<script>") == 1
    assert evil not in text


def test_an_audit_without_verdicts_has_a_page() -> None:
    text = page(Audit("1", "2026-01-02", [observation(secret())], []))
    assert QUESTION in text
    assert "What each attacker can do" not in text


def test_what_is_not_possible_and_what_is_to_be_said_is_there() -> None:
    missing = Unavailable("chained", "the title", "no such TPM")
    text = page(Audit("1", "2026-01-02", [], [], [missing], ["a note"]))
    assert "<b>chained</b>, the title: not possible here. no such TPM" in text
    assert "<li>a note</li>" in text


def test_the_answer_is_that_of_the_verdicts() -> None:
    def said(verdict: Any) -> str:
        given = [Cell("host-left", "all", "resume the session elsewhere", verdict, ())]
        return next(answer(replace(audit(), cells=given)))

    assert "elsewhere with every profile;" in said("yes")
    assert "elsewhere with no profile;" in said("no")
    assert list(answer(audit()))[-1].startswith("`handle-only` is a model")
    given = [replace(c, verdict="yes" if c.profile != "sign" else "no") for c in audit().cells]
    assert "elsewhere with every profile but `sign`;" in next(answer(replace(audit(), cells=given)))


def _luminance(colour: str) -> float:
    """WCAG's relative luminance of #rgb or #rrggbb."""
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_told_from_what_is_behind_it(scheme: str) -> None:
    styles = page(audit()).partition("<style>")[2].partition("</style>")[0]
    light, _, dark = styles.partition("prefers-color-scheme: dark")
    light, dark = light.partition("}")[0], dark.partition("}")[0]
    pair = r"--(\w+): (#[0-9a-f]+)"
    colours = dict(re.findall(pair, light)) | dict(
        re.findall(pair, dark) if scheme == "dark" else ()
    )
    behind = {"fg": "bg soft b0 b1 b2 b3 b4 hatch dots", "mute": "bg soft", "link": "bg soft"}
    behind |= {f"f{kind}": f"b{kind} bg" for kind in "01234"}
    for text, backgrounds in behind.items():
        for background in backgrounds.split():
            one, other = sorted(_luminance(colours[each]) for each in (text, background))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (text, background)


# -- in a browser ----------------------------------------------------------------------------------

PROBE = """
const errors = [];
addEventListener("error", event => errors.push(event.message));
document.addEventListener("securitypolicyviolation", event => errors.push(event.blockedURI));
addEventListener("load", async () => {
  const said = {}, card = document.getElementById("card");
  const later = () => new Promise(done => setTimeout(done, 50));
  const select = selector => document.querySelector(selector);
  const sections = () => [...document.querySelectorAll("section.profile:not([hidden])")];
  const shown = () => sections().map(each => each.id).join();
  const send = (on, event) => on.dispatchEvent(event);
  const press = (on, key) => send(on, new KeyboardEvent("keydown", { key, bubbles: true }));
  said.first = shown();
  select("a[href='#all']").click();
  said.click = [shown(), location.hash];
  press(select("nav a[href='#all']"), "ArrowRight");
  said.arrow = [shown(), location.hash];
  select("nav a[href='#every-profile']").click();
  said.every = shown().split(",").length;
  location.hash = "#sign-ecdhe-hkdf";
  await later();
  said.hash = shown();
  const node = select("section:not([hidden]) svg a[aria-label^='main_secret']");
  node.dispatchEvent(new MouseEvent("mouseenter"));
  said.hover = card.hidden ? "" : card.querySelector("h4").textContent;
  said.crossings = card.textContent.includes("TPM2_HMAC out, TPM2_LoadExternal in, clear");
  node.dispatchEvent(new MouseEvent("mouseleave"));
  said.leave = card.hidden;
  node.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  node.dispatchEvent(new MouseEvent("mouseleave"));
  said.pinned = !card.hidden;
  press(document, "Escape");
  said.escape = card.hidden;
  select("section:not([hidden]) a.v").click();
  said.derivation = card.querySelectorAll("ol > li > small").length > 0;
  select("table.matrix a.v").click();
  said.matrix = card.querySelector("p b").textContent;
  document.body.click();
  const sticksOut = page => page.documentElement.scrollWidth > page.defaultView.innerWidth;
  const telephone = document.createElement("iframe");
  telephone.style = "width: 390px; height: 800px; border: 0";
  telephone.srcdoc = document.documentElement.outerHTML.replaceAll("<script", "<script type=off");
  document.body.append(telephone);
  await new Promise(done => telephone.addEventListener("load", done));
  said.width = telephone.contentDocument.defaultView.innerWidth;
  said.wide = [sticksOut(document), sticksOut(telephone.contentDocument)];
  said.errors = errors;
  document.title = JSON.stringify(said);
});
"""


def test_it_works_in_a_browser(tmp_path: Path) -> None:
    arguments = "--window-size=1280,900", "--virtual-time-budget=2000"
    said = json.loads(chromium.title(tmp_path, page(audit()), PROBE, *arguments))
    assert said == {
        "first": "software",
        "click": ["all", "#all"],
        "arrow": ["psk", "#psk"],
        "every": len(PROFILES),
        "hash": "sign-ecdhe-hkdf",
        "hover": "main_secret",
        "crossings": True,
        "leave": True,
        "pinned": True,
        "escape": True,
        "derivation": True,
        "matrix": "yes",
        "width": 390,
        "wide": [False, False],
        "errors": [],
    }


def test_it_prints(tmp_path: Path) -> None:
    file = tmp_path / "audit.pdf"
    chromium.run(tmp_path, page(audit()), f"--print-to-pdf={file}")
    printed = file.read_bytes()
    assert printed.startswith(b"%PDF-")
    assert 2 < len(re.findall(rb"/Type\s*/Page\b", printed)) < 20
