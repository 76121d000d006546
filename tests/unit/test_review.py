"""What a resumed session may carry over, what fits into a ClientHello, and what an end leaves."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Clock,
    Pair,
    WatchedBackend,
    assert_dead,
    client_config,
    client_credential,
    credential,
    pki,
    server_config,
    split_records,
    trust,
)
from tpmtls.aio import TlsServer, start_server
from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Aead, Secret, Signer
from tpmtls.backends.software import SoftwareBackend
from tpmtls.certificates import TrustStore
from tpmtls.codepoints import ContentType, NamedGroup, SignatureScheme
from tpmtls.config import DEFAULT_GROUPS, Credential, ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.handshake.authentication import MAX_AUTHORITIES
from tpmtls.sockets import TlsStream, serve, wrap_client, wrap_server
from tpmtls.tickets import MAX_TICKET, SessionCache, SessionTicket, TicketKeys
from tpmtls.violations import (
    BackendError,
    CertificateError,
    ConnectionStateError,
    PeerAlert,
    PeerViolation,
    TlsError,
    TruncationError,
)
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import (
    MAX_EXTENSION_BLOCK,
    Cookie,
    ExtensionBody,
    Extensions,
    KeyShareHelloRetryRequest,
    OfferedPsks,
    SupportedGroups,
)
from tpmtls.wire.messages import NewSessionTicket


def _taken(cache: SessionCache, name: str = "localhost") -> SessionTicket:
    ticket = cache.take(name, client_config().clock())
    assert ticket is not None
    return ticket


# -- a ticket does not outlive the trust that it rests on ------------------------------------------


@pytest.mark.parametrize("anchors", ["none", "others"])
def test_client_authentication_ends_where_other_authorities_are_trusted(anchors: str) -> None:
    """Two configurations share their ticket keys: what one lets in, the other judges afresh."""
    keys, cache = TicketKeys(), SessionCache()
    lax: dict[str, Any] = {"request_client_certificate": True}
    if anchors == "others":
        lax = {"client_trust": trust(), "require_client_certificate": True}
    stranger = TrustStore.load(pki().other_ca)
    strict = {"client_trust": stranger, "require_client_certificate": True}
    client = client_config(session_cache=cache, credentials=(client_credential(),))
    Pair(client, server_config(ticket_keys=keys, **lax)).complete()
    assert len(cache) == 2
    with pytest.raises(PeerViolation, match="sent no certificate"):  # to those who do not trust it
        Pair(client, server_config(ticket_keys=keys, **strict)).exchange()
    assert Pair(client, server_config(ticket_keys=keys, **lax)).complete().info.psk == "resumption"


@pytest.mark.req("4.7.1-21")
def test_client_authentication_ends_with_the_certificate() -> None:
    clock, cache = Clock(), SessionCache()
    client = client_config(
        clock=clock, session_cache=cache, credentials=(client_credential(),), verify=False
    )
    server = server_config(
        clock=clock, client_trust=trust(), require_client_certificate=True, tickets=1
    )
    clock.now = client_credential().leaf.not_valid_after_utc.timestamp() - 60
    Pair(client, server).complete()
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(120)
    with pytest.raises(CertificateError, match="expired"):
        Pair(client, server).exchange()


@pytest.mark.req("4.7.1-7")
@pytest.mark.parametrize("change", ["trust", "name"])
def test_a_client_resumes_only_what_it_would_accept(change: str) -> None:
    cache = SessionCache()
    client, server = client_config(session_cache=cache), server_config()
    Pair(client, server).complete()
    if change == "trust":
        other = client.replace(trust=TrustStore.load(pki().other_ca))
    else:
        other = client.replace(server_name="other.example")
        cache.put(replace(_taken(cache), server_name="other.example"))
    with pytest.raises(CertificateError):
        Pair(other, server).exchange()
    assert Pair(client, server).complete().info.psk == "resumption"


@pytest.mark.req("4.7.1-21")
def test_a_client_resumes_no_longer_than_the_certificate_is_valid() -> None:
    clock, cache = Clock(), SessionCache()
    client, server = client_config(clock=clock, session_cache=cache), server_config(clock=clock)
    clock.now = credential().leaf.not_valid_after_utc.timestamp() - 60
    Pair(client, server).complete()
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(120)
    with pytest.raises(CertificateError, match="expired"):
        Pair(client, server).exchange()


def test_a_session_that_rests_on_a_psk_is_not_for_who_has_none() -> None:
    cache, psk = SessionCache(), ExternalPsk(b"an identity", bytes(32))
    client = client_config(session_cache=cache, psks=(psk,))
    server = server_config(psks=(psk,))
    assert Pair(client, server).complete().info.psk == "external"
    assert Pair(client, server).complete().info.psk == "resumption"
    assert Pair(client.replace(psks=()), server).complete().info.psk is None


@pytest.mark.req("9.2-15")
def test_the_name_asked_for_counts_in_a_resumed_session_too() -> None:
    cache = SessionCache()
    client = client_config(session_cache=cache, verify=False)
    server = server_config(strict_server_name=True, require_server_name=True)
    Pair(client, server).complete()
    for name, violation in (
        ("elsewhere.example", V.UNRECOGNIZED_NAME),
        (None, V.MISSING_SERVER_NAME),
    ):
        cache.put(replace(_taken(cache), server_name=name or ""))
        with pytest.raises(PeerViolation) as error:
            Pair(client.replace(server_name=name), server).exchange()
        assert error.value.violation is violation


# -- what an end leaves ----------------------------------------------------------------------------


class _Broken(Signer):
    """A key that its device does not sign with any more."""

    def __init__(self, schemes: Sequence[SignatureScheme]) -> None:
        self.schemes = schemes

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        raise BackendError("the device is gone")


def _broken(working: Credential) -> Credential:
    return Credential(working.chain, _Broken(working.signer.schemes))


@pytest.mark.req("6-4")
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_signer_that_fails_leaves_no_secrets(role: str) -> None:
    backend = WatchedBackend()
    client, server = client_config(), server_config(request_client_certificate=True)
    pair = Pair(client, server)
    if role == "client":
        broken = client.replace(credentials=(_broken(client_credential()),))
        pair.client = ClientConnection(broken, backend)
    else:
        pair.server = ServerConnection(
            server.replace(credentials=(_broken(credential()),)), backend
        )
    with pytest.raises(BackendError) as error:
        pair.exchange()
    failed = pair.client if role == "client" else pair.server
    assert split_records(failed.data_to_send())
    assert_dead(failed, error.value)


class _Sealing(WatchedBackend):
    """Its AEADs fail from a moment on."""

    works = True

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        return _SealingAead(self, super().aead(suite, key, iv))


class _SealingAead(Aead):
    def __init__(self, backend: _Sealing, aead: Aead) -> None:
        self._backend, self._aead = backend, aead

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        if not self._backend.works:
            raise BackendError("the device is gone")
        return self._aead.seal(sequence, additional_data, plaintext)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        return self._aead.open(sequence, additional_data, ciphertext)


@pytest.mark.req("6-4")
def test_an_alert_that_cannot_be_sealed_hides_nothing() -> None:
    """The error is the one that came first, and all secrets go."""
    backend = _Sealing()
    pair = Pair()
    pair.server = ServerConnection(server_config(), backend)
    pair.complete()
    backend.works = False
    with pytest.raises(PeerViolation) as error:
        pair.server.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert error.value.violation is V.BAD_RECORD_MAC
    assert_dead(pair.server, error.value)


def test_a_closed_stream_leaves_no_secrets() -> None:
    """Whether or not the peer said that it has closed too."""
    ours, theirs = socket.socketpair()
    backend = WatchedBackend()

    def serve_one() -> None:
        with wrap_server(theirs, server_config()) as served:
            served.recv()

    peer = threading.Thread(target=serve_one)
    peer.start()
    stream = wrap_client(ours, client_config(), backend=backend)
    assert backend.alive
    stream.close()
    peer.join()
    assert backend.alive == []


async def _deaf(server: TlsServer) -> TlsStream:
    """A client that reads nothing, and whose transport ends without close_notify."""

    def connect() -> TlsStream:
        stream = wrap_client(socket.create_connection(server.address), client_config())
        stream._channel.shut_down(socket.SHUT_WR)
        return stream

    return await asyncio.to_thread(connect)


def test_a_peer_that_ends_without_reading_is_let_go() -> None:
    """What it does not take would hold the connection, and `wait_closed`, for good."""
    errors: list[Exception] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(20_000_000))
        await reader.read()

    async def run() -> None:
        server = await start_server(
            handler, "127.0.0.1", 0, server_config(), failed=lambda error, _: errors.append(error)
        )
        stream = await _deaf(server)
        while not errors:
            await asyncio.sleep(0.05)
        server.close()
        await server.wait_closed()
        stream.close()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert [type(error) for error in errors] == [TruncationError]


def test_a_server_without_threads_left_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused = threading.Thread.start, threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("tpmtls (") and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    with serve(("127.0.0.1", 0), server_config(), lambda s: s.sendall(b"hi")) as server:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with socket.create_connection(server.address, 10) as lost:
            assert lost.recv(1) == b""
        with wrap_client(socket.create_connection(server.address, 10), client_config()) as stream:
            assert stream.recv() == b"hi"
    assert refused.is_set()


@pytest.mark.req("6-5")
@pytest.mark.parametrize("how", ["alert sent", "alert received", "transport ended"])
def test_tickets_of_a_failed_connection_are_discarded(how: str) -> None:
    """But not where the transport just ends: that is no failure of anybody's secrets."""
    cache = SessionCache()
    client = client_config(session_cache=cache)
    Pair(client).complete()
    kept = len(cache)
    pair = Pair(client.replace(server_name="127.0.0.1")).complete()
    assert len(cache) == kept + 2
    if how == "alert received":
        pair.server.abort()
        with pytest.raises(PeerAlert):
            pair.exchange()
    else:
        with pytest.raises(TlsError):
            pair.client.receive_data(b"\xff" * 5 if how == "alert sent" else b"")
    assert len(cache) == (kept + 2 if how == "transport ended" else kept)


