"""The handle-only backend: the whole protocol over a model that gives handles out, and no secrets.

It shows that TLS 1.3 itself needs no secret outside: the ledger stays empty but for what the caller
asked to have revealed, an exported value, and for external PSKs that he brought. The model
(`handle_model`) runs in a process of its own, so that none is in the memory of this one either.
"""

from __future__ import annotations

import hmac
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any, BinaryIO, Final, Protocol, cast
from weakref import finalize

from tpmtls.algorithms import GROUPS, SUITES, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, Backend, Kept, KeyShare, PskReference, Secret, Signer
from tpmtls.backends.handle_model import NO_HANDLE, HandleModel
from tpmtls.backends.handle_process import (
    Field,
    Operation,
    Status,
    execute,
    frame,
    read_frame,
)
from tpmtls.backends.ledger import Crossing, Direction, Ledger
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import (
    BackendError,
    ConfigurationError,
    PeerViolation,
    StoredSecretError,
    Violation,
)

MODEL: Final = "model:"
"""What the name of a model begins with, before the file in which it keeps its storage key."""


class HandleSecret(Secret):
    """A handle of the model."""

    __slots__ = ("handle", "owner")

    def __init__(
        self,
        name: str,
        length: int,
        algorithm: HashAlgorithm | None,
        handle: int,
        owner: HandleOnlyBackend,
    ) -> None:
        super().__init__(name, length, algorithm)
        self.handle = handle
        self.owner = owner

    @property
    def kept(self) -> tuple[Kept, ...]:
        return () if self.handle == NO_HANDLE else (Kept(self.name, "model"),)


# -- how to reach the model ------------------------------------------------------------------------


class Link(Protocol):
    """A way to a model."""

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        """Status and fields of the response."""

    def close(self) -> None:
        """Let go of the model; its objects are gone."""


class LocalLink:
    """A model in this process, for tests: then its secrets are in this process's memory."""

    def __init__(self, model: HandleModel) -> None:
        self.model = model

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        sent = frame(operation, fields)
        received = execute(self.model, operation, _fields(sent))
        return received[4], _fields(received)

    def close(self) -> None:
        """There is nothing to let go of."""


def _fields(octets: bytes) -> list[bytes]:
    read = read_frame(BytesIO(octets))
    return [] if read is None else read[1]


