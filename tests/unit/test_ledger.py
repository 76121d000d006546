"""The ledger counts kinds of crossings, and is as large as their number."""

from __future__ import annotations

from tpmtls.backends.ledger import Crossing, Ledger

REVEALED = Crossing("exporter_secret", "protocol", "out", "reveal: key log")
IMPORTED = Crossing("PSK", "protocol", "in", "import_psk")
LOADED = Crossing("PSK", "tpm", "in", "TPM2_Load", "encrypted")


def test_a_new_ledger_is_empty() -> None:
    ledger = Ledger()
    assert len(ledger) == 0
    assert list(ledger) == []
    assert ledger.crossings() == []


def test_the_same_kind_is_counted_not_kept_twice() -> None:
    ledger = Ledger()
    for crossing in (REVEALED, IMPORTED, REVEALED, REVEALED):
        ledger.record(crossing)
    assert len(ledger) == 2
    assert dict(ledger) == {REVEALED: 3, IMPORTED: 1}


def test_it_does_not_grow_with_use() -> None:
    ledger = Ledger()
    for _ in range(10_000):
        ledger.record(Crossing("PSK", "protocol", "in", "import_psk"))
    assert dict(ledger) == {IMPORTED: 10_000}


def test_crossings_of_one_secret() -> None:
    ledger = Ledger()
    for crossing in (REVEALED, IMPORTED, LOADED):
        ledger.record(crossing)
    assert ledger.crossings("PSK") == [IMPORTED, LOADED]
    assert ledger.crossings("main_secret") == []
    assert ledger.crossings() == [REVEALED, IMPORTED, LOADED]


def test_kinds_differ_in_every_field() -> None:
    assert IMPORTED.visibility == "clear"
    assert Crossing("PSK", "protocol", "in", "import_psk", "encrypted") != IMPORTED
    assert Crossing("PSK", "protocol", "out", "import_psk") != IMPORTED
    assert Crossing("PSK", "tpm", "in", "import_psk") != IMPORTED