# -- what fits into a ClientHello ------------------------------------------------------------------


RETRIES: dict[str, tuple[dict[str, Any], tuple[ExtensionBody, ...]]] = {
    "cookie-alone": ({}, ()),
    "smaller-share": (
        {
            "groups": (NamedGroup.secp521r1, NamedGroup.x25519),
            "key_shares": (NamedGroup.secp521r1,),
        },
        (KeyShareHelloRetryRequest(NamedGroup.x25519),),
    ),
    "larger-share": (
        {
            "groups": (NamedGroup.x25519, NamedGroup.X25519MLKEM768),
            "key_shares": (NamedGroup.x25519,),
        },
        (KeyShareHelloRetryRequest(NamedGroup.X25519MLKEM768),),
    ),
    "psk": ({"psks": (ExternalPsk(b"identity", bytes(32)),)}, ()),
}


def _retried(case: str, cookie: bytes) -> Callable[[], ScriptedServer]:
    settings, bodies = RETRIES[case]
    server = ScriptedServer(ClientConnection(client_config(**settings))).accept()
    return lambda: server.retry(*bodies, Cookie(cookie))


def _room(case: str) -> int:
    return 1 + MAX_EXTENSION_BLOCK - _retried(case, b"c")().offer.extensions.size


@pytest.mark.req("4.3.2-2")
@pytest.mark.parametrize("case", RETRIES)
def test_a_cookie_as_large_as_a_client_hello_has_room_for(case: str) -> None:
    cookie = bytes(_room(case))
    extensions = _retried(case, cookie)().offer.extensions
    assert extensions.size == MAX_EXTENSION_BLOCK
    assert extensions.get(Cookie) == Cookie(cookie)


