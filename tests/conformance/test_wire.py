"""How a scripted peer reads: whatever the other end does, it comes to an end."""

from __future__ import annotations

import pytest

from tlsconform.channel import Channel, Silence
from tlsconform.journal import MAX_ENTRIES, Journal
from tlsconform.outcome import NonConformance
from tlsconform.peer import wire
from tlsconform.peer.wire import Wire
from tpmtls.record import CHANGE_CIPHER_SPEC_RECORD


class Scripted(Channel):
    """Says the same again and again, or what it was given."""

    def __init__(self, *said: bytes, again: bool = False) -> None:
        self.said, self.again = list(said), again

    def send(self, octets: bytes) -> None:
        raise AssertionError("nothing is sent here")

    def receive(self, timeout: float) -> bytes:
        if not self.said:
            raise Silence
        return self.said[0] if self.again else self.said.pop(0)

    def close(self) -> None:
        pass


def test_who_never_stops_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TIME_LIMIT", 0.2)
    reader = Wire(Scripted(CHANGE_CIPHER_SPEC_RECORD, again=True), Journal(), 1.0)
    with pytest.raises(NonConformance, match="more and more of it"):
        reader.next_record()


def test_a_record_comes_in_pieces() -> None:
    alert = bytes.fromhex("15030300020228")
    reader = Wire(Scripted(alert[:1], alert[1:5], alert[5:6], alert[6:]), Journal(), 1.0)
    record = reader.next_record()
    assert record is not None
    assert record.fragment == b"\x02\x28"
    with pytest.raises(Silence):
        reader.next_record(0.1)


def test_the_end_in_the_middle_of_a_record() -> None:
    journal = Journal()
    reader = Wire(Scripted(b"\x16\x03", b""), journal, 1.0)
    assert reader.next_record() is None
    assert "in the middle of a record" in journal.render()[-1]


def test_what_cannot_be_a_record_is_a_finding() -> None:
    reader = Wire(Scripted(b"HTTP/1.0 400 Bad Request" * 900), Journal(), 1.0)
    with pytest.raises(NonConformance, match="a record that can be read"):
        reader.next_record()


def test_a_journal_is_bounded() -> None:
    journal = Journal()
    for _ in range(MAX_ENTRIES + 5):
        journal.remark("again")
    assert len(journal.entries) == MAX_ENTRIES
    assert journal.render()[-1] == "-- 5 entries more"
