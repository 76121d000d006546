"""What was measured, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

from tpmtls.audit.model import Goal, Verdict

Measured = Mapping[tuple[str, str, Goal], Verdict]
"""By attacker, profile and goal."""

RESUME: Goal = "resume the session elsewhere"
IMPERSONATE: Goal = "impersonate the client"
BY_PSK: Goal = "impersonate by PSK"
FORGE: Goal = "forge records"
READ: Goal = "read recorded traffic"


def verdict(*, away: bool, there: bool = False) -> Verdict:
    """Of an attack that works away from the machine, or only while there."""
    return "yes" if away else "while there" if there else "no"


EXPECTED: dict[str, dict[Goal, dict[str, Verdict]]] = {
    "software": {
        RESUME: dict.fromkeys(("disk", "host", "host-left", "host-tpm"), "yes"),
        IMPERSONATE: {"disk": "yes", "host-tpm": "yes"},
    },
    **{
        profile: {
            RESUME: {"disk": "no", "host": "yes", "host-left": "yes", "host-tpm": "yes"},
            IMPERSONATE: {"disk": "no", "host-tpm": "yes"},
        }
        for profile in ("sign", "sign+ecdhe", "sign+ecdhe+hkdf", "all", "chained")
    },
    "psk": {RESUME: {"disk": "no", "host": "yes", "host-left": "yes", "host-tpm": "yes"}},
    "handle-only": {
        RESUME: {"disk": "no", "host": "while there", "host-left": "no", "host-tpm": "yes"},
        IMPERSONATE: {"disk": "no", "host-tpm": "yes"},
    },
}


def assert_agrees(measured: Measured) -> None:
    """Each verdict is the expected one."""
    assert measured
    expected = {
        (attacker, profile, goal): EXPECTED[profile][goal][attacker]
        for attacker, profile, goal in measured
    }
    assert measured == expected
