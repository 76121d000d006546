"""The short answer, in sentences made from the verdicts."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tpmtls.audit.model import Audit, Verdict

QUESTION = "Who can read which secret of a TLS 1.3 client, and what is it good for?"


def answer(audit: Audit) -> Iterator[str]:
    """Sentences on the attackers that tell profiles apart, of those that were judged.

    Names of profiles are in backticks.
    """

    def against(attacker: str, verdicts: Collection[Verdict], goal: str = "") -> str:
        """The profiles against which the attacker has such a verdict, for the goal or for any."""
        profiles: dict[str, bool] = {}
        for cell in audit.cells:
            if cell.attacker == attacker and goal in ("", cell.goal):
                reached = cell.verdict in verdicts
                if cell.verdict != "not applicable":
                    profiles[cell.profile] = profiles.get(cell.profile, False) or reached
        return _of(profiles)

    known = {cell.attacker for cell in audit.cells}
    resume = "resume the session elsewhere"
    if "host-left" in known:
        yield (
            "Code that ran on the client’s host and is gone again can resume the client’s "
            f"session elsewhere with {against('host-left', ['yes'], resume)}; "
            f"it took along something of use with {against('host-left', ['yes'])}."
        )
    if "host" in known:
        there = against("host", ["yes", "while there"])
        yield f"While it is there, it reaches a goal with {there}."
    if "memory" in known:
        yield (
            "One who reads the process’s memory all the time, without use of the TPM, gains "
            f"what outlasts it with {against('memory', ['yes'])}; one image of it between two "
            f"connections is enough with {against('snapshot-between', ['yes'])}."
        )
    if "bus" in known:
        yield (
            "One who reads the bus between host and TPM gains what outlasts it with "
            f"{against('bus', ['yes'])}."
        )
    models = [
        f"`{seen.profile}`"
        for seen in audit.observations
        if any(stay.place == "model" for secret in seen.secrets for stay in secret.stays)
    ]
    if models:
        yield f"{_listed(models)} is a model: no TPM has its commands today."


def _of(profiles: dict[str, bool]) -> str:
    """Which of all: `every profile but A and B`."""
    some = [f"`{profile}`" for profile, reached in profiles.items() if reached]
    others = [f"`{profile}`" for profile, reached in profiles.items() if not reached]
    if not some:
        return "no profile"
    if not others:
        return "every profile"
    return f"every profile but {_listed(others)}" if len(others) < len(some) else _listed(some)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
