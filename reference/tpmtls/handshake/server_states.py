"""The server's states (RFC 9846 Appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from cryptography import x509

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Secret
from tpmtls.codepoints import (
    NamedGroup,
    SignatureScheme,
)
from tpmtls.config import Credential, ServerConfig
from tpmtls.handshake.machine import (
    Context,
    State,
)
from tpmtls.handshake.negotiation import (
    ClientOffer,
)
from tpmtls.handshake.psk_selection import (
    SelectedPsk,
)
from tpmtls.key_schedule import (
    KeySchedule,
)
from tpmtls.transcript import Transcript
from tpmtls.wire.messages import (
    ClientHello,
)


@dataclass(frozen=True, slots=True)
class WaitClientHello(State):
    """START: nothing has come yet."""

    name: ClassVar[str] = "START"
    context: Context[ServerConfig]


@dataclass(frozen=True, slots=True)
class WaitSecondClientHello(State):
    """START, after a HelloRetryRequest."""

    name: ClassVar[str] = "START_RETRIED"
    context: Context[ServerConfig]
    transcript: Transcript
    first: ClientHello
    suite: SuiteParameters
    group: NamedGroup
    cookie: bytes | None


@dataclass(frozen=True, slots=True)
class Choices:
    """What we decided on, before anything of it is sent."""

    context: Context[ServerConfig]
    offer: ClientOffer
    octets: bytes
    suite: SuiteParameters
    group: NamedGroup | None
    psk: SelectedPsk | None
    alpn: str | None
    credential: tuple[Credential, SignatureScheme] | None
    max_early_data: int
    retried: ClientHello | None
    """The first ClientHello, where this one answers a HelloRetryRequest."""


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What every state after our first flight carries."""

    choices: Choices
    transcript: Transcript
    schedule: KeySchedule
    client_secret: Secret
    """client_handshake_traffic_secret."""
    read_secret: Secret
    """client_application_traffic_secret_0, for later."""
    write_secret: Secret
    chain: tuple[x509.Certificate, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class AfterServerHello(State):
    """Base of the states after our first flight."""

    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class WaitEndOfEarlyData(AfterServerHello):
    """WAIT_EOED: early data comes in."""

    name: ClassVar[str] = "WAIT_EOED"
    reads: ClassVar[Literal["nothing", "early data", "application data"]] = "early data"
    max_early_data: int


@dataclass(frozen=True, slots=True)
class WaitCertificate(AfterServerHello):
    """WAIT_CERT: we asked for a certificate."""

    name: ClassVar[str] = "WAIT_CERT"


@dataclass(frozen=True, slots=True)
class WaitCertificateVerify(AfterServerHello):
    """WAIT_CV."""

    name: ClassVar[str] = "WAIT_CV"


@dataclass(frozen=True, slots=True)
class WaitFinished(AfterServerHello):
    """WAIT_FINISHED."""

    name: ClassVar[str] = "WAIT_FINISHED"