class ProcessLink:
    """A model in a process of its own, which ends when this link is closed or forgotten."""

    def __init__(self, storage_file: str | None = None) -> None:
        command = [sys.executable, "-m", "tpmtls.backends.handle_process"]
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._process = subprocess.Popen(  # noqa: S603 - the same Python, and ourselves
            command + ([storage_file] if storage_file else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._finalizer = finalize(self, _end, self._process, self._owner)
        self._input = cast("BinaryIO", self._process.stdin)  # they are pipes
        self._output = cast("BinaryIO", self._process.stdout)
        try:
            status, fields = self._receive()
        except BackendError:
            self.close()
            raise
        if status != Status.DONE:
            self.close()
            raise ConfigurationError(fields[0].decode("utf-8", "replace"))

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        if os.getpid() != self._owner:
            raise BackendError("the handle-only model was opened before a fork: open it anew")
        with self._lock:
            try:
                self._input.write(frame(operation, fields))
                self._input.flush()
            except (OSError, ValueError):
                raise _gone() from None
            return self._receive()

    def _receive(self) -> tuple[int, list[bytes]]:
        response = read_frame(self._output)
        if response is None:
            raise _gone()
        return response

    def close(self) -> None:
        self._finalizer()


def _gone() -> BackendError:
    return BackendError("the handle-only model's process has ended: open it anew")


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    """The end of its input ends the model."""
    if os.getpid() != owner:
        return
    for stream in process.stdin, process.stdout:
        if stream is not None:
            with suppress(OSError):
                stream.close()
    process.wait()


# -- the backend -----------------------------------------------------------------------------------


class HandleOnlyBackend(Backend):
    """Names secrets that a model holds; `link` None starts one, `storage_file` is for that one."""

    name = "handle-only"
    groups = tuple(GROUPS)
    suites = tuple(SUITES)
    reveals_secrets = False

    def __init__(self, link: Link | None = None, *, storage_file: str | None = None) -> None:
        self.ledger = Ledger()
        self._link = ProcessLink(storage_file) if link is None else link

    @property
    def stored(self) -> Kept:
        return Kept("PSK", "model")

    @property
    def live(self) -> int:
        """How many objects the model holds."""
        return _number(self._ask(Operation.COUNT)[0])

    # -- key exchange ------------------------------------------------------------------------------

    def key_share(self, group: NamedGroup) -> KeyShare:
        # req: 4.3.8-8 4.3.8-12
        handle, public = self._ask(Operation.CREATE, group)
        return HandleKeyShare(self, group, _number(handle), public)

    def agreed(self, group: NamedGroup, key: int, peer_share: bytes) -> Secret:
        """The shared secret of an ephemeral key and the peer's share; the key is then gone."""
        (handle,) = self._ask(Operation.AGREE, key, peer_share)
        return self._shared(group, handle)

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        handle, public = self._ask(Operation.RESPOND, group, client_share)
        return public, self._shared(group, handle)

    def _shared(self, group: NamedGroup, handle: bytes) -> Secret:
        size = GROUPS[group].shared_secret
        return HandleSecret("shared_secret", size, None, _number(handle), self)

    # -- HKDF --------------------------------------------------------------------------------------

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        salt_handle = NO_HANDLE if salt is None else self._handle(salt)
        ikm_handle = NO_HANDLE if ikm is None else self._handle(ikm)
        (handle,) = self._ask(Operation.EXTRACT, algorithm.name, salt_handle, ikm_handle, name)
        return HandleSecret(name, algorithm.digest_size, algorithm, _number(handle), self)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        parent = self._handle(secret)
        (handle,) = self._ask(Operation.EXPAND_LABEL, parent, label, context, length, name)
        return HandleSecret(name, length, secret.hash, _number(handle), self)

    def mac(self, key: Secret, data: bytes) -> bytes:
        return self._ask(Operation.MAC, self._handle(key), data)[0]

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return hmac.compare_digest(self.mac(key, data), tag)

    # -- use ---------------------------------------------------------------------------------------

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        number = next(number for number, row in SUITES.items() if row is suite)
        handles = self._handle(key), self._handle(iv)
        (handle,) = self._ask(Operation.LOAD_RECORDS, number, *handles)
        self.destroy(key, iv)
        return HandleAead(self, _number(handle))

    def signer(self, key: Any) -> Signer:
        return SoftwareSigner(key)

    # -- secrets that come and go ------------------------------------------------------------------

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        if isinstance(key, PskReference):
            raise self._unfit(key)
        self._record("PSK", "in", "import_psk")
        (handle,) = self._ask(Operation.IMPORT_PSK, algorithm.name, key)
        return HandleSecret("PSK", len(key), algorithm, _number(handle), self)

    def wrap(self, secret: Secret) -> bytes:
        """A blob that the same model alone can use."""
        return self._ask(Operation.WRAP, self._handle(secret))[0]

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        (handle,) = self._ask(Operation.UNWRAP, algorithm.name, blob)
        return HandleSecret(name, algorithm.digest_size, algorithm, _number(handle), self)

    def reveal(self, secret: Secret, reason: str) -> bytes:
        """The value of an exporter; raises BackendError for everything else."""
        octets = self._ask(Operation.READ, self._handle(secret))[0]
        self._record(secret.name, "out", f"reveal: {reason}")
        return octets

    def destroy(self, *secrets: Secret | None) -> None:
        for secret in secrets:
            if isinstance(secret, HandleSecret) and secret.handle != NO_HANDLE:
                handle, secret.handle = secret.handle, NO_HANDLE
                self.flush(handle)

    def flush(self, handle: int) -> None:
        """Have the model forget an object; if the model is gone, so is the object."""
        with suppress(BackendError):
            self._ask(Operation.FLUSH, handle)

    def close(self) -> None:
        """End the model."""
        self._link.close()

    # -- parts -------------------------------------------------------------------------------------

    def ask_records(self, operation: Operation, *fields: Field) -> bytes | None:
        """What SEAL or OPEN gives; None where the tag does not verify."""
        made = self._ask(operation, *fields)
        return made[0] if made else None

    def _ask(self, operation: Operation, *fields: Field) -> list[bytes]:
        status, made = self._link.request(operation, fields)
        if status == Status.DONE:
            return made
        text = made[0].decode("utf-8", "replace")
        if status == Status.PEER_VIOLATION:
            raise PeerViolation(Violation[text], made[1].decode("utf-8", "replace"))
        if status == Status.NOT_STORED_HERE:
            raise StoredSecretError(text)
        raise BackendError(text)

    def _handle(self, secret: Secret) -> int:
        if not isinstance(secret, HandleSecret) or secret.owner is not self:
            raise BackendError(f"{secret!r} belongs to another backend")
        if secret.handle == NO_HANDLE:
            raise BackendError(f"{secret!r} was destroyed")
        return secret.handle

    def _record(self, secret: str, direction: Direction, via: str) -> None:
        self.ledger.record(Crossing(secret, "protocol", direction, via))


class HandleKeyShare(KeyShare):
    """An ephemeral key in the model, until it has agreed."""

    def __init__(
        self, backend: HandleOnlyBackend, group: NamedGroup, handle: int, public: bytes
    ) -> None:
        self.group = group
        self.public = public
        self._backend = backend
        self._handle = handle

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (Kept("ephemeral_key", "model"),)

    def agree(self, peer_share: bytes) -> Secret:
        return self._backend.agreed(self.group, self._handle, peer_share)

    def close(self) -> None:
        self._backend.flush(self._handle)


class HandleAead(Aead):
    """Records under a key in the model."""

    def __init__(self, backend: HandleOnlyBackend, handle: int) -> None:
        self._backend = backend
        self._handle = handle

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (Kept("write_key", "model"), Kept("write_iv", "model"))

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        request = self._handle, sequence, additional_data, plaintext
        return self._backend.ask_records(Operation.SEAL, *request) or b""

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        request = self._handle, sequence, additional_data, ciphertext
        return self._backend.ask_records(Operation.OPEN, *request)

    def close(self) -> None:
        self._backend.flush(self._handle)


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def open_model(name: str | None = None) -> HandleOnlyBackend:
    """A model in a process of its own; with `model:FILE`, sessions are good for the next one too.

    Raises ConfigurationError.
    """
    if name is None:
        return HandleOnlyBackend()
    if not name.startswith(MODEL) or name == MODEL:
        raise ConfigurationError(
            f"{name!r} is no model: {MODEL}FILE, the file for the key of stored sessions"
        )
    return HandleOnlyBackend(storage_file=name.removeprefix(MODEL))
