"""One self-contained page: the key schedule as a picture for each profile, secrets, attackers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Final

from tpmtls.audit.answer import QUESTION, answer
from tpmtls.audit.attackers import ATTACKERS, GOALS, VERDICTS, Attacker
from tpmtls.audit.derivations import Connection, Scene
from tpmtls.audit.exposure import Exposure, carried, exposure, places
from tpmtls.audit.figures import NUMBERS, TICK, Figures, icon
from tpmtls.audit.model import Audit, Goal, Observation, SecretSeen, Step, Verdict
from tpmtls.audit.rules import RULES
from tpmtls.audit.verdicts import describe

SHORT: Final[dict[Verdict, str]] = {
    "yes": "yes",
    "while there": "there",
    "no": "no",
    "not applicable": "–",
}
CLASSES: Final[dict[Verdict, str]] = {
    "yes": "yes",
    "while there": "there",
    "no": "no",
    "not applicable": "na",
}
GROUPS: Final = {0: "There before", 1: "Connection 1", 2: "Connection 2"}
EVERY: Final = "every-profile"
"""The link that shows all profiles, one below another, as they are without JavaScript."""


def page(audit: Audit) -> str:
    """The page as a string; it loads nothing from anywhere."""
    return _Page(audit).html()


class _Page:
    """What the parts of the page have in common."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self.slugs = _slugs(each.profile for each in audit.observations)
        self.figures = Figures()
        self.cells = {(each.profile, each.attacker, each.goal): each for each in audit.cells}
        attackers, goals = ({getattr(c, key) for c in audit.cells} for key in ("attacker", "goal"))
        self.attackers = [each for each in ATTACKERS if each.key in attackers]
        self.goals: list[Goal] = [goal for goal in GOALS if goal in goals]
        self.reasons: dict[tuple[Step, ...], list[str]] = {}
        """Each derivation once, with the profiles that it is of."""
        for cell in audit.cells:
            if cell.derivation:
                self.reasons.setdefault(cell.derivation, []).append(cell.profile)
        self.numbers = {each: number for number, each in enumerate(self.reasons, 1)}

    def html(self) -> str:
        """All of it."""
        parts = (
            self._header(),
            self._switch(),
            self._legend(),
            f"<main>{''.join(self._profile(each) for each in self.audit.observations)}</main>",
            self._matrices(),
            self._reasons(),
            self._notes(),
            _terms(),
            '<aside id="card" role="status" hidden></aside>',
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
            f"<title>{escape(QUESTION)}</title><style>{_resource('page.css')}</style></head>\n"
            f"<body>{_compact(self.figures.definitions() + ''.join(parts))}"
            f"<script>{_resource('page.js')}</script></body></html>\n"
        )

    # -- the top -----------------------------------------------------------------------------------

    def _header(self) -> str:
        sentences = "".join(f"<li>{_coded(each)}</li>" for each in answer(self.audit))
        when = escape(self.audit.date.replace("T", " "))
        beside = (
            ', and <a href="#notes">what has to be said beside it</a>' if self.audit.notes else ""
        )
        return (
            f'<header><h1>{escape(QUESTION)}</h1><ul class="answer">{sentences}</ul>'
            f'<p class="mute">Measured by tpmtls audit {escape(self.audit.version)}, {when}. '
            f'<a href="#terms">What attackers and goals are</a>, exactly{beside}.</p></header>'
        )

    def _switch(self) -> str:
        items = "".join(
            f'<li><a href="#{self.slugs[each.profile]}"><b>{_breakable(each.profile)}</b>'
            f"{_bar(each)}</a></li>"
            for each in self.audit.observations
        )
        missing = "".join(
            f'<p class="claim"><b>{escape(each.profile)}</b>, {escape(each.title)}: not possible '
            f"here. {escape(each.reason)}</p>"
            for each in self.audit.unavailable
        )
        return (
            f'<nav aria-label="Profile"><ul class="switch">{items}'
            f'</ul><p class="every"><a href="#{EVERY}" id="{EVERY}">every profile, one below '
            f"another</a></p></nav>{missing}"
        )

    def _legend(self) -> str:
        items = "".join(
            f"<li>{self.figures.key(each)}<span><b>{each.value}</b> {each.meaning}</span></li>"
            for each in Exposure
        )
        return f'<ul class="legend" aria-label="Legend">{items}</ul>'

    # -- one profile -------------------------------------------------------------------------------

    def _profile(self, observation: Observation) -> str:
        slug, scene = self.slugs[observation.profile], Scene(observation)
        names = [scene.canonical(each) for each in observation.secrets]
        rows = {name: f"{slug}-s{number}" for number, name in enumerate(names)}
        exposures = {
            name: exposure(secret) for name, secret in zip(names, observation.secrets, strict=True)
        }
        figures = "".join(
            f"<figure><figcaption>{escape(_title(scene, each))}</figcaption>"
            + _scrolling(_title(scene, each), self.figures.schedule(scene, each, exposures, rows))
            + "</figure>"
            for each in scene.connections
            if any(moment.connection == each.number for moment in observation.moments)
        )
        claim = f'<p class="claim">{escape(observation.claim)}</p>' if observation.claim else ""
        return (
            f'<section class="profile" id="{slug}"><h2>{escape(observation.profile)}</h2>'
            f"<p>{_coded(observation.title)}<br>"
            f'<span class="mute">{escape(_about(observation))}</span></p>{claim}{figures}'
            f"{self._verdicts(observation)}{self._secrets(observation)}</section>"
        )

    def _secrets(self, observation: Observation) -> str:
        """The table of all secrets of a profile."""
        slug, bodies = self.slugs[observation.profile], []
        numbered = _with_parts(observation.secrets)
        for connection, group in groupby(numbered, lambda each: each[1].connection):
            title = GROUPS.get(connection, "Later connections")
            rows = [f'<tr><th class="group" colspan="6" scope="rowgroup">{title}</th></tr>']
            above = ""
            for number, secret in group:
                below = bool(secret.parent) and secret.parent == above
                above = above if below else secret.name
                rows.append(self._secret(observation, secret, f"{slug}-s{number}", below=below))
            bodies.append(f"<tbody>{''.join(rows)}</tbody>")
        columns = ("secret", "exposure", "born", "lives", "carried by", "in clear in host memory")
        head = "".join(f'<th scope="col">{column}</th>' for column in columns)
        time = ", ".join(each.name for each in observation.moments)
        table = (
            f'<table class="secrets" style="--strip:{len(observation.moments) * TICK}px">'
            f"<thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"
            '<p class="mute">In the last column time runs from left to right, by moments: '
            f"{escape(time)}. A bar: in clear there all the time; a dash: at times.</p>"
        )
        return "<h3>Every secret</h3>" + _scrolling("Every secret", table)

    def _secret(
        self, observation: Observation, secret: SecretSeen, row: str, *, below: bool
    ) -> str:
        what = exposure(secret)
        name = secret.name if below or not secret.parent else f"{secret.parent}/{secret.name}"
        part = ' class="part"' if below else ""
        lives = "<br>".join(escape(each) for each in places(observation, secret))
        carries = "<br>".join(escape(each) for each in carried(observation, secret))
        strip = (
            self.figures.strip(observation, secret)
            if what in (Exposure.HOST, Exposure.PASSES)
            else "never"
        )
        return (
            f'<tr id="{row}"{part}><th>{escape(name)}</th>'
            f'<td class="e{NUMBERS[what]}">{icon(what)} {what.value}</td>'
            f"<td>{escape(secret.born)}</td><td>{lives}</td><td>{carries}</td><td>{strip}</td></tr>"
        )

    # -- attackers ---------------------------------------------------------------------------------

    def _verdicts(self, observation: Observation) -> str:
        if not self.attackers:
            return ""
        head = "".join(f'<th scope="col">{escape(goal)}</th>' for goal in self.goals)
        rows = "".join(
            f'<tr><th scope="row">{escape(each.title)}</th>'
            + "".join(self._verdict(observation.profile, each, goal) for goal in self.goals)
            + "</tr>"
            for each in self.attackers
        )
        title = "What each attacker can do"
        table = (
            f'<table class="verdicts"><thead><tr><th></th>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
        return f"<h3>{title}</h3>" + _scrolling(title, table)

    def _verdict(self, profile: str, attacker: Attacker, goal: Goal) -> str:
        cell = self.cells.get((profile, attacker.key, goal))
        if cell is None:
            return "<td></td>"
        said = f'class="v {CLASSES[cell.verdict]}">{cell.verdict}'
        if cell.derivation:
            number = self.numbers[cell.derivation]
            said = f'<a href="#r{number}" {said}<sup>{number}</sup></a>'
        else:
            said = f"<span {said}</span>"
        if not cell.derivation and not cell.note:
            return f"<td>{said}</td>"
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        return f'<td id="{self._cell_id(profile, attacker, goal)}">{said}{note}</td>'

    def _cell_id(self, profile: str, attacker: Attacker, goal: Goal) -> str:
        at = self.attackers.index(attacker), self.goals.index(goal)
        return f"{self.slugs[profile]}-c{at[0]}-{at[1]}"

    def _matrices(self) -> str:
        if not self.attackers:
            return ""
        tables = "".join(_scrolling(goal, self._matrix(goal)) for goal in self.goals)
        return (
            '<section id="compare"><h2>All profiles, goal by goal</h2>'
            f'<div class="matrices">{tables}</div></section>'
        )

    def _matrix(self, goal: Goal) -> str:
        profiles = [each.profile for each in self.audit.observations]
        head = "".join(
            f'<th scope="col"><a href="#{self.slugs[each]}">{_breakable(each)}</a></th>'
            for each in profiles
        )
        rows = "".join(
            f'<tr><th scope="row">{escape(attacker.title)}</th>'
            + "".join(f"<td>{self._mark(each, attacker, goal)}</td>" for each in profiles)
            + "</tr>"
            for attacker in self.attackers
        )
        return (
            f'<table class="matrix"><caption>{escape(goal)}</caption>'
            f"<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def _mark(self, profile: str, attacker: Attacker, goal: Goal) -> str:
        cell = self.cells.get((profile, attacker.key, goal))
        if cell is None:
            return ""
        mark = f'class="v {CLASSES[cell.verdict]}">{SHORT[cell.verdict]}'
        if not cell.derivation and not cell.note:
            return f"<span {mark}</span>"
        return f'<a href="#{self._cell_id(profile, attacker, goal)}" {mark}</a>'

    def _reasons(self) -> str:
        if not self.reasons:
            return ""
        items = "".join(
            f'<li id="r{number}" value="{number}" data-of="'
            f'{" ".join(self.slugs[each] for each in dict.fromkeys(profiles))}">'
            f"<ol>{''.join(map(_step, steps))}</ol></li>"
            for number, (steps, profiles) in enumerate(self.reasons.items(), 1)
        )
        return (
            '<section id="reasons"><h2>Why: the derivations</h2><p class="mute">The shortest for '
            "each verdict, from what was within the attacker’s reach to the goal. 1/… is of the "
            "first connection, 2/… of the second, 0/… was there before.</p>"
            f'<ol class="reasons">{items}</ol></section>'
        )

    def _notes(self) -> str:
        if not self.audit.notes:
            return ""
        notes = "".join(f"<li>{escape(each)}</li>" for each in self.audit.notes)
        return f'<section id="notes"><h2>To be said beside it</h2><ul>{notes}</ul></section>'


# -- parts -----------------------------------------------------------------------------------------


def _resource(name: str) -> str:
    return files("tpmtls.audit").joinpath(name).read_text("utf-8")


def _compact(markup: str) -> str:
    """Without the quotes that HTML does not ask for; those of texts are escaped anyhow."""
    return re.sub(r'="([\w#-]+)"(?=[ >])', r"=\1", markup)


def _coded(text: str) -> str:
    """With what stands in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def _slugs(profiles: Iterable[str]) -> dict[str, str]:
    """What each profile is called in the page's address."""
    slugs: dict[str, str] = {}
    for profile in profiles:
        slug = re.sub(r"[^a-z0-9]+", "-", profile.lower()).strip("-") or "profile"
        while slug in slugs.values():
            slug += "-2"
        slugs[profile] = slug
    return slugs


def _breakable(profile: str) -> str:
    """A name that may go on in the next line before what is added."""
    return escape(profile).replace("+", "<wbr>+")


def _scrolling(title: str, content: str) -> str:
    """What is wider than a telephone, in a box of its own that scrolls."""
    attributes = f'class="scroll" tabindex="0" role="group" aria-label="{escape(title)}"'
    return f"<div {attributes}>{content}</div>"


def _bar(observation: Observation) -> str:
    """How many secrets are exposed how far, as a bar and as numbers."""
    count = Counter(exposure(secret) for secret in observation.secrets)
    seen = [each for each in Exposure if count[each] and each is not Exposure.ABSENT]
    said = ", ".join(f"{count[each]} {each.value}" for each in seen)
    parts = "".join(f'<i class="e{NUMBERS[e]}" style="flex:{count[e]}"></i>' for e in seen)
    numbers = "".join(f'<span class="e{NUMBERS[e]}">{icon(e)}{count[e]}</span>' for e in seen)
    return (
        f'<span class="bar" role="img" aria-label="{said}">{parts}</span>'
        f'<span class="counts" aria-hidden="true">{numbers}</span>'
    )


def _with_parts(secrets: Sequence[SecretSeen]) -> list[tuple[int, SecretSeen]]:
    """By connection, and what is expanded from a secret, and named so, below it; with its place."""
    first: dict[tuple[int, str], int] = {}
    for number, secret in enumerate(secrets):
        first.setdefault((secret.connection, secret.name if not secret.parent else ""), number)

    def rank(numbered: tuple[int, SecretSeen]) -> tuple[int, int, bool]:
        number, secret = numbered
        above = first.get((secret.connection, secret.parent), number) if secret.parent else number
        return secret.connection, above, bool(secret.parent)

    return sorted(enumerate(secrets), key=rank)


def _about(observation: Observation) -> str:
    said = [f"{observation.suite}, {observation.group}"]
    said.append(f"TPM: {observation.tpm}" if observation.tpm else "no TPM")
    if observation.commands:
        said.append(f"{observation.commands} TPM commands")
    if observation.seconds:
        said.append(f"{observation.seconds:.2f} s")
    return "; ".join(said)


def _title(scene: Scene, connection: Connection) -> str:
    kind = "resumption" if connection.psk else "full handshake"
    if connection.external:
        kind = "external PSK"
    if connection.number > 1 and scene.observation.early_data:
        kind += " with 0-RTT data"
    return f"Connection {connection.number}: {kind}"


def _step(step: Step) -> str:
    why = _coded(RULES.get(step.rule, ""))
    said = f"<b>{escape(step.rule)}</b>" + (f": {why}" if why else "")
    return f"<li>{escape(describe(step))}<small>{said}</small></li>"


def _terms() -> str:
    def terms(title: str, items: Iterable[tuple[str, str]]) -> Iterator[str]:
        yield f"<h3>{title}</h3><dl>"
        yield from (f"<dt>{escape(term)}</dt><dd>{escape(said)}</dd>" for term, said in items)
        yield "</dl>"

    parts = (
        *terms("Attackers", ((each.title, each.statement) for each in ATTACKERS)),
        *terms("Goals", GOALS.items()),
        *terms("Verdicts", VERDICTS.items()),
    )
    return f'<section id="terms"><h2>What the words mean</h2>{"".join(parts)}</section>'
