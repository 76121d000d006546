"""The software backend with the recorded ephemeral keys, which notes what it is asked to compute.

Secrets are noted under the names that the vectors give them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, Backend, KeyShare, Secret, hkdf_label
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import NamedGroup

from ..names import DERIVATIONS
from .difference import Difference

K = TypeVar("K")
V = TypeVar("V")

_DERIVED: Final = {
    row.parent: name for name, row in DERIVATIONS.items() if name.startswith("derived_for_")
}


@dataclass(frozen=True)
class Named:
    """A secret as it was when it was used."""

    name: str
    octets: bytes


@dataclass(frozen=True)
class Extraction:
    """One HKDF-Extract."""

    salt: Named
    ikm: Named
    value: bytes


@dataclass(frozen=True)
class Expansion:
    """One HKDF-Expand-Label."""

    prk: Named
    info: bytes
    context: bytes
    length: int
    value: Named


@dataclass(frozen=True)
class Mac:
    """One HMAC of the protocol's own: in Finished and in binders."""

    data: bytes
    tag: bytes


@dataclass(frozen=True)
class Protected:
    """A record sealed or opened: under which traffic secret, its number, its TLSInnerPlaintext."""

    secret: str
    sequence: int
    inner: bytes


@dataclass
class Observation:
    """Everything computed in one replay, and everything sent.

    Extractions by their result, expansions by their parent and label, MACs by their key.
    """

    shares: list[tuple[str, bytes]] = field(default_factory=list)
    extractions: dict[str, Extraction] = field(default_factory=dict)
    expansions: dict[tuple[str, str], Expansion] = field(default_factory=dict)
    macs: dict[str, Mac] = field(default_factory=dict)
    sealed: list[Protected] = field(default_factory=list)
    opened: list[Protected] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    """The records, in the order in which they were sent."""


def note(notes: dict[K, V], key: K, value: V) -> None:
    """Note a value that may be computed twice, but not in two ways."""
    if notes.setdefault(key, value) != value:
        raise Difference("steps", f"{key} is computed twice, with two results")


class Observed(Backend):
    """A backend that notes what it is asked to compute."""

    observed: Observation


class ObservedBackend(SoftwareBackend, Observed):
    """Computes as the software backend does, since it is one, and takes notes."""

    def __init__(self, private_keys: Iterable[bytes]) -> None:
        self.observed = Observation()
        self._private_keys: Iterator[bytes] = iter(private_keys)
        super().__init__(self._next_private_key)

    def _next_private_key(self, size: int) -> bytes:
        key = next(self._private_keys, None)
        if key is None or len(key) != size:
            raise Difference("steps", f"no private key of {size} octets is recorded here")
        return key

    def key_share(self, group: NamedGroup) -> KeyShare:
        share = super().key_share(group)
        self.observed.shares.append((group.name, share.public))
        return share

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        public, shared = super().respond(group, client_share)
        self.observed.shares.append((group.name, public))
        return public, shared

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        return super().unwrap(blob, "resumption_psk" if name == "PSK" else name, algorithm)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        inputs = (_named(salt, algorithm), _named(ikm, algorithm))
        result = super().extract(algorithm, salt, ikm, name)
        value = Extraction(*inputs, _named(result, algorithm).octets)
        note(self.observed.extractions, name, value)
        return result

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        prk = _named(secret)
        result = super().expand_label(
            secret, label, context, length, name_in_vectors(secret.name, label, name)
        )
        info = hkdf_label(length, label, context)
        value = Expansion(prk, info, context, length, _named(result))
        note(self.observed.expansions, (prk.name, label.decode("ascii")), value)
        return result

    def mac(self, key: Secret, data: bytes) -> bytes:
        tag = super().mac(key, data)
        note(self.observed.macs, key.name, Mac(data, tag))
        return tag

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        secret = key.name.partition(" of ")[2]
        return ObservedAead(super().aead(suite, key, iv), secret, self.observed)


class ObservedAead(Aead):
    """Notes the records that pass through another one."""

    def __init__(self, inner: Aead, secret: str, observed: Observation) -> None:
        self._inner = inner
        self._secret = secret
        self._observed = observed

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        self._observed.sealed.append(Protected(self._secret, sequence, plaintext))
        return self._inner.seal(sequence, additional_data, plaintext)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        plaintext = self._inner.open(sequence, additional_data, ciphertext)
        if plaintext is not None:
            self._observed.opened.append(Protected(self._secret, sequence, plaintext))
        return plaintext

    def close(self) -> None:
        self._inner.close()


def name_in_vectors(parent: str, label: bytes, name: str) -> str:
    """What tells one `derived`, `finished_key`, … from another."""
    match label:
        case b"derived":
            return _DERIVED.get(parent, name)
        case b"finished" | b"key" | b"iv":
            return f"{name} of {parent}"
        case b"resumption":
            return "new_resumption_psk"
    return name


def _named(secret: Secret | None, algorithm: HashAlgorithm | None = None) -> Named:
    if secret is None and algorithm is not None:
        return Named("zero", bytes(algorithm.digest_size))
    if not isinstance(secret, SoftwareSecret):
        raise TypeError(f"{secret!r} is not a secret of the software backend")
    return Named(secret.name, bytes(secret.octets))
