"""What follows from secrets and a recording of the network: done, not argued.

Everything that the RFC lets one compute is computed, as often as there is anything new; what is
recorded is decrypted, and what that shows of the handshake is used to go on. No rule of the audit
has a part in it. One suite, TLS_AES_128_GCM_SHA256.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.audit.experiments.forge import TAG, encrypted_zeros, hashed
from tpmtls.aead.cipher import xor
from tpmtls.algorithms import SHA256
from tpmtls.backends.base import hkdf_label
from tpmtls.codepoints import ContentType, HandshakeType
from tpmtls.key_schedule import EXTERNAL_BINDER_KEY, RESUMPTION_BINDER_KEY, SCHEDULE, Point, Stage
from tpmtls.record import RECORD_HEADER_SIZE
from tpmtls.wire.extensions import EarlyDataIndication, OfferedPsks, SelectedPsk
from tpmtls.wire.messages import (
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    NewSessionTicket,
    ServerHello,
    decode_message,
)

SIZE: Final = SHA256.digest_size
ZEROS: Final = bytes(SIZE)


class Recording(NamedTuple):
    """A connection as the network saw it."""

    sent: bytes
    received: bytes


@dataclass
class Followed:
    """What came of it."""

    have: dict[str, bytes]
    """Secrets by their ids, as `tpmtls audit` has them: `1/handshake_secret/derived`."""
    data: set[bytes] = field(default_factory=set)
    """Application data that could be read, a record each."""


def follow(
    recordings: Mapping[int, Recording], known: Mapping[str, bytes], *, external: bool = False
) -> Followed:
    """All that one can have of connections, by their numbers, who has these secrets of them.

    `external`: they are made with an external PSK.
    """
    followed = Followed(dict(known))
    for number, recording in recordings.items():
        psk = "0/PSK" if external else f"{number - 1}/PSK"
        _Connection(number, psk, recording, recordings.get(number + 1), followed).run()
    return followed


def records(octets: bytes) -> Iterator[bytes]:
    """The records of a stream."""
    while octets:
        end = RECORD_HEADER_SIZE + int.from_bytes(octets[3:RECORD_HEADER_SIZE], "big")
        yield octets[:end]
        octets = octets[end:]


class Offer(NamedTuple):
    """What a client shows of the PSK that it offers."""

    identity: bytes
    """A ticket's ticket."""
    binder: bytes
    bound: bytes
    """The ClientHello, as far as the binder is over it."""


def offered(recording: Recording) -> Offer | None:
    """What a ClientHello offers, if it does."""
    octets = next(records(recording.sent))[RECORD_HEADER_SIZE:]
    hello = decode_message(octets)
    assert isinstance(hello, ClientHello)
    psks = hello.extensions.get(OfferedPsks)
    if psks is None:
        return None
    return Offer(psks.identities[0].identity, psks.binders[0], octets[: -psks.binders_size])


@lru_cache(4096)
def open_record(key: bytes, record: bytes) -> tuple[int, bytes] | None:
    """Content type and content of a GCM record, with its write_key and without its write_iv.

    Tag and GHASH differ by an encrypted counter block, and in that is the nonce.
    """
    header, rest = record[:RECORD_HEADER_SIZE], record[RECORD_HEADER_SIZE:]
    mask = xor(rest[-TAG:], hashed(encrypted_zeros(key), header, rest[:-TAG]))
    block = Cipher(algorithms.AES(key), modes.ECB()).decryptor().update(mask)
    try:
        inner = AESGCM(key).decrypt(block[:12], rest, header).rstrip(b"\0")
    except InvalidTag:
        return None
    return inner[-1], inner[:-1]


def _expand(secret: bytes, label: bytes, context: bytes, length: int = SIZE) -> bytes:
    return hmac.digest(secret, hkdf_label(length, label, context) + b"\x01", "sha256")[:length]


def _extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt, ikm, "sha256")


