"""The client's states (RFC 9846 Appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cryptography import x509

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Secret
from tpmtls.certificates import Acceptance
from tpmtls.codepoints import (
    NamedGroup,
)
from tpmtls.config import ClientConfig
from tpmtls.handshake.client_hello import Offer, Psk
from tpmtls.handshake.machine import (
    Context,
    State,
)
from tpmtls.key_schedule import (
    KeySchedule,
)
from tpmtls.transcript import Transcript
from tpmtls.wire.messages import (
    CertificateRequest,
    HelloRetryRequest,
)


@dataclass(frozen=True, slots=True)
class WaitServerHello(State):
    """WAIT_SH: a ClientHello is on its way."""

    name: ClassVar[str] = "WAIT_SH"
    context: Context[ClientConfig]
    offer: Offer
    transcript: Transcript
    offered_early_data: bool
    retry: HelloRetryRequest | None = None


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What every state after the ServerHello carries."""

    context: Context[ClientConfig]
    offer: Offer
    transcript: Transcript
    suite: SuiteParameters
    schedule: KeySchedule
    client_secret: Secret
    server_secret: Secret
    group: NamedGroup | None
    psk: Psk | None
    offered_early_data: bool
    accepted_early_data: bool | None = None
    alpn: str | None = None
    request: CertificateRequest | None = None


@dataclass(frozen=True, slots=True)
class AfterServerHello(State):
    """Base of the states after the ServerHello."""

    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class WaitEncryptedExtensions(AfterServerHello):
    """WAIT_EE."""

    name: ClassVar[str] = "WAIT_EE"


@dataclass(frozen=True, slots=True)
class WaitCertificateOrRequest(AfterServerHello):
    """WAIT_CERT_CR."""

    name: ClassVar[str] = "WAIT_CERT_CR"


@dataclass(frozen=True, slots=True)
class WaitCertificate(AfterServerHello):
    """WAIT_CERT."""

    name: ClassVar[str] = "WAIT_CERT"


@dataclass(frozen=True, slots=True)
class WaitCertificateVerify(AfterServerHello):
    """WAIT_CV."""

    name: ClassVar[str] = "WAIT_CV"
    chain: tuple[x509.Certificate, ...]
    acceptance: Acceptance | None


@dataclass(frozen=True, slots=True)
class WaitFinished(AfterServerHello):
    """WAIT_FINISHED; after the server's Certificate, or with none where a PSK stands for it."""

    name: ClassVar[str] = "WAIT_FINISHED"
    chain: tuple[x509.Certificate, ...] = ()
    acceptance: Acceptance | None = None
