"""Whole handshakes between our two ends, one feature at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.misbehaviour import refused
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Clock,
    Pair,
    WatchedBackend,
    client_config,
    credential,
    data_in,
    handshake,
    pki,
    server_config,
    split_records,
)
from tpmtls.algorithms import SUITES
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.codepoints import CipherSuite, ContentType, NamedGroup
from tpmtls.config import DEFAULT_GROUPS, DEFAULT_SUITES, Credential, ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.key_schedule import traffic_aead
from tpmtls.record import CHANGE_CIPHER_SPEC_RECORD
from tpmtls.tickets import SessionCache, TicketKeys
from tpmtls.violations import ConnectionStateError, PeerViolation, Violation
from tpmtls.wire.extensions import KeyShareClientHello, RecordSizeLimit
from tpmtls.wire.messages import ClientHello, decode_message

G = NamedGroup
ALL_SUITES = (*DEFAULT_SUITES, CipherSuite.TLS_AES_128_CCM_8_SHA256)
HANDSHAKE, DATA, CCS = (
    ContentType.handshake,
    ContentType.application_data,
    ContentType.change_cipher_spec,
)


@pytest.mark.req("9.1-1", "9.1-2", "9.1-4", "9.1-5", "7.4.2-1")
@pytest.mark.parametrize("group", DEFAULT_GROUPS, ids=str)
@pytest.mark.parametrize("suite", ALL_SUITES, ids=str)
def test_every_suite_goes_with_every_group(suite: CipherSuite, group: NamedGroup) -> None:
    pair = handshake(suites=(suite,), groups=(group,))
    assert (pair.info.suite, pair.info.group, pair.info.psk) == (suite, group, None)
    pair.client.send_data(bytes(range(256)) * 200)
    pair.exchange()
    assert data_in(pair.server_events) == bytes(range(256)) * 200
    pair.talk()


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda octets: memoryview(octets).cast("H")]
)
@pytest.mark.parametrize("size", [0, 64, 40_000])
def test_data_may_be_anything_that_has_octets(kind: Callable[[bytes], Any], size: int) -> None:
    pair, octets = handshake(), random.Random(size).randbytes(size)
    sent = len(pair.client_wire)
    pair.client.send_data(kind(octets))
    pair.exchange()
    assert data_in(pair.server_events) == octets
    assert len(split_records(pair.client_wire[sent:])) == max(1, -(-size // 2**14))


@pytest.mark.parametrize("data", ["text", 6, None])
def test_what_has_no_octets_is_refused_and_nothing_is_sent(data: Any) -> None:
    pair = handshake()
    with pytest.raises(TypeError):
        pair.client.send_data(data)
    assert pair.client.data_to_send() == b""
    pair.talk()


def test_buffers_are_the_callers_again_once_a_call_returns() -> None:
    pair = handshake()
    data = bytearray(b"octets")
    pair.client.send_data(data)
    data[:] = bytes(len(data))
    record = pair.client.data_to_send()
    arrived: Any = bytearray(record[:-1])
    pair.server.receive_data(arrived)
    arrived[:] = bytes(len(arrived))
    pair.server.receive_data(record[-1:])
    assert data_in(pair.server.events()) == b"octets"


def test_the_short_tag_must_be_asked_for() -> None:
    assert CipherSuite.TLS_AES_128_CCM_8_SHA256 not in DEFAULT_SUITES
    with pytest.raises(PeerViolation):
        Pair(client_config(suites=ALL_SUITES[-1:])).exchange()


# -- HelloRetryRequest -----------------------------------------------------------------------------


@pytest.mark.req("4.2.4-7", "4.3.2-2", "4.3.8-1", "4.3.8-2", "4.3.8-16")
@pytest.mark.parametrize("cookie", [False, True])
@pytest.mark.parametrize("shares", [(), (G.x25519,)], ids=["no-share", "other-share"])
def test_a_retry_settles_the_group(cookie: bool, shares: Any) -> None:
    client = client_config(groups=(G.x25519, G.secp384r1), key_shares=shares)
    pair = Pair(client, server_config(groups=(G.secp384r1,), retry_with_cookie=cookie)).complete()
    assert pair.info.group is G.secp384r1
    pair.talk()


# -- change_cipher_spec (Appendix E.4) -------------------------------------------------------------


def _kinds(wire: bytes) -> list[ContentType]:
    return [kind for kind, _ in split_records(wire)]


@pytest.mark.req("E.4-1", "5-1", "4.2.2-9", "4.2.2-10", "4.2.2-12")
@pytest.mark.parametrize("compatible", [True, False])
def test_where_change_cipher_spec_stands(compatible: bool) -> None:
    client = client_config(middlebox_compatibility=compatible)
    pair = Pair(client, server_config(tickets=0)).complete()
    ccs = [CCS] * compatible
    assert _kinds(pair.client_wire) == [HANDSHAKE, *ccs, DATA]
    assert _kinds(pair.server_wire) == [HANDSHAKE, *ccs, DATA]


@pytest.mark.parametrize("compatible", [True, False])
def test_where_change_cipher_spec_stands_after_a_retry(compatible: bool) -> None:
    client = client_config(groups=(G.x25519, G.secp256r1), middlebox_compatibility=compatible)
    pair = Pair(client, server_config(groups=(G.secp256r1,), tickets=0)).complete()
    ccs = [CCS] * compatible
    assert _kinds(pair.client_wire) == [HANDSHAKE, *ccs, HANDSHAKE, DATA]
    assert _kinds(pair.server_wire) == [HANDSHAKE, *ccs, HANDSHAKE, DATA]


@pytest.mark.parametrize("compatible", [True, False])
def test_where_change_cipher_spec_stands_with_early_data(compatible: bool) -> None:
    psk = ExternalPsk(b"identity", bytes(32), max_early_data=100, suite=DEFAULT_SUITES[0])
    client = client_config(psks=(psk,), middlebox_compatibility=compatible)
    server = server_config(psks=(psk,), max_early_data=1, tickets=0)
    pair = Pair(client, server, early_data=b"early").complete()
    assert _kinds(pair.client_wire) == [HANDSHAKE, *[CCS] * compatible, DATA, DATA, DATA]
    assert _kinds(pair.server_wire) == [HANDSHAKE, *[CCS] * compatible, DATA]


@pytest.mark.req("5-1", "4.3.2-4")
def test_change_cipher_spec_is_dropped_wherever_it_may_stand() -> None:
    pair = Pair()
    ccs = CHANGE_CIPHER_SPEC_RECORD
    pair.server.receive_data(pair.client.data_to_send() + ccs * 3)
    pair.client.receive_data(ccs + pair.server.data_to_send().replace(ccs, ccs * 3))
    pair.server.receive_data(ccs + pair.client.data_to_send())
    pair.complete()


@pytest.mark.req("5.1-15", "5.1-20")
def test_the_version_of_records_is_1_0_for_the_first_client_hello_alone() -> None:
    client = client_config(groups=(G.x25519, G.secp256r1))
    pair = Pair(client, server_config(groups=(G.secp256r1,))).complete()
    for wire, first in ((pair.client_wire, b"\3\1"), (pair.server_wire, b"\3\3")):
        at, versions = 0, []
        while at < len(wire):
            versions.append(wire[at + 1 : at + 3])
            at += 5 + int.from_bytes(wire[at + 3 : at + 5], "big")
        assert versions[0] == first
        assert set(versions[1:]) == {b"\3\3"}


# -- sizes of records ------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 150


def _longest(wire: bytes, suite: CipherSuite) -> int:
    """Octets of the largest TLSInnerPlaintext."""
    tag = SUITES[suite].tag_length
    return max(len(body) - tag for kind, body in split_records(wire) if kind == DATA)


@pytest.mark.parametrize("client_limit", [64, 1000, 2**14 + 1])
@pytest.mark.parametrize("server_limit", [None, 64, 500])
def test_each_end_keeps_to_the_others_record_size_limit(
    client_limit: int, server_limit: int | None
) -> None:
    client = client_config(record_size_limit=client_limit)
    pair = Pair(client, server_config(record_size_limit=server_limit)).complete()
    pair.client.send_data(CONTENT)
    pair.server.send_data(CONTENT)
    pair.exchange()
    assert data_in(pair.client_events) == data_in(pair.server_events) == CONTENT
    assert _longest(pair.server_wire, pair.info.suite) == client_limit
    assert _longest(pair.client_wire, pair.info.suite) == (server_limit or 2**14 + 1)


def test_a_limit_that_the_client_does_not_offer_is_not_negotiated() -> None:
    pair = handshake()
    pair = Pair(server=server_config(record_size_limit=64)).complete()
    pair.client.send_data(CONTENT)
    pair.exchange()
    assert data_in(pair.server_events) == CONTENT
    assert _longest(pair.client_wire, pair.info.suite) == 2**14 + 1


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_record_over_the_negotiated_limit_is_refused(role: str) -> None:
    limits = {"record_size_limit": 100}
    if role == "client":
        target = ClientConnection(client_config(**limits), WatchedBackend())
        peer: Any = ScriptedServer(target, parameters=(RecordSizeLimit(2**14),))
    else:
        server = ServerConnection(server_config(**limits, tickets=0), WatchedBackend())
        peer = ScriptedClient(server, more=(RecordSizeLimit(2**16 - 1),))
    peer.writer.plaintext_limit = 100
    peer.handshake()
    peer.send_record(DATA, bytes(99))
    peer.writer.plaintext_limit = 101
    with refused(peer, Violation.RECORD_OVERFLOW):
        peer.send_record(DATA, bytes(100))


@pytest.mark.req("5.4-1", "5.4-2", "5.4-7")
@pytest.mark.parametrize("padding", [1, 16, 256, 2**14 + 1])
def test_records_are_padded_to_a_multiple(padding: int) -> None:
    pair = handshake(record_padding=padding)
    sent = len(pair.client_wire)
    for size in (0, 1, 15, 16, 255, 2**14):
        pair.client.send_data(bytes(size))
    pair.exchange()
    for _, body in split_records(pair.client_wire[sent:]):
        inner = len(body) - SUITES[pair.info.suite].tag_length
        assert inner % padding == 0 or inner == 2**14 + 1
    pair.talk()


# -- exporters -------------------------------------------------------------------------------------


@pytest.mark.req("7.5-1", "7.5-4")
@pytest.mark.parametrize("suite", DEFAULT_SUITES, ids=str)
def test_both_ends_export_the_same(suite: CipherSuite) -> None:
    pair = handshake(suites=(suite,))
    most = 255 * SUITES[suite].hash.digest_size
    for label, context, length in (
        ("a", b"", 1),
        ("label", b"", 32),
        ("label", b"context", 32),
        ("other", b"context", 32),
        ("x" * 249, bytes(1000), most),
    ):
        value = pair.client.export_keying_material(label, context, length)
        assert value == pair.server.export_keying_material(label, context, length)
        assert len(value) == length
    values = {
        pair.client.export_keying_material(label, context, 32)
        for label in ("label", "other")
        for context in (b"", b"context")
    }
    assert len(values) == 4
    for label, length in (("", 1), ("x" * 250, 1), ("é", 1), ("label", 0), ("label", most + 1)):
        with pytest.raises(ConnectionStateError):
            pair.client.export_keying_material(label, b"", length)
    with pytest.raises(ConnectionStateError):
        pair.client.export_early_keying_material("label", b"", 32)


def test_a_server_exports_nothing_before_the_client_has_proved_itself() -> None:
    pair = Pair()
    pair.to_server()
    with pytest.raises(ConnectionStateError):
        pair.server.export_keying_material("label", b"", 32)
    pair.complete().server.export_keying_material("label", b"", 32)


def test_every_connection_exports_something_else() -> None:
    values = {handshake().client.export_keying_material("label", b"", 32) for _ in range(5)}
    assert len(values) == 5


# -- names and protocols ---------------------------------------------------------------------------


def test_both_ends_know_the_name_and_the_protocol() -> None:
    pair = handshake(alpn=("h2", "http/1.1"))
    assert pair.server.info is not None
    assert (pair.info.server_name, pair.server.info.server_name) == ("localhost", "localhost")
    assert pair.info.alpn == "h2"
    assert handshake().info.alpn is None


@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
def test_an_address_is_verified_but_not_sent(name: str) -> None:
    pair = handshake(server_name=name)
    assert pair.server.info is not None
    assert pair.server.info.server_name is None


# -- randomness and time are injected --------------------------------------------------------------


def _seeded(seed: int) -> Any:
    return random.Random(seed).randbytes


def _replay(group: NamedGroup, kind: str) -> tuple[bytes, bytes]:
    """Everything on the wire, with all randomness from two seeds."""
    clock = Clock()
    signer = SoftwareSigner(pki().server(kind).private_key, deterministic_ecdsa=True)
    ours = Credential(credential(kind).chain, signer)
    common: dict[str, Any] = {"groups": (group,), "clock": clock}
    keys = TicketKeys(entropy=_seeded(3))
    pair = Pair(
        client_config(entropy=_seeded(1), session_cache=SessionCache(), **common),
        server_config(entropy=_seeded(2), credentials=(ours,), ticket_keys=keys, **common),
    ).complete()
    pair.talk()
    pair.client.update_keys(request_peer=True)
    pair.exchange()
    pair.talk()
    pair.client.close()
    pair.server.close()
    pair.exchange()
    return pair.client_wire, pair.server_wire


@pytest.mark.parametrize("kind", ["p256", "ed25519", "p521"])
@pytest.mark.parametrize("group", [G.x25519, G.secp256r1, G.secp521r1, G.x448], ids=str)
def test_with_randomness_and_time_fixed_a_connection_repeats_octet_for_octet(
    group: NamedGroup, kind: str
) -> None:
    assert _replay(group, kind) == _replay(group, kind)


@pytest.mark.req("4.3.8-8", "4.3.8-12", "4.2.2-11")
def test_no_two_handshakes_share_a_key_share_a_random_or_a_session_id() -> None:
    hellos = []
    for _ in range(5):
        client = ClientConnection(client_config(groups=DEFAULT_GROUPS, key_shares=DEFAULT_GROUPS))
        message = decode_message(client.data_to_send()[5:])
        assert isinstance(message, ClientHello)
        hellos.append(message)
    shares = [m.extensions.get(KeyShareClientHello) for m in hellos]
    octets = [e.key_exchange for s in shares if s is not None for e in s.client_shares]
    assert len(set(octets)) == len(octets) == 5 * len(DEFAULT_GROUPS)
    assert len({m.random for m in hellos}) == len({m.legacy_session_id for m in hellos}) == 5


# -- the key log -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["certificate", "resumption", "early-data"])
def test_the_key_log_opens_what_was_recorded(how: str) -> None:
    client_log: list[str] = []
    server_log: list[str] = []
    client = client_config(key_log=client_log.append, session_cache=SessionCache())
    server = server_config(key_log=server_log.append, max_early_data=100)
    if how != "certificate":
        Pair(client, server).complete()
        client_log.clear()
        server_log.clear()
    pair = Pair(client, server, early_data=b"early" if how == "early-data" else None).complete()
    pair.talk()
    assert sorted(client_log) == sorted(server_log)
    labels = {line.split()[0]: line.split()[2] for line in client_log}
    early = {"CLIENT_EARLY_TRAFFIC_SECRET", "EARLY_EXPORTER_SECRET"}
    assert labels.keys() == {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "CLIENT_TRAFFIC_SECRET_0",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    } | (early if how == "early-data" else set())
    hello = decode_message(split_records(pair.client_wire)[0][1])
    assert isinstance(hello, ClientHello)
    assert {line.split()[1] for line in client_log} == {hello.random.hex()}
    assert _opened(pair.server_wire, labels, "SERVER") == b"to the client"
    assert _opened(pair.client_wire, labels, "CLIENT") == b"to the server"


def _opened(wire: bytes, log: dict[str, str], who: str) -> bytes:
    """The application data, read with nothing but the key log."""
    backend, suite = SoftwareBackend(), SUITES[DEFAULT_SUITES[0]]
    names = [f"{who}_HANDSHAKE_TRAFFIC_SECRET", f"{who}_TRAFFIC_SECRET_0"]
    if f"{who}_EARLY_TRAFFIC_SECRET" in log:
        names.insert(0, f"{who}_EARLY_TRAFFIC_SECRET")
    keys = [
        traffic_aead(backend, suite, backend.import_psk(bytes.fromhex(log[name]), suite.hash))
        for name in names
    ]
    number, data = 0, b""
    for kind, body in split_records(wire):
        if kind != DATA:
            continue
        header = b"\x17\3\3" + len(body).to_bytes(2, "big")
        inner = keys[0].open(number, header, body)
        if inner is None:
            del keys[0]
            number, inner = 0, keys[0].open(0, header, body)
        assert inner is not None
        number += 1
        content = inner.rstrip(b"\0")
        if content[-1] == DATA and len(keys) == 1:
            data += content[:-1]
    return data


def test_without_a_key_log_no_secret_is_revealed() -> None:
    pair = handshake(session_cache=None)
    for connection in (pair.client, pair.server):
        revealed = [c for c, _ in connection.backend.ledger if c.via.startswith("reveal")]
        assert revealed == []
