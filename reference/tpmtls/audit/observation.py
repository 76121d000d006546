"""A backend that passes everything on to another, and notes in a journal what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.audit.journal import Identity, Journal, Names, Operation
from tpmtls.backends.base import Aead, Backend, Kept, KeyShare, PskReference, Secret, Signer
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.device import Recorder
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.responses import command_name
from tpmtls.codepoints import NamedGroup, SignatureScheme

PARTS: Final = ("derived", "finished_key", "write_key", "write_iv")
"""What is named after the secret that it is expanded from."""
PSK: Final = "PSK"
EARLY_SECRET: Final = "early_secret"
SIGNING_KEY: Final = Identity(0, "signing_key")
EXTERNAL_PSK: Final = Identity(0, PSK)
PROVISIONED: Final = (Identity(0, "finished_key"), Identity(0, "derived"))
"""The two keys that an external PSK in a TPM is."""


class Observed(Backend):
    """Another backend, observed. `connection` says which one is under way."""

    def __init__(self, inner: Backend, journal: Journal) -> None:
        self.inner = inner
        self.journal = journal
        self.connection = 1
        self.name = inner.name
        self.ledger = inner.ledger
        self.groups = inner.groups
        self.suites = inner.suites
        self.reveals_secrets = inner.reveals_secrets

    @property
    def stored(self) -> Kept:
        return self.inner.stored

    # -- key exchange ------------------------------------------------------------------------------

    def key_share(self, group: NamedGroup) -> KeyShare:
        with self.operation("CREATE") as operation, self._recording() as recorder:
            share = self.inner.key_share(group)
            operation.way = made_by(recorder) or operation.way
            self.journal.hold(share, {"ephemeral_key": self._new("ephemeral_key")})
        return ObservedKeyShare(self, share)

    def agree(self, share: KeyShare, peer_share: bytes) -> Secret:
        """The shared secret of one of our key shares."""
        with self.operation("AGREE") as operation:
            inputs = self.journal.names_of(share)
            shared = share.agree(peer_share)
            self._made(operation, shared, inputs, self._new(shared.name))
        return shared

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        with self.operation("RESPOND") as operation:
            public, shared = self.inner.respond(group, client_share)
            inputs = {"ephemeral_key": self._new("ephemeral_key")}
            self._made(operation, shared, inputs, self._new(shared.name))
        return public, shared

    # -- HKDF --------------------------------------------------------------------------------------

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        with self.operation("EXTRACT") as operation:
            inputs = self.journal.names_of(salt, ikm)
            made = self.inner.extract(algorithm, salt, ikm, name)
            constant = not any(inputs.values())
            self._made(operation, made, inputs, None if constant else self._new(name))
        return made

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        with self.operation("EXPAND_LABEL") as operation:
            inputs = self.journal.names_of(secret)
            made = self.inner.expand_label(secret, label, context, length, name)
            parent = inputs[secret.name]
            child = None
            if parent is not None:
                child = parent.part(name) if name in PARTS else self._new(name)
            if name == PSK:  # of a ticket; a TPM has its Early Secret made at once
                inputs[EARLY_SECRET] = self._new(EARLY_SECRET, 1)
            self._made(operation, made, inputs, child)
        return made

    def mac(self, key: Secret, data: bytes) -> bytes:
        with self.operation("MAC") as operation:
            operation.names |= self.journal.names_of(key)
            return self.inner.mac(key, data)

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        with self.operation("MAC") as operation:
            operation.names |= self.journal.names_of(key)
            return self.inner.verify_mac(key, data, tag)

    # -- use ---------------------------------------------------------------------------------------

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        with self.operation("LOAD_RECORDS") as operation:
            names = self.journal.names_of(key, iv)
            write_key = names[key.name]
            if write_key is not None:
                names["ghash_key"] = Identity(write_key.connection, "ghash_key", write_key.parent)
            operation.names |= names
            aead = self.inner.aead(suite, key, iv)
            self.journal.hold(aead, names)
        return ObservedAead(self, aead, names)

    def signer(self, key: Any) -> Signer:
        return ObservedSigner(self, self.inner.signer(key))

    # -- secrets that come and go ------------------------------------------------------------------

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        with self.operation("IMPORT_PSK") as operation:
            made = self.inner.import_psk(key, algorithm)
            inputs: Names = {identity.name: identity for identity in PROVISIONED}
            self._made(operation, made, inputs, EXTERNAL_PSK)
        return made

    def check_psk(self, key: bytes | PskReference) -> None:
        self.inner.check_psk(key)

    def wrap(self, secret: Secret) -> bytes:
        with self.operation("WRAP") as operation:
            names = self.journal.names_of(secret)
            names[EARLY_SECRET] = self._new(EARLY_SECRET, 1)
            operation.names |= names
            blob = self.inner.wrap(secret)
            stored = names[self.stored.name]
            if stored is not None:
                self.journal.put(stored, self.stored.place, stored=True)
        return blob

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        with self.operation("UNWRAP") as operation:
            psk, early = self._new(PSK, -1), self._new(EARLY_SECRET)
            made = self.inner.unwrap(blob, name, algorithm)
            self._made(operation, made, {EARLY_SECRET: early}, psk)
            for identity in psk, early:
                self.journal.take(identity, self.stored.place)
        return made

    def reveal(self, secret: Secret, reason: str) -> bytes:
        with self.operation("READ") as operation:
            operation.names |= self.journal.names_of(secret)
            return self.inner.reveal(secret, reason)

    def destroy(self, *secrets: Secret | None) -> None:
        with self.operation("FLUSH"):
            self.inner.destroy(*secrets)

    def close(self) -> None:
        with self.operation("FLUSH"):
            self.inner.close()

    # -- parts -------------------------------------------------------------------------------------

    def operation(self, way: str) -> AbstractContextManager[Operation]:
        """An instant; `way` is what the handle-only model calls it."""
        return self.journal.operation(self.ledger, way)

    def _new(self, name: str, later: int = 0) -> Identity:
        """A secret of this connection, or of one so much later."""
        return Identity(self.connection + later, name)

    def _made(
        self, operation: Operation, made: Secret, inputs: Names, identity: Identity | None
    ) -> None:
        """A new handle. Where it keeps what an input kept, that has the identity it had there."""
        names = {made.name: inputs.get(made.name, identity)}
        names |= {kept.name: inputs[kept.name] for kept in made.kept if kept.name in inputs}
        self.journal.hold(made, names)
        operation.names |= {**inputs, **names}

    def _recording(self) -> AbstractContextManager[Recorder | None]:
        tpm = getattr(self.inner, "tpm", None)
        return tpm.device.recording() if isinstance(tpm, Tpm) else nullcontext()


_MAKING: Final = frozenset(
    command_name(code)
    for code in (CommandCode.Create, CommandCode.CreatePrimary, CommandCode.CreateLoaded)
)


def made_by(recorder: Recorder | None) -> str | None:
    """The last command recorded by which a TPM draws a key; None where there is none."""
    exchanges = [] if recorder is None else recorder.exchanges
    names = [command_name(int.from_bytes(each.command[6:10], "big")) for each in exchanges]
    return next((name for name in reversed(names) if name in _MAKING), None)


class ObservedKeyShare(KeyShare):
    """One of the other's key shares."""

    def __init__(self, backend: Observed, inner: KeyShare) -> None:
        self.group = inner.group
        self.public = inner.public
        self._backend = backend
        self._inner = inner

    @property
    def kept(self) -> tuple[Kept, ...]:
        return self._inner.kept

    def agree(self, peer_share: bytes) -> Secret:
        return self._backend.agree(self._inner, peer_share)

    def close(self) -> None:
        with self._backend.operation("FLUSH"):
            self._inner.close()
            self._backend.journal.release(self._inner)


