"""The state machine: its tables against Appendix A, and every message that no row is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import tpmtls.connection.base
from tests.unit.misbehaviour import refused
from tests.unit.scripted import SUITE, ScriptedPeer
from tests.unit.scripted_client import OfferedKey, ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Pair,
    WatchedBackend,
    client_config,
    client_credential,
    server_config,
    trust,
)
from tpmtls.codepoints import (
    HandshakeType,
    KeyUpdateRequest,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.handshake.client import CLIENT
from tpmtls.handshake.machine import State, Step, Table, Transition, advance
from tpmtls.handshake.server import SERVER
from tpmtls.violations import Violation
from tpmtls.wire import messages as wire_messages
from tpmtls.wire.extensions import Cookie, EarlyDataIndication, Extensions, PostHandshakeAuth
from tpmtls.wire.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HandshakeMessage,
    HelloRetryRequest,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
    frame,
)

T, G = HandshakeType, NamedGroup
Edge = tuple[str, str, str]

CLIENT_EDGES = {
    # Appendix A.1
    ("WAIT_SH", "hello_retry_request", "WAIT_SH"),
    ("WAIT_SH", "server_hello", "WAIT_EE"),
    ("WAIT_EE", "encrypted_extensions", "WAIT_CERT_CR"),
    ("WAIT_EE", "encrypted_extensions", "WAIT_FINISHED"),
    ("WAIT_CERT_CR", "certificate", "WAIT_CV"),
    ("WAIT_CERT_CR", "certificate_request", "WAIT_CERT"),
    ("WAIT_CERT", "certificate", "WAIT_CV"),
    ("WAIT_CV", "certificate_verify", "WAIT_FINISHED"),
    ("WAIT_FINISHED", "finished", "CONNECTED"),
    # §4.7
    ("CONNECTED", "new_session_ticket", "CONNECTED"),
    ("CONNECTED", "key_update", "CONNECTED"),
    ("CONNECTED", "certificate_request", "CONNECTED"),
}
SERVER_EDGES = {
    # Appendix A.2; RECVD_CH, NEGOTIATED and WAIT_FLIGHT2 are passed through without a message
    ("START", "client_hello", "START_RETRIED"),
    ("START", "client_hello", "WAIT_EOED"),
    ("START", "client_hello", "WAIT_CERT"),
    ("START", "client_hello", "WAIT_FINISHED"),
    ("START_RETRIED", "client_hello", "WAIT_CERT"),
    ("START_RETRIED", "client_hello", "WAIT_FINISHED"),
    ("WAIT_EOED", "end_of_early_data", "WAIT_FINISHED"),
    ("WAIT_CERT", "certificate", "WAIT_FINISHED"),
    ("WAIT_CERT", "certificate", "WAIT_CV"),
    ("WAIT_CV", "certificate_verify", "WAIT_FINISHED"),
    ("WAIT_FINISHED", "finished", "CONNECTED"),
    # §4.7
    ("CONNECTED", "key_update", "CONNECTED"),
    ("CONNECTED", "certificate", "POST_HANDSHAKE_WAIT_CV"),
    ("CONNECTED", "certificate", "POST_HANDSHAKE_WAIT_FINISHED"),
    ("POST_HANDSHAKE_WAIT_CV", "certificate_verify", "POST_HANDSHAKE_WAIT_FINISHED"),
    ("POST_HANDSHAKE_WAIT_FINISHED", "finished", "CONNECTED"),
}


def _edges(table: Table) -> set[Edge]:
    return {
        (state.name, message.name, after.name)
        for (state, message), row in table.items()
        for after in row.to
    }


@pytest.mark.req("4-1", "4.6-3", "4.5.2-3")
@pytest.mark.parametrize(
    ("table", "edges"), [(CLIENT, CLIENT_EDGES), (SERVER, SERVER_EDGES)], ids=["client", "server"]
)
def test_the_tables_are_the_diagrams(table: Table, edges: set[Edge]) -> None:
    assert _edges(table) == edges


def test_every_edge_is_taken_by_some_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, set[Edge]] = {id(CLIENT): set(), id(SERVER): set()}

    def watch(table: Table, state: State, message: HandshakeMessage, octets: bytes) -> Step:
        step = advance(table, state, message, octets)
        taken[id(table)].add((state.name, message.msg_type.name, step.state.name))
        return step

    monkeypatch.setattr(tpmtls.connection.base, "advance", watch)
    clients: list[dict[str, Any]] = [{}, {"credentials": (client_credential(),)}]
    asks = {"client_trust": trust(), "request_client_certificate": True}
    for client in clients:
        for server in ({}, {"groups": (G.secp256r1,)}, asks, asks | {"groups": (G.secp256r1,)}):
            pair = Pair(
                client_config(groups=(G.x25519, G.secp256r1), post_handshake_auth=True, **client),
                server_config(**server),
            ).complete()
            pair.server.request_client_certificate()
            pair.exchange()
            pair.client.update_keys(request_peer=True)
            pair.exchange()
            pair.talk()
    psk = ExternalPsk(b"identity", bytes(32), max_early_data=100, suite=SUITE)
    Pair(
        client_config(psks=(psk,)), server_config(psks=(psk,), max_early_data=1), early_data=b"x"
    ).complete()
    assert taken == {id(CLIENT): CLIENT_EDGES, id(SERVER): SERVER_EDGES}


# -- every message in every state ------------------------------------------------------------------

MESSAGES: dict[str, HandshakeMessage | bytes] = {
    "client_hello": ClientHello(
        ProtocolVersion.TLS_1_2, bytes(32), b"", (SUITE,), b"\0", Extensions()
    ),
    "server_hello": ServerHello(ProtocolVersion.TLS_1_2, bytes(32), b"", SUITE, 0, Extensions()),
    "hello_retry_request": HelloRetryRequest(
        ProtocolVersion.TLS_1_2, HELLO_RETRY_REQUEST_RANDOM, b"", SUITE, 0, Extensions()
    ),
    "encrypted_extensions": EncryptedExtensions(Extensions()),
    "certificate_request": CertificateRequest(b"", Extensions()),
    "certificate": Certificate(b"", ()),
    "certificate_verify": CertificateVerify(SignatureScheme.ed25519, b""),
    "finished": Finished(bytes(32)),
    "end_of_early_data": EndOfEarlyData(),
    "new_session_ticket": NewSessionTicket(1, 2, b"", b"ticket", Extensions()),
    "key_update": KeyUpdate(KeyUpdateRequest.update_not_requested),
    # types of other versions, and such as nobody has defined
    **{f"type-{n}": frame(T(n), b"") for n in (0, 3, 6, 12, 14, 16, 21, 22, 23, 25, 67, 254, 255)},
}


def _client(**config: Any) -> ScriptedServer:
    return ScriptedServer(ClientConnection(client_config(**config), WatchedBackend()))


def _server(config: dict[str, Any] | None = None, **peer: Any) -> ScriptedClient:
    target = ServerConnection(server_config(tickets=0, **(config or {})), WatchedBackend())
    return ScriptedClient(target, **peer)


P = TypeVar("P", bound=ScriptedPeer)


def _until_certificate(peer: P) -> P:
    """Certificate, but not what follows it."""
    peer.edits[CertificateVerify] = lambda message: None
    return peer


def _wait_cv() -> ScriptedServer:
    return _until_certificate(_client().accept().hello().encrypted_extensions()).authenticate()


def _wait_finished() -> ScriptedServer:
    return _client().accept().hello().encrypted_extensions().authenticate()


CLIENT_STATES: dict[str, Callable[[], ScriptedPeer]] = {
    "WAIT_SH": lambda: _client().accept(),
    "WAIT_SH, retried": lambda: _client().accept().retry(Cookie(b"cookie")),
    "WAIT_EE": lambda: _client().accept().hello(),
    "WAIT_CERT_CR": lambda: _client().accept().hello().encrypted_extensions(),
    "WAIT_CERT": lambda: _client().accept().hello().encrypted_extensions().request(),
    "WAIT_CV": _wait_cv,
    "WAIT_FINISHED": _wait_finished,
    "CONNECTED": lambda: _client().handshake(),
}

ASKS = {"client_trust": trust(), "request_client_certificate": True}
EARLY = ExternalPsk(b"identity", bytes(32), max_early_data=100, suite=SUITE)


def _answering(credential: Any) -> ScriptedClient:
    peer = _server({"client_trust": trust()}, more=(PostHandshakeAuth(),)).handshake()
    peer.target.request_client_certificate()
    context = peer.read_request().certificate_request_context
    peer.credential = credential
    _until_certificate(peer).say_certificate("client", context)
    return peer


def _with_certificate() -> ScriptedClient:
    peer = _until_certificate(_server(ASKS).hello().read_flight())
    peer.credential = client_credential()
    return peer.authenticate()


SERVER_STATES: dict[str, Callable[[], ScriptedPeer]] = {
    "START": _server,
    "START_RETRIED": lambda: _after_retry(
        _server({"groups": (G.x448,)}, groups=(G.x25519, G.x448), share_groups=()).hello()
    ),
    "WAIT_EOED": lambda: (
        _server(
            {"psks": (EARLY,), "max_early_data": 1},
            psks=(OfferedKey(EARLY.identity, EARLY.key),),
            more=(EarlyDataIndication(),),
        )
        .hello()
        .read_flight()
    ),
    "WAIT_CERT": lambda: _server(ASKS).hello().read_flight(),
    "WAIT_CV": _with_certificate,
    "WAIT_FINISHED": lambda: _server().hello().read_flight(),
    "CONNECTED": lambda: _server().handshake(),
    "POST_HANDSHAKE_WAIT_CV": lambda: _answering(client_credential()),
    "POST_HANDSHAKE_WAIT_FINISHED": lambda: _answering(None),
}


def _after_retry(peer: ScriptedClient) -> ScriptedClient:
    peer.next_message()
    return peer


def _expected(table: Table, state: str) -> set[str]:
    return {message.name for (kind, message) in table if kind.name == state}


UNEXPECTED = [
    (role, state, message)
    for role, table, states in (
        ("client", CLIENT, CLIENT_STATES),
        ("server", SERVER, SERVER_STATES),
    )
    for state in states
    for message in MESSAGES
    if message not in _expected(table, state.partition(",")[0])
]


@pytest.mark.req("4-2", "4.2.2-3", "4.6-4", "4.7.3-1", "4.2.4-6")
@pytest.mark.parametrize(("role", "state", "message"), UNEXPECTED)
def test_a_message_that_no_row_is_for_is_unexpected(role: str, state: str, message: str) -> None:
    peer = (CLIENT_STATES if role == "client" else SERVER_STATES)[state]()
    assert peer.target._state.name == state.partition(",")[0]
    with refused(peer, Violation.UNEXPECTED_MESSAGE):
        peer.send(MESSAGES[message])


def test_all_states_are_among_those_tested() -> None:
    for table, states in ((CLIENT, CLIENT_STATES), (SERVER, SERVER_STATES)):
        assert {state.name for state, _ in table} == {name.partition(",")[0] for name in states}


def test_all_messages_are_among_those_tested() -> None:
    kinds = {type(message) for message in MESSAGES.values() if not isinstance(message, bytes)}
    assert kinds == {*wire_messages.MESSAGES.values(), HelloRetryRequest}


# -- the frame -------------------------------------------------------------------------------------


class _Here(State):
    name = "HERE"


class _There(State):
    name = "THERE"


def test_a_handler_that_leads_where_its_row_does_not_is_a_bug() -> None:
    message = KeyUpdate(KeyUpdateRequest.update_requested)
    row = Transition(lambda state, message, octets: Step(_There()), (_Here,))
    with pytest.raises(RuntimeError):
        advance({(_Here, T.key_update): row}, _Here(), message, b"")


def test_only_application_data_states_take_application_data() -> None:
    kinds = {state for state, _ in CLIENT} | {state for state, _ in SERVER}
    assert {kind.name: kind.reads for kind in kinds if kind.reads != "nothing"} == {
        "CONNECTED": "application data",
        "WAIT_EOED": "early data",
    }
