"""The transcript hash (RFC 9846 §4.1), with its one exception after a HelloRetryRequest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tpmtls.algorithms import HashAlgorithm
from tpmtls.codepoints import HandshakeType
from tpmtls.wire.messages import frame

if TYPE_CHECKING:
    from hashlib import _Hash


class Transcript:
    """A running hash over handshake messages, headers included.

    Until the hash is selected, messages are kept; there are never more than two of them.
    """

    __slots__ = ("_algorithm", "_pending", "_running")

    def __init__(self) -> None:
        self._algorithm: HashAlgorithm | None = None
        self._pending = b""
        self._running: _Hash | None = None

    def select(self, algorithm: HashAlgorithm) -> None:
        """Fix the hash: the one of the selected cipher suite."""
        if self._running is None:
            self._algorithm = algorithm
            self._running = hashlib.new(algorithm.name, self._pending)
            self._pending = b""

    def add(self, message: bytes) -> None:
        """Append one whole message."""
        if self._running is None:
            self._pending += message
        else:
            self._running.update(message)

    def replace_client_hello(self) -> None:
        """Put the synthetic message_hash in the place of the ClientHello that was answered by a
        HelloRetryRequest; to be called before that request is added.
        """
        algorithm, digest = self._selected, self.digest()
        self._running = hashlib.new(algorithm.name, frame(HandshakeType.message_hash, digest))

    def digest(self, partial: bytes = b"") -> bytes:
        """The hash of what was added so far, and of `partial` after it."""
        if self._running is None:
            raise RuntimeError("the transcript's hash is not selected yet")
        if not partial:
            return self._running.digest()
        running = self._running.copy()
        running.update(partial)
        return running.digest()

    def preview(self, algorithm: HashAlgorithm, partial: bytes) -> bytes:
        """The hash of what was added and of `partial`; by `algorithm` while none is selected.

        For binders: a PSK's hash is known before the cipher suite is (RFC 9846 §4.3.11.2).
        """
        if self._running is None:
            return algorithm.digest(self._pending + partial)
        return self.digest(partial)

    def fork(self) -> Transcript:
        """A copy that goes its own way: post-handshake authentication starts from one."""
        other = Transcript()
        other._algorithm, other._pending = self._algorithm, self._pending
        other._running = None if self._running is None else self._running.copy()
        return other

    @property
    def _selected(self) -> HashAlgorithm:
        if self._algorithm is None:
            raise RuntimeError("the transcript's hash is not selected yet")
        return self._algorithm
