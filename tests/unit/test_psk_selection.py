"""Pre-shared keys: external ones, tickets, which one is taken, and what a wrong answer gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import SUITE, adding, dropping
from tests.unit.scripted_client import OfferedKey, ScriptedClient
from tests.unit.support import (
    Clock,
    Pair,
    client_config,
    client_credential,
    count,
    credential,
    server_config,
    split_records,
    trust,
)
from tpmtls.algorithms import SHA384
from tpmtls.backends.base import Secret
from tpmtls.backends.software import SoftwareBackend
from tpmtls.certificates import Acceptance, TrustStore, verify_server_chain
from tpmtls.codepoints import CipherSuite, ExtensionType, NamedGroup, NameType
from tpmtls.codepoints import PskKeyExchangeMode as Mode
from tpmtls.config import DEFAULT_SUITES, ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import TicketReceived
from tpmtls.handshake import client_hello
from tpmtls.tickets import MAX_LIFETIME, SessionCache, TicketKeys
from tpmtls.violations import CertificateError, StoredSecretError
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import OfferedPsks, SelectedPsk, ServerName, ServerNameList
from tpmtls.wire.messages import ClientHello, EncryptedExtensions, ServerHello, decode_message

G, TYPE = NamedGroup, ExtensionType
AES_256 = CipherSuite.TLS_AES_256_GCM_SHA384
KEY = OfferedKey(b"the identity", bytes(range(32)))
PSK = ExternalPsk(KEY.identity, KEY.key)
PSK_384 = ExternalPsk(b"with SHA-384", bytes(48), SHA384)
STRANGER = OfferedKey(b"nobody knows me", bytes(32))

# -- a server's wrong answer -----------------------------------------------------------------------


def _answer(violation: V, edits: Any = None, *, peer: Any = None, **config: Any) -> Case:
    return Case(
        violation,
        edits or {},
        config={"psks": (PSK, PSK_384)} | config,
        peer={"psk": KEY.key} | (peer or {}),
    )


ANSWERS = {
    "identity-out-of-range": _answer(V.SELECTED_IDENTITY, peer={"index": 2}),
    "hash-of-another": _answer(V.PSK_HASH, peer={"index": 1}),
    "suite-with-another-hash": _answer(V.PSK_HASH, peer={"suite": AES_256}),
    "psk_ke-not-offered": _answer(V.PSK_MODE, {ServerHello: dropping(TYPE.key_share)}),
    "psk_dhe_ke-not-offered": _answer(V.PSK_MODE, psk_modes=(Mode.psk_ke,)),
    "certificate-besides": _answer(
        V.UNEXPECTED_MESSAGE, {EncryptedExtensions: lambda m: m.to_octets() + _certificate()}
    ),
}


def _certificate() -> bytes:
    return bytes.fromhex("0b000004 00 000000")


@pytest.mark.req("4.3.11-13", "4.3.11-14", "4.3.9-4", "4.3.9-7", "4.3.9-8")
@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_choice_of_psk_is_refused(name: str) -> None:
    ANSWERS[name].against_client()


# -- a client's wrong offer ------------------------------------------------------------------------


def _zeros(body: Any) -> Any:
    return replace(body, binders=tuple(bytes(len(binder)) for binder in body.binders))


ONLY_PSK = {"credentials": (), "psks": (PSK,)}
OFFERS = {
    "binder": Case(
        V.BINDER_INVALID, {OfferedPsks: _zeros}, config={"psks": (PSK,)}, peer={"psks": (KEY,)}
    ),
    "binder-of-another-kind": Case(
        V.BINDER_INVALID,
        config={"psks": (PSK,)},
        peer={"psks": (replace(KEY, resumption=True),)},
    ),
    "key": Case(
        V.BINDER_INVALID,
        config={"psks": (PSK,)},
        peer={"psks": (replace(KEY, key=bytes(32)),)},
    ),
    "nobody-known": Case(V.NO_PSK_NOR_CERTIFICATE, config=ONLY_PSK, peer={"psks": (STRANGER,)}),
    "no-psk": Case(V.NO_PSK_NOR_CERTIFICATE, config=ONLY_PSK),
    "nobody-known-nor-group": Case(
        V.NO_PSK_NOR_CERTIFICATE,
        config=ONLY_PSK | {"groups": (G.secp256r1,)},
        peer={"psks": (STRANGER,)},
    ),
    "only-psk_ke": Case(
        V.NO_PSK_NOR_CERTIFICATE,
        config=ONLY_PSK,
        peer={"psks": (KEY,), "modes": (Mode.psk_ke,)},
    ),
}


@pytest.mark.req("4.3.11-9", "4.3.11-10", "6.2-7")
@pytest.mark.parametrize("name", OFFERS)
def test_a_wrong_offer_of_psks_is_refused(name: str) -> None:
    OFFERS[name].against_server()


# -- which one is taken ----------------------------------------------------------------------------


def _selected(*keys: OfferedKey, edits: Any = None, **config: Any) -> tuple[int | None, Any]:
    """The index that a server selects, and what it then says of the handshake."""
    target = ServerConnection(server_config(**config))
    peer = ScriptedClient(target, edits, psks=keys).handshake()
    selected = peer.answer.extensions.get(SelectedPsk)
    return None if selected is None else selected.selected_identity, target.info


@pytest.mark.req("4.3.11-6", "4.3.11-7", "4.3.11-11", "4.3.11-12", "4.3.11-4")
def test_unknown_and_unfit_psks_are_passed_over_and_their_binders_not_judged() -> None:
    unfit = OfferedKey(PSK_384.identity, PSK_384.key, SHA384)
    assert _selected(STRANGER, unfit, psks=(PSK, PSK_384), suites=(SUITE,))[0] is None
    index, info = _selected(
        STRANGER, unfit, KEY, edits={OfferedPsks: _first_binders_bad}, psks=(PSK,), suites=(SUITE,)
    )
    assert (index, info.psk) == (2, "external")


def _first_binders_bad(body: Any) -> Any:
    *others, last = body.binders
    return replace(body, binders=(*(bytes(len(b)) for b in others), last))


def test_only_so_many_identities_are_looked_at() -> None:
    strangers = [replace(STRANGER, identity=b"%d" % n) for n in range(16)]
    assert _selected(*strangers[1:], KEY, psks=(PSK,))[0] == 15
    assert _selected(*strangers, KEY, psks=(PSK,))[0] is None


@pytest.mark.req("4.3.11-1", "4.3.11-2")
def test_the_age_of_an_external_psk_does_not_matter() -> None:
    assert _selected(replace(KEY, age=12345), psks=(PSK,))[1].psk == "external"


@pytest.mark.req("4.2.1-2", "4.3.9-4")
@pytest.mark.parametrize(
    ("ours", "theirs", "mode"),
    [
        ((Mode.psk_ke, Mode.psk_dhe_ke), (Mode.psk_dhe_ke, Mode.psk_ke), Mode.psk_ke),
        ((Mode.psk_dhe_ke, Mode.psk_ke), (Mode.psk_ke, Mode.psk_dhe_ke), Mode.psk_dhe_ke),
        ((Mode.psk_dhe_ke, Mode.psk_ke), (Mode(7), Mode.psk_ke), Mode.psk_ke),
    ],
    ids=["psk_ke", "psk_dhe_ke", "only-psk_ke"],
)
def test_the_servers_own_order_of_modes_decides(ours: Any, theirs: Any, mode: Mode) -> None:
    target = ServerConnection(server_config(psks=(PSK,), psk_modes=ours))
    peer = ScriptedClient(target, psks=(KEY,), modes=theirs).handshake()
    assert (TYPE.key_share in peer.answer.extensions.types) == (mode is Mode.psk_dhe_ke)


def test_psk_ke_needs_no_common_group() -> None:
    config = server_config(psks=(PSK,), psk_modes=(Mode.psk_dhe_ke, Mode.psk_ke), groups=(G.x448,))
    modes = (Mode.psk_dhe_ke, Mode.psk_ke)
    peer = ScriptedClient(ServerConnection(config), psks=(KEY,), modes=modes).handshake()
    assert peer.target.info is not None
    assert peer.target.info.group is None


def test_psk_ke_needs_no_groups_at_all() -> None:
    target = ServerConnection(server_config(psks=(PSK,), psk_modes=(Mode.psk_ke,)))
    edit = dropping(TYPE.supported_groups, TYPE.key_share)
    peer = ScriptedClient(target, {ClientHello: edit}, psks=(KEY,), modes=(Mode.psk_ke,))
    peer.handshake()
    assert target.info is not None
    assert target.info.psk == "external"


# -- both ends -------------------------------------------------------------------------------------


@pytest.mark.req("2.2-2", "4.3.11-3", "4.2.2-14", "2.2-1")
@pytest.mark.parametrize("psk", [PSK, PSK_384], ids=["sha256", "sha384"])
@pytest.mark.parametrize("mode", [Mode.psk_ke, Mode.psk_dhe_ke], ids=["psk_ke", "psk_dhe_ke"])
@pytest.mark.parametrize("credentials", [(), (credential(),)], ids=["alone", "or-certificate"])
def test_an_external_psk_authenticates_both(psk: ExternalPsk, mode: Mode, credentials: Any) -> None:
    pair = Pair(
        client_config(psks=(psk,), psk_modes=(mode,)),
        server_config(psks=(psk,), psk_modes=(mode,), credentials=credentials),
    ).complete()
    assert pair.info.psk == "external"
    assert (pair.info.group is None) == (mode is Mode.psk_ke)
    assert pair.info.peer_chain == ()
    pair.talk()


@pytest.mark.req("4.2.2-14")
def test_a_psk_is_not_offered_without_a_suite_of_its_hash() -> None:
    suites = (CipherSuite.TLS_AES_128_GCM_SHA256,)
    for psks in ((PSK_384, PSK), (PSK_384,)):
        pair = Pair(
            client_config(psks=psks, suites=suites), server_config(psks=(PSK, PSK_384))
        ).complete()
        assert pair.info.psk == ("external" if PSK in psks else None)


def _with_tickets(**changes: Any) -> tuple[Any, Any]:
    """Configurations of a client that has had a ticket, and of the server that gave it."""
    client = client_config(session_cache=SessionCache(), **changes.pop("client", {}))
    server = server_config(**changes)
    pair = Pair(client, server).complete()
    assert count(pair.client_events, TicketReceived) == server.tickets
    return client, server


@pytest.mark.req("4.7.1-1", "4.7.1-2", "2.2-1")
@pytest.mark.parametrize("mode", [Mode.psk_ke, Mode.psk_dhe_ke], ids=["psk_ke", "psk_dhe_ke"])
@pytest.mark.parametrize("suite", DEFAULT_SUITES, ids=str)
def test_a_session_is_resumed(mode: Mode, suite: CipherSuite) -> None:
    client, server = _with_tickets(
        client={"psk_modes": (mode,), "suites": (suite,)}, psk_modes=(mode,)
    )
    pair = Pair(client, server).complete()
    assert pair.info.psk == "resumption"
    assert pair.info.suite is suite
    assert (pair.info.group is None) == (mode is Mode.psk_ke)
    assert pair.info.peer_chain == credential().chain
    pair.talk()
    again = Pair(client, server).complete()
    assert again.info.psk == "resumption", "the resumed session gave tickets of its own"


@pytest.mark.req("4.7.1-4")
def test_a_session_is_resumed_while_it_is_open() -> None:
    client, server = _with_tickets()
    first = Pair(client, server).complete()
    Pair(client, server).complete().talk()
    first.talk()


def test_a_resumed_session_knows_who_authenticated() -> None:
    asks = {"client_trust": trust(), "require_client_certificate": True}
    client, server = _with_tickets(client={"credentials": (client_credential(),)}, **asks)
    pair = Pair(client, server).complete()
    assert pair.info.psk == "resumption"
    assert pair.server.info is not None
    assert pair.server.info.peer_chain == client_credential().chain


def test_a_session_in_which_the_client_declined_is_resumed() -> None:
    client, server = _with_tickets(client_trust=trust(), request_client_certificate=True)
    assert Pair(client, server).complete().info.psk == "resumption"


@pytest.mark.req("4.7.1-6")
def test_a_session_without_the_certificate_that_is_required_now_is_not_resumed() -> None:
    client, server = _with_tickets()
    demands = server.replace(client_trust=trust(), require_client_certificate=True)
    client = client.replace(credentials=(client_credential(),))
    assert Pair(client, demands).complete().info.psk is None


def test_a_session_that_was_not_verified_is_not_resumed_by_a_client_that_verifies() -> None:
    client, server = _with_tickets(client={"verify": False})
    assert Pair(client.replace(verify=True), server).complete().info.psk is None
    client, server = _with_tickets(client={"verify": False})
    assert Pair(client, server).complete().info.psk == "resumption"


def _verifications(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Filled with the stores that chains brought back by tickets are verified against."""
    seen: list[object] = []

    def verify(chain: Any, store: Any, *others: Any) -> Acceptance:
        seen.append(store)
        return verify_server_chain(chain, store, *others)

    monkeypatch.setattr(client_hello, "verify_server_chain", verify)
    return seen


