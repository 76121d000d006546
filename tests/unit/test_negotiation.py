"""What a server makes of a ClientHello: its rules, and the choices among what it offers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import adding, changing, dropping, encoded
from tests.unit.scripted_client import OfferedKey, ScriptedClient
from tests.unit.support import credential, handshake, named_credential, pki, server_config
from tpmtls.algorithms import SHA384
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.config import Credential, ExternalPsk
from tpmtls.connection import ServerConnection
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    Cookie,
    EarlyDataIndication,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    Padding,
    ProtocolNameList,
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerName,
    ServerNameList,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
    UnknownExtension,
)
from tpmtls.wire.messages import ClientHello

G, P, S, Suite, TYPE = NamedGroup, ProtocolVersion, SignatureScheme, CipherSuite, ExtensionType
KEY = OfferedKey(b"the identity", bytes(range(32)))
PSKS = {"psks": (KEY,)}


def _hello(violation: V, *edits: Any, **more: Any) -> Case:
    def edit(message: Any) -> Any:
        for change in edits:
            message = change(message)
        return message

    return Case(violation, {ClientHello: edit}, **more)


def _extension(kind: ExtensionType, body: str) -> Any:
    return adding(UnknownExtension(kind, bytes.fromhex(body)))


def _shares(*entries: tuple[NamedGroup, bytes]) -> Any:
    return adding(KeyShareClientHello(tuple(KeyShareEntry(*entry) for entry in entries)))


def _names(*names: bytes) -> Any:
    return adding(ServerNameList(tuple(ServerName(NameType.host_name, name) for name in names)))


def _duplicate(message: Any) -> Any:
    return changing(extensions=Extensions((message.extensions[1], *message.extensions)))(message)


def _psk_first(message: Any) -> Any:
    *others, psk = message.extensions
    return changing(extensions=Extensions((psk, *others)))(message)


def _fewer_binders(message: Any) -> Any:
    psk = message.extensions[-1]
    second = replace(psk.identities[0], identity=b"another")
    return changing(
        extensions=message.extensions.replacing(replace(psk, identities=(*psk.identities, second)))
    )(message)


CASES = {
    # version
    "tls-1.2": _hello(V.TLS_1_3_NOT_OFFERED, dropping(TYPE.supported_versions)),
    "only-1.2-by-extension": _hello(
        V.TLS_1_3_NOT_OFFERED, adding(SupportedVersions((P.TLS_1_2, P(0x7F1C))))
    ),
    "no-extensions": _hello(V.TLS_1_3_NOT_OFFERED, changing(extensions=Extensions())),
    "legacy-version": _hello(V.CLIENT_LEGACY_VERSION, changing(legacy_version=P.TLS_1_0)),
    "legacy-version-1.3": _hello(V.CLIENT_LEGACY_VERSION, changing(legacy_version=P.TLS_1_3)),
    "compression": _hello(V.COMPRESSION_METHODS, changing(legacy_compression_methods=b"\1\0")),
    "compression-not-null": _hello(
        V.COMPRESSION_METHODS, changing(legacy_compression_methods=b"\1")
    ),
    # syntax
    "truncated": _hello(V.TRUNCATED, encoded(lambda body: body[:-1])),
    "trailing": _hello(V.TRAILING_DATA, encoded(lambda body: body + b"\0")),
    "session-id-too-long": _hello(
        V.VECTOR_LENGTH, encoded(lambda body: body[:34] + b"\x21" + body[35:])
    ),
    "no-suites": _hello(V.VECTOR_LENGTH, encoded(lambda body: body[:67] + b"\0\0" + body[71:])),
    "half-a-suite": _hello(
        V.TRUNCATED, encoded(lambda body: body[:67] + b"\0\3\x13\x01\x13" + body[71:])
    ),
    "no-groups-in-list": _hello(V.VECTOR_LENGTH, _extension(TYPE.supported_groups, "0000")),
    "alpn-empty-name": _hello(
        V.VECTOR_LENGTH,
        _extension(TYPE.application_layer_protocol_negotiation, "0003000161"),
    ),
    "overlong-extension": _hello(
        V.EXTENSION_TRAILING_DATA, _extension(TYPE.psk_key_exchange_modes, "010100")
    ),
    "not-empty": _hello(V.EXTENSION_TRAILING_DATA, _extension(TYPE.post_handshake_auth, "00")),
    "duplicate": _hello(V.DUPLICATE_EXTENSION, _duplicate),
    "too-many": _hello(
        V.TOO_MANY_EXTENSIONS,
        adding(*(UnknownExtension(TYPE(1000 + n), b"") for n in range(512))),
    ),
    "misplaced": _hello(V.EXTENSION_NOT_ALLOWED, _extension(TYPE.oid_filters, "0000")),
    # what must be there
    "no-signature-algorithms": _hello(
        V.MISSING_SIGNATURE_ALGORITHMS, dropping(TYPE.signature_algorithms)
    ),
    "no-signature-algorithms-before-a-retry": _hello(
        V.MISSING_SIGNATURE_ALGORITHMS,
        dropping(TYPE.signature_algorithms),
        config={"groups": (G.secp256r1,)},
        peer={"groups": (G.x25519, G.secp256r1), "share_groups": ()},
    ),
    "psk-unknown-and-no-signature-algorithms": _hello(
        V.MISSING_SIGNATURE_ALGORITHMS, dropping(TYPE.signature_algorithms), peer=PSKS
    ),
    "no-groups": _hello(V.MISSING_SUPPORTED_GROUPS, dropping(TYPE.supported_groups)),
    "no-groups-nor-shares": _hello(
        V.MISSING_SUPPORTED_GROUPS, dropping(TYPE.supported_groups, TYPE.key_share)
    ),
    "psk-unknown-and-no-groups": _hello(
        V.MISSING_SUPPORTED_GROUPS, dropping(TYPE.supported_groups, TYPE.key_share), peer=PSKS
    ),
    "no-shares": _hello(V.MISSING_KEY_SHARE, dropping(TYPE.key_share)),
    "psk-without-modes": _hello(
        V.MISSING_PSK_MODES, dropping(TYPE.psk_key_exchange_modes), peer=PSKS
    ),
    "psk-not-last": _hello(V.PRE_SHARED_KEY_NOT_LAST, _psk_first, peer=PSKS),
    "binder-missing": _hello(V.BINDER_COUNT, _fewer_binders, peer=PSKS),
    "early-data-without-psk": _hello(V.EARLY_DATA_WITHOUT_PSK, adding(EarlyDataIndication())),
    "name-required": _hello(
        V.MISSING_SERVER_NAME, dropping(TYPE.server_name), config={"require_server_name": True}
    ),
    # what must not
    "cookie": _hello(V.UNEXPECTED_COOKIE, adding(Cookie(b"stale"))),
    "two-names": _hello(V.SERVER_NAME_LIST, _names(b"localhost", b"elsewhere")),
    "only-a-name-of-another-type": _hello(
        V.SERVER_NAME_LIST, adding(ServerNameList((ServerName(NameType(7), b"x"),)))
    ),
    "name-not-ascii": _hello(V.SERVER_NAME_LIST, _names("höst".encode())),
    "limit-too-low": _hello(V.RECORD_SIZE_LIMIT, adding(RecordSizeLimit(63))),
    "group-twice": _hello(
        V.DUPLICATE_GROUP, adding(SupportedGroups((G.x25519, G.secp256r1, G.x25519)))
    ),
    "share-twice": _hello(
        V.DUPLICATE_KEY_SHARE, _shares((G.x25519, bytes(32)), (G.x25519, bytes(32)))
    ),
    "share-without-group": _hello(V.SHARE_WITHOUT_GROUP, _shares((G.secp256r1, bytes(65)))),
    "share-too-short": _hello(V.SHARE_LENGTH, _shares((G.x25519, bytes(31)))),
    "share-zero": _hello(V.ZERO_SHARED_SECRET, _shares((G.x25519, bytes(32)))),
    "share-off-the-curve": _hello(
        V.INVALID_POINT,
        _shares((G.secp256r1, b"\4" + b"\1" * 64)),
        peer={"groups": (G.secp256r1,)},
    ),
    "share-compressed": _hello(
        V.INVALID_POINT,
        _shares((G.secp521r1, b"\2" + bytes(132))),
        peer={"groups": (G.secp521r1,)},
    ),
    "share-no-encapsulation-key": _hello(
        V.INVALID_POINT,
        _shares((G.X25519MLKEM768, b"\xff" * 1216)),
        peer={"groups": (G.X25519MLKEM768,)},
    ),
    # nothing in common
    "suites": _hello(V.NO_COMMON_SUITE, changing(cipher_suites=(Suite(0xC02F), Suite(0x1A1A)))),
    "groups": Case(V.NO_COMMON_GROUP, config={"groups": (G.secp256r1,)}),
    "groups-with-psk-unknown": Case(
        V.NO_COMMON_GROUP, config={"groups": (G.secp256r1,)}, peer=PSKS
    ),
    "schemes": _hello(V.NO_COMMON_SCHEME, adding(SignatureAlgorithms((S.ed25519, S(0x1A1A))))),
    "protocols": _hello(
        V.NO_COMMON_PROTOCOL, adding(ProtocolNameList((b"h3",))), config={"alpn": ("h2",)}
    ),
    "protocols-with-psk": _hello(
        V.NO_COMMON_PROTOCOL,
        adding(ProtocolNameList((b"h3",))),
        config={"alpn": ("h2",), "psks": (ExternalPsk(KEY.identity, KEY.key),)},
        peer=PSKS,
    ),
    "share-too-short-with-psk": _hello(
        V.SHARE_LENGTH,
        _shares((G.x25519, bytes(31))),
        config={"psks": (ExternalPsk(KEY.identity, KEY.key),)},
        peer=PSKS,
    ),
    "name": _hello(
        V.UNRECOGNIZED_NAME, _names(b"elsewhere.example"), config={"strict_server_name": True}
    ),
}


@pytest.mark.req("4.2.2-7", "4.2.2-16", "4.3.1-5", "4.3.1-6", "4.3.1-7", "4.3.1-10", "4.3-2")
@pytest.mark.req("4.3-7", "4.3-9", "4.3-10", "4.3.3-3", "9.2-10", "9.2-11", "9.2-12", "9.2-15")
@pytest.mark.req("4.3.7-2", "4.3.8-11", "4.3.9-3", "4.3.11-10", "4.3.11-18", "4.2.1-1", "4.2.1-4")
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_client_hello_is_refused(name: str) -> None:
    CASES[name].against_server()


# -- choices ---------------------------------------------------------------------------------------


def _completed(**peer: Any) -> Any:
    config = peer.pop("config", {})
    client = ScriptedClient(ServerConnection(server_config(**config)), **peer).handshake()
    assert client.target.info is not None
    return client.target.info


@pytest.mark.req("4.2.2-13")
def test_the_servers_own_order_of_suites_decides() -> None:
    ours = (Suite.TLS_CHACHA20_POLY1305_SHA256, Suite.TLS_AES_128_GCM_SHA256)
    offered = (Suite(0x1A1A), Suite.TLS_AES_128_GCM_SHA256, Suite.TLS_CHACHA20_POLY1305_SHA256)
    assert _completed(config={"suites": ours}, suites=offered).suite is ours[0]


@pytest.mark.req("4.3.11-8")
def test_the_hash_of_an_external_psk_goes_before_that_order() -> None:
    offered = (Suite.TLS_AES_128_GCM_SHA256, Suite.TLS_AES_256_GCM_SHA384)
    key = OfferedKey(b"identity", bytes(48), SHA384)
    psks = (ExternalPsk(key.identity, key.key, SHA384),)
    info = _completed(config={"psks": psks}, suites=offered, psks=(key,))
    assert (info.suite, info.psk) == (Suite.TLS_AES_256_GCM_SHA384, "external")


def test_a_group_with_a_share_goes_before_a_better_one_without() -> None:
    ours = {"groups": (G.secp384r1, G.secp256r1, G.x25519)}
    offered = (G.x25519, G.secp256r1, G.secp384r1)
    info = _completed(config=ours, groups=offered, share_groups=(G.x25519, G.secp256r1))
    assert info.group is G.secp256r1


@pytest.mark.req("4.3.7-5", "4.3.7-6")
def test_a_better_group_is_made_known_if_the_client_sent_no_share_for_it() -> None:
    config = server_config(groups=(G.secp256r1, G.x25519))
    client = ScriptedClient(ServerConnection(config)).handshake()
    known = client.parameters.extensions.get(SupportedGroups)
    assert known is not None
    assert known.named_group_list == (G.secp256r1, G.x25519)
    client = ScriptedClient(ServerConnection(server_config(groups=(G.x25519, G.secp256r1))))
    assert client.handshake().parameters.extensions.get(SupportedGroups) is None


def test_the_servers_own_order_of_protocols_decides() -> None:
    assert handshake(alpn=("h2", "http/1.1")).info.alpn == "h2"
    offered = (ProtocolNameList((b"\x1a\x1a", b"http/1.1", b"h2")),)
    assert _completed(config={"alpn": ("h2", "http/1.1")}, more=offered).alpn == "h2"
    assert _completed(config={"alpn": ("h2",)}).alpn is None
    assert _completed(more=offered).alpn is None


NAMES = ("a.example", "*.b.example")


@pytest.mark.req("9.2-13", "9.2-14")
@pytest.mark.parametrize(
    ("name", "served"),
    [
        (b"localhost", 0),
        (b"a.example", 1),
        (b"A.Example", 1),
        (b"x.b.example", 1),
        (b"b.example", 0),
        (b"unknown.example", 0),
        (None, 0),
    ],
)
def test_the_name_chooses_the_certificate(name: bytes | None, served: int) -> None:
    ours = (credential(), named_credential(*NAMES))
    edit = dropping(TYPE.server_name) if name is None else _names(name)
    target = ServerConnection(server_config(credentials=ours))
    client = ScriptedClient(target, {ClientHello: edit}).handshake()
    assert client.certificate.certificate_list[0].cert_data == ours[served].chain[0]
    assert target.info is not None
    assert target.info.server_name == (name.decode().lower() if name else None)
    acknowledged = TYPE.server_name in client.parameters.extensions.types
    assert acknowledged == (name in (b"localhost", b"a.example", b"A.Example", b"x.b.example"))


@pytest.mark.req("4.5.1.2-2", "4.5.2-4")
@pytest.mark.parametrize("kind", ["rsa", "p256", "ed25519"])
def test_the_clients_algorithms_choose_the_certificate(kind: str) -> None:
    ours = tuple(map(credential, ("rsa", "p256", "ed25519")))
    wanted = credential(kind).schemes
    edit = adding(
        SignatureAlgorithms((S(0x1A1A), *wanted)),
        SignatureAlgorithmsCert((S(0x1A1A), S.ecdsa_secp256r1_sha256)),
    )
    target = ServerConnection(server_config(credentials=ours))
    client = ScriptedClient(target, {ClientHello: edit}).handshake()
    assert client.certificate.certificate_list[0].cert_data == credential(kind).chain[0]


@pytest.mark.req("4.5.1.2-9", "4.5.1.2-11")
def test_a_chain_that_the_client_can_verify_goes_first_but_any_is_better_than_none() -> None:
    # Every certificate here is signed with ecdsa_secp256r1_sha256, but for the self-signed one.
    odd = pki().bad("self-signed", "ed25519")
    ours = (credential("ed25519"), Credential.load(odd.chain, odd.key))
    for accepted, served in ((S.ecdsa_secp256r1_sha256, 0), (S.rsa_pkcs1_sha256, 1)):
        edit = adding(SignatureAlgorithmsCert((accepted,)))
        target = ServerConnection(server_config(credentials=ours))
        client = ScriptedClient(target, {ClientHello: edit}).handshake()
        assert client.certificate.certificate_list[0].cert_data == ours[served].chain[0]
    target = ServerConnection(server_config())
    edit = adding(SignatureAlgorithmsCert((S.rsa_pkcs1_sha256,)))
    ScriptedClient(target, {ClientHello: edit}).handshake()


@pytest.mark.req("4.3.4-1", "4.5.1.2-5")
def test_a_certificate_of_an_authority_that_the_client_names_goes_first() -> None:
    other = pki().bad("unknown-authority")
    ours = (credential(), Credential.load(other.chain, other.key))
    for authority, served in ((pki().root, 0), (pki().stranger, 1)):
        edit = adding(CertificateAuthorities((authority.certificate.subject.public_bytes(),)))
        target = ServerConnection(server_config(credentials=ours))
        client = ScriptedClient(target, {ClientHello: edit}).handshake()
        assert client.certificate.certificate_list[0].cert_data == ours[served].chain[0]


@pytest.mark.req("4.2.2-18", "4.2.2-13", "4.3.1-8", "9.3-1")
def test_a_server_passes_over_whatever_it_does_not_know() -> None:
    def grease(hello: Any) -> Any:
        grown = adding(
            UnknownExtension(TYPE(0x0A0A), b""),
            SupportedVersions((P(0x2A2A), P.TLS_1_3, P.TLS_1_2)),
            SupportedGroups((G(0x3A3A), G.x25519)),
            KeyShareClientHello((KeyShareEntry(G(0x3A3A), b"\0"), *shares(hello))),
            SignatureAlgorithms((S(0x4A4A), S.ecdsa_secp256r1_sha256)),
            ProtocolNameList((b"\x5a\x5a", b"h2")),
            PskKeyExchangeModes((PskKeyExchangeMode(0x0B), PskKeyExchangeMode.psk_dhe_ke)),
            Padding(bytes(100)),
            UnknownExtension(TYPE.status_request, b"\1\0\0\0\0"),
        )(hello)
        suites = (Suite(0x6A6A), Suite(0x00FF), *hello.cipher_suites)
        last = UnknownExtension(TYPE(0x7A7A), b"\0")
        return replace(
            grown, cipher_suites=suites, extensions=Extensions((*grown.extensions, last))
        )

    def shares(hello: Any) -> Any:
        return hello.extensions.get(KeyShareClientHello).client_shares

    target = ServerConnection(server_config(alpn=("h2",)))
    ScriptedClient(target, {ClientHello: grease}).handshake()
    assert target.info is not None
    assert target.info.alpn == "h2"