@pytest.mark.parametrize("case", RETRIES)
def test_a_cookie_that_no_client_hello_can_hold(case: str) -> None:
    retry = _retried(case, bytes(_room(case) + 1))
    with pytest.raises(PeerViolation) as error:
        retry()
    assert error.value.violation is V.MESSAGE_TOO_LONG


@pytest.mark.parametrize("size", [MAX_TICKET, MAX_TICKET + 1, 2**16 - 1])
def test_a_ticket_that_no_client_hello_can_hold_is_not_kept(size: int) -> None:
    """The largest that is kept fits in, with a cookie of 4 KiB, and all names that we send."""
    cache = SessionCache()
    config = client_config(session_cache=cache)
    server = ScriptedServer(ClientConnection(config)).handshake()
    ticket = NewSessionTicket(3600, 0, b"\0", bytes(size), Extensions())
    server.send_record(ContentType.handshake, ticket.to_octets())
    assert len(cache) == (size == MAX_TICKET)
    again = ClientConnection(config.replace(groups=DEFAULT_GROUPS, key_shares=DEFAULT_GROUPS))
    hello = ScriptedServer(again).accept().offer
    assert (hello.extensions.get(OfferedPsks) is not None) == (size == MAX_TICKET)
    room = 2**16 - 1 - sum(4 + len(body.encode()) for body in hello.extensions)
    assert room > MAX_AUTHORITIES + 2**12


