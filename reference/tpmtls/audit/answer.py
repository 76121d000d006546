"""The short answer, in sentences made from the verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tpmtls.audit.model import Audit, Verdict

QUESTION = "Who can read which secret of a TLS 1.3 client, and what is it good for?"


def answer(audit: Audit) -> Iterator[str]:
    """One sentence for each attacker that tells profiles apart, of those that were judged."""
    titles = {each.profile: each.title for each in audit.observations}

    def against(attacker: str, verdicts: Collection[Verdict], goal: str = "") -> str:
        """The profiles against which the attacker has such a verdict, for the goal or for any."""
        found = {
            cell.profile
            for cell in audit.cells
            if cell.attacker == attacker and cell.verdict in verdicts and goal in ("", cell.goal)
        }
        return _of([p for p in titles if p in found], list(titles))

    resume = "resume the session elsewhere"
    known = {cell.attacker for cell in audit.cells}
    if "host-left" in known:
        yield (
            "Code that ran on the client’s host and is gone again can resume the client’s "
            f"session elsewhere with {against('host-left', ['yes'], resume)}; "
            f"it took along something of use with {against('host-left', ['yes'])}."
        )
    if "host" in known:
        yield f"While it is there, it does harm with {against('host', ['yes', 'while there'])}."
    if "memory" in known:
        yield (
            "One who reads the process’s memory all the time, without a use of the TPM, gains "
            f"what outlasts it with {against('memory', ['yes'])}; one image of it between two "
            f"connections is enough with {against('snapshot-between', ['yes'])}."
        )
    if "bus" in known:
        yield f"One who reads the bus between host and TPM gains with {against('bus', ['yes'])}."


def _of(some: list[str], every: list[str]) -> str:
    """Which of all: `every profile but A and B`."""
    others = [each for each in every if each not in some]
    if not some:
        return "no profile"
    if not others:
        return "every profile"
    return f"every profile but {_listed(others)}" if len(others) < len(some) else _listed(some)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
