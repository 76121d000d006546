"""Configuration of both roles: frozen, and validated when made."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509

from tpmtls.algorithms import GROUPS, SCHEMES, SHA256, SUITES, HashAlgorithm
from tpmtls.backends.base import PskReference, Signer
from tpmtls.backends.references import open_key
from tpmtls.certificates import (
    TrustStore,
    deprecated_hash,
    is_self_signed,
    load_chain,
    matches_name,
    parse_server_name,
    schemes_for_key,
)
from tpmtls.codepoints import (
    CipherSuite,
    CodePoint,
    NamedGroup,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.tickets import MAX_LIFETIME, ReplayGuard, SessionCache, TicketKeys
from tpmtls.violations import ConfigurationError
from tpmtls.wire.messages import HandshakeMessage

DEFAULT_SUITES: Final = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
)
"""In order of preference. TLS_AES_128_CCM_8_SHA256 has a short tag, and must be asked for."""

DEFAULT_GROUPS: Final = (
    NamedGroup.X25519MLKEM768,
    NamedGroup.x25519,
    NamedGroup.secp256r1,
    NamedGroup.secp384r1,
    NamedGroup.secp521r1,
    NamedGroup.x448,
)

DEFAULT_SCHEMES: Final = tuple(
    scheme for scheme, parameters in SCHEMES.items() if parameters.signs_handshakes
)
"""What we accept in CertificateVerify, best first."""

DEFAULT_CERTIFICATE_SCHEMES: Final = tuple(SCHEMES)
"""What we accept in certificates: RSASSA-PKCS1-v1_5 as well."""

MIN_RECORD_SIZE_LIMIT: Final = 64
MAX_RECORD_SIZE_LIMIT: Final = 2**14 + 1

KeyLog = Callable[[str], None]
"""Takes one line of an SSLKEYLOGFILE, without the line's end."""


@dataclass(frozen=True)
class Credential:
    """A certificate chain, DER, leaf first, and the signer that holds its key.

    A chain with signatures made with MD5 or SHA-1 is refused, but for self-signed certificates.
    """

    chain: tuple[bytes, ...]
    signer: Signer = field(repr=False)

    def __post_init__(self) -> None:
        if not self.chain:
            raise ConfigurationError("a credential needs at least its own certificate")
        if not self.schemes:
            raise ConfigurationError("the private key does not belong to the certificate's kind")
        # req: 4.3.3-16 4.5.1.2-12
        for certificate in self.certificates:
            name = deprecated_hash(certificate)
            if name and not is_self_signed(certificate):
                raise ConfigurationError(f"a certificate of the chain is signed with {name}")

    @classmethod
    def load(
        cls,
        certificate: str | os.PathLike[str] | bytes,
        key: Any,
        signer: Callable[[Any], Signer] = open_key,
    ) -> Self:
        """From PEM: a path or octets for the chain; a path, octets or key object for the key.

        `signer` makes the signer from the key. By default that is `open_key`, which takes keys in
        a TPM too: TSS2 PEM files, and `handle:0x81000001`.
        """
        if isinstance(key, str | os.PathLike) and os.path.exists(key):  # noqa: PTH110
            with open(key, "rb") as file:  # noqa: PTH123
                key = file.read()
        credential = cls(load_chain(certificate), signer(key))
        # req: 4.5.1-9
        own = credential.leaf.public_key()
        if getattr(credential.signer, "public_key", own) != own:
            raise ConfigurationError("the private key is not that of the first certificate")
        return credential

    @property
    def leaf(self) -> x509.Certificate:
        """The end-entity certificate."""
        return self.certificates[0]

    @cached_property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """The chain, parsed."""
        try:
            return tuple(x509.load_der_x509_certificate(der) for der in self.chain)
        except ValueError:
            raise ConfigurationError("the chain holds something that is no certificate") from None

    @cached_property
    def schemes(self) -> tuple[SignatureScheme, ...]:
        """The schemes that key and certificate allow together, best first."""
        return schemes_for_key(self.leaf, self.signer.schemes)

    def is_for(self, server_name: str) -> bool:
        """Whether the leaf names that host."""
        return matches_name(self.leaf, server_name)


