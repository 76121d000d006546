"""The tables of misbehaviour together: there is no violation that nobody can commit."""

from __future__ import annotations

from collections.abc import Iterator

from tests.unit import (
    test_authentication,
    test_client,
    test_connection,
    test_early_data,
    test_negotiation,
    test_post_handshake,
    test_psk_selection,
    test_server,
)
from tests.unit.misbehaviour import Case
from tpmtls.violations import Violation

MODULES = (
    test_authentication,
    test_client,
    test_connection,
    test_early_data,
    test_negotiation,
    test_post_handshake,
    test_psk_selection,
    test_server,
)


def _cases(value: object) -> Iterator[Case]:
    if isinstance(value, Case):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _cases(item)


def test_every_violation_is_shown() -> None:
    shown = {c.violation for m in MODULES for table in vars(m).values() for c in _cases(table)}
    assert set(Violation) - shown == set()
