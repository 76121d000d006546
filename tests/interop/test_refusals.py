"""What ours must refuse, and what peers refuse of ours: each end ends with the right reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

import tpmtls
from tests.interop.cases import exchange
from tests.interop.peers.gnutls import GnuTls
from tests.interop.peers.interface import Peer, PeerError, Psk, Settings
from tests.interop.peers.openssl import OpenSsl
from tests.interop.peers.ours import Ours
from tests.pki import Pki
from tests.table import NameRow

OURS = Ours()
PROGRAMS: list[Peer] = [peer for peer in (OpenSsl(), GnuTls()) if peer.missing() is None]
Alert = tpmtls.AlertDescription


@dataclass(frozen=True)
class Refusal:
    """How both ends ended, and all that they said."""

    client: PeerError | None
    server: PeerError | None
    log: str

    def told(self, alert: Alert) -> bool:
        """Whether the program says that it received that alert, or some, where it says no more."""
        numbers = set(re.findall(r"(?:SSL alert number |Received alert \[)(\d+)", self.log))
        unnumbered = "A TLS fatal alert has been received" in self.log
        return numbers == {str(int(alert))} or (unnumbered and not numbers)


def refuse(client_peer: Peer, server_peer: Peer, client: Settings, server: Settings) -> Refusal:
    """Try a conversation that must not come about."""
    of_client = of_server = None
    log = ""
    with server_peer.serve(server) as serving:
        try:
            with client_peer.connect(serving.port, client) as connected:
                exchange(connected, 100, 100, "refused")
                connected.close()
        except PeerError as error:
            of_client, log = error, str(error)
        try:
            serving.finish()
        except PeerError as error:
            of_server = error
        log += serving.log()
    assert of_client or of_server, f"nobody refused\n{log}"
    return Refusal(of_client, of_server, log)


# --- our client refuses -------------------------------------------------------------------------

CERTIFICATES = {
    "expired": ("validity period", Alert.certificate_expired),
    "not-yet-valid": ("validity period", Alert.certificate_expired),
    "wrong-name": ("name", Alert.certificate_unknown),
    "wrong-usage": ("extended key usage", Alert.unsupported_certificate),
    "no-signing": ("key usage", Alert.unsupported_certificate),
    "self-signed": ("issuer", Alert.unknown_ca),
    "unknown-authority": ("issuer", Alert.unknown_ca),
}


@pytest.mark.parametrize(
    ("peer", "what"),
    [
        pytest.param(peer, what, id=f"{peer.name}-{what}")
        for peer in PROGRAMS
        for what in CERTIFICATES
        if (peer.name, what) != ("GnuTLS", "no-signing")  # its server would not use that one
    ],
)
def test_client_refuses_certificate(peer: Peer, what: str, pki: Pki, row: NameRow) -> None:
    row(what="client: refuses certificates", against=peer.name, version=peer.version())
    refusal = refuse(OURS, peer, Settings(trust=pki.ca), Settings(credential=pki.bad(what, "p256")))
    assert refusal.client, refusal.log
    error = refusal.client.__cause__
    assert isinstance(error, tpmtls.CertificateError), refusal.log
    assert (error.check, error.alert) == CERTIFICATES[what]
    assert refusal.told(CERTIFICATES[what][1]), refusal.log


# --- our server refuses -------------------------------------------------------------------------


@pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)
def test_server_requires_certificate(peer: Peer, pki: Pki, row: NameRow) -> None:
    row(what="server: refuses certificates", against=peer.name, version=peer.version())
    server = Settings(credential=pki.server(), client_auth="require", trust=pki.ca)
    refusal = refuse(peer, OURS, Settings(trust=pki.ca), server)
    _assert_violation(refusal.server, Alert.certificate_required)
    assert refusal.told(Alert.certificate_required), refusal.log


@pytest.mark.parametrize("what", ["expired", "not-yet-valid", "wrong-usage", "unknown-authority"])
def test_server_refuses_certificate(what: str, pki: Pki, row: NameRow) -> None:
    peer = OpenSsl()  # unlike GnuTLS's client, it shows whatever certificate it was given
    row(what="server: refuses certificates", against=peer.name, version=peer.version())
    server = Settings(credential=pki.server(), client_auth="require", trust=pki.ca)
    refusal = refuse(peer, OURS, Settings(trust=pki.ca, credential=pki.bad(what, "p256")), server)
    assert refusal.server, refusal.log
    error = refusal.server.__cause__
    assert isinstance(error, tpmtls.CertificateError), refusal.log
    assert (error.check, error.alert) == CERTIFICATES[what]
    assert refusal.told(CERTIFICATES[what][1]), refusal.log


# --- either of ours refuses what it can't agree with --------------------------------------------


@dataclass(frozen=True)
class Disagreement:
    """Settings of ours and of the peer that have nothing in common."""

    name: str
    alert: Alert
    """The server's, when ours is the server."""
    ours: Callable[[Settings], Settings]
    theirs: Callable[[Settings], Settings]


