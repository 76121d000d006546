"""Keystream ahead of the records: in full commands, bounded, used once, gone afterwards."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.block_ciphers import SoftwareCipher
from tpmtls.aead import BLOCK, Ccm, Gcm, Mode, Records
from tpmtls.aead.cipher import pieces
from tpmtls.aead.records import Lookahead, wipe

KEY, IV = bytes(16), bytes(12)


def records_on(
    *offered: Mode, lookahead: int = 1024, mode: type[Gcm | Ccm] = Gcm
) -> tuple[Records, SoftwareCipher]:
    """Records, and the cipher under them; the command that makes GCM's H is not counted."""
    cipher = SoftwareCipher(KEY, offered)
    made = mode(cipher)
    made.seal(bytes(12), b"", b"")
    cipher.commands.clear()
    return Records(made, IV, lookahead), cipher


def sizes(cipher: SoftwareCipher) -> list[int]:
    return [len(data) for _, data in cipher.commands]


def test_one_command_serves_many_small_records() -> None:
    records, cipher = records_on(Mode.ECB)
    for sequence in range(1, 65):
        records.seal(sequence, b"", bytes(100))  # 7 blocks, and one for the tag
    assert sizes(cipher) == [1024] * 8


@pytest.mark.parametrize("offered", Mode)
def test_nothing_is_made_beyond_a_key_s_first_record(offered: Mode) -> None:
    records, cipher = records_on(offered)
    records.seal(0, b"", bytes(100))
    assert sum(sizes(cipher)) == 128
    assert records._ahead.kept_octets == 0


def test_the_first_command_makes_the_hash_key_too() -> None:
    cipher = SoftwareCipher(KEY, [Mode.ECB])
    records = Records(Gcm(cipher), IV)
    assert not cipher.commands
    records.seal(0, b"", bytes(100))
    assert sizes(cipher) == [16 + 128]


