"""§4.3.7, §4.3.8: a client's groups and shares, and what it makes of a server's share."""

from __future__ import annotations

from math import factorial
from random import Random
from typing import Final

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import check, no_doubles
from tpmtls.algorithms import GROUPS
from tpmtls.backends.software import SoftwareBackend
from tpmtls.codepoints import AlertDescription, NamedGroup, ProtocolVersion
from tpmtls.wire.extensions import (
    Cookie,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    SelectedVersion,
    SupportedGroups,
)

_SHARE: Final = "server_hello.extensions[key_share].server_share"
_WRONG: Final = (AlertDescription.illegal_parameter, AlertDescription.decode_error)


def _groups(server: ScriptedServer) -> tuple[NamedGroup, ...]:
    groups = server.offer.extensions.get(SupportedGroups)
    return () if groups is None else groups.named_group_list


def _second(server: ScriptedServer, hello: str) -> ScriptedServer:
    """The same, after a HelloRetryRequest if it is about the second ClientHello."""
    server.accept()
    if hello == "second":
        group = server.retry_group()
        server.retry(Cookie(b"x") if group is None else KeyShareHelloRetryRequest(group))
    return server


# -- what the client sends -------------------------------------------------------------------------

both_hellos = pytest.mark.parametrize("hello", ["first", "second"])


@req("4.3.7-1")
@both_hellos
def test_no_group_twice(server: ScriptedServer, hello: str) -> None:
    """No group is in supported_groups twice."""
    no_doubles((f"{group:#06x}" for group in _groups(_second(server, hello))), "group")


@req("4.3.8-3", "4.3.8-10")
@both_hellos
def test_shares_are_of_groups_offered(server: ScriptedServer, hello: str) -> None:
    """Each share is for a group of supported_groups."""
    groups = _groups(_second(server, hello))
    others = [entry.group for entry in server.shares_offered if entry.group not in groups]
    check(not others, "shares of groups in supported_groups", others)


@req("4.3.8-4")
def test_shares_are_in_order(server: ScriptedServer) -> None:
    """Shares come in the order of their groups in supported_groups."""
    groups = _groups(server.accept())
    shared = [entry.group for entry in server.shares_offered]
    check(shared == [g for g in groups if g in shared], "shares in the order of groups", shared)


@req("4.3.8-9")
@both_hellos
def test_no_two_shares_for_a_group(server: ScriptedServer, hello: str) -> None:
    """No group has two shares."""
    _second(server, hello)
    no_doubles((f"{entry.group:#06x}" for entry in server.shares_offered), "group's share")


@req("9.2-5", "9.2-6", "9.2-11")
def test_groups_and_shares_go_together(server: ScriptedServer) -> None:
    """A ClientHello has supported_groups and key_share."""
    types = {extension.extension_type.name for extension in server.accept().offer.extensions}
    if not types & {"supported_groups", "key_share"} and "pre_shared_key" in types:
        raise NotApplicable("the client offers PSKs alone")
    check("supported_groups" in types, "supported_groups", "none", "9.2-5")
    check("key_share" in types, "key_share beside supported_groups", "none", "9.2-11")


@req("4.3.8-12")
def test_shares_are_new_each_time(serve: Serve) -> None:
    """No share is seen in two connections, nor in the second ClientHello of one."""
    seen: list[bytes] = []
    for _ in range(2):
        server = serve().accept()
        seen += [entry.key_exchange for entry in server.shares_offered]
        group = server.retry_group()
        if group is not None:
            server.retry(KeyShareHelloRetryRequest(group))
            seen += [entry.key_exchange for entry in server.shares_offered]
        server.close()
    no_doubles((share.hex()[:32] for share in seen), "share")


@req("4.3.8-13")
def test_servers_share_is_used_again(serve: Serve) -> None:
    """A server that has the same share in two connections is not refused."""
    shares = []
    for _ in range(2):
        server = serve().accept()
        server.backend = SoftwareBackend(Random(9846).randbytes)  # noqa: S311 - to repeat a share
        if server.offers_share() is None:
            raise NotApplicable("the client's first shares are of groups that the suite lacks")
        shares.append(_share_in(server))
        server.encrypted_extensions().authenticate().finish().complete()
        server.close()
    if shares[0] != shares[1]:
        raise NotApplicable("what the client offers decides the octets of this share")


def _share_in(server: ScriptedServer) -> bytes:
    """Say the ServerHello; the share in it."""
    said = server.hello().said
    share = said.extensions.get(KeyShareServerHello)
    assert share is not None
    return share.server_share.key_exchange