class ObservedAead(Aead):
    """One of the other's AEADs."""

    def __init__(self, backend: Observed, inner: Aead, names: Names) -> None:
        self._backend = backend
        self._inner = inner
        self._names = names

    @property
    def kept(self) -> tuple[Kept, ...]:
        return self._inner.kept

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        with self._operation("SEAL"):
            return self._inner.seal(sequence, additional_data, plaintext)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        with self._operation("OPEN"):
            return self._inner.open(sequence, additional_data, ciphertext)

    def close(self) -> None:
        with self._operation("FLUSH"):
            self._inner.close()
            self._backend.journal.release(self._inner)

    @contextmanager
    def _operation(self, way: str) -> Iterator[None]:
        with self._backend.operation(way) as operation:
            operation.names |= self._names
            yield


class ObservedSigner(Signer):
    """A signer, whoever holds its key, which is there before and after the run and on the disk."""

    def __init__(self, backend: Observed, inner: Signer) -> None:
        self.schemes: Sequence[SignatureScheme] = inner.schemes
        self.public_key = inner.public_key  # type: ignore[attr-defined]
        self._backend = backend
        self._inner = inner
        journal = backend.journal
        journal.hold(inner, {SIGNING_KEY.name: SIGNING_KEY})
        for kept in inner.kept:
            journal.put(SIGNING_KEY, kept.place, stored=True)

    @property
    def kept(self) -> tuple[Kept, ...]:
        return self._inner.kept

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        with self._backend.operation("SIGN"):
            return self._inner.sign(scheme, data)

    def close(self) -> None:
        self._inner.close()
