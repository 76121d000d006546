"""§4.2.4: what a client makes of a HelloRetryRequest."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import Edit, append, drop, flip, set_field
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import check, give_ticket, no_doubles, resume, retry_body
from tlsconform.targets import ClientTarget
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType, NamedGroup
from tpmtls.wire.extensions import Cookie, ExtensionBody, KeyShareHelloRetryRequest

_COOKIE = Cookie(b"tlsconform cookie")
_UNKNOWN_SUITE = 0x13F1
_VERSION = "extensions[supported_versions].selected_version"


def _retry_with(server: ScriptedServer, *edits: Edit, body: ExtensionBody | None = None) -> None:
    server.accept()
    server.say_retry(body or retry_body(server), edits=edits)


def _group(server: ScriptedServer) -> KeyShareHelloRetryRequest:
    """What asks for a share of a group that the client has sent none for."""
    group = server.retry_group()
    if group is None:
        raise NotApplicable("the client sends shares for all its groups")
    return KeyShareHelloRetryRequest(group)


# -- a HelloRetryRequest that is refused -----------------------------------------------------------


@req("4.2.3-2", "E.5-9")
def test_legacy_version(server: ScriptedServer) -> None:
    """A HelloRetryRequest with a legacy_version other than 0x0303 is refused."""
    _retry_with(server, set_field("hello_retry_request.legacy_version", 0x0304))
    server.expect_alert(AlertDescription.protocol_version)


@req("4.2.4-4", "4.2.3-6")
def test_session_id_echo(server: ScriptedServer) -> None:
    """A HelloRetryRequest with another legacy_session_id_echo than was sent is refused."""
    path = "hello_retry_request.legacy_session_id_echo"
    sent = server.accept().offer.legacy_session_id
    edit = flip(path, -1) if sent else set_field(path, bytes(32))
    server.say_retry(retry_body(server), edits=[edit])
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.4-4", "4.2.3-9")
def test_compression_method(server: ScriptedServer) -> None:
    """A HelloRetryRequest with a compression method is refused."""
    _retry_with(server, set_field("hello_retry_request.legacy_compression_method", 1))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.4-8", "4.2.4-4", "4.2.3-7")
def test_suite_not_offered(server: ScriptedServer) -> None:
    """A HelloRetryRequest with a cipher suite that was not offered is refused."""
    _retry_with(server, set_field("hello_retry_request.cipher_suite", _UNKNOWN_SUITE))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.4-5")
def test_no_change(server: ScriptedServer) -> None:
    """A HelloRetryRequest that asks for nothing is refused."""
    server.accept().say_retry()
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.3.1-15")
def test_no_supported_versions(server: ScriptedServer) -> None:
    """A HelloRetryRequest without supported_versions is not followed."""
    _retry_with(server, drop("hello_retry_request.extensions[supported_versions]"))
    server.expect_abort()


@req("4.3.1-18")
@pytest.mark.parametrize("version", [0x0303, 0x0305])
def test_selected_version(server: ScriptedServer, version: int) -> None:
    """A HelloRetryRequest that selects another version than TLS 1.3 is refused."""
    _retry_with(server, set_field(f"hello_retry_request.{_VERSION}", version))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.4-6")
@pytest.mark.parametrize("second", ["cookie", "group", "the same"])
def test_second_retry(server: ScriptedServer, second: str) -> None:
    """A second HelloRetryRequest is refused, whatever it asks for."""
    server.accept()
    first = retry_body(server)
    bodies = {"cookie": _COOKIE, "the same": first}
    asked = _group(server) if second == "group" else bodies[second]
    server.retry(first)
    server.say_retry(asked)
    server.expect_alert(AlertDescription.unexpected_message)


@req("6-9")
def test_octets_after_the_retry(server: ScriptedServer) -> None:
    """Octets after the extensions of a HelloRetryRequest are refused."""
    _retry_with(server, append("hello_retry_request", b"\0"))
    server.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@pytest.mark.parametrize("extension", ["supported_versions", "cookie", "key_share"])
def test_octets_after_an_extension(server: ScriptedServer, extension: str) -> None:
    """Octets at the end of an extension of a HelloRetryRequest are refused."""
    server.accept()
    body = _group(server) if extension == "key_share" else _COOKIE
    edit = append(f"hello_retry_request.extensions[{extension}]", b"\0")
    server.say_retry(body, edits=[edit])
    server.expect_alert(AlertDescription.decode_error)


@req("6-9")
def test_empty_cookie(server: ScriptedServer) -> None:
    """A cookie of no octets is refused."""
    edit = set_field("hello_retry_request.extensions[cookie].cookie", b"")
    _retry_with(server, edit, body=_COOKIE)
    server.expect_alert(AlertDescription.decode_error, AlertDescription.illegal_parameter)


# -- the second ClientHello ------------------------------------------------------------------------


@req("4.2.4-7", "4.3.2-1", "4.3.2-2", "9.2-1")
@pytest.mark.parametrize("size", [1, 32, 1000])
def test_cookie_comes_back(server: ScriptedServer, size: int) -> None:
    """A cookie comes back as it was, and the handshake completes."""
    cookie = Cookie(server.random.randbytes(size))
    server.accept()
    _follows(server, cookie)
    check(server.offer.extensions.get(Cookie) == cookie, "the cookie that was sent", "another")
    server.flight().complete()


def _follows(server: ScriptedServer, body: ExtensionBody) -> None:
    """Say a HelloRetryRequest with that alone; one that is right is to be followed."""
    try:
        server.retry(body)
    except NonConformance as finding:
        raise NonConformance(finding.expected, finding.got, "4.2.4-7") from None


@req("4.3.2-3")
def test_no_cookie_in_a_first_client_hello(serve: Serve) -> None:
    """No first ClientHello has a cookie, though the last connection had one."""
    server = serve().accept()
    _no_cookie(server)
    group = server.retry_group()
    share = () if group is None else (KeyShareHelloRetryRequest(group),)
    server.retry(*share, _COOKIE).flight().complete()
    server.close()
    _no_cookie(serve().accept())


def _no_cookie(server: ScriptedServer) -> None:
    check(server.offer.extensions.get(Cookie) is None, "no cookie at first", "a cookie")


@needs("retry")
@req("4.2.4-7", "4.3.8-16")
def test_share_that_was_asked_for(server: ScriptedServer) -> None:
    """The second ClientHello has one share, of the group asked for, and the handshake completes."""
    body = _group(server.accept())
    server.retry(body)
    groups = [entry.group for entry in server.shares_offered]
    check(groups == [body.selected_group], f"one share, of {body.selected_group.name}", groups)
    server.flight().complete()


@needs("retry")
@req("4.2.4-7")
def test_cookie_and_share(server: ScriptedServer, target: ClientTarget) -> None:
    """A HelloRetryRequest with a cookie and a group gets both."""
    body = _group(server.accept())
    server.retry(body, _COOKIE)
    check(server.offer.extensions.get(Cookie) == _COOKIE, "the cookie that was sent", "another")
    groups = [entry.group for entry in server.shares_offered]
    check(groups == [body.selected_group], f"one share, of {body.selected_group.name}", groups)
    server.flight().complete()


@req("4.2.2-2", "4.3-10")
def test_no_extension_twice_again(server: ScriptedServer) -> None:
    """No extension is in the second ClientHello twice."""
    server.accept()
    server.retry(retry_body(server))
    no_doubles((e.extension_type for e in server.offer.extensions), "extension", "4.3-10")


@needs("resumption")
@req("4.2.2-2")
def test_binders_are_computed_anew(serve: Serve, target: ClientTarget) -> None:
    """After a HelloRetryRequest, binders cover it and both ClientHellos; the PSK can be used."""
    server, psk = resume(serve, target)
    check(server.binder_is_valid(0, psk), "a binder that verifies", "another")
    server.retry(retry_body(server))
    if not server.identities_offered:
        raise NotApplicable("the client offers no PSK after a HelloRetryRequest")
    check(server.binder_is_valid(0, psk), "a binder over what was said so far", "another")
    server.hello(psk=psk).encrypted_extensions().finish().complete()


@needs("resumption", "suites:TLS_AES_256_GCM_SHA384", "suites:TLS_AES_128_GCM_SHA256")
@req("4.2.4-11")
def test_no_psk_of_another_hash(serve: Serve, target: ClientTarget) -> None:
    """After a HelloRetryRequest, PSKs of another hash than that of its suite are gone."""
    name, _ = give_ticket(serve, target, suite=CipherSuite.TLS_AES_256_GCM_SHA384)
    server = serve(resume=True).accept()
    if name not in server.identities_offered:
        raise NotApplicable("the client does not offer its ticket this time")
    server.use_suite(CipherSuite.TLS_AES_128_GCM_SHA256)
    if server.suite not in server.offer.cipher_suites:
        raise NotApplicable("the client offers only suites of the ticket's hash")
    server.retry(retry_body(server))
    offered = name in server.identities_offered
    check(not offered, "no PSK of SHA-384 with a suite of SHA-256", "that of the ticket")
    server.flight().complete()


@needs("early_data")
@req("4.3.10-7")
def test_no_early_data_again(serve: Serve, target: ClientTarget) -> None:
    """The second ClientHello has no early_data."""
    give_ticket(serve, target, max_early_data=4096)
    server = serve(resume=True, early_data=True).accept()
    if ExtensionType.early_data not in server.offer.extensions.types:
        raise NotApplicable("the client does not send early data this time")
    server.retry(retry_body(server))
    again = ExtensionType.early_data in server.offer.extensions.types
    check(not again, "no early_data in the second ClientHello", "early_data")


# -- the ServerHello after it ----------------------------------------------------------------------


@req("4.2.4-10")
def test_suite_changes(server: ScriptedServer, features: ClientFeatures) -> None:
    """A ServerHello with another suite than the HelloRetryRequest's is refused, though offered."""
    server.accept()
    others = [s for s in server.offer.cipher_suites if s in SUITES and s != server.suite]
    if not others:
        raise NotApplicable("the client offers one cipher suite of TLS 1.3 only")
    server.retry(retry_body(server)).hello(set_field("server_hello.cipher_suite", others[0]))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.4-13")
