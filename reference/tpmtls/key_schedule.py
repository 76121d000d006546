"""The key schedule (RFC 9846 §7) as one table over opaque secrets, and the code that walks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, Backend, Secret


class Stage(Enum):
    """The secrets on the left of Figure 5: each Extract adds one input."""

    EARLY = "early_secret"
    HANDSHAKE = "handshake_secret"
    MAIN = "main_secret"


class Point(Enum):
    """The last message of the transcript that a secret is bound to."""

    NOTHING = ""
    CLIENT_HELLO = "ClientHello"
    SERVER_HELLO = "ServerHello"
    SERVER_FINISHED = "server Finished"
    CLIENT_FINISHED = "client Finished"


@dataclass(frozen=True, slots=True)
class Derivation:
    """One arrow of Figure 5: Derive-Secret(parent, label, messages up to `point`) = secret.

    `key_log` is the label of the secret in an SSLKEYLOGFILE, `rfc8448` its name in the traces.
    """

    secret: str
    parent: Stage
    label: bytes
    point: Point
    key_log: str | None = None
    rfc8448: str | None = None


EXTERNAL_BINDER_KEY: Final = Derivation("binder_key", Stage.EARLY, b"ext binder", Point.NOTHING)
RESUMPTION_BINDER_KEY: Final = Derivation(
    "binder_key", Stage.EARLY, b"res binder", Point.NOTHING, rfc8448="tls13 res binder"
)
CLIENT_EARLY_TRAFFIC_SECRET: Final = Derivation(
    "client_early_traffic_secret",
    Stage.EARLY,
    b"c e traffic",
    Point.CLIENT_HELLO,
    "CLIENT_EARLY_TRAFFIC_SECRET",
    "tls13 c e traffic",
)
EARLY_EXPORTER_SECRET: Final = Derivation(
    "early_exporter_secret",
    Stage.EARLY,
    b"e exp master",
    Point.CLIENT_HELLO,
    "EARLY_EXPORTER_SECRET",
    "tls13 e exp master",
)
CLIENT_HANDSHAKE_TRAFFIC_SECRET: Final = Derivation(
    "client_handshake_traffic_secret",
    Stage.HANDSHAKE,
    b"c hs traffic",
    Point.SERVER_HELLO,
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "tls13 c hs traffic",
)
SERVER_HANDSHAKE_TRAFFIC_SECRET: Final = Derivation(
    "server_handshake_traffic_secret",
    Stage.HANDSHAKE,
    b"s hs traffic",
    Point.SERVER_HELLO,
    "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "tls13 s hs traffic",
)
CLIENT_APPLICATION_TRAFFIC_SECRET: Final = Derivation(
    "client_application_traffic_secret_0",
    Stage.MAIN,
    b"c ap traffic",
    Point.SERVER_FINISHED,
    "CLIENT_TRAFFIC_SECRET_0",
    "tls13 c ap traffic",
)
SERVER_APPLICATION_TRAFFIC_SECRET: Final = Derivation(
    "server_application_traffic_secret_0",
    Stage.MAIN,
    b"s ap traffic",
    Point.SERVER_FINISHED,
    "SERVER_TRAFFIC_SECRET_0",
    "tls13 s ap traffic",
)
EXPORTER_SECRET: Final = Derivation(
    "exporter_secret",
    Stage.MAIN,
    b"exp master",
    Point.SERVER_FINISHED,
    "EXPORTER_SECRET",
    "tls13 exp master",
)
RESUMPTION_SECRET: Final = Derivation(
    "resumption_secret",
    Stage.MAIN,
    b"res master",
    Point.CLIENT_FINISHED,
    rfc8448="tls13 res master",
)

SCHEDULE: Final = (
    EXTERNAL_BINDER_KEY,
    RESUMPTION_BINDER_KEY,
    CLIENT_EARLY_TRAFFIC_SECRET,
    EARLY_EXPORTER_SECRET,
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
    EXPORTER_SECRET,
    RESUMPTION_SECRET,
)
"""Figure 5 of RFC 9846 §7.1, its right side, from top to bottom."""

EXTRACTED: Final = {Stage.EARLY: "PSK", Stage.HANDSHAKE: "shared_secret", Stage.MAIN: None}
"""What goes into each Extract on the left of Figure 5: zeros where there is none of that name."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """What HKDF-Expand-Label makes of a secret elsewhere than on the right of Figure 5.

    `parents` are what it is made of: stages, or rows of Figure 5 (and, of an application traffic
    secret, the later generations).
    """

    value: str
    label: bytes
    parents: tuple[Stage | Derivation, ...]


_BINDER_KEYS: Final = (EXTERNAL_BINDER_KEY, RESUMPTION_BINDER_KEY)
_HANDSHAKE_TRAFFIC: Final = (CLIENT_HANDSHAKE_TRAFFIC_SECRET, SERVER_HANDSHAKE_TRAFFIC_SECRET)
APPLICATION_TRAFFIC: Final = (CLIENT_APPLICATION_TRAFFIC_SECRET, SERVER_APPLICATION_TRAFFIC_SECRET)
TRAFFIC: Final = (CLIENT_EARLY_TRAFFIC_SECRET, *_HANDSHAKE_TRAFFIC, *APPLICATION_TRAFFIC)
"""The secrets that protect records."""

DERIVED: Final = Expansion("derived", b"derived", (Stage.EARLY, Stage.HANDSHAKE))
FINISHED_KEY: Final = Expansion(
    "finished_key",
    b"finished",
    (*_BINDER_KEYS, *_HANDSHAKE_TRAFFIC, CLIENT_APPLICATION_TRAFFIC_SECRET),
)
WRITE_KEY: Final = Expansion("write_key", b"key", TRAFFIC)
WRITE_IV: Final = Expansion("write_iv", b"iv", TRAFFIC)
NEXT_GENERATION: Final = Expansion("the next generation", b"traffic upd", APPLICATION_TRAFFIC)
TICKET_PSK: Final = Expansion("PSK", b"resumption", (RESUMPTION_SECRET,))

EXPANSIONS: Final = (DERIVED, FINISHED_KEY, WRITE_KEY, WRITE_IV, NEXT_GENERATION, TICKET_PSK)
"""RFC 9846 §7.1, §4.5.3, §7.3, §7.2, §4.7.1."""

SecretObserver = Callable[[Derivation, Secret], None]


class KeySchedule:
    """Walks down the left side of Figure 5, one Extract at a time, forgetting what is above."""

    def __init__(
        self,
        backend: Backend,
        algorithm: HashAlgorithm,
        psk: Secret | None = None,
        observer: SecretObserver | None = None,
    ) -> None:
        """Early Secret = HKDF-Extract(0, PSK or 0). `observer` sees each secret derived."""
        self.backend = backend
        self.algorithm = algorithm
        self.stage = Stage.EARLY
        self._observer = observer
        self._current: Secret | None = backend.extract(algorithm, None, psk, self.stage.value)

    def derive(self, row: Derivation, transcript_hash: bytes | None = None) -> Secret:
        """Derive-Secret of one row; `transcript_hash` is None where the row binds no messages."""
        if row.parent is not self.stage:
            raise RuntimeError(f"{row.secret} does not come from {self.stage.value}")
        digest = self.algorithm.empty_digest if transcript_hash is None else transcript_hash
        secret = self.backend.expand_label(
            self._secret, row.label, digest, self.algorithm.digest_size, row.secret
        )
        if self._observer is not None:
            self._observer(row, secret)
        return secret

    def add_shared_secret(self, shared: Secret | None) -> None:
        """Handshake Secret = HKDF-Extract(derived, shared secret or 0); `shared` is consumed."""
        self._advance(Stage.EARLY, Stage.HANDSHAKE, shared)

    def add_nothing(self) -> None:
        """Main Secret = HKDF-Extract(derived, 0)."""
        self._advance(Stage.HANDSHAKE, Stage.MAIN, None)

    def _advance(self, before: Stage, stage: Stage, ikm: Secret | None) -> None:
        # req: 7.1-1
        if self.stage is not before:
            raise RuntimeError(f"{stage.value} does not come from {self.stage.value}")
        backend, algorithm = self.backend, self.algorithm
        above = self._secret
        salt = backend.expand_label(
            above, DERIVED.label, algorithm.empty_digest, algorithm.digest_size, DERIVED.value
        )
        self._current = backend.extract(algorithm, salt, ikm, stage.value)
        self.stage = stage
        backend.destroy(above, salt, ikm)

    def close(self) -> None:
        """Forget the current secret; nothing can be derived any more."""
        self.backend.destroy(self._current)
        self._current = None

    @property
    def _secret(self) -> Secret:
        if self._current is None:
            raise RuntimeError("the key schedule is closed")
        return self._current


def _size(secret: Secret) -> int:
    if secret.hash is None:
        raise RuntimeError(f"{secret!r} is not tied to a hash")
    return secret.hash.digest_size


def verify_data(backend: Backend, base_key: Secret, transcript_hash: bytes) -> bytes:
    """Finished.verify_data, or a PSK binder (RFC 9846 §4.5.3, §4.3.11.2)."""
    key = _finished_key(backend, base_key)
    tag = backend.mac(key, transcript_hash)
    backend.destroy(key)
    return tag


def check_verify_data(
    backend: Backend, base_key: Secret, transcript_hash: bytes, received: bytes
) -> bool:
    """Whether `received` is the verify_data, compared in constant time."""
    key = _finished_key(backend, base_key)
    valid = backend.verify_mac(key, transcript_hash, received)
    backend.destroy(key)
    return valid


def _finished_key(backend: Backend, base_key: Secret) -> Secret:
    size = _size(base_key)
    return backend.expand_label(base_key, FINISHED_KEY.label, b"", size, FINISHED_KEY.value)


def traffic_aead(backend: Backend, suite: SuiteParameters, secret: Secret) -> Aead:
    """The AEAD under write_key and write_iv of a traffic secret (RFC 9846 §7.3)."""
    key = backend.expand_label(secret, WRITE_KEY.label, b"", suite.key_length, WRITE_KEY.value)
    iv = backend.expand_label(secret, WRITE_IV.label, b"", suite.iv_length, WRITE_IV.value)
    return backend.aead(suite, key, iv)


def next_generation(backend: Backend, secret: Secret) -> Secret:
    """application_traffic_secret_N+1; the old one is destroyed (RFC 9846 §7.2)."""
    # req: 7.2-1
    name = next_name(secret.name)
    successor = backend.expand_label(secret, NEXT_GENERATION.label, b"", _size(secret), name)
    backend.destroy(secret)
    return successor


def next_name(name: str) -> str:
    """application_traffic_secret_N+1 for application_traffic_secret_N."""
    stem, _, generation = name.rpartition("_")
    return f"{stem}_{int(generation) + 1}"


def ticket_psk(backend: Backend, resumption_secret: Secret, ticket_nonce: bytes) -> Secret:
    """The PSK that goes with a ticket (RFC 9846 §4.7.1)."""
    size, row = _size(resumption_secret), TICKET_PSK
    return backend.expand_label(resumption_secret, row.label, ticket_nonce, size, row.value)


def export(backend: Backend, secret: Secret, label: bytes, context: bytes, length: int) -> bytes:
    """TLS-Exporter from exporter_secret or early_exporter_secret: `length` octets (§7.5)."""
    if secret.hash is None:
        raise RuntimeError(f"{secret!r} is not tied to a hash")
    size = secret.hash.digest_size
    derived = backend.expand_label(secret, label, secret.hash.empty_digest, size, "exporter_label")
    value = backend.expand_label(
        derived, b"exporter", secret.hash.digest(context), length, "exporter_value"
    )
    octets = backend.reveal(value, "exporter")
    backend.destroy(derived, value)
    return octets