@pytest.mark.req("4.7.1-6")
def test_what_was_accepted_in_this_process_is_not_verified_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, server = _with_tickets()
    seen = _verifications(monkeypatch)
    for _ in range(3):
        assert Pair(client, server).complete().info.psk == "resumption"
    assert seen == []


@pytest.mark.req("4.7.1-6")
def test_a_ticket_from_elsewhere_is_verified(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    client, server = _with_tickets()
    client.session_cache.save(tmp_path / "sessions")
    cache = SessionCache.load(tmp_path / "sessions")
    seen = _verifications(monkeypatch)
    pair = Pair(client.replace(session_cache=cache), server).complete()
    assert pair.info.psk == "resumption"
    assert len(seen) == 1


@pytest.mark.req("4.7.1-6")
def test_other_anchors_verify_again(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = _with_tickets()
    seen = _verifications(monkeypatch)
    same = client.replace(trust=TrustStore(client.trust_store.certificates))
    assert Pair(same, server).complete().info.psk == "resumption"
    assert len(seen) == 1
    assert seen.pop() is same.trust_store
    strange = client.replace(trust=TrustStore(client_credential().certificates))
    with pytest.raises(CertificateError, match="neither trusted"):
        Pair(strange, server).complete()
    assert seen
    assert all(store is strange.trust_store for store in seen)


@pytest.mark.req("4.7.1-6")
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_ticket_does_not_outlive_the_certificates(side: str) -> None:
    clock = Clock()
    client, server = _with_tickets(client={"clock": clock})
    (ticket, *_) = client.session_cache._tickets["localhost"]
    assert ticket.acceptance is not None
    moment = ticket.acceptance.since if side == "before" else ticket.acceptance.until
    clock.now = moment.timestamp() + (-1 if side == "before" else 1)
    client.session_cache.put(replace(ticket, received_at=clock.now))
    with pytest.raises(CertificateError, match=r"not valid before|expired"):
        Pair(client, server).complete()


@pytest.mark.req("4.7.1-10")
def test_a_server_reports_the_name_of_the_client_hello_that_resumes() -> None:
    cache = SessionCache()
    config = server_config()
    pair = Pair(client_config(session_cache=cache), config).complete()
    ticket = cache.take("localhost", pair.client.config.clock())
    assert ticket is not None
    age = ticket.obfuscated_age(pair.client.config.clock())
    key = OfferedKey(ticket.ticket, ticket.psk, resumption=True, age=age)
    target = ServerConnection(config)
    name = ServerNameList((ServerName(NameType.host_name, b"another.example"),))
    ScriptedClient(target, {ClientHello: adding(name)}, psks=(key,)).handshake()
    assert target.info is not None
    assert (target.info.psk, target.info.server_name) == ("resumption", "another.example")


@pytest.mark.req("4.7.1-7", "4.7.1-8")
def test_a_ticket_is_for_its_own_name_only() -> None:
    client, server = _with_tickets()
    assert Pair(client.replace(server_name="127.0.0.1"), server).complete().info.psk is None


@pytest.mark.req("4.7.1-6", "4.3.11-4")
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_session_is_not_resumed_with_another_hash(side: str) -> None:
    client, server = _with_tickets()
    if side == "client":
        client = client.replace(suites=(AES_256,))
    else:
        server = server.replace(suites=(AES_256,))
    pair = Pair(client, server)
    hello = pair.client.data_to_send()
    offered = decode_message(split_records(hello)[0][1])
    assert isinstance(offered, ClientHello)
    assert (TYPE.pre_shared_key in offered.extensions.types) == (side == "server")
    pair.server.receive_data(hello)
    assert pair.complete().info.psk is None


def test_a_session_is_resumed_with_another_suite_of_the_same_hash() -> None:
    client, server = _with_tickets()
    other = CipherSuite.TLS_CHACHA20_POLY1305_SHA256
    pair = Pair(client, server.replace(suites=(other,))).complete()
    assert (pair.info.psk, pair.info.suite) == ("resumption", other)


@pytest.mark.req("4.3.11-6")
def test_a_ticket_that_another_server_made_or_that_was_bent_is_ignored() -> None:
    client, server = _with_tickets()
    assert Pair(client, server.replace(ticket_keys=TicketKeys())).complete().info.psk is None
    peer = ScriptedClient(ServerConnection(server)).handshake()
    ticket = peer.read_ticket()
    bent = ticket.identity[:-1] + bytes((ticket.identity[-1] ^ 1,))
    for identity in (bent, ticket.identity[:20], b"x"):
        again = ScriptedClient(ServerConnection(server), psks=(replace(ticket, identity=identity),))
        again.handshake()
        assert again.answer.extensions.get(SelectedPsk) is None


@pytest.mark.req("4.7.1-13", "4.7.1-15")
def test_a_ticket_ends_with_its_lifetime_on_both_sides() -> None:
    clock = Clock()
    client, server = _with_tickets(client={"clock": clock}, clock=clock, ticket_lifetime=100)
    clock.advance(99)
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(100)
    assert Pair(client, server).complete().info.psk is None
    peer = ScriptedClient(ServerConnection(server)).handshake()
    ticket = peer.read_ticket()
    clock.advance(100)
    late = ScriptedClient(ServerConnection(server), psks=(ticket,)).handshake()
    assert late.answer.extensions.get(SelectedPsk) is None


@pytest.mark.req("4.7.1-21")
def test_a_session_ends_a_week_after_its_authentication_however_often_it_is_resumed() -> None:
    clock = Clock()
    client, server = _with_tickets(
        client={"clock": clock}, clock=clock, ticket_lifetime=MAX_LIFETIME
    )
    clock.advance(3 * 86_400)
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(3 * 86_400)
    pair = Pair(client, server).complete()
    assert pair.info.psk == "resumption"
    lifetimes = {e.ticket.lifetime for e in pair.client_events if isinstance(e, TicketReceived)}
    assert lifetimes == {86_400}
    clock.advance(86_400)
    assert Pair(client, server).complete().info.psk is None


@pytest.mark.req("4.2.4-11")
@pytest.mark.parametrize("cookie", [False, True])
def test_psks_and_a_retry_go_together(cookie: bool) -> None:
    client, server = _with_tickets()
    client = client.replace(groups=(G.x25519, G.secp384r1), psks=(PSK, PSK_384))
    server = server.replace(groups=(G.secp384r1,), retry_with_cookie=cookie)
    pair = Pair(client, server).complete()
    assert (pair.info.psk, pair.info.group) == ("resumption", G.secp384r1)
    pair = Pair(client.replace(session_cache=None), server.replace(psks=(PSK_384,))).complete()
    assert (pair.info.psk, pair.info.suite) == ("external", AES_256)


def test_the_newest_ticket_goes_before_external_psks() -> None:
    client, server = _with_tickets(psks=(PSK,))
    assert Pair(client.replace(psks=(PSK,)), server).complete().info.psk == "resumption"


class Forgetful(SoftwareBackend):
    """Can do nothing with what another of its kind has stored."""

    def unwrap(self, *arguments: Any) -> Secret:
        raise StoredSecretError("stored elsewhere")


@pytest.mark.req("4.3.11-6")
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_session_that_the_backend_cannot_read_is_not_resumed(side: str) -> None:
    client, server = _with_tickets()
    pair = Pair(client, server)
    if side == "client":
        pair.client = ClientConnection(client, Forgetful())
    else:
        pair.server = ServerConnection(server, Forgetful())
    assert pair.complete().info.psk is None
