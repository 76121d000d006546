"""The seam: what the protocol asks of whoever holds the secrets.

The protocol code above names secrets and never sees one. `Secret` has no way to octets;
`Backend.reveal` is the only one, and is recorded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from tpmtls.algorithms import HashAlgorithm, SuiteParameters
from tpmtls.backends.ledger import Ledger
from tpmtls.codepoints import CipherSuite, NamedGroup, SignatureScheme
from tpmtls.violations import ConfigurationError

Place = Literal["host", "tpm", "model"]
"""Where a secret is in clear for as long as it is kept: in memory of this process, as an object of
the TPM, or in the handle-only model."""


class Kept(NamedTuple):
    """A secret, by its RFC name, and where it is.

    What holds secrets says in `kept` which, as of now: what a memory image taken at this moment
    may show is `host`. It says nothing of what passes while an operation runs, which is the
    ledger's business, nor of copies that Python left elsewhere. Who declares nothing has all of it
    on the host.
    """

    name: str
    place: Place


class Secret:
    """A handle on a secret: its RFC name, its length in octets, and the hash it is used with.

    The hash is None for values that are not yet tied to one, such as an ECDHE shared secret.
    """

    __slots__ = ("hash", "length", "name")

    def __init__(self, name: str, length: int, hash: HashAlgorithm | None) -> None:  # noqa: A002
        self.name = name
        self.length = length
        self.hash = hash

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The secret, or what is kept in its stead; nothing once it was destroyed or used up."""
        return (Kept(self.name, "host"),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.length} octets>"


class PskReference:
    """An external PSK that is kept elsewhere: who has its reference does not have its octets."""

    identity: bytes
    hash: HashAlgorithm


class KeyShare(ABC):
    """The initiator's half of a key exchange: a client's ephemeral key (RFC 9846 §4.3.8)."""

    group: NamedGroup
    public: bytes
    """KeyShareEntry.key_exchange, to be sent."""

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The private key, until it is given up."""
        return (Kept("ephemeral_key", "host"),)

    @abstractmethod
    def agree(self, peer_share: bytes) -> Secret:
        """The shared secret with the server's `key_exchange`, whose length the caller checked.

        Raises PeerViolation(INVALID_POINT or ZERO_SHARED_SECRET). May be called once.
        """

    def close(self) -> None:  # noqa: B027 - not every key needs it
        """Give the private key up: wipe it, or flush it from the TPM."""


class Aead(ABC):
    """One direction's record protection under one key (RFC 9846 §5.2, §5.3).

    The nonce is formed inside, from the IV and the record sequence number.
    """

    @property
    def kept(self) -> tuple[Kept, ...]:
        """`write_key`, `write_iv`, and what else is kept of them, until it is closed."""
        return (Kept("write_key", "host"), Kept("write_iv", "host"))

    @abstractmethod
    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        """Ciphertext and tag for record number `sequence`."""

    @abstractmethod
    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        """The plaintext, or None where the tag does not verify."""

    def close(self) -> None:  # noqa: B027 - not every key needs it
        """Give the key up: wipe it, or flush it from the TPM."""


class Signer(ABC):
    """A signing key: which schemes it can be used with, best first, and its use."""

    schemes: Sequence[SignatureScheme]

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The private key."""
        return (Kept("signing_key", "host"),)

    @abstractmethod
    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        """The signature over `data` (not a digest), as CertificateVerify carries it."""

    def close(self) -> None:  # noqa: B027 - not every key needs it
        """Give the key up: flush it from the TPM."""


class Backend(ABC):
    """Whoever holds the secrets.

    Operations take and return `Secret` handles made by the same backend.
    """

    name: str
    ledger: Ledger
    groups: Sequence[NamedGroup]
    """Groups it can agree a key in, in no order of preference."""
    suites: Sequence[CipherSuite]
    """Cipher suites whose hash and AEAD it has."""
    reveals_secrets: bool = True
    """Whether `reveal` gives every secret, as a key log needs it, or exported values only."""

    @property
    def stored(self) -> Kept:
        """What a blob of `wrap` is of a PSK, and who can read it: `host` stands for everyone."""
        return Kept("PSK", "host")

    # -- key exchange: RFC 9846 §4.3.8, §7.4 ----------------------------------------------------

    @abstractmethod
    def key_share(self, group: NamedGroup) -> KeyShare:
        """A fresh ephemeral key, never used before (client side)."""

    @abstractmethod
    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        """The server's `key_exchange` and the shared secret, from the client's `key_exchange`.

        One step for both sides of ECDH and for encapsulation. The caller checked the length.
        Raises PeerViolation(INVALID_POINT or ZERO_SHARED_SECRET).
        """

    # -- HKDF: RFC 9846 §7.1 --------------------------------------------------------------------

    @abstractmethod
    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        """HKDF-Extract(salt, ikm); None stands for Hash.length zeros."""

    @abstractmethod
    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        """HKDF-Expand-Label(secret, label, context, length), with the hash of `secret`."""

    @abstractmethod
    def mac(self, key: Secret, data: bytes) -> bytes:
        """HMAC(key, data): what goes on the wire in Finished and in binders."""

    @abstractmethod
    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        """Whether `tag` is HMAC(key, data), in constant time."""

    # -- use ------------------------------------------------------------------------------------

    @abstractmethod
    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        """Record protection under `key` and `iv`, both of which it takes over."""

    @abstractmethod
    def signer(self, key: Any) -> Signer:
        """A signer for `key`: a private key object of `cryptography`, PEM octets, or a reference.

        Raises ConfigurationError where it can do nothing with it.
        """

    # -- secrets that come and go ---------------------------------------------------------------

    @abstractmethod
    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        """An external PSK, from octets, or from where it was provisioned."""

    def check_psk(self, key: bytes | PskReference) -> None:
        """Raises ConfigurationError where `import_psk` could do nothing with this kind of key."""
        if isinstance(key, PskReference):
            raise self._unfit(key)

    def _unfit(self, psk: PskReference) -> ConfigurationError:
        return ConfigurationError(
            f"the PSK {psk.identity!r} is in a TPM: it needs the backend tpm, not {self.name}"
        )

    @abstractmethod
    def wrap(self, secret: Secret) -> bytes:
        """The secret in a form that may be stored and that `unwrap` of a like backend takes."""

    @abstractmethod
    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        """The secret that `wrap` put into `blob`; raises StoredSecretError if it is not one."""

    @abstractmethod
    def reveal(self, secret: Secret, reason: str) -> bytes:
        """The octets of a secret, for an exporter or the key log; always recorded."""

    @abstractmethod
    def destroy(self, *secrets: Secret | None) -> None:
        """Wipe or flush; a handle that was destroyed is good for nothing more."""

    def close(self) -> None:  # noqa: B027 - most backends hold nothing
        """Give back what the backend holds; by default nothing."""


def hkdf_label(length: int, label: bytes, context: bytes) -> bytes:
    """The HkdfLabel structure of RFC 9846 §7.1; `length` in octets."""
    return _labelled(length, label) + bytes((len(context),)) + context


@lru_cache(maxsize=64)  # the protocol has a dozen labels; exporters bring more
def _labelled(length: int, label: bytes) -> bytes:
    full = b"tls13 " + label
    return b"%b%c%b" % (length.to_bytes(2, "big"), len(full), full)
