"""Put what an audit finds into docs/answer.md, and draw the pictures that stand in it.

    python docs/answer/fill.py [--check]

The words of that page are written by hand; what stands between two marks, `<!-- NAME: … -->` and
`<!-- end -->`, is written by this, from `tpmtls audit` as it runs here. `--check` writes nothing,
and exits with 1 where the page or a picture is not what the audit says.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from tpmtls.audit.attackers import ATTACKERS
from tpmtls.audit.conduct import conduct
from tpmtls.audit.derivations import Scene
from tpmtls.audit.exposure import Exposure, exposure
from tpmtls.audit.figures import Figures
from tpmtls.audit.model import Audit, Goal, Observation

HERE: Final = Path(__file__).resolve().parent
PAGE: Final = HERE.parent / "answer.md"
PICTURES: Final = ("software", "all", "chained", "handle-only")
"""The profiles whose key schedules the page shows."""
GOALS: Final[dict[Goal, str]] = {
    "read recorded traffic": "R",
    "read future traffic": "F",
    "resume the session elsewhere": "S",
    "impersonate the client": "C",
    "impersonate by PSK": "P",
    "forge records": "W",
}
"""A letter for each goal: what an attacker reads, whose place it takes, what it writes."""
MARKED: Final = re.compile(r"(<!-- (\w+): [^\n]* -->\n).*?(<!-- end -->)", re.DOTALL)


def goals(audit: Audit) -> Iterator[str]:
    """The letters."""
    yield "| letter | goal |"
    yield "|---|---|"
    yield from (f"| **{letter}** | {goal} |" for goal, letter in GOALS.items())


def verdicts(audit: Audit) -> Iterator[str]:
    """Attackers down, profiles across; in a cell the goals that are reached."""
    profiles = [seen.profile for seen in audit.observations]
    found = {(cell.attacker, cell.profile, cell.goal): cell.verdict for cell in audit.cells}
    yield "| attacker | " + " | ".join(f"`{profile}`" for profile in profiles) + " |"
    yield "|---" * (1 + len(profiles)) + "|"
    for attacker in ATTACKERS:
        cells = []
        for profile in profiles:
            of = {goal: found[attacker.key, profile, goal] for goal in GOALS}
            lasting = "".join(GOALS[goal] for goal in GOALS if of[goal] == "yes")
            passing = "".join(GOALS[goal] for goal in GOALS if of[goal] == "while there")
            parts = f"**{lasting}**" if lasting else "", passing.lower()
            cells.append(" ".join(filter(None, parts)) or "–")
        yield f"| {attacker.title} | " + " | ".join(cells) + " |"


def commands(audit: Audit) -> Iterator[str]:
    """What the run took of the TPM, and how many secrets were where."""
    yield (
        "| profile | what it is | TPM commands | secrets: "
        + " | ".join(each.value for each in _SHOWN)
        + " |"
    )
    yield "|---|---|--:" + "|--:" * len(_SHOWN) + "|"
    for seen in audit.observations:
        counts = [exposure(secret) for secret in seen.secrets]
        cells = " | ".join(str(counts.count(each) or "–") for each in _SHOWN)
        yield f"| `{seen.profile}` | {seen.title} | {seen.commands or '–'} | {cells} |"


_SHOWN: Final = (Exposure.HOST, Exposure.PASSES, Exposure.ENCRYPTED, Exposure.INSIDE)

BLOCKS: Final[dict[str, Callable[[Audit], Iterator[str]]]] = {
    "goals": goals,
    "verdicts": verdicts,
    "commands": commands,
}


def page(audit: Audit, text: str) -> str:
    """The page with what stands between its marks made anew."""

    def block(match: re.Match[str]) -> str:
        return match[1] + "".join(f"{line}\n" for line in BLOCKS[match[2]](audit)) + match[3]

    return MARKED.sub(block, text)


def picture(observation: Observation) -> str:
    """The key schedule of the full handshake, as a picture that stands alone."""
    figures, scene = Figures(), Scene(observation)
    exposures = {scene.canonical(each): exposure(each) for each in observation.secrets}
    drawn = figures.schedule(scene, scene.connections[0], exposures, {})
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn)
    if size is None:
        raise SystemExit("the drawing has no size")
    style = files("tpmtls.audit").joinpath("page.css").read_text("utf-8")
    ground = '<rect width="100%" height="100%" style="fill: var(--bg)"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[1]} {size[2]}" '
        f'width="{size[1]}" height="{size[2]}"><style>{style}</style>{ground}'
        f"{figures.definitions()}{drawn}</svg>\n"
    )


def main() -> int:
    """Conduct the audit; write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    audit = conduct(progress=_say)
    made = {PAGE: page(audit, PAGE.read_text("utf-8"))}
    for seen in audit.observations:
        if seen.profile in PICTURES:
            made[HERE / f"{seen.profile}.svg"] = picture(seen)
    stale = [path for path, text in made.items() if not _same(path, text)]
    if options.check:
        for path in stale:
            _say(f"out of date: {path.name}; run python docs/answer/fill.py")
        return 1 if stale else 0
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