# -- shared by threads, and by backends ------------------------------------------------------------


def test_a_cache_can_be_counted_while_it_changes() -> None:
    cache, other = SessionCache(), SessionCache(names=5000)
    Pair(client_config(session_cache=cache)).complete()
    ticket, stop = _taken(cache), threading.Event()

    def change() -> None:
        for number in itertools.count():
            other.put(replace(ticket, server_name=str(number)))
            if stop.is_set():
                return

    writer = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer.start()
    try:
        for _ in range(2000):
            len(other)
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(interval)


@pytest.mark.req("4.3.7-5")
def test_a_server_names_no_group_that_its_backend_lacks() -> None:
    class Fewer(SoftwareBackend):
        groups = (NamedGroup.secp384r1, NamedGroup.secp256r1)

    groups = (NamedGroup.x25519, NamedGroup.secp384r1, NamedGroup.secp256r1)
    server = ServerConnection(server_config(groups=groups), Fewer())
    client = ScriptedClient(server, groups=groups[1:], share_groups=groups[2:]).hello()
    client.read_flight()
    named = client.parameters.extensions.get(SupportedGroups)
    assert named is not None
    assert named.named_group_list == Fewer.groups


# -- between the ServerHello and the end of the handshake ------------------------------------------


@pytest.mark.req("5-5")
def test_a_server_has_no_reason_to_send_an_alert_in_clear_once_there_are_keys() -> None:
    client = ClientConnection(client_config())
    ScriptedServer(client).accept().hello()
    with pytest.raises(PeerViolation) as error:
        client.receive_data(bytes.fromhex("15030300020100"))
    assert error.value.violation is V.UNEXPECTED_RECORD


def test_rejected_early_data_has_no_exporter() -> None:
    cache = SessionCache()
    client, server = client_config(session_cache=cache), server_config(max_early_data=100)
    Pair(client, server).complete()
    pair = Pair(client, server.replace(max_early_data=0), early_data=b"not wanted").complete()
    assert pair.info.early_data_accepted is False
    with pytest.raises(ConnectionStateError):
        pair.client.export_early_keying_material("label", b"", 16)