# -- the server's share: which group, how long -----------------------------------------------------


def share_for(server: ScriptedServer, group: NamedGroup) -> KeyShareEntry:
    """The client's share of a group, by HelloRetryRequest if it takes one."""
    server.accept()
    if all(entry.group != group for entry in server.shares_offered):
        server.retry(KeyShareHelloRetryRequest(group))
    return next(entry for entry in server.shares_offered if entry.group == group)


def answer_with(server: ScriptedServer, group: NamedGroup, share: bytes) -> None:
    """ServerHello with that share, whatever it is; no keys follow."""
    version = SelectedVersion(ProtocolVersion.TLS_1_3)
    entry = KeyShareServerHello(KeyShareEntry(group, share))
    server.transcript.select(server.hash)
    server.say(server.server_hello([version, entry]))


@req("2-1")
def test_group_not_offered(server: ScriptedServer) -> None:
    """A share of a group that is not in supported_groups is refused."""
    server.accept()
    known = [group for group in NamedGroup if group not in _groups(server)]
    server.hello(set_field(f"{_SHARE}.group", known[0] if known else 0x01FF))
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("retry")
@req("2-1")
def test_group_without_a_share(server: ScriptedServer) -> None:
    """A share of a group that the client supports and has sent none for is refused."""
    group = server.accept().retry_group()
    assert group is not None
    answer_with(server, group, server.backend.key_share(group).public)
    server.expect_alert(AlertDescription.illegal_parameter)


_EVERY_GROUP: Final = [pytest.param(g, marks=needs(f"groups:{g.name}"), id=g.name) for g in GROUPS]


@req("9.3-4")
@pytest.mark.parametrize("group", _EVERY_GROUP)
def test_every_group(server: ScriptedServer, group: NamedGroup) -> None:
    """A handshake completes with each group that the client offers."""
    server.accept().hello(group=group).encrypted_extensions().authenticate().finish().complete()


@req("6-10")
@pytest.mark.parametrize("change", ["shorter", "longer", "one octet"])
@pytest.mark.parametrize("group", _EVERY_GROUP)
def test_length_of_share(server: ScriptedServer, group: NamedGroup, change: str) -> None:
    """A share that does not have its group's length is refused."""
    entry = share_for(server, group)
    share, _ = server.backend.respond(group, entry.key_exchange)
    answers = {"shorter": share[:-1], "longer": share + b"\0", "one octet": share[:1]}
    answer_with(server, group, answers[change])
    server.expect_alert(*_WRONG)


@req("6-9")
def test_empty_share(server: ScriptedServer) -> None:
    """A share of no octets is refused."""
    server.accept().hello(set_field(f"{_SHARE}.key_exchange", b""))
    server.expect_alert(*_WRONG)


# -- the server's share: which value ---------------------------------------------------------------

_CURVES: Final = [
    pytest.param(g, marks=needs(f"groups:{g.name}"), id=g.name)
    for g in (NamedGroup.secp256r1, NamedGroup.secp384r1, NamedGroup.secp521r1)
]


@req("4.3.8.2-1")
@pytest.mark.parametrize(
    "point", ["off the curve", "beyond the prime", "zero", "infinity", "compressed", "hybrid"]
)
@pytest.mark.parametrize("group", _CURVES)
def test_points(server: ScriptedServer, group: NamedGroup, point: str) -> None:
    """A share that is no point of the curve, or not in uncompressed form, is refused."""
    entry = share_for(server, group)
    share, _ = server.backend.respond(group, entry.key_exchange)
    half = len(share) // 2
    parity = share[-1] & 1
    answers = {
        "off the curve": share[:-1] + bytes((share[-1] ^ 1,)),
        "beyond the prime": share[:1] + b"\xff" * half + share[1 + half :],
        "zero": share[:1] + bytes(2 * half),
        "infinity": b"\0",
        "compressed": bytes((2 + parity,)) + share[1 : 1 + half],
        "hybrid": bytes((6 + parity,)) + share[1:],
    }
    answer_with(server, group, answers[point])
    server.expect_alert(*_WRONG, rule="6-10")


_X25519: Final = {
    "0": 0,
    "1": 1,
    "order 8": 0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    "p-1": 2**255 - 20,
    "p": 2**255 - 19,
    "p+1": 2**255 - 18,
}
_X448_P: Final = 2**448 - 2**224 - 1
_X448: Final = {"0": 0, "1": 1, "p-1": _X448_P - 1, "p": _X448_P, "p+1": _X448_P + 1}


