"""§4.3.8, §7.4.2: a server's key shares, and what it makes of shares that are no good."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import Edit, set_field
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, no_doubles, server_lives
from tpmtls.algorithms import GROUPS
from tpmtls.codepoints import AlertDescription, ContentType, NamedGroup
from tpmtls.wire.extensions import KeyShareServerHello

SHARES: Final = "client_hello.extensions[key_share].client_shares"
KEY_EXCHANGE: Final = f"{SHARES}[0].key_exchange"


def for_groups(*names: str) -> pytest.MarkDecorator:
    """The test once for each of these groups, where the server has it."""
    return pytest.mark.parametrize(
        "group", [pytest.param(NamedGroup[n], id=n, marks=needs(f"groups:{n}")) for n in names]
    )


EVERY_GROUP: Final = for_groups(*(group.name for group in GROUPS))
CURVES: Final = for_groups("secp256r1", "secp384r1", "secp521r1")
PRIMES: Final = {
    NamedGroup.secp256r1: 2**256 - 2**224 + 2**192 + 2**96 - 1,
    NamedGroup.secp384r1: 2**384 - 2**128 - 2**96 + 2**32 - 1,
    NamedGroup.secp521r1: 2**521 - 1,
}
P25519: Final = 2**255 - 19
P448: Final = 2**448 - 2**224 - 1
SMALL_ORDER_25519: Final = {
    "zero": 0,
    "one": 1,
    "order 8": 0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    "order 8 too": 0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    "p-1": P25519 - 1,
    "p": P25519,
    "p+1": P25519 + 1,
}
SMALL_ORDER_448: Final = {"zero": 0, "one": 1, "p-1": P448 - 1, "p": P448, "p+1": P448 + 1}


def ask(client: ScriptedClient, group: NamedGroup, *edits: Edit) -> ScriptedClient:
    """A ClientHello of that group alone."""
    return client.hello(*edits, groups=(group,), shares=(group,))


# -- the server's ----------------------------------------------------------------------------------


@req("4.3.9-8", "4.3.8-17", "4.3.8-18", "7.4.2-1")
@EVERY_GROUP
def test_each_group(client: ScriptedClient, features: ServerFeatures, group: NamedGroup) -> None:
    """A share for one group is answered by one for it, of its size, and data gets through."""
    ask(client, group).complete()
    share = client.answer and client.answer.extensions.get(KeyShareServerHello)
    if not share:
        raise NonConformance("a key_share", "none")
    size = len(share.server_share.key_exchange)
    check(size == GROUPS[group].server_share, f"{GROUPS[group].server_share} octets", size)
    server_lives(client, features)


@req("4.3.8-12")
@EVERY_GROUP
def test_no_share_twice(connect: Connect, group: NamedGroup) -> None:
    """No two connections have the same share of the server's."""
    seen = []
    for _ in range(4):
        client = connect()
        answer = ask(client, group).read_server_hello()
        share = answer.extensions.get(KeyShareServerHello)
        seen.append("" if share is None else share.server_share.key_exchange.hex())
        client.close()
    no_doubles(seen, "share")


@req("4.3.8-13")
@EVERY_GROUP
def test_share_of_before(connect: Connect, features: ServerFeatures, group: NamedGroup) -> None:
    """A client that sends its share of an earlier connection again is served."""
    first = connect()
    ask(first, group).complete()
    share = first.shares[group]
    first.close()
    second = connect()
    ask(second, group, set_field(KEY_EXCHANGE, share.public))
    second.shares = {group: share}
    second.complete()
    server_lives(second, features)


@req("4.3.8-5", "4.3.8-6", "2-1")
def test_unknown_shares(client: ScriptedClient, features: ServerFeatures) -> None:
    """Shares for groups that no server knows make no difference, wherever they are."""
    group = client.share_groups[0]
    unknown = (NamedGroup(0x0A0A), NamedGroup(0xFE01))
    share = client.backend.key_share(group)
    entries = [(0x0A0A, b"\0"), (group, share.public), (0xFE01, bytes(70))]
    octets = b"".join(
        code.to_bytes(2, "big") + len(key).to_bytes(2, "big") + key for code, key in entries
    )
    client.hello(set_field(SHARES, octets), groups=(unknown[0], group, unknown[1]), shares=())
    client.shares = {group: share}
    client.complete()
    server_lives(client, features)


# -- the client's, malformed -----------------------------------------------------------------------


@req("6-10")
@EVERY_GROUP
@pytest.mark.parametrize("by", [-1, 1], ids=["-1", "+1"])
def test_size(client: ScriptedClient, group: NamedGroup, by: int) -> None:
    """A share that is an octet too short or too long for its group is refused."""
    public = client.backend.key_share(group).public
    ask(client, group, set_field(KEY_EXCHANGE, public[:-1] if by < 0 else public + b"\0"))
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@req("6-9")
@EVERY_GROUP
def test_empty_share(client: ScriptedClient, group: NamedGroup) -> None:
    """A share of no octets, which key_exchange<1..2^16-1> does not allow, is refused."""
    ask(client, group, set_field(KEY_EXCHANGE, b""))
    client.expect_alert(AlertDescription.decode_error, AlertDescription.illegal_parameter)


def expect_refused_point(client: ScriptedClient) -> None:
    """An abort; what it is said with is a rule of its own."""
    refused = (AlertDescription.illegal_parameter, AlertDescription.decode_error)
    client.expect_alert(*refused, rule="6-10")