@dataclass(frozen=True)
class ExternalPsk:
    """A PSK provisioned outside TLS: its identity, its octets, its hash (RFC 9846 §4.3.11).

    `max_early_data` above 0 permits 0-RTT, with the suite and the ALPN protocol given here. A PSK
    in a TPM (`ExternalPsk.load`) has no octets here, and permits none.
    """

    identity: bytes
    key: bytes = field(default=b"", repr=False)
    hash: HashAlgorithm = SHA256  # req: 4.3.11-3
    max_early_data: int = 0
    suite: CipherSuite | None = None
    alpn: str | None = None
    provisioned: PskReference | None = None

    def __post_init__(self) -> None:
        # req: 2.2-2
        if not 0 < len(self.identity) < 2**16 or not self.source:
            raise ConfigurationError("a PSK needs an identity and a key, neither of them empty")
        if self.provisioned is not None:
            self._check_provisioned(self.provisioned)
        if self.max_early_data and self.suite is None:
            raise ConfigurationError("early data under an external PSK needs its cipher suite")
        if self.suite is not None:
            _known("suite", (self.suite,), SUITES)
            if SUITES[self.suite].hash != self.hash:
                raise ConfigurationError(f"{self.suite} does not use the PSK's hash")
        if not 0 <= self.max_early_data < 2**32:
            raise ConfigurationError("max_early_data is 0 to 2^32-1 octets")

    def _check_provisioned(self, psk: PskReference) -> None:
        if self.key:
            raise ConfigurationError("a PSK in a TPM has no octets here")
        if (psk.identity, psk.hash) != (self.identity, self.hash):
            raise ConfigurationError("the PSK was provisioned for another identity or hash")
        if self.max_early_data:
            raise ConfigurationError("a PSK in a TPM permits no early data")

    @property
    def source(self) -> bytes | PskReference:
        """What `Backend.import_psk` takes."""
        return self.key if self.provisioned is None else self.provisioned

    @classmethod
    def load(cls, file: str | os.PathLike[str] | bytes) -> Self:
        """A PSK in a TPM, from the path or the octets of what `tpmtls key import-psk` made.

        It is of use with a TPM backend only, the same TPM, and the protection level `hkdf`, or
        `chained` where it was made for that.
        """
        from tpmtls.backends.tpm.psk import ProvisionedPsk

        try:
            octets = file if isinstance(file, bytes) else Path(file).read_bytes()
        except OSError as error:
            raise ConfigurationError(f"cannot read {os.fspath(file)!r}: {error.strerror}") from None
        psk = ProvisionedPsk.parse(octets)
        return cls(psk.identity, hash=psk.hash, provisioned=psk)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What both roles share.

    `suites`, `groups`, `signature_schemes` and `alpn` are in order of preference.
    `max_records_per_key` lowers the AEAD's own limit on key usage; at the limit, a KeyUpdate starts
    by itself. `record_padding` fills protected records up to a multiple of so many octets.
    `record_size_limit` is the largest TLSInnerPlaintext, in octets, that we take. The adapters drop
    a peer that does not complete the handshake within `handshake_timeout` seconds. `arrange`
    has the last word on each handshake message before it is sent: to replay a trace.
    """

    suites: tuple[CipherSuite, ...] = DEFAULT_SUITES
    groups: tuple[NamedGroup, ...] = DEFAULT_GROUPS
    signature_schemes: tuple[SignatureScheme, ...] = DEFAULT_SCHEMES
    certificate_schemes: tuple[SignatureScheme, ...] = DEFAULT_CERTIFICATE_SCHEMES
    credentials: tuple[Credential, ...] = ()
    alpn: tuple[str, ...] = ()
    psks: tuple[ExternalPsk, ...] = ()
    psk_modes: tuple[PskKeyExchangeMode, ...] = (PskKeyExchangeMode.psk_dhe_ke,)
    record_size_limit: int | None = None
    record_padding: int = 0
    max_records_per_key: int | None = None
    handshake_timeout: float = 10.0
    key_log: KeyLog | None = field(default=None, repr=False)
    # req: C.1-1
    entropy: Callable[[int], bytes] = field(default=os.urandom, repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)
    arrange: Callable[[HandshakeMessage], HandshakeMessage] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _known("suites", self.suites, SUITES)
        _known("groups", self.groups, GROUPS)
        _known("signature_schemes", self.signature_schemes, DEFAULT_SCHEMES)
        _known("certificate_schemes", self.certificate_schemes, SCHEMES)
        _known("psk_modes", self.psk_modes, tuple(PskKeyExchangeMode))
        for name in self.alpn:
            if not 0 < len(name.encode()) < 2**8:
                raise ConfigurationError(f"an ALPN protocol has 1 to 255 octets, not {name!r}")
        limit = self.record_size_limit
        if limit is not None and not MIN_RECORD_SIZE_LIMIT <= limit <= MAX_RECORD_SIZE_LIMIT:
            raise ConfigurationError(
                f"record_size_limit is {MIN_RECORD_SIZE_LIMIT} to {MAX_RECORD_SIZE_LIMIT} octets"
            )
        if not 0 <= self.record_padding <= MAX_RECORD_SIZE_LIMIT:
            raise ConfigurationError(f"record_padding is 0 to {MAX_RECORD_SIZE_LIMIT} octets")
        if self.max_records_per_key is not None and self.max_records_per_key < 1:
            raise ConfigurationError("max_records_per_key must be at least 1")
        if self.handshake_timeout <= 0:
            raise ConfigurationError("handshake_timeout must be a positive number of seconds")

    def now(self) -> datetime:
        """The clock's time as certificates state it."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, validated again."""
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class ClientConfig(Config):
    """A client's configuration.

    `trust` is a TrustStore, a path or PEM octets; None stands for the system's. `verify=False`
    accepts any certificate. `server_name` is a DNS name or an IP address; the adapters fill it in
    from the address. `key_shares` None sends shares for the first group, and for x25519 too where
    the first is a hybrid with it. Without a `session_cache`, tickets are ignored.
    """

    trust: TrustStore | str | os.PathLike[str] | bytes | None = None
    verify: bool = True
    server_name: str | None = None
    key_shares: tuple[NamedGroup, ...] | None = None
    session_cache: SessionCache | None = None
    post_handshake_auth: bool = False
    send_certificate_authorities: bool = False
    middlebox_compatibility: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_shares is not None:
            strangers = [g for g in self.key_shares if g not in self.groups]
            if strangers:
                raise ConfigurationError(f"key share for {strangers[0]}, which is not in groups")
            if list(self.key_shares) != [g for g in self.groups if g in self.key_shares]:
                raise ConfigurationError("key_shares must be in the order of groups, each once")
        if self.server_name is not None:
            parse_server_name(self.server_name)

    @cached_property
    def trust_store(self) -> TrustStore:
        """The trust anchors, loaded."""
        if self.trust is None:
            return TrustStore.system()
        return self.trust if isinstance(self.trust, TrustStore) else TrustStore.load(self.trust)

    @property
    def sni(self) -> str | None:
        """The host name to send: none for an IP address (RFC 6066 §3)."""
        if self.server_name is None or is_ip(self.server_name):
            return None
        return self.server_name.rstrip(".") or None