@needs("groups:x25519")
@req("7.4.2-3")
@pytest.mark.parametrize("value", list(_X25519))
def test_x25519_gives_zeros(server: ScriptedServer, value: str) -> None:
    """A share for X25519 that gives a shared secret of zeros is refused."""
    share_for(server, NamedGroup.x25519)
    answer_with(server, NamedGroup.x25519, _X25519[value].to_bytes(32, "little"))
    server.expect_abort()


@needs("groups:x448")
@req("7.4.2-3")
@pytest.mark.parametrize("value", list(_X448))
def test_x448_gives_zeros(server: ScriptedServer, value: str) -> None:
    """A share for X448 that gives a shared secret of zeros is refused."""
    share_for(server, NamedGroup.x448)
    answer_with(server, NamedGroup.x448, _X448[value].to_bytes(56, "little"))
    server.expect_abort()


@needs("groups:X25519MLKEM768")
@req("7.4.2-3")
def test_hybrid_gives_zeros(server: ScriptedServer) -> None:
    """A share for X25519MLKEM768 whose X25519 half gives zeros is refused."""
    group = NamedGroup.X25519MLKEM768
    entry = share_for(server, group)
    share, _ = server.backend.respond(group, entry.key_exchange)
    answer_with(server, group, share[:-32] + bytes(32))
    server.expect_abort()


@needs("groups:x25519")
@req("7.4.2-2")
def test_x25519_top_bit(server: ScriptedServer) -> None:
    """The unused top bit of a share for X25519 does not matter."""
    group = NamedGroup.x25519
    public, shared = server.backend.respond(group, share_for(server, group).key_exchange)
    answer_with(server, group, public[:-1] + bytes((public[-1] | 0x80,)))
    server.start_handshake_keys(shared)
    server.encrypted_extensions().authenticate().finish().complete()


@req("7.4.2-1")
@pytest.mark.parametrize("group", [*_CURVES, *_EVERY_GROUP[3:4]])
def test_leading_zeros(server: ScriptedServer, group: NamedGroup) -> None:
    """A shared secret that starts with an octet of zero keeps it."""
    entry = share_for(server, group)
    for _ in range(6000):
        public, shared = server.backend.respond(group, entry.key_exchange)
        if server.backend.reveal(shared, "the peer's own").startswith(_ZEROS[group]):
            break
    else:
        raise NotApplicable("no such secret was found")
    answer_with(server, group, public)
    server.start_handshake_keys(shared)
    server.encrypted_extensions().authenticate().finish().complete()


_ZEROS: Final = dict.fromkeys(GROUPS, b"\0") | {NamedGroup.secp521r1: b"\0\0"}
"""What a shared secret starts with, to be short of an octet: P-521's first has one bit only."""


def _ffdhe2048() -> int:
    """The prime of RFC 7919 Appendix A.1: 2^2048 - 2^1984 + (floor(2^1918 e) + 560316) 2^64 - 1."""
    terms = (1 << 1982) * factorial(400)
    e = sum(terms // factorial(n) for n in range(400)) // factorial(400) >> 64
    return (1 << 2048) - (1 << 1984) + ((e + 560316) << 64) - 1


@needs("groups:ffdhe2048")
@req("4.3.8.1-1")
@pytest.mark.parametrize("value", ["0", "1", "p-1", "p", "p+1"])
def test_ffdhe(server: ScriptedServer, value: str) -> None:
    """A share for ffdhe2048 of 0, 1, p-1 or above is refused."""
    prime = _ffdhe2048()
    values = {"0": 0, "1": 1, "p-1": prime - 1, "p": prime, "p+1": prime + 1}
    share_for(server, NamedGroup.ffdhe2048)
    answer_with(server, NamedGroup.ffdhe2048, values[value].to_bytes(256, "big"))
    server.expect_abort()


@req("4.3.7-3")
@pytest.mark.parametrize("groups", ["the client's", "others", "one of the client's"])
def test_groups_in_encrypted_extensions(
    server: ScriptedServer, features: ClientFeatures, groups: str
) -> None:
    """supported_groups in EncryptedExtensions is taken, and changes nothing."""
    offered = _groups(server.accept())
    lists = {
        "the client's": offered,
        "others": (NamedGroup(0x01FC), NamedGroup(0xFE01)),
        "one of the client's": offered[-1:],
    }
    server.hello().encrypted_extensions(SupportedGroups(lists[groups]))
    server.authenticate().finish().complete()
