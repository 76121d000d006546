"""GCM and CCM for the records of TLS: nonces are known beforehand, so keystream is made ahead.

That fills commands with what short records need, and the tags of long ones. A cipher that has CTR
encrypts itself what else a long record has: full commands, of which no keystream comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from tpmtls.aead.cipher import (
    BLOCK,
    BlockCipher,
    Counters,
    Mode,
    Octets,
    counter_mode,
    packs,
)
from tpmtls.aead.mode import AuthenticatedMode, Crypt, xor_by

SEQUENCE_END: Final = 2**64
"""What no sequence number reaches (RFC 9846 §5.3)."""


class Records:
    """One direction's record protection (RFC 9846 §5.2, §5.3) by a mode of a block cipher.

    Records are sealed in the order of their numbers, and none twice. `lookahead_octets` bounds
    the keystream that is kept for records to come; 0 keeps none.
    """

    def __init__(self, mode: AuthenticatedMode, iv: bytes, lookahead_octets: int = 1024) -> None:
        if len(iv) < 8:
            raise ValueError(
                f"an IV of {len(iv)} octets: it takes at least the sequence number's 8"
            )
        self._mode = mode
        self._iv = int.from_bytes(iv, "big")
        self._iv_length = len(iv)
        self._has_ctr = Mode.CTR in mode.cipher.modes
        self._ahead = Lookahead(mode, self._counters, lookahead_octets)
        self._next_sealed = 0

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        """Ciphertext and tag for record number `sequence`.

        Raises ValueError for a number that is not above all that were sealed.
        """
        _check(sequence, self._next_sealed)
        self._next_sealed = sequence + 1
        stream, crypt = self._taken(sequence, len(plaintext))
        mask, nonce = stream[:BLOCK], self._nonce(sequence)
        try:
            return self._mode.seal_with(mask, crypt, nonce, additional_data, plaintext)
        finally:
            wipe(mask)
            wipe(stream)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        """The plaintext of record number `sequence`, or None where the tag does not verify."""
        _check(sequence, 0)
        stream, crypt = self._taken(sequence, self._mode.plaintext_length(ciphertext))
        mask, nonce = stream[:BLOCK], self._nonce(sequence)
        try:
            return self._mode.open_with(mask, crypt, nonce, additional_data, ciphertext)
        finally:
            wipe(mask)
            wipe(stream)

    def prefetch(self) -> None:
        """Use idle time: make as much keystream for the records to come as may be kept."""
        self._ahead.fill()

    def close(self) -> None:
        """Wipe the keystream that is left."""
        self._ahead.wipe()

    def _taken(self, sequence: int, octets: int) -> tuple[bytearray, Crypt]:
        """Keystream, which the caller wipes, and what it, or the cipher, does to a text."""
        cipher, counters = self._mode.cipher, self._counters(sequence, octets)
        if not self._has_ctr:
            stream = self._ahead.take(sequence, octets)
            return stream, xor_by(stream)
        rest = counters.blocks - 1
        head = rest % (cipher.max_command // BLOCK)
        stream = self._ahead.take(sequence, BLOCK * head)
        return stream, partial(_crypt, cipher, stream, counters.part(1 + head, rest - head))

    def _nonce(self, sequence: int) -> bytes:
        return (self._iv ^ sequence).to_bytes(self._iv_length, "big")

    def _counters(self, sequence: int, octets: int) -> Counters:
        return self._mode.counters(self._nonce(sequence), octets)


def _crypt(cipher: BlockCipher, stream: Octets, counters: Counters, text: bytes) -> bytes:
    """A text, the first of it by keystream and the rest, in full commands, by the cipher."""
    head = len(stream) - BLOCK
    done = xor_by(stream)(text[:head]) if head else b""
    return done + counter_mode(cipher, counters, text[head:]) if counters.blocks else done


def _check(sequence: int, lowest: int) -> None:
    if not lowest <= sequence < SEQUENCE_END:
        raise ValueError(f"record {sequence}: its number must be from {lowest} to 2^64 - 1")


class Lookahead:
    """Keystream of numbered records, each octet of which is made once and given out once.

    A record's keystream is taken whole, and with it everything before it is gone. What a command
    has room for beyond the record at hand goes to those after it, as if they were as long; but not
    beyond a key's first record, since a handshake key protects no more than one or two.
    """

    def __init__(
        self,
        mode: AuthenticatedMode,
        counters: Callable[[int, int], Counters],
        lookahead_octets: int,
    ) -> None:
        self._mode = mode
        self._counters = counters
        self._kept_max = lookahead_octets // BLOCK
        self._per_command = mode.cipher.max_command // BLOCK
        self._packs = packs(mode.cipher)
        self._kept: dict[int, bytearray] = {}
        self._next, self._octets = 0, 0

    @property
    def kept_octets(self) -> int:
        """Keystream at hand."""
        return sum(map(len, self._kept.values()))

    def take(self, record: int, octets: int) -> bytearray:
        """The keystream of a record of that many octets; the caller wipes it."""
        if self._kept:
            for earlier in [number for number in self._kept if number < record]:
                wipe(self._kept.pop(earlier))
        self._next, self._octets = record + 1, octets
        counters = self._counters(record, octets)
        stream = self._kept.pop(record, bytearray())
        made = len(stream) // BLOCK
        missing = counters.blocks - made
        if missing > 0:
            runs = {record: counters.part(made, missing)}
            if record > 0 and self._packs:
                runs.update(self._following(-missing % self._per_command))
            self._make(runs)
            rest = self._kept.pop(record)
            stream += rest
            wipe(rest)
        size = BLOCK * counters.blocks
        stream[size:] = bytes(len(stream) - size)
        del stream[size:]
        return stream

    def fill(self) -> None:
        """Make keystream for the records to come, in full commands, as far as it may be kept."""
        room = self._kept_max - self.kept_octets // BLOCK
        self._make(dict(self._following(room - room % self._per_command)))

    def wipe(self) -> None:
        """Wipe what is at hand."""
        while self._kept:
            wipe(self._kept.popitem()[1])

    def _made(self, record: int) -> int:
        """How many blocks of a record are at hand."""
        return len(self._kept.get(record, b"")) // BLOCK

    def _following(self, blocks: int) -> Iterator[tuple[int, Counters]]:
        """What is not yet made of the records to come, up to `blocks` and what may be kept."""
        blocks = min(blocks, self._kept_max - self.kept_octets // BLOCK)
        record = self._next
        while blocks > 0 and record < SEQUENCE_END:
            counters, made = self._counters(record, self._octets), self._made(record)
            count = min(blocks, counters.blocks - made)
            if count > 0:
                yield record, counters.part(made, count)
                blocks -= count
            record += 1

    def _make(self, runs: Mapping[int, Counters]) -> None:
        stream = memoryview(self._mode.keystream(list(runs.values())))
        for record, run in runs.items():
            size = BLOCK * run.blocks
            self._kept.setdefault(record, bytearray()).extend(stream[:size])
            stream = stream[size:]


def wipe(octets: bytearray) -> None:
    """Overwrite with zeros; what Python copied on the way cannot be reached."""
    octets[:] = bytes(len(octets))
