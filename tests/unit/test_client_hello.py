"""What a client offers: the first ClientHello, the second one, and the PSKs in both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import Clock, Pair, WatchedBackend, client_config, pki, server_config
from tpmtls.algorithms import SHA256, SHA384
from tpmtls.backends.software import SoftwareBackend
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import (
    DEFAULT_CERTIFICATE_SCHEMES,
    DEFAULT_GROUPS,
    DEFAULT_SCHEMES,
    DEFAULT_SUITES,
    ExternalPsk,
)
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.tickets import SessionCache
from tpmtls.violations import ConfigurationError
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    Cookie,
    Extensions,
    KeyShareClientHello,
    KeyShareHelloRetryRequest,
    OfferedPsks,
    PostHandshakeAuth,
    ProtocolNameList,
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerName,
    ServerNameList,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import ClientHello, Finished, HandshakeMessage

G, TYPE, Suite = NamedGroup, ExtensionType, CipherSuite
PSK = ExternalPsk(b"one", bytes(32))
PSK_384 = ExternalPsk(b"two", bytes(48), SHA384)


def _peer(**config: Any) -> ScriptedServer:
    return ScriptedServer(ClientConnection(client_config(**config))).accept()


def _offer(**config: Any) -> ClientHello:
    return _peer(**config).offer


def _groups(hello: ClientHello) -> tuple[NamedGroup, ...]:
    shares = hello.extensions.get(KeyShareClientHello)
    assert shares is not None
    return tuple(entry.group for entry in shares.client_shares)


# -- the first -------------------------------------------------------------------------------------


@pytest.mark.req(
    "4.2.2-1", "4.2.2-6", "4.2.2-15", "4.3.1-1", "4.3.1-2", "4.3.3-2", "9.2-3", "9.2-4"
)
@pytest.mark.req("9.2-5", "9.2-6", "9.3-4", "E.5-8", "4.5.1.2-8")
def test_what_every_client_hello_holds() -> None:
    hello = _offer()
    assert hello.legacy_version is ProtocolVersion.TLS_1_2
    assert hello.legacy_compression_methods == b"\0"
    assert len(hello.legacy_session_id) == 32
    assert hello.cipher_suites == DEFAULT_SUITES
    assert set(hello.extensions) >= {
        SupportedVersions((ProtocolVersion.TLS_1_3,)),
        ServerNameList((ServerName(NameType.host_name, b"localhost"),)),
        SupportedGroups((G.x25519,)),
        SignatureAlgorithms(DEFAULT_SCHEMES),
        SignatureAlgorithmsCert(DEFAULT_CERTIFICATE_SCHEMES),
    }
    assert hello.extensions.types == {
        TYPE.supported_versions,
        TYPE.server_name,
        TYPE.supported_groups,
        TYPE.signature_algorithms,
        TYPE.signature_algorithms_cert,
        TYPE.key_share,
    }


OPTIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "alpn": ({"alpn": ("h2", "x")}, ProtocolNameList((b"h2", b"x"))),
    "limit": ({"record_size_limit": 100}, RecordSizeLimit(100)),
    "post-handshake": ({"post_handshake_auth": True}, PostHandshakeAuth()),
    "cache": (
        {"session_cache": SessionCache()},
        PskKeyExchangeModes((PskKeyExchangeMode.psk_dhe_ke,)),
    ),
    "authorities": (
        {"send_certificate_authorities": True},
        CertificateAuthorities((pki().root.certificate.subject.public_bytes(),)),
    ),
    "no-mode": (
        {"psks": (PSK,), "psk_modes": (PskKeyExchangeMode.psk_ke,)},
        PskKeyExchangeModes((PskKeyExchangeMode.psk_ke,)),
    ),
    "trailing-dot": (
        {"server_name": "localhost."},
        ServerNameList((ServerName(NameType.host_name, b"localhost"),)),
    ),
}


@pytest.mark.req("4.3.4-2", "4.3.9-1", "4.3.9-2", "9.2-8")
@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_setting_adds(name: str) -> None:
    settings, body = OPTIONS[name]
    assert body in _offer(**settings).extensions


@pytest.mark.req("4.3.3-5")
def test_equal_schemes_for_certificates_are_not_said_twice() -> None:
    hello = _offer(certificate_schemes=DEFAULT_SCHEMES)
    assert TYPE.signature_algorithms_cert not in hello.extensions.types


@pytest.mark.req("4.3.8-3", "4.3.8-4", "4.3.8-5", "4.3.8-6", "4.3.8-9", "4.3.8-10")
@pytest.mark.parametrize(
    ("groups", "wanted", "sent"),
    [
        (DEFAULT_GROUPS, None, (G.X25519MLKEM768, G.x25519)),
        ((G.x25519, G.X25519MLKEM768), None, (G.x25519,)),
        ((G.X25519MLKEM768, G.secp256r1), None, (G.X25519MLKEM768,)),
        ((G.secp256r1, G.x25519), None, (G.secp256r1,)),
        (DEFAULT_GROUPS, (), ()),
        (DEFAULT_GROUPS, (G.secp256r1, G.x448), (G.secp256r1, G.x448)),
        (DEFAULT_GROUPS, DEFAULT_GROUPS, DEFAULT_GROUPS),
    ],
    ids=["default", "x25519-first", "hybrid-alone", "p256-first", "none", "two", "all"],
)
def test_which_groups_get_a_share(groups: Any, wanted: Any, sent: Any) -> None:
    hello = _offer(groups=groups, key_shares=wanted)
    assert _groups(hello) == sent
    assert SupportedGroups(groups) in hello.extensions


class Small(SoftwareBackend):
    """Has one group and one suite."""

    groups = (G.secp384r1,)
    suites = (Suite.TLS_AES_256_GCM_SHA384,)


def test_only_what_the_backend_can_do_is_offered() -> None:
    target = ClientConnection(client_config(groups=DEFAULT_GROUPS), Small())
    hello = ScriptedServer(target).accept().offer
    assert hello.cipher_suites == Small.suites
    assert SupportedGroups(Small.groups) in hello.extensions
    assert _groups(hello) == Small.groups
    server = ServerConnection(server_config(), Small())
    target = ClientConnection(client_config(groups=DEFAULT_GROUPS))
    server.receive_data(target.data_to_send())
    target.receive_data(server.data_to_send())
    server.receive_data(target.data_to_send())
    target.receive_data(server.data_to_send())
    server.receive_data(target.data_to_send())
    assert server.info is not None
    assert (server.info.group, server.info.suite) == (*Small.groups, *Small.suites)


@pytest.mark.parametrize(
    "config",
    [{"groups": (G.x25519,)}, {"suites": (Suite.TLS_AES_128_GCM_SHA256,)}],
    ids=["groups", "suites"],
)
def test_a_backend_that_can_do_nothing_of_it_is_a_configuration_error(config: Any) -> None:
    settings = {"groups": DEFAULT_GROUPS} | config
    with pytest.raises(ConfigurationError):
        ClientConnection(client_config(**settings), Small())


# -- the second ------------------------------------------------------------------------------------

RETRY: dict[str, Any] = {"groups": (G.x25519, G.secp256r1)}


def _retried(*bodies: Any, **config: Any) -> tuple[ClientHello, ClientHello]:
    peer = _peer(**(RETRY | config))
    first = peer.offer
    return first, peer.retry(*bodies).offer


@pytest.mark.req("4.2.2-2", "4.2.4-7", "4.3.8-16", "4.3.2-2")
@pytest.mark.parametrize(
    ("cookie", "group"),
    [(True, False), (False, True), (True, True)],
    ids=["cookie", "group", "both"],
)
def test_the_second_client_hello_is_the_first_but_for_what_was_asked(
    cookie: bool, group: bool
) -> None:
    bodies = [Cookie(b"a cookie")] * cookie + [KeyShareHelloRetryRequest(G.secp256r1)] * group
    first, second = _retried(*bodies)
    assert replace(second, extensions=first.extensions) == first
    kept = second.extensions.without(TYPE.cookie, TYPE.key_share)
    assert kept == first.extensions.without(TYPE.key_share)
    assert second.extensions.get(Cookie) == (Cookie(b"a cookie") if cookie else None)
    assert _groups(second) == ((G.secp256r1,) if group else (G.x25519,))
    if not group:
        assert second.extensions.get(KeyShareClientHello) in first.extensions


@pytest.mark.req("4.2.4-11", "4.2.2-2")
@pytest.mark.parametrize(
    ("suite", "kept"),
    [(Suite.TLS_AES_128_GCM_SHA256, b"one"), (Suite.TLS_AES_256_GCM_SHA384, b"two")],
    ids=str,
)
def test_psks_of_another_hash_are_not_offered_again(suite: CipherSuite, kept: bytes) -> None:
    target = ClientConnection(client_config(**RETRY, psks=(PSK, PSK_384)), WatchedBackend())
    peer = ScriptedServer(target, suite=suite).accept()
    offered = peer.offer.extensions.get(OfferedPsks)
    assert offered is not None
    assert [i.identity for i in offered.identities] == [b"one", b"two"]
    offered = peer.retry(Cookie(b"x")).offer.extensions.get(OfferedPsks)
    assert offered is not None
    assert [i.identity for i in offered.identities] == [kept]
    assert peer.offer.extensions[-1] is offered
    target.abort()
    assert target.backend.alive == []  # type: ignore[attr-defined]


@pytest.mark.req("4.2.4-11")
def test_no_psk_is_offered_again_where_none_has_the_hash() -> None:
    target = ClientConnection(client_config(**RETRY, psks=(PSK,)))
    peer = ScriptedServer(target, suite=Suite.TLS_AES_256_GCM_SHA384).accept()
    peer.retry(Cookie(b"x")).hello().encrypted_extensions().authenticate().finish().complete()
    assert TYPE.pre_shared_key not in peer.offer.extensions.types


@pytest.mark.req("4.3.10-7", "4.6-2")
def test_early_data_is_not_offered_again() -> None:
    psk = ExternalPsk(b"one", bytes(32), max_early_data=100, suite=Suite.TLS_AES_128_GCM_SHA256)
    target = ClientConnection(client_config(**RETRY, psks=(psk,)), early_data=True)
    target.send_early_data(b"early")
    peer = ScriptedServer(target, psk=psk.key).accept()
    assert peer.receive_data() == b"early"
    peer.retry(KeyShareHelloRetryRequest(G.secp256r1))
    assert TYPE.early_data not in peer.offer.extensions.types
    assert target.early_data_limit == 0
    peer.hello().encrypted_extensions().finish().complete()
    assert target.early_data_accepted is False
    assert target.info is not None
    assert target.info.psk == "external"


# -- PSKs ------------------------------------------------------------------------------------------


@pytest.mark.req("4.3.11-1", "4.3.11-17", "4.7.1-2")
def test_tickets_have_an_age_and_external_psks_have_none() -> None:
    clock, cache = Clock(), SessionCache()
    client = client_config(clock=clock, session_cache=cache)
    Pair(client, server_config(clock=clock)).complete()
    ticket = cache.take("localhost", clock())
    assert ticket is not None
    cache.put(ticket)
    clock.advance(12.5)
    hello = _offer(clock=clock, session_cache=cache, psks=(PSK,))
    offered = hello.extensions[-1]
    assert isinstance(offered, OfferedPsks)
    ages = [identity.obfuscated_ticket_age for identity in offered.identities]
    assert ages == [(ticket.age_add + 12_500) % 2**32, 0]
    assert TYPE.early_data not in hello.extensions.types


@pytest.mark.req("E.1-2", "8-2")
def test_early_data_is_offered_only_on_request_and_with_a_suite_on_offer() -> None:
    psk = ExternalPsk(b"one", bytes(32), SHA256, 9, Suite.TLS_AES_128_GCM_SHA256, "h2")
    config = client_config(psks=(psk,), alpn=("h2",))
    ClientConnection(config, early_data=True)
    assert TYPE.early_data not in _offer(psks=(psk,)).extensions.types
    for other in ({"suites": (Suite.TLS_CHACHA20_POLY1305_SHA256,)}, {"alpn": ("http/1.1",)}):
        with pytest.raises(ConfigurationError):
            ClientConnection(config.replace(**other), early_data=True)


# -- arrange ---------------------------------------------------------------------------------------


def test_the_client_hello_can_be_arranged_and_binders_are_for_what_is_sent() -> None:
    def arrange(message: HandshakeMessage) -> HandshakeMessage:
        if isinstance(message, ClientHello):
            *others, last = message.extensions
            return replace(message, extensions=Extensions((*others[::-1], last)))
        return message

    client = client_config(arrange=arrange, psks=(PSK,))
    assert Pair(client, server_config(psks=(PSK,))).complete().info.psk == "external"


def test_a_client_hello_cannot_be_arranged_into_something_else() -> None:
    with pytest.raises(ConfigurationError):
        ClientConnection(client_config(arrange=lambda message: Finished(b"")))
