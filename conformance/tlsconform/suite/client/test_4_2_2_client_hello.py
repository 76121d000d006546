"""§4.2.2: what a client's ClientHello looks like."""

from __future__ import annotations

import pytest

from tlsconform.marks import needs, req
from tlsconform.outcome import Deviation, NonConformance
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import check, no_doubles, resume
from tlsconform.targets import ClientTarget
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import ContentType, ExtensionType
from tpmtls.wire.extensions import Cookie, KeyShareClientHello, KeyShareHelloRetryRequest
from tpmtls.wire.messages import ClientHello

_MAY_CHANGE = (
    ExtensionType.key_share,
    ExtensionType.early_data,
    ExtensionType.cookie,
    ExtensionType.pre_shared_key,
    ExtensionType.padding,
)


@req("4.2.2-1", "E.5-5")
def test_first_message(server: ScriptedServer) -> None:
    """The first thing on the connection is a TLS record with a ClientHello."""
    server.accept()
    first = server.wire.received[0].content_type
    check(first is ContentType.handshake, "a handshake record first", first.name)


@req("4.2.2-6", "E.5-8")
def test_legacy_version(server: ScriptedServer) -> None:
    """legacy_version is 0x0303 whatever else is offered."""
    version = server.accept().offer.legacy_version
    check(version == 0x0303, "legacy_version 0x0303", f"{int(version):#06x}")


@req("4.2.2-15")
def test_legacy_compression_methods(server: ScriptedServer) -> None:
    """Only the null compression method is offered."""
    methods = server.accept().offer.legacy_compression_methods
    check(methods == b"\0", "the one compression method 0", methods.hex() or "none")


@req("4.3-10")
def test_no_extension_twice(server: ScriptedServer) -> None:
    """No extension is in the ClientHello twice."""
    server.accept()  # the codec refuses doubles, with this requirement
    no_doubles((e.extension_type for e in server.offer.extensions), "extension")


@needs("compatibility")
@req("4.2.2-10", "4.2.2-11")
def test_session_id_is_new_each_time(serve: Serve) -> None:
    """The legacy_session_id of compatibility mode has 32 octets that no other connection has."""
    seen = []
    for _ in range(2):
        server = serve().accept()
        seen.append(server.offer.legacy_session_id)
        server.close()
    for session_id in seen:
        check(len(session_id) == 32, "a legacy_session_id of 32 octets", len(session_id))
    check(seen[0] != seen[1], "another legacy_session_id", "that of the last connection")
    same = sum(a == b for a, b in zip(*seen, strict=True))
    # each octet agrees by chance once in 256 times: 8 of 32 never
    check(same < 8, "nothing that stays in legacy_session_id", f"{same} of 32 octets", "4.2.2-11")


@req("4.2.2-9", "4.2.2-12")
def test_session_id_and_change_cipher_spec(server: ScriptedServer) -> None:
    """A client sends change_cipher_spec with a legacy_session_id, and neither without the other."""
    server.handshake()
    session_id = server.offer.legacy_session_id
    if ContentType.change_cipher_spec in (record.content_type for record in server.wire.received):
        check(bool(session_id), "a legacy_session_id along with change_cipher_spec", "an empty one")
    elif session_id:
        # its ID alone may be all that it has of compatibility mode: no ground to accuse it
        expected = "an empty legacy_session_id outside of compatibility mode"
        raise Deviation(expected, session_id.hex(), "4.2.2-12")


@needs("retry")
@req("4.2.2-2")
@pytest.mark.parametrize("asked", ["group", "cookie"])
def test_second_client_hello(server: ScriptedServer, asked: str) -> None:
    """The second ClientHello changes what the HelloRetryRequest asks for, and nothing else."""
    group = server.accept().retry_group()
    assert group is not None
    by_group, by_cookie = KeyShareHelloRetryRequest(group), Cookie(b"tlsconform")
    try:
        server.retry(by_group if asked == "group" else by_cookie)
    except NonConformance as finding:
        raise NonConformance(finding.expected, finding.got, "4.2.4-7") from None
    first, second = server.first_offer, server.offer
    _compare(first, second)
    if asked == "cookie":
        shares = [hello.extensions.get(KeyShareClientHello) for hello in (first, second)]
        check(shares[0] == shares[1], "the key shares of the first ClientHello", "others")


def _compare(first: ClientHello, second: ClientHello) -> None:
    fields = ("legacy_version", "random", "legacy_session_id", "cipher_suites")
    for name in (*fields, "legacy_compression_methods"):
        same = getattr(first, name) == getattr(second, name)
        check(same, f"{name} of the first ClientHello", f"another {name}")
    before, after = (hello.extensions.without(*_MAY_CHANGE) for hello in (first, second))
    for extension in before:
        kind = extension.extension_type.name
        check(extension in after, f"{kind} as in the first ClientHello", "another or none")
    for extension in after:
        kind = extension.extension_type.name
        check(extension in before, f"{kind} in the second as in the first", "it is new")
    check(tuple(before) == tuple(after), "extensions in the same order", "another order")


@needs("resumption")
@req("4.2.2-14")
def test_suite_for_the_psk(serve: Serve, target: ClientTarget) -> None:
    """A client that offers a PSK offers a cipher suite with its hash."""
    server, _ = resume(serve, target)
    offered = [s for s in server.offer.cipher_suites if s in SUITES]
    fitting = [s for s in offered if SUITES[s].hash == server.hash]
    check(bool(fitting), f"a suite with {server.hash.name}", [s.name for s in offered])