@pytest.mark.parametrize("version", [0x0303, 0x0305])
def test_version_changes(server: ScriptedServer, version: int) -> None:
    """A ServerHello with another selected_version than the HelloRetryRequest's is refused."""
    server.accept()
    server.retry(retry_body(server))
    server.hello(set_field(f"server_hello.{_VERSION}", version))
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("retry")
@req("4.3.8-20", "4.3.8-21")
def test_group_changes(server: ScriptedServer) -> None:
    """A share of another group than the HelloRetryRequest's is refused."""
    first = server.accept().offers_share()
    body = _group(server)
    if first is None:
        raise NotApplicable("the client's first shares are of groups that the suite lacks")
    server.retry(body)
    group = set_field("server_hello.extensions[key_share].server_share.group", first.group)
    share = set_field(
        "server_hello.extensions[key_share].server_share.key_exchange",
        server.backend.respond(first.group, first.key_exchange)[0],
    )
    server.hello(group, share)
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("retry")
@req("4.3.8-14", "4.3.8-15")
def test_group_not_offered(server: ScriptedServer, features: ClientFeatures) -> None:
    """A HelloRetryRequest for a group that the client does not offer is refused."""
    server.accept()
    known = [group for group in NamedGroup if group.name not in features.groups]
    for group in known[:1]:
        server.say_retry(KeyShareHelloRetryRequest(group))
        server.expect_alert(AlertDescription.illegal_parameter)


@req("4.3.8-14", "4.3.8-15")
@pytest.mark.parametrize("which", ["first", "last"])
def test_group_shared_already(server: ScriptedServer, which: str) -> None:
    """A HelloRetryRequest for a group that had a share is refused, also along with a cookie."""
    server.accept()
    if not server.shares_offered:
        raise NotApplicable("the client sends no share at first")
    group = server.shares_offered[0 if which == "first" else -1].group
    cookie = (_COOKIE,) if which == "last" else ()
    server.say_retry(KeyShareHelloRetryRequest(group), *cookie)
    server.expect_alert(AlertDescription.illegal_parameter)