@req("4.3.8.2-1")
@CURVES
@pytest.mark.parametrize("what", ["y off by one", "zeros", "x = p", "y = p", "all ones"])
def test_point_off_the_curve(client: ScriptedClient, group: NamedGroup, what: str) -> None:
    """A point that is not on the curve, or has a coordinate beyond the prime, is refused."""
    public = client.backend.key_share(group).public
    size = (len(public) - 1) // 2
    x, y, prime = public[1 : 1 + size], public[1 + size :], PRIMES[group]
    point = {
        "y off by one": x + y[:-1] + bytes((y[-1] ^ 1,)),
        "zeros": bytes(2 * size),
        "x = p": prime.to_bytes(size, "big") + y,
        "y = p": x + prime.to_bytes(size, "big"),
        "all ones": b"\xff" * 2 * size,
    }[what]
    ask(client, group, set_field(KEY_EXCHANGE, b"\x04" + point))
    expect_refused_point(client)


@req("4.3.8.2-1")
@CURVES
@pytest.mark.parametrize("form", [0, 2, 3, 5, 6, 7])
def test_form_of_a_point(client: ScriptedClient, group: NamedGroup, form: int) -> None:
    """A point whose legacy_form is not 4 is refused."""
    public = client.backend.key_share(group).public
    ask(client, group, set_field(KEY_EXCHANGE, bytes((form,)) + public[1:]))
    expect_refused_point(client)


@req("4.3.8.2-1")
@CURVES
@pytest.mark.parametrize("what", ["compressed", "infinity", "hybrid"])
def test_other_encodings_of_points(client: ScriptedClient, group: NamedGroup, what: str) -> None:
    """A compressed point, a hybrid one, and the point at infinity are refused."""
    public = client.backend.key_share(group).public
    size, odd = (len(public) - 1) // 2, public[-1] & 1
    encoded = {
        "compressed": bytes((2 + odd,)) + public[1 : 1 + size],
        "infinity": b"\0",
        "hybrid": bytes((6 + odd,)) + public[1:],
    }[what]
    ask(client, group, set_field(KEY_EXCHANGE, encoded))
    expect_refused_point(client)


@req("7.4.2-3")
@needs("groups:x25519")
@pytest.mark.parametrize("what", SMALL_ORDER_25519)
def test_zero_secret_of_x25519(client: ScriptedClient, what: str) -> None:
    """A share that makes the shared secret zero is refused."""
    share = SMALL_ORDER_25519[what].to_bytes(32, "little")
    ask(client, NamedGroup.x25519, set_field(KEY_EXCHANGE, share))
    client.expect_abort()


@req("7.4.2-3")
@needs("groups:x448")
@pytest.mark.parametrize("what", SMALL_ORDER_448)
def test_zero_secret_of_x448(client: ScriptedClient, what: str) -> None:
    """A share that makes the shared secret zero is refused."""
    share = SMALL_ORDER_448[what].to_bytes(56, "little")
    ask(client, NamedGroup.x448, set_field(KEY_EXCHANGE, share))
    client.expect_abort()


@req("7.4.2-2")
@needs("groups:x25519")
def test_top_bit_of_x25519(client: ScriptedClient, features: ServerFeatures) -> None:
    """The top bit of an X25519 share makes no difference."""
    share = client.backend.key_share(NamedGroup.x25519)
    key = share.public[:-1] + bytes((share.public[-1] | 0x80,))
    ask(client, NamedGroup.x25519, set_field(KEY_EXCHANGE, key))
    client.shares = {NamedGroup.x25519: share}
    client.complete()
    server_lives(client, features)


@req("6-10")
@needs("groups:X25519MLKEM768")
@pytest.mark.parametrize("what", ["coefficients", "zero secret"])
def test_hybrid_share(client: ScriptedClient, what: str) -> None:
    """A hybrid share with a coefficient beyond the modulus, or a zero secret, is refused."""
    group = NamedGroup.X25519MLKEM768
    public = client.backend.key_share(group).public
    share = b"\xff" * 3 + public[3:] if what == "coefficients" else public[:-32] + bytes(32)
    ask(client, group, set_field(KEY_EXCHANGE, share))
    client.expect_abort()


# -- finite fields ---------------------------------------------------------------------------------


def ffdhe_prime(bits: int, constant: int) -> int:
    """The prime of RFC 7919: its middle is that of e."""
    scale = 1 << (bits + 64)
    e, term, k = 0, scale, 0
    while term:
        e, k = e + term, k + 1
        term //= k
    middle = (e >> (bits + 64 - (bits - 130))) + constant
    return int(2**bits - 2 ** (bits - 64) + middle * 2**64 - 1)


FIELDS: Final = {
    NamedGroup.ffdhe2048: ffdhe_prime(2048, 560316),
    NamedGroup.ffdhe3072: ffdhe_prime(3072, 2625351),
}


def has_group(client: ScriptedClient, group: NamedGroup) -> bool:
    """Whether the server asks for a share of that group where there is no other."""
    client.hello(groups=(group,), shares=())
    record = client.next_record()
    client.close()
    return record is not None and record.content_type is ContentType.handshake


@req("4.3.8.1-1", "6-10")
@pytest.mark.parametrize("group", FIELDS, ids=lambda group: group.name)
@pytest.mark.parametrize("what", ["0", "1", "p-1", "p", "p+1"])
def test_finite_field_share(connect: Connect, group: NamedGroup, what: str) -> None:
    """A finite-field share of 0, 1, p-1 or above is refused."""
    if not has_group(connect(), group):
        raise NotApplicable(f"the server does not have {group.name}")
    prime = FIELDS[group]
    value = {"0": 0, "1": 1, "p-1": prime - 1, "p": prime, "p+1": prime + 1}[what]
    key = value.to_bytes((prime.bit_length() + 7) // 8, "big")
    entry = group.to_bytes(2, "big") + len(key).to_bytes(2, "big") + key
    client = connect()
    client.hello(set_field(SHARES, entry), groups=(group,), shares=())
    client.expect_alert(AlertDescription.illegal_parameter)