DISAGREEMENTS = [
    Disagreement(
        "suite",
        Alert.handshake_failure,
        lambda settings: replace(settings, suites=("TLS_AES_128_GCM_SHA256",)),
        lambda settings: replace(settings, suites=("TLS_AES_256_GCM_SHA384",)),
    ),
    Disagreement(
        "group",
        Alert.handshake_failure,
        lambda settings: replace(settings, groups=("secp256r1",)),
        lambda settings: replace(settings, groups=("x448",)),
    ),
    Disagreement(
        "ALPN",
        Alert.no_application_protocol,
        lambda settings: replace(settings, alpn=("ours/1",)),
        lambda settings: replace(settings, alpn=("theirs/1",)),
    ),
    Disagreement(
        "version",
        Alert.protocol_version,
        lambda settings: settings,
        lambda settings: replace(settings, old=True),
    ),
    Disagreement(
        "signature scheme",
        Alert.handshake_failure,
        lambda settings: settings,
        lambda settings: replace(settings, signature_schemes=("rsa_pss_rsae_sha256",)),
    ),
]


@pytest.mark.parametrize(
    ("peer", "about"),
    [
        pytest.param(peer, about, id=f"{peer.name}-{about.name}")
        for peer in PROGRAMS
        for about in DISAGREEMENTS
        if (peer.name, about.name) != ("GnuTLS", "signature scheme")  # it needs the CA's as well
    ],
)
def test_server_finds_nothing_in_common(
    peer: Peer, about: Disagreement, pki: Pki, row: NameRow
) -> None:
    row(what="server: finds nothing in common", against=peer.name, version=peer.version())
    client, server = Settings(trust=pki.ca), Settings(credential=pki.server())
    refusal = refuse(peer, OURS, about.theirs(client), about.ours(server))
    _assert_violation(refusal.server, about.alert)
    assert refusal.told(about.alert), refusal.log


@pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("about", DISAGREEMENTS[:4], ids=lambda about: about.name)
def test_client_is_told_of_nothing_in_common(
    peer: Peer, about: Disagreement, pki: Pki, row: NameRow
) -> None:
    row(what="client: finds nothing in common", against=peer.name, version=peer.version())
    client, server = Settings(trust=pki.ca), Settings(credential=pki.server())
    refusal = refuse(OURS, peer, about.ours(client), about.theirs(server))
    assert refusal.client, refusal.log
    error = refusal.client.__cause__
    assert isinstance(error, tpmtls.PeerAlert), refusal.log
    assert error.description in {about.alert, Alert.handshake_failure, Alert.illegal_parameter}


@pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)
def test_server_refuses_wrong_psk(peer: Peer, pki: Pki, row: NameRow) -> None:
    row(what="server: refuses a wrong PSK", against=peer.name, version=peer.version())
    suites = ("TLS_AES_128_GCM_SHA256",)
    client = Settings(trust=pki.ca, psk=Psk("someone", b"not the key" * 3), suites=suites)
    server = Settings(psk=Psk("someone", b"but this one" * 3), suites=suites)
    refusal = refuse(peer, OURS, client, server)
    _assert_violation(refusal.server, Alert.decrypt_error)
    assert refusal.told(Alert.decrypt_error), refusal.log


# --- peers refuse ours --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "alert"),
    [
        ("expired", Alert.certificate_expired),
        ("wrong-name", Alert.bad_certificate),
        ("unknown-authority", Alert.unknown_ca),
    ],
)
def test_client_refuses_ours(what: str, alert: Alert, pki: Pki, row: NameRow) -> None:
    peer = OpenSsl()  # GnuTLS's client leaves without an alert
    row(what="server: is refused", against=peer.name, version=peer.version())
    refusal = refuse(peer, OURS, Settings(trust=pki.ca), Settings(credential=pki.bad(what, "p256")))
    assert refusal.server, refusal.log
    error = refusal.server.__cause__
    assert isinstance(error, tpmtls.PeerAlert), refusal.log
    assert error.description == alert


@pytest.mark.parametrize("peer", PROGRAMS, ids=lambda peer: peer.name)
def test_server_requires_our_certificate(peer: Peer, pki: Pki, row: NameRow) -> None:
    row(what="client: is refused", against=peer.name, version=peer.version())
    server = Settings(credential=pki.server(), client_auth="require", trust=pki.ca)
    refusal = refuse(OURS, peer, Settings(trust=pki.ca), server)
    assert refusal.client, refusal.log
    error = refusal.client.__cause__
    assert isinstance(error, tpmtls.PeerAlert), refusal.log
    assert error.description == Alert.certificate_required


def _assert_violation(ended: PeerError | None, alert: Alert) -> None:
    assert ended, "our end saw nothing wrong"
    error = ended.__cause__
    assert isinstance(error, tpmtls.PeerViolation), ended
    assert error.alert == alert