class _Connection:
    """One connection: who has a secret of it computes the next one."""

    def __init__(
        self,
        number: int,
        psk: str,
        recording: Recording,
        later: Recording | None,
        followed: Followed,
    ) -> None:
        self._number = number
        self._resumed = None if later is None else offered(later)
        self._followed = followed
        self._sent, self._received = (list(records(stream)) for stream in recording)
        self._messages = self._sent[0][RECORD_HEADER_SIZE:]
        self._hashes = {
            Point.NOTHING: SHA256.empty_digest,
            Point.CLIENT_HELLO: SHA256.digest(self._messages),
        }
        self._opened: dict[str, dict[int, tuple[int, bytes]]] = {}
        self._psk: str | None = psk
        if self._received:
            self._hear(self._received[0][RECORD_HEADER_SIZE:])

    def _hear(self, octets: bytes) -> None:
        """The ServerHello."""
        hello = decode_message(octets)
        assert isinstance(hello, ServerHello)
        if hello.extensions.get(SelectedPsk) is None:
            self._psk = None
        self._messages += octets
        self._hashes[Point.SERVER_HELLO] = SHA256.digest(self._messages)

    def run(self) -> None:
        """Until there is nothing new."""
        before = -1
        while before != (now := self._progress()):
            before = now
            self._extract()
            self._derive()
            self._protect()
            self._read_handshake()
            self._guess_nonce()
        for opened in self._opened.values():
            for kind, content in opened.values():
                if kind == ContentType.application_data:
                    self._followed.data.add(content)

    def _progress(self) -> int:
        return len(self._followed.have) + len(self._hashes)

    def _get(self, name: str) -> bytes | None:
        return self._followed.have.get(f"{self._number}/{name}")

    def _put(self, name: str, octets: bytes) -> None:
        self._followed.have.setdefault(f"{self._number}/{name}", octets)

    # -- the key schedule --------------------------------------------------------------------------

    def _extract(self) -> None:
        have = self._followed.have
        psk = ZEROS if self._psk is None else have.get(self._psk)
        if psk is not None:
            self._put(Stage.EARLY.value, _extract(ZEROS, psk))
        if self._psk == "0/PSK" and "0/derived" in have:
            self._put("early_secret/derived", have["0/derived"])
        salt, shared = self._get("early_secret/derived"), self._get("shared_secret")
        if salt is not None and shared is not None:
            self._put(Stage.HANDSHAKE.value, _extract(salt, shared))
        salt = self._get("handshake_secret/derived")
        if salt is not None:
            self._put(Stage.MAIN.value, _extract(salt, ZEROS))

    def _derive(self) -> None:
        other = RESUMPTION_BINDER_KEY if self._psk == "0/PSK" else EXTERNAL_BINDER_KEY
        for stage in Stage:
            secret = self._get(stage.value)
            if secret is None:
                continue
            if stage is not Stage.MAIN:
                self._put(
                    f"{stage.value}/derived", _expand(secret, b"derived", SHA256.empty_digest)
                )
            for row in SCHEDULE:
                if row.parent is stage and row is not other and row.point in self._hashes:
                    self._put(row.secret, _expand(secret, row.label, self._hashes[row.point]))
        binder_key = self._get("binder_key")
        if binder_key is not None:
            self._put("binder_key/finished_key", _expand(binder_key, b"finished", b""))

    # -- records -----------------------------------------------------------------------------------

    def _protect(self) -> None:
        """Traffic secrets give keys, and their successors; keys open records."""
        for row in SCHEDULE:
            if not row.secret.endswith(("traffic_secret", "traffic_secret_0")):
                continue
            names = [row.secret]
            if row.secret.endswith("_0"):
                names.append(f"{row.secret[:-1]}1")
            for name, successor in zip(names, [*names[1:], None], strict=True):
                secret = self._get(name)
                if secret is not None:
                    self._put(f"{name}/write_key", _expand(secret, b"key", b"", 16))
                    if successor is not None:
                        self._put(successor, _expand(secret, b"traffic upd", b""))
                self._open(name)

    def _open(self, name: str) -> None:
        key = self._get(f"{name}/write_key")
        if key is None or name in self._opened:
            return
        self._put(f"{name}/ghash_key", encrypted_zeros(key))
        self._opened[name] = {
            at: opened
            for at, record in enumerate(self._sent if name.startswith("client") else self._received)
            if record[0] == ContentType.application_data
            and (opened := open_record(key, record)) is not None
        }

    # -- the handshake -----------------------------------------------------------------------------

    def _read_handshake(self) -> None:
        flight = self._handshake("server_handshake_traffic_secret")
        if Point.SERVER_FINISHED not in self._hashes and flight:
            self._messages += b"".join(flight)
            self._hashes[Point.SERVER_FINISHED] = SHA256.digest(self._messages)
            parameters = decode_message(flight[0])
            assert isinstance(parameters, EncryptedExtensions)
            if parameters.extensions.get(EarlyDataIndication) is not None:
                self._messages += EndOfEarlyData().to_octets()  # which is the same each time
        flight = self._handshake("client_handshake_traffic_secret")
        if (
            Point.SERVER_FINISHED in self._hashes
            and Point.CLIENT_FINISHED not in self._hashes
            and flight
        ):
            self._messages += b"".join(flight)
            self._hashes[Point.CLIENT_FINISHED] = SHA256.digest(self._messages)
        resumption = self._get("resumption_secret")
        for octets in self._handshake("server_application_traffic_secret_0"):
            if octets[0] == HandshakeType.new_session_ticket and resumption is not None:
                ticket = decode_message(octets)
                assert isinstance(ticket, NewSessionTicket)
                self._put("PSK", _expand(resumption, b"resumption", ticket.ticket_nonce))

    def _guess_nonce(self) -> None:
        """The nonce of a ticket is a small number, and the binder of its use shows which."""
        resumption = self._get("resumption_secret")
        if resumption is None or self._resumed is None or self._get("PSK") is not None:
            return
        for number, size in product(range(4), range(1, 9)):
            psk = _expand(resumption, b"resumption", number.to_bytes(size, "big"))
            binder_key = _expand(_extract(ZEROS, psk), b"res binder", SHA256.empty_digest)
            finished_key = _expand(binder_key, b"finished", b"")
            if _extract(finished_key, SHA256.digest(self._resumed.bound)) == self._resumed.binder:
                self._put("PSK", psk)

    def _handshake(self, name: str) -> list[bytes]:
        """The messages under one traffic secret, if it is known."""
        octets = b"".join(
            content
            for kind, content in self._opened.get(name, {}).values()
            if kind == ContentType.handshake
        )
        messages = []
        while octets:
            end = 4 + int.from_bytes(octets[1:4], "big")
            messages.append(octets[:end])
            octets = octets[end:]
        return messages
