"""Certificate, CertificateVerify, Finished and CertificateRequest, in both roles."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from tests.pki import KINDS
from tests.unit.misbehaviour import Case, refused
from tests.unit.scripted import ScriptedPeer, adding, changing, dropping, encoded
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Pair,
    WatchedBackend,
    assert_dead,
    client_config,
    client_credential,
    credential,
    pki,
    server_config,
    trust,
)
from tpmtls.codepoints import AlertDescription, ExtensionType, SignatureScheme
from tpmtls.config import DEFAULT_SCHEMES, Credential
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.violations import CertificateError
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    Extensions,
    OidFilter,
    OidFilters,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    UnknownExtension,
)
from tpmtls.wire.messages import Certificate, CertificateRequest, CertificateVerify, Finished

TYPE, S = ExtensionType, SignatureScheme
UNKNOWN = Extensions((UnknownExtension(TYPE(0x1A1A), b""),))
STATUS = Extensions((UnknownExtension(TYPE.status_request, b"\1\0\0\1\0"),))
EXTENDED_KEY_USAGE = bytes.fromhex("0603551d25")
KEY_USAGE = bytes.fromhex("0603551d0f")
ANY_USAGE = bytes.fromhex("30060604551d2500")
CLIENT_USAGE = bytes.fromhex("300a06082b06010505070302")


def _entries(**fields: Any) -> Any:
    """Other values in every CertificateEntry."""
    return lambda message: replace(
        message, certificate_list=tuple(replace(e, **fields) for e in message.certificate_list)
    )


def _flipped(message: Any) -> Any:
    signature = message.signature[:-1] + bytes((message.signature[-1] ^ 1,))
    return replace(message, signature=signature)


EMPTY = changing(certificate_list=())
PROOF: dict[str, tuple[V, dict[type, Any]]] = {
    "context": (V.REQUEST_CONTEXT, {Certificate: changing(certificate_request_context=b"\1")}),
    "entry-unknown-extension": (
        V.UNSOLICITED_EXTENSION,
        {Certificate: _entries(extensions=UNKNOWN)},
    ),
    "entry-unasked-extension": (
        V.UNSOLICITED_EXTENSION,
        {Certificate: _entries(extensions=STATUS)},
    ),
    "certificate-truncated": (V.TRUNCATED, {Certificate: encoded(lambda body: body[:-1])}),
    "certificate-trailing": (V.TRAILING_DATA, {Certificate: encoded(lambda body: body + b"\0")}),
    "certificate-of-no-octets": (
        V.VECTOR_LENGTH,
        {Certificate: encoded(lambda body: bytes.fromhex("00 000005 000000 0000"))},
    ),
    "scheme-unknown": (
        V.SCHEME_NOT_OFFERED,
        {CertificateVerify: changing(algorithm=S(0x1A1A))},
    ),
    "scheme-for-certificates-only": (
        V.SCHEME_NOT_OFFERED,
        {CertificateVerify: changing(algorithm=S.rsa_pkcs1_sha256)},
    ),
    "scheme-sha1": (V.SCHEME_NOT_OFFERED, {CertificateVerify: changing(algorithm=S.ecdsa_sha1)}),
    "scheme-of-another-key": (
        V.SCHEME_NOT_FOR_KEY,
        {CertificateVerify: changing(algorithm=S.ecdsa_secp384r1_sha384)},
    ),
    "signature-bent": (V.SIGNATURE_INVALID, {CertificateVerify: _flipped}),
    "signature-empty": (V.SIGNATURE_INVALID, {CertificateVerify: changing(signature=b"")}),
    "finished-zero": (V.FINISHED_INVALID, {Finished: changing(verify_data=bytes(32))}),
    "finished-short": (V.FINISHED_LENGTH, {Finished: lambda m: Finished(m.verify_data[:-1])}),
    "finished-long": (V.FINISHED_LENGTH, {Finished: lambda m: Finished(m.verify_data + b"\0")}),
    "finished-empty": (V.FINISHED_LENGTH, {Finished: lambda m: Finished(b"")}),
}
"""What either role can get wrong."""

FROM_SERVER = {name: Case(violation, edits) for name, (violation, edits) in PROOF.items()} | {
    "empty": Case(V.EMPTY_SERVER_CERTIFICATE, {Certificate: EMPTY}),
}


def _as_client(peer: ScriptedClient) -> ScriptedClient:
    peer.credential = client_credential()
    return peer.handshake()


ASKS = {"request_client_certificate": True, "client_trust": trust()}
DEMANDS = {"require_client_certificate": True, "client_trust": trust()}
FROM_CLIENT = {
    name: Case(violation, edits, _as_client, ASKS) for name, (violation, edits) in PROOF.items()
} | {"none-but-required": Case(V.CLIENT_CERTIFICATE_REQUIRED, config=DEMANDS)}


@pytest.mark.req("4.5.1.3-1", "4.5.1-5", "4.5.1-6", "4.5.2-4", "4.5.2-6", "4.5.2-7", "4.5.2-8")
@pytest.mark.req("4.5.2-9", "4.5.3-1", "4.5.3-2", "6-9")
@pytest.mark.parametrize("name", FROM_SERVER)
def test_a_servers_wrong_proof_is_refused(name: str) -> None:
    FROM_SERVER[name].against_client()


@pytest.mark.req("4.5.1.3-2", "4.5.1-7", "4.5.2-5", "4.5.2-6", "4.5.2-7", "4.5.2-8", "4.5.2-9")
@pytest.mark.req("4.5.3-1", "4.5.3-2")
@pytest.mark.parametrize("name", FROM_CLIENT)
def test_a_clients_wrong_proof_is_refused(name: str) -> None:
    FROM_CLIENT[name].against_server()


# -- certificates that verify, or not --------------------------------------------------------------


def _refused_with(alert: AlertDescription, peer: ScriptedPeer, script: Any) -> CertificateError:
    with pytest.raises(CertificateError) as caught:
        script()
    assert caught.value.alert is alert
    assert peer.receive_alert().description is alert
    assert_dead(peer.target, caught.value)
    return caught.value


@pytest.mark.req("4.5.1.2-14", "6.2-9")
@pytest.mark.parametrize(
    ("what", "alert"),
    [
        ("expired", AlertDescription.certificate_expired),
        ("wrong-name", AlertDescription.certificate_unknown),
        ("unknown-authority", AlertDescription.unknown_ca),
    ],
)
def test_a_server_certificate_that_does_not_verify_gets_its_own_alert(
    what: str, alert: AlertDescription
) -> None:
    made = pki().bad(what)
    peer = ScriptedServer(ClientConnection(client_config(), WatchedBackend()))
    peer.credential = Credential.load(made.chain, made.key)
    _refused_with(alert, peer, peer.handshake)


def test_a_certificate_that_is_none_is_refused() -> None:
    peer = ScriptedServer(
        ClientConnection(client_config(), WatchedBackend()),
        {Certificate: _entries(cert_data=b"\x30\x00")},
    )
    _refused_with(AlertDescription.bad_certificate, peer, peer.handshake)


@pytest.mark.parametrize("edits", [{}, {CertificateVerify: _flipped}], ids=["valid", "bent"])
def test_a_client_that_does_not_verify_chains_verifies_signatures(edits: Any) -> None:
    made = pki().bad("self-signed")
    peer = ScriptedServer(ClientConnection(client_config(verify=False)), edits)
    peer.credential = Credential.load(made.chain, made.key)
    with refused(peer, V.SIGNATURE_INVALID) if edits else nullcontext():
        peer.handshake()


def test_an_untrusted_client_certificate_is_refused() -> None:
    made = pki().bad("unknown-authority")
    peer = ScriptedClient(ServerConnection(server_config(**ASKS), WatchedBackend()))
    peer.credential = Credential.load(made.chain, made.key)
    _refused_with(AlertDescription.unknown_ca, peer, peer.handshake)


# -- client authentication -------------------------------------------------------------------------


@pytest.mark.req("4.5.1-2", "4.5.1-3", "4.5.1-4", "4.5.2-2", "4.5.2-3", "4.4.2-1", "4.4.2-4")
@pytest.mark.parametrize("has_certificate", [True, False])
def test_a_client_answers_a_request_with_its_certificate_or_none(has_certificate: bool) -> None:
    credentials = (client_credential(),) if has_certificate else ()
    peer = ScriptedServer(ClientConnection(client_config(credentials=credentials)))
    peer.accept().hello().encrypted_extensions().request().authenticate().finish()
    certificate = peer.receive(Certificate)
    assert len(certificate.certificate_list) == has_certificate
    peer.complete(*[CertificateVerify] * has_certificate)


@pytest.mark.req("4.5.1.3-2", "4.5.1.3-3")
@pytest.mark.parametrize("settings", [ASKS, DEMANDS, {"request_client_certificate": True}])
def test_a_server_knows_the_client_that_authenticated(settings: dict[str, Any]) -> None:
    client = client_config(credentials=(client_credential("ed25519"),))
    pair = Pair(client, server_config(**settings)).complete()
    assert pair.server.info is not None
    assert pair.server.info.peer_chain == client_credential("ed25519").chain
    pair.talk()


def test_a_client_may_decline_where_a_certificate_is_not_required() -> None:
    pair = Pair(server=server_config(**ASKS)).complete()
    assert pair.server.info is not None
    assert pair.server.info.peer_chain == ()
    pair.talk()


@pytest.mark.req("4.3.4-3", "4.4.2-6", "4.3.5-1")
def test_the_request_says_what_the_server_accepts() -> None:
    peer = ScriptedClient(ServerConnection(server_config(**ASKS))).handshake()
    assert peer.request is not None
    bodies = {body.extension_type: body for body in peer.request.extensions}
    assert bodies.keys() == {
        TYPE.signature_algorithms,
        TYPE.signature_algorithms_cert,
        TYPE.certificate_authorities,
    }
    subject = pki().root.certificate.subject.public_bytes()
    assert bodies[TYPE.certificate_authorities] == CertificateAuthorities((subject,))
    assert peer.request.certificate_request_context == b""


def test_a_request_with_the_same_schemes_for_certificates_says_so_once() -> None:
    config = server_config(request_client_certificate=True, certificate_schemes=DEFAULT_SCHEMES)
    peer = ScriptedClient(ServerConnection(config)).handshake()
    assert peer.request is not None
    assert peer.request.extensions.types == {TYPE.signature_algorithms}


def _request(violation: V, edit: Any, **config: Any) -> Case:
    def script(peer: ScriptedServer) -> None:
        peer.accept().hello().encrypted_extensions().request().authenticate().finish()

    return Case(violation, {CertificateRequest: edit}, script, config)


def _filters(*filters: tuple[bytes, bytes]) -> Any:
    return adding(OidFilters(tuple(OidFilter(*entry) for entry in filters)))


CREDENTIALS = {"credentials": (client_credential(),)}
REQUESTS = {
    "context": _request(V.REQUEST_CONTEXT, changing(certificate_request_context=b"\1")),
    "no-schemes": _request(
        V.REQUEST_WITHOUT_SIGNATURE_ALGORITHMS, dropping(TYPE.signature_algorithms)
    ),
    "filter-twice": _request(V.DUPLICATE_OID_FILTER, _filters((KEY_USAGE, b""), (KEY_USAGE, b""))),
    "filter-any-usage": _request(
        V.OID_FILTER_ANY_USAGE, _filters((EXTENDED_KEY_USAGE, ANY_USAGE)), **CREDENTIALS
    ),
    "filter-malformed": _request(
        V.OID_FILTER_VALUES, _filters((EXTENDED_KEY_USAGE, b"\x30\x05")), **CREDENTIALS
    ),
    "filter-bits-malformed": _request(
        V.OID_FILTER_VALUES, _filters((KEY_USAGE, b"\x03\x00")), **CREDENTIALS
    ),
    "misplaced": _request(
        V.EXTENSION_NOT_ALLOWED, adding(UnknownExtension(TYPE.key_share, b"\0\x1d"))
    ),
}


@pytest.mark.req("4.4.2-4", "4.4.2-6", "4.3.5-7", "4.3.5-8")
@pytest.mark.parametrize("name", REQUESTS)
def test_a_wrong_request_is_refused(name: str) -> None:
    REQUESTS[name].against_client()


SUITABLE = {
    "filter-purpose": (_filters((EXTENDED_KEY_USAGE, CLIENT_USAGE)), True),
    "filter-usage": (_filters((KEY_USAGE, bytes.fromhex("03020780"))), True),
    "filter-other-usage": (_filters((KEY_USAGE, bytes.fromhex("03020204"))), False),
    "filter-unknown": (_filters((b"\x06\x03\x2a\x03\x04", b"unknown")), True),
    "other-schemes": (adding(SignatureAlgorithms((S(0x1A1A), S.ed25519))), False),
    "schemes": (adding(SignatureAlgorithms((S(0x1A1A), S.ecdsa_secp256r1_sha256))), True),
    "schemes-cert": (adding(SignatureAlgorithmsCert((S(0x1A1A), S.ecdsa_secp256r1_sha256))), True),
    "authorities": (adding(CertificateAuthorities((b"0\0",))), False),
    "grease": (adding(UnknownExtension(TYPE(0x1A1A), b"grease")), True),
    "status-request": (adding(UnknownExtension(TYPE.status_request, b"\1\0\0\0\0")), True),
}


@pytest.mark.req("4.3.5-2", "4.3.5-3", "4.3.5-5", "4.4.2-7", "4.5.1.2-6", "9.3-6")
@pytest.mark.parametrize("name", SUITABLE)
def test_a_client_answers_a_request_that_its_certificate_suits(name: str) -> None:
    edit, answers = SUITABLE[name]
    target = ClientConnection(client_config(**CREDENTIALS))
    peer = ScriptedServer(target, {CertificateRequest: edit})
    peer.accept().hello().encrypted_extensions().request().authenticate().finish()
    assert bool(peer.receive(Certificate).certificate_list) is answers
    peer.complete(*[CertificateVerify] * answers)


@pytest.mark.req("4.3.4-1", "4.5.1.2-5", "4.5.1.2-9")
@pytest.mark.parametrize("served", [0, 1])
@pytest.mark.parametrize("by", ["authority", "scheme"])
def test_a_client_with_two_certificates_shows_the_one_that_suits(served: int, by: str) -> None:
    other = pki().bad("unknown-authority" if by == "authority" else "self-signed", "ed25519")
    ours = (client_credential("ed25519"), Credential.load(other.chain, other.key))
    issuer = (pki().root, pki().stranger)[served].certificate.subject.public_bytes()
    schemes = (S.ecdsa_secp256r1_sha256, S.rsa_pkcs1_sha256)[served]
    edit = adding(
        CertificateAuthorities((issuer,))
        if by == "authority"
        else SignatureAlgorithmsCert((schemes,))
    )
    target = ClientConnection(client_config(credentials=ours))
    peer = ScriptedServer(target, {CertificateRequest: edit})
    peer.accept().hello().encrypted_extensions().request().authenticate().finish()
    shown = peer.receive(Certificate).certificate_list
    assert shown[0].cert_data == ours[served].chain[0]


# -- every scheme ----------------------------------------------------------------------------------

SCHEMES = [(kind, scheme) for kind in KINDS for scheme in credential(kind).schemes]


@pytest.mark.req("4.3.3-8", "4.3.3-10", "4.5.2-1", "4.5.2-6", "9.1-3")
@pytest.mark.parametrize(("kind", "scheme"), SCHEMES, ids=str)
def test_both_ends_authenticate_with_every_scheme(kind: str, scheme: SignatureScheme) -> None:
    schemes = {"signature_schemes": (scheme,)}
    client = client_config(credentials=(client_credential(kind),), **schemes)
    server = server_config(credentials=(credential(kind),), **schemes, **DEMANDS)
    pair = Pair(client, server).complete()
    assert pair.info.peer_chain == credential(kind).chain
    assert pair.server.info is not None
    assert pair.server.info.peer_chain == client_credential(kind).chain


def test_every_scheme_is_among_those_tested() -> None:
    assert {scheme for _, scheme in SCHEMES} == set(DEFAULT_SCHEMES)


# -- nothing to check a name against ---------------------------------------------------------------


def test_a_client_that_verifies_needs_a_name() -> None:
    target = ClientConnection(client_config(server_name=None), WatchedBackend())
    peer = ScriptedServer(target)
    error = _refused_with(AlertDescription.certificate_unknown, peer, peer.handshake)
    assert error.check == "name"
