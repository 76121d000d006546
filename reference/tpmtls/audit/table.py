"""An audit as text, within 100 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from textwrap import wrap
from typing import Final

from tpmtls.audit.attackers import ATTACKERS, GOALS
from tpmtls.audit.journal import place_in_schedule
from tpmtls.audit.model import Audit, Cell, Goal, Moment, Observation, SecretSeen, Step

WIDTH: Final = 100
_SECRET: Final = 35
_KEPT: Final = 12
_COLUMN: Final = 11
_TIED: Final = "\N{NO-BREAK SPACE}"
_VERDICTS: Final = {"yes": "yes", "while there": "there", "no": "no", "not applicable": "-"}


def render(audit: Audit) -> Iterator[str]:
    """The lines."""
    yield f"tpmtls audit {audit.version}, {audit.date}"
    yield from _legend(audit.observations)
    for seen in audit.observations:
        yield ""
        yield from _profile(seen)
    for missing in audit.unavailable:
        yield ""
        yield f"== {missing.profile}: {missing.title}"
        yield from _paragraph(f"not possible here: {missing.reason}", "   ")
    if audit.cells:
        yield ""
        yield from _verdicts(audit)
    if audit.notes:
        yield ""
        for note in audit.notes:
            yield from _paragraph(note, "  ", first="* ")


def _paragraph(text: str, indent: str, first: str | None = None) -> list[str]:
    start = indent if first is None else first
    return wrap(text, WIDTH, initial_indent=start, subsequent_indent=indent)


# -- the secrets of one profile --------------------------------------------------------------------


def letters(moments: Sequence[Moment]) -> dict[str, str]:
    """A letter for each moment."""
    return {moment.name: ascii_uppercase[n] for n, moment in enumerate(moments)}


def _legend(observations: Sequence[Observation]) -> Iterator[str]:
    if not observations:
        return
    seen = max(observations, key=lambda each: len(each.moments))
    yield from _paragraph(f"{seen.suite}, {seen.group}; TPM: {_tpms(observations)}", "")
    yield ""
    yield from _paragraph(
        "Each secret, and of which connection; where it was born > which TPM commands carried it"
        " then, in parentheses where the bus has it encrypted; where it was kept, with `file` for"
        " what is stored between connections, in parentheses where it is encrypted for the TPM;"
        " and in which moments it was in clear in host memory: # all the time, + at times, . not."
        " Where secrets share a line, it shows the one that is exposed most.",
        "",
    )
    yield ""
    named = [
        f"{letter} {name}".replace(" ", _TIED) for name, letter in letters(seen.moments).items()
    ]
    yield from (line.replace(_TIED, " ") for line in _paragraph("  ".join(named), ""))


def _tpms(observations: Sequence[Observation]) -> str:
    return ", ".join(sorted({each.tpm for each in observations if each.tpm})) or "none"


@dataclass(slots=True)
class _Row:
    """Secrets of which the same is to be said, but when."""

    label: str
    way: str
    kept: str
    connections: set[int] = field(default_factory=set)
    secrets: list[SecretSeen] = field(default_factory=list)


def _profile(seen: Observation) -> Iterator[str]:
    yield f"== {seen.profile}: {seen.title}"
    if seen.claim:
        yield from _paragraph(seen.claim, "   ")
    if seen.commands:
        yield f"   {seen.commands} TPM commands"
    strip = "".join(letters(seen.moments).values())
    way = WIDTH - 3 - _SECRET - 1 - _KEPT - 1 - len(strip) - 1
    head = f"   {'secret':<{_SECRET}} {'born > carried by':<{way}} {'kept':<{_KEPT}} {strip}"
    yield head
    for row in _rows(seen.secrets):
        first, *more = wrap(row.way, way) or [""]
        which = "".join(str(number) for number in sorted(row.connections) if number)
        when = "".join(_exposure(row.secrets, moment) for moment in seen.moments)
        yield f"{which:<2} {row.label:<{_SECRET}} {first:<{way}} {row.kept:<{_KEPT}} {when}"
        yield from (f"{'':<{3 + _SECRET + 1}}{line}" for line in more)


def _rows(secrets: Iterable[SecretSeen]) -> list[_Row]:
    rows: dict[tuple[str, str, str], _Row] = {}
    for secret in sorted(secrets, key=_order):
        key = _label(secret), _way(secret), _kept(secret)
        row = rows.setdefault(key, _Row(*key))
        row.connections.add(secret.connection)
        row.secrets.append(secret)
    return list(rows.values())


def _order(secret: SecretSeen) -> tuple[bool, tuple[int, int, int]]:
    """What is there before comes first; then the key schedule, whichever connection."""
    return bool(secret.connection), place_in_schedule(secret.name, secret.parent)


def _label(secret: SecretSeen) -> str:
    if "traffic_secret" in secret.parent:
        return f"…traffic_secret…/{secret.name}"
    return "/".join(filter(None, (secret.parent, secret.name)))


def _way(secret: SecretSeen) -> str:
    """Where it was born, and what carried it then, each once."""
    born = _short(secret.born)
    carried: list[str] = []
    for each in sorted(secret.crossings, key=lambda crossed: crossed.instant):
        name = _short(each.via)
        shown = f"({name})" if each.visibility == "encrypted" else name
        if (each.via, each.direction) == (secret.born, "out"):
            born = shown
        elif shown not in carried:
            carried.append(shown)
    return " > ".join(filter(None, (born, ", ".join(carried)))).replace("), (", ", ")


def _short(command: str) -> str:
    return command.removeprefix("TPM2_")


def _kept(secret: SecretSeen) -> str:
    places = dict.fromkeys(stay.place for stay in secret.stays if not stay.stored)
    files = {"file" if stay.place == "host" else "(file)" for stay in secret.stays if stay.stored}
    return " ".join((*places, *sorted(files))) or "-"


def _exposure(secrets: Sequence[SecretSeen], moment: Moment) -> str:
    """`#`, `+` or `.`: the most that is to be said of any of them."""
    instants = range(moment.first, moment.last + 1)
    times = max(sum(map(secret.in_clear_on_host, instants)) for secret in secrets)
    return "#" if times == len(instants) else "+" if times else "."


# -- the attackers ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Footnotes:
    """Derivations by numbers, and what else is to be said by letters."""

    reasons: dict[tuple[Step, ...], int] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def mark(self, cell: Cell) -> str:
        """What stands behind a verdict."""
        mark = ""
        if cell.derivation:
            mark = str(self.reasons.setdefault(cell.derivation, len(self.reasons) + 1))
        if cell.note:
            mark += self.notes.setdefault(cell.note, _letter(len(self.notes)))
        return mark


def _letter(number: int) -> str:
    """a to z, aa to az, and so on."""
    more, last = divmod(number, len(ascii_lowercase))
    return (_letter(more - 1) if more else "") + ascii_lowercase[last]


def _verdicts(audit: Audit) -> Iterator[str]:
    yield "== What each attacker can do"
    yield from _paragraph(
        "yes: with what it knows or has taken. there: only while it is there, by asking the TPM or"
        " reading what passes. no: it cannot. -: there is no such thing. Numbers stand for the"
        " shortest derivation, letters for remarks, both below.",
        "   ",
    )
    yield ""
    for attacker in ATTACKERS:
        yield from _paragraph(attacker.statement, " " * 20, first=f"   {attacker.key:<17}")
    footnotes = _Footnotes()
    for goal, meaning in GOALS.items():
        yield ""
        yield from _paragraph(f"{goal}: {meaning}", "   ", first="-- ")
        yield from _matrix(audit, goal, footnotes)
    yield ""
    yield "== Why"
    for derivation, number in footnotes.reasons.items():
        yield from _paragraph(_reason(derivation), "     ", first=f"{number:>3}  ")
    for note, letter in footnotes.notes.items():
        yield from _paragraph(note, "     ", first=f"{letter:>3}  ")


def _matrix(audit: Audit, goal: Goal, footnotes: _Footnotes) -> Iterator[str]:
    """Attackers down, profiles across."""
    shown = {(cell.attacker, cell.profile): cell for cell in audit.cells if cell.goal == goal}
    profiles = [seen.profile for seen in audit.observations]
    lines = [["", *map(_column, profiles)]]
    for attacker in ATTACKERS:
        cells = (shown.get((attacker.key, profile)) for profile in profiles)
        lines.append([attacker.key, *(_verdict(cell, footnotes) for cell in cells)])
    columns = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        entries = (f"{entry:<{width}}" for entry, width in zip(line, columns, strict=True))
        yield f"   {' '.join(entries)}".rstrip()


def _column(profile: str) -> str:
    """`…+hkdf` for a long name."""
    return profile if len(profile) <= _COLUMN else f"…+{profile.rpartition('+')[2]}"


def _verdict(cell: Cell | None, footnotes: _Footnotes) -> str:
    if cell is None:
        return ""
    return " ".join(filter(None, (_VERDICTS[cell.verdict], footnotes.mark(cell))))


def _reason(derivation: Sequence[Step]) -> str:
    """What there is to begin with, and what follows from that, in order."""
    *steps, last = derivation
    made = {step.conclusion for step in derivation}
    had = dict.fromkeys(p for step in derivation for p in step.premises if p not in made)
    further = [step for step in steps if not had.keys() >= set(step.premises)]
    follows = [step.conclusion.removeprefix("knows ") for step in (*further, last)]
    return " → ".join(("; ".join(had), *follows))