@dataclass(frozen=True, kw_only=True)
class ServerConfig(Config):
    """A server's configuration.

    `tickets` is how many a handshake gives, `ticket_lifetime` their seconds, `max_early_data`
    the octets of 0-RTT data that each permits. `request_client_certificate` makes the server ask
    for a certificate, `require_client_certificate` makes it insist; without a `client_trust`, any
    is taken, and says no more than that the client holds its key. `retry_with_cookie` answers a
    ClientHello that needs a retry with a cookie besides. `strict_server_name` refuses a name that
    no certificate is for; otherwise the first certificate that fits serves.
    """

    client_trust: TrustStore | str | os.PathLike[str] | bytes | None = None
    request_client_certificate: bool = False
    require_client_certificate: bool = False
    tickets: int = 2
    ticket_lifetime: int = 86_400
    ticket_keys: TicketKeys = field(default_factory=TicketKeys, repr=False)
    replay_guard: ReplayGuard = field(default_factory=ReplayGuard, repr=False)
    # req: F.5-3
    max_early_data: int = 0
    retry_with_cookie: bool = False
    require_server_name: bool = False
    strict_server_name: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.credentials and not self.psks:
            raise ConfigurationError("a server needs a certificate with its key, or a PSK")
        if self.require_client_certificate and not self.request_client_certificate:
            object.__setattr__(self, "request_client_certificate", True)
        if not 0 <= self.ticket_lifetime <= MAX_LIFETIME:
            raise ConfigurationError(f"ticket_lifetime is 0 to {MAX_LIFETIME} seconds")
        if not 0 <= self.tickets <= 255:
            raise ConfigurationError("tickets is 0 to 255")
        if not 0 <= self.max_early_data < 2**32:
            raise ConfigurationError("max_early_data is 0 to 2^32-1 octets")
        if self.require_client_certificate and self.client_trust is None:
            raise ConfigurationError("to require client certificates, name their CA: client_trust")

    @cached_property
    def client_trust_store(self) -> TrustStore | None:
        """The anchors of client certificates, loaded; None takes any certificate."""
        trust = self.client_trust
        return trust if trust is None or isinstance(trust, TrustStore) else TrustStore.load(trust)


@lru_cache(maxsize=256)
def is_ip(name: str) -> bool:
    """Whether the name is an IPv4 or IPv6 address literal."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _known(field_name: str, values: tuple[CodePoint, ...], known: Any) -> None:
    # req: 4.3.7-1 B-1
    for value in values:
        if value not in known:
            raise ConfigurationError(f"{field_name}: {value!r} is not supported")
    if not values:
        raise ConfigurationError(f"{field_name} is empty")
    if len(set(values)) != len(values):
        raise ConfigurationError(f"{field_name} names a value twice")
