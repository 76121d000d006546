"""What two implementations are asked to do together, and what each must say of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

from tests.interop.peers.interface import (
    EARLY_DATA,
    Client,
    Facts,
    Peer,
    Psk,
    Server,
    Settings,
    Supports,
    message,
)
from tests.pki import SCHEMES, Pki

SUITE_OF_HASH = {"sha256": "TLS_AES_128_GCM_SHA256", "sha384": "TLS_AES_256_GCM_SHA384"}
MEBIBYTE = 1 << 20
CHUNK = 1 << 13


NOTHING = Facts()


@dataclass(frozen=True)
class Plan:
    """The settings of both ends, and what is to be seen."""

    client: Settings
    server: Settings
    act: Callable[[Client, Server], None] = lambda _client, _server: None
    """Done between two exchanges of data."""
    sees: Facts = NOTHING
    """What both ends must say, as far as they report it."""
    client_sees: Facts = NOTHING
    server_sees: Facts = NOTHING
    octets: int = 1000
    chunk: int = CHUNK
    closes: str = "client"
    same_exported: bool = False


@dataclass(frozen=True)
class Case:
    """One thing to do; cases of one row are shown together."""

    row: str
    name: str
    plan: Callable[[Pki], Plan]

    @property
    def id(self) -> str:
        return f"{self.row}-{self.name}".strip("-").replace(" ", "_")


# --- carrying it out ----------------------------------------------------------------------------


def converse(client_peer: Peer, server_peer: Peer, plan: Plan) -> None:
    """Do what the plan says, and check everything that either end says of it."""
    with (
        server_peer.serve(plan.server) as server,
        client_peer.connect(server.port, plan.client) as client,
    ):
        exchange(client, plan.octets, plan.chunk, "before")
        plan.act(client, server)
        exchange(client, 2 * min(plan.octets, 500), 500, "after")
        if plan.closes == "client":
            of_client = client.close()
        else:
            server.close_first(client)
            of_client = client.await_close()
        of_server = server.finish()
        log = f"{client.log()}\n\n{server.log()}"
    assert len(of_server) == plan.server.connections, log
    ends = (
        (of_client, client_peer.as_client, plan.client_sees, "client"),
        (of_server[-1], server_peer.as_server, plan.server_sees, "server"),
    )
    for told, supports, sees, end in ends:
        for field in supports.reports & _expected(plan.sees, sees).keys():
            expected = _expected(plan.sees, sees)[field]
            assert getattr(told, field) == expected, f"{field}, says the {end}: {told}\n{log}"
    if plan.same_exported:
        assert of_client.exported, log
        assert of_client.exported == of_server[-1].exported, log


def _expected(*sees: Facts) -> dict[str, object]:
    return {
        field.name: value
        for each in sees
        for field in fields(each)
        if (value := getattr(each, field.name)) is not None
    }


def exchange(client: Client, octets: int, chunk: int, seed: str) -> None:
    """Send so many octets and take them back, a part at a time, so that no buffer fills up."""
    for at in range(0, octets, chunk):
        sent = message(min(chunk, octets - at), f"{seed}/{at}")
        client.send(sent)
        assert client.receive(len(sent)) == sent, client.log()


# --- the cases ----------------------------------------------------------------------------------


def cases(client: Peer, server: Peer) -> Iterator[Case]:
    """Everything that both peers can do in these roles."""
    for generate in (
        _suites,
        _groups,
        _hello_retry,
        _server_certificates,
        _client_certificates,
        _resumption,
        _early_data,
        _psk,
        _alpn,
        _exporter,
        _key_update,
        _record_size_limit,
        _transfer,
        _closure,
    ):
        yield from generate(client.as_client, server.as_server)


def _plain(pki: Pki) -> Plan:
    return Plan(
        client=Settings(trust=pki.ca),
        server=Settings(credential=pki.server()),
        client_sees=Facts(peer="localhost", resumed=False),
        server_sees=Facts(resumed=False),
    )


def _both(
    plan: Plan, *, client: dict[str, object] | None = None, server: dict[str, object] | None = None
) -> Plan:
    """The plan with other settings."""
    return replace(
        plan,
        client=replace(plan.client, **(client or {})),  # type: ignore[arg-type]
        server=replace(plan.server, **(server or {})),  # type: ignore[arg-type]
    )


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> list[str]:
    return [name for name in first if name in second]


def _suites(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, suite: str) -> Plan:
        chosen = _both(_plain(pki), client={"suites": (suite,)}, server={"suites": (suite,)})
        return replace(chosen, sees=Facts(suite=suite))

    if "suites" in client.chooses | server.chooses:
        for suite in _common(client.suites, server.suites):
            yield Case("suites", suite, partial(plan, suite=suite))


def _groups(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, group: str) -> Plan:
        chosen = _both(_plain(pki), client={"groups": (group,)}, server={"groups": (group,)})
        return replace(chosen, sees=Facts(group=group))

    if "groups" in client.chooses | server.chooses:
        for group in _common(client.groups, server.groups):
            yield Case("groups", group, partial(plan, group=group))


def _hello_retry(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"groups": ("x25519", "secp384r1"), "key_shares": ("x25519",)},
            server={"groups": ("secp384r1",)},
        )
        return replace(chosen, sees=Facts(group="secp384r1", hello_retry=True))

    def with_cookie(pki: Pki) -> Plan:
        compatible = not client.middlebox_compatibility
        return _both(
            plan(pki), client={"middlebox_compatibility": compatible}, server={"cookie": True}
        )

    yield Case("HelloRetryRequest", "", plan)
    if server.cookie == "with any client" or (
        server.cookie != "never" and client.middlebox_compatibility
    ):
        yield Case("HelloRetryRequest", "cookie", with_cookie)


def _server_certificates(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, kind: str, scheme: str) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"signature_schemes": (scheme,)},
            server={"credential": pki.server(kind)},
        )
        return replace(chosen, sees=Facts(scheme=scheme) if chooses else NOTHING)

    def chained(pki: Pki) -> Plan:
        return _both(_plain(pki), server={"credential": pki.chained()})

    chooses = "schemes" in client.chooses
    for kind in _common(client.certificates, server.certificates):
        for scheme in SCHEMES[kind] if chooses else SCHEMES[kind][:1]:
            name = scheme if chooses else kind
            yield Case("server certificates", name, partial(plan, kind=kind, scheme=scheme))
    yield Case("server certificates", "intermediate", chained)


def _client_certificates(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, kind: str) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"credential": pki.client(kind)},
            server={"client_auth": "require", "trust": pki.ca},
        )
        return replace(chosen, server_sees=Facts(peer=f"client-{kind}"))

    def declined(pki: Pki) -> Plan:
        return _both(_plain(pki), server={"client_auth": "request", "trust": pki.ca})

    def afterwards(pki: Pki) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"credential": pki.client(), "client_auth": "post-handshake"},
            server={"client_auth": "post-handshake", "trust": pki.ca},
        )
        return replace(
            chosen,
            act=lambda client, server: server.request_certificate(client),
            server_sees=Facts(peer="client-p256") if server.reports_late else NOTHING,
        )

    for kind in _common(client.certificates, server.certificates):
        yield Case("client certificates", kind, partial(plan, kind=kind))
    yield Case("client certificates", "declined", declined)
    if client.post_handshake_auth and server.post_handshake_auth:
        yield Case("client certificates", "post-handshake", afterwards)


def _resumption(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, suite: str) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"suites": (suite,), "resumed": True},
            server={"suites": (suite,), "connections": 2},
        )
        return replace(chosen, client_sees=resumed, server_sees=resumed)

    resumed = Facts(resumed=True)
    for suite in SUITE_OF_HASH.values():
        yield Case("resumption", suite, partial(plan, suite=suite))


def _early_data(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"resumed": True, "early_data": EARLY_DATA},
            server={"connections": 2, "max_early_data": 1024},
        )
        return replace(chosen, client_sees=accepted, server_sees=accepted)

    accepted = Facts(resumed=True, early_data=True)
    if client.early_data and server.early_data:
        yield Case("0-RTT", "", plan)


def _psk(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, name: str, *, without_dhe: bool) -> Plan:
        shared: dict[str, object] = {
            "psk": Psk("client identity", bytes(range(32)), name),
            "psk_without_dhe": without_dhe,
            "suites": (SUITE_OF_HASH[name],),
        }
        chosen = _both(_plain(pki), client=shared, server=shared | {"credential": None})
        return replace(chosen, client_sees=NOTHING, server_sees=NOTHING)

    for name in _common(client.psk, server.psk):
        yield Case("external PSK", name, partial(plan, name=name, without_dhe=False))
        if client.psk_without_dhe and server.psk_without_dhe:
            yield Case("external PSK", f"{name} psk_ke", partial(plan, name=name, without_dhe=True))


def _alpn(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki) -> Plan:
        chosen = _both(
            _plain(pki),
            client={"alpn": ("first/1", "second/2")},
            server={"alpn": ("second/2", "third/3")},
        )
        return replace(chosen, sees=Facts(alpn="second/2"))

    yield Case("ALPN", "", plan)


def _exporter(client: Supports, server: Supports) -> Iterator[Case]:
    if client.exporter and server.exporter:

        def plan(pki: Pki) -> Plan:
            label: dict[str, object] = {"exporter": "EXPERIMENTAL interop"}
            return replace(_both(_plain(pki), client=label, server=label), same_exported=True)

        yield Case("exporter", "", plan)


def _key_update(client: Supports, server: Supports) -> Iterator[Case]:
    def by_client(pki: Pki, request: bool) -> Plan:
        return replace(
            _plain(pki),
            act=lambda client, _server: client.rekey(request=request),
            client_sees=Facts(key_updates=1),
            server_sees=Facts(key_updates=int(request)),
        )

    def by_server(pki: Pki, request: bool) -> Plan:
        return replace(
            _plain(pki),
            act=lambda client, server: server.rekey(client, request=request),
            client_sees=Facts(key_updates=int(request)),
            server_sees=Facts(key_updates=1),
        )

    for who, plan, requests in (
        ("client's", by_client, client.key_update),
        ("server's", by_server, server.key_update),
    ):
        for request in requests:
            name = f"{who}, requesting" if request else who
            yield Case("KeyUpdate", name, partial(plan, request=request))


def _record_size_limit(client: Supports, server: Supports) -> Iterator[Case]:
    if client.record_size_limit and server.record_size_limit:

        def plan(pki: Pki) -> Plan:
            chosen = _both(
                _plain(pki), client={"record_size_limit": 600}, server={"record_size_limit": 700}
            )
            return replace(chosen, octets=4000, chunk=500)

        yield Case("record_size_limit", "", plan)


def _transfer(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, suite: str) -> Plan:
        chosen = _both(_plain(pki), client={"suites": (suite,)}, server={"suites": (suite,)})
        return replace(chosen, octets=MEBIBYTE, chunk=1 << 15)

    for suite in ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"):
        yield Case("1 MiB each way", suite, partial(plan, suite=suite))


def _closure(client: Supports, server: Supports) -> Iterator[Case]:
    def plan(pki: Pki, closes: str) -> Plan:
        return replace(_plain(pki), closes=closes)

    yield Case("closure", "client first", partial(plan, closes="client"))
    if server.closes_first and client.closes_back:
        yield Case("closure", "server first", partial(plan, closes="server"))