def test_commands_are_full_whatever_the_length() -> None:
    records, cipher = records_on(Mode.ECB)
    for sequence in range(1, 21):
        records.seal(sequence, b"", bytes(16385))
    assert sizes(cipher) == [1024] * -(-20 * 1026 // 64)


def test_ccm_looks_ahead_too() -> None:
    records, cipher = records_on(Mode.ECB, Mode.CBC, mode=Ccm)
    for sequence in range(1, 17):
        records.seal(sequence, b"head.", bytes(100))
    assert Counter(mode for mode, _ in cipher.commands) == {Mode.ECB: 2, Mode.CBC: 16}


@pytest.mark.parametrize("offered", [Mode.ECB, Mode.CFB])
def test_no_lookahead_asked_for(offered: Mode) -> None:
    records, cipher = records_on(offered, lookahead=0)
    for sequence in range(3):
        records.seal(sequence, b"", bytes(100))
    records.prefetch()
    assert sizes(cipher) == [128] * 3


def test_counter_mode_alone_makes_what_is_needed() -> None:
    records, cipher = records_on(Mode.CTR)
    for sequence in range(3):
        records.seal(sequence, b"", bytes(100))
    assert sizes(cipher) == [128] * 3
    records.prefetch()
    assert len(cipher.commands) == 3 + 8
    records.seal(3, b"", bytes(100))
    assert len(cipher.commands) == 3 + 8


def test_idle_time_is_used() -> None:
    records, cipher = records_on(Mode.ECB, lookahead=16 * 1024)
    records.seal(1, b"", bytes(15 * 1024))
    records.prefetch()
    made = len(cipher.commands)
    records.seal(2, b"", bytes(15 * 1024))
    assert len(cipher.commands) == made
    assert set(sizes(cipher)) == {1024}


def test_records_that_grow_and_shrink() -> None:
    records, cipher = records_on(Mode.ECB, lookahead=4096)
    other, _ = records_on(Mode.ECB, lookahead=0)
    for sequence, size in enumerate([5, 5000, 40, 0, 1, 1008, 1009, 16384, 3, 3, 3], 1):
        assert records.seal(sequence, b"", bytes(size)) == other.seal(sequence, b"", bytes(size))
    assert set(sizes(cipher)) == {1024}


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@pytest.mark.parametrize("size", [1024, 1025, 5000, 16384, 16385])
def test_counter_mode_has_the_text_and_its_keystream_stays_inside(
    size: int, mode: type[Gcm | Ccm]
) -> None:
    records, cipher = records_on(Mode.ECB, Mode.CTR, Mode.CBC, mode=mode)
    text = bytes(range(1, 256)) * 65
    for sequence in range(1, 65):
        records.seal(sequence, b"", text[:size])
    made = [(kind, data) for kind, data in cipher.commands if kind != Mode.CBC]
    blocks = -(-size // BLOCK)
    assert len(made) == blocks + 1  # 64 of each record's blocks, and of the tags', in a command
    long = [data for kind, data in made if kind == Mode.CTR]
    assert len(long) == 64 * (blocks // 64)
    assert all(data.strip(b"\0") in text for data in long)


def test_a_short_text_is_no_matter_for_the_cipher(monkeypatch: pytest.MonkeyPatch) -> None:
    records, cipher = records_on(Mode.ECB, Mode.CTR)
    monkeypatch.setattr(cipher, "ctr_each", None)
    assert len(records.seal(1, b"", bytes(1008))) == 1024
    assert len(records.seal(2, b"", b"")) == 16


def test_the_last_of_a_long_text_is_encrypted_where_it_belongs() -> None:
    for size in (1023, 1024, 1025, 1039, 1040, 2047, 2048, 2049):
        sender, _ = records_on(Mode.ECB, Mode.CTR)
        receiver, _ = records_on(Mode.ECB)
        for sequence in range(3):
            sealed = sender.seal(sequence, b"head.", bytes(range(size % 251)) + bytes(size))
            assert receiver.open(sequence, b"head.", sealed) is not None
            assert sender.open(sequence, b"head.", sealed) is not None


@pytest.mark.parametrize("lookahead", [0, 15, 16, 1000, 1024, 5000])
def test_what_is_kept_is_bounded(lookahead: int) -> None:
    records, _ = records_on(Mode.ECB, lookahead=lookahead)
    for sequence, size in enumerate([10, 900, 10, 3000, 70, 70, 0]):
        records.seal(sequence, b"", bytes(size))
        assert records._ahead.kept_octets <= lookahead
        records.prefetch()
        assert lookahead - 1024 < records._ahead.kept_octets <= lookahead or lookahead < 1024
        assert records._ahead.kept_octets <= lookahead


def test_no_counter_block_is_encrypted_twice() -> None:
    records, cipher = records_on(Mode.ECB, lookahead=3000)
    for sequence, size in enumerate([10, 900, 30, 3000, 70, 70, 0, 500, 16384, 16384]):
        records.seal(sequence, b"", bytes(size))
        if sequence % 3:
            records.prefetch()
    blocks = Counter(block for _, data in cipher.commands for block in pieces(data, BLOCK))
    assert set(blocks.values()) == {1}


def test_no_record_is_sealed_twice() -> None:
    records, _ = records_on(Mode.ECB)
    records.seal(0, b"", b"one")
    records.seal(5, b"", b"two")
    for sequence in (0, 4, 5):
        with pytest.raises(ValueError, match=f"record {sequence}: .* 6 to"):
            records.seal(sequence, b"", b"another")
    records.seal(6, b"", b"three")


def test_a_record_that_failed_to_seal_is_not_sealed_again() -> None:
    records = Records(Ccm(SoftwareCipher(KEY, [Mode.ECB])), bytes(13))
    with pytest.raises(ValueError, match="plaintext of 65536 octets"):
        records.seal(0, b"", bytes(65536))
    with pytest.raises(ValueError, match="record 0"):
        records.seal(0, b"", b"another")


@pytest.mark.parametrize("sequence", [-1, 2**64])
def test_sequence_numbers_are_bounded(sequence: int) -> None:
    records, _ = records_on(Mode.ECB)
    with pytest.raises(ValueError, match=f"record {sequence}: .* 0 to"):
        records.seal(sequence, b"", b"")
    with pytest.raises(ValueError, match=f"record {sequence}: .* 0 to"):
        records.open(sequence, b"", bytes(16))


def test_nothing_is_made_beyond_the_last_record() -> None:
    records, cipher = records_on(Mode.ECB)
    records.seal(2**64 - 2, b"", bytes(16))
    records.prefetch()
    records.seal(2**64 - 1, b"", bytes(16))
    assert sizes(cipher) == [64]


def test_short_ivs_are_refused() -> None:
    with pytest.raises(ValueError, match="an IV of 7 octets"):
        Records(Gcm(SoftwareCipher(KEY, [Mode.ECB])), bytes(7))


def test_a_refused_record_may_be_followed_by_a_good_one() -> None:
    sender, _ = records_on(Mode.ECB)
    receiver, _ = records_on(Mode.ECB)
    for sequence in range(3):
        sealed = sender.seal(sequence, b"head.", b"text")
        assert receiver.open(sequence, b"head.", bytes(20)) is None
        assert receiver.open(sequence, b"head!", sealed) is None
        assert receiver.open(sequence, b"head.", b"short") is None
        assert receiver.open(sequence, b"head.", sealed) == b"text"


# -- keystream is given out once, and wiped --------------------------------------------------------


def lookahead_on(*offered: Mode, octets: int = 1024) -> Lookahead:
    gcm = Gcm(SoftwareCipher(KEY, offered))
    gcm.seal(bytes(12), b"", b"")  # makes H
    return Lookahead(gcm, lambda record, size: gcm.counters(record.to_bytes(12), size), octets)


def test_taken_keystream_is_no_longer_there() -> None:
    ahead = lookahead_on(Mode.ECB)
    ahead.take(1, 100)
    kept = [bytes(stream) for stream in ahead._kept.values()]
    assert sum(map(len, kept)) == 1024 - 128
    assert bytes(ahead.take(2, 100)) == kept[0]
    assert kept[0] not in map(bytes, ahead._kept.values())
    assert all(
        set(pieces(one, BLOCK)).isdisjoint(pieces(other, BLOCK)) for one, other in pairwise(kept)
    )


def test_earlier_records_are_wiped() -> None:
    ahead = lookahead_on(Mode.ECB)
    ahead.take(1, 100)
    passed_over = [ahead._kept[record] for record in (2, 3, 4)]
    ahead.take(5, 100)
    assert all(stream == bytes(len(stream)) for stream in passed_over)
    assert min(ahead._kept) == 6


def test_what_a_short_record_leaves_is_gone() -> None:
    ahead = lookahead_on(Mode.ECB)
    ahead.take(1, 100)
    assert len(ahead.take(2, 4)) == 2 * BLOCK
    assert 2 not in ahead._kept


def test_closing_wipes() -> None:
    records, _ = records_on(Mode.ECB)
    records.seal(1, b"", b"text")
    streams = list(records._ahead._kept.values())
    assert any(any(stream) for stream in streams)
    records.close()
    assert not any(any(stream) for stream in streams)
    assert records._ahead.kept_octets == 0


@pytest.mark.parametrize("mode", [Gcm, Ccm])
def test_used_keystream_is_wiped(mode: type[Gcm | Ccm], monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = records_on(Mode.ECB, mode=mode)
    taken: list[bytearray] = []
    take = records._ahead.take

    def note(record: int, octets: int) -> bytearray:
        taken.append(take(record, octets))
        return taken[-1]

    monkeypatch.setattr(records._ahead, "take", note)
    sealed = records.seal(0, b"", b"text")
    records.open(0, b"", sealed)
    records.open(1, b"", sealed)
    assert len(taken) == 3
    assert not any(any(stream) for stream in taken)


def test_wipe() -> None:
    octets = bytearray(b"keystream")
    wipe(octets)
    assert octets == bytes(9)
