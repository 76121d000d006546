"""§4.2.3: what a client makes of a ServerHello."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, drop, flip, move, set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType, ProtocolVersion
from tpmtls.wire.extensions import (
    ExtensionBody,
    Extensions,
    KeyShareHelloRetryRequest,
    UnknownExtension,
)
from tpmtls.wire.messages import HELLO_RETRY_REQUEST_RANDOM, ServerHello

_SENTINELS: Final = {"tls12": b"DOWNGRD\x01", "tls11": b"DOWNGRD\x00"}
_UNKNOWN_SUITE: Final = 0x13F1
_SCSV: Final = 0x00FF
_CBC_SUITES: Final = (0xC013, 0xC014, 0xC009, 0xC00A, 0x002F, 0x0035)
"""Suites that versions before TLS 1.2 have too."""
_RENEGOTIATION_INFO: Final = ExtensionType(0xFF01)


@req("4.2.3-2", "E.5-9")
@pytest.mark.parametrize("version", [0x0302, 0x0304, 0x0300])
def test_legacy_version(server: ScriptedServer, version: int) -> None:
    """A ServerHello of TLS 1.3 with a legacy_version other than 0x0303 is refused."""
    server.accept().hello(set_field("server_hello.legacy_version", version))
    server.expect_alert(AlertDescription.protocol_version)


@req("4.2.3-6")
@pytest.mark.parametrize("change", ["another", "shorter", "longer", "none"])
def test_session_id_echo(server: ScriptedServer, change: str) -> None:
    """A legacy_session_id_echo that is not what the client sent is refused."""
    path = "server_hello.legacy_session_id_echo"
    sent = server.accept().offer.legacy_session_id
    others = {"another": _inverted(sent), "shorter": sent[:-1], "longer": sent + b"\0", "none": b""}
    other = others[change]
    if not sent:
        # to an empty legacy_session_id, only another length is another value
        other = bytes(32) if change == "none" else bytes(1 + len(change))
    server.hello(set_field(path, other))
    if len(other) > 32:  # longer than the field may be
        server.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)
    else:
        server.expect_alert(AlertDescription.illegal_parameter)


def _inverted(octets: bytes) -> bytes:
    return octets[:-1] + bytes(octet ^ 1 for octet in octets[-1:])


@req("4.2.3-7")
def test_suite_of_tls13_not_offered(server: ScriptedServer, features: ClientFeatures) -> None:
    """A cipher suite of TLS 1.3 that the client did not offer is refused."""
    server.accept()
    suites = [suite for suite in SUITES if suite not in server.offer.cipher_suites]
    if not suites:
        raise NotApplicable("the client offers every cipher suite of TLS 1.3")
    server.hello(set_field("server_hello.cipher_suite", suites[0]))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.3-7")
@pytest.mark.parametrize("suite", [_UNKNOWN_SUITE, 0x0000, 0x1A1A])
def test_suite_unknown(server: ScriptedServer, suite: int) -> None:
    """A cipher suite that nobody knows, and that was not offered, is refused."""
    if suite in server.accept().offer.cipher_suites:
        raise NotApplicable("the client offers that suite")
    server.hello(set_field("server_hello.cipher_suite", suite))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.3-9")
@pytest.mark.parametrize("method", [1, 0xFF])
def test_compression_method(server: ScriptedServer, method: int) -> None:
    """A legacy_compression_method other than 0 is refused."""
    server.accept().hello(set_field("server_hello.legacy_compression_method", method))
    server.expect_alert(AlertDescription.illegal_parameter)


# -- the version, and HelloRetryRequest ------------------------------------------------------------


@needs("retry")
@req("4.2.3-12")
def test_random_makes_the_retry(server: ScriptedServer) -> None:
    """With a random that is not the one of HelloRetryRequest it is a ServerHello, and unfit."""
    group = server.accept().retry_group()
    assert group is not None
    server.say_retry(
        KeyShareHelloRetryRequest(group), edits=[flip("hello_retry_request.random", -1)]
    )
    server.expect_abort()


@req("4.2.3-12")
def test_server_hello_with_the_random_of_a_retry(server: ScriptedServer) -> None:
    """A ServerHello in all but its random, which is HelloRetryRequest's, is not taken for one."""
    server.accept().hello(set_field("server_hello.random", HELLO_RETRY_REQUEST_RANDOM))
    # a HelloRetryRequest cannot have the key_share of a ServerHello, nor ask for that share again:
    # whoever answers, with whatever alert, has looked at the random, which is what this asks for
    server.forget_reading_keys()
    server.expect_abort()


def _old_server_hello(
    server: ScriptedServer, random: bytes, version: ProtocolVersion = ProtocolVersion.TLS_1_2
) -> ServerHello:
    """A ServerHello as of TLS 1.2 or before, with what the client offered for that."""
    offer = server.accept().offer
    old = [suite for suite in offer.cipher_suites if suite not in SUITES and _is_real(suite)]
    if version < ProtocolVersion.TLS_1_2:
        old = [suite for suite in old if suite in _CBC_SUITES]
    bodies: Sequence[ExtensionBody] = ()
    if _SCSV in offer.cipher_suites or _RENEGOTIATION_INFO in offer.extensions.types:
        bodies = (UnknownExtension(_RENEGOTIATION_INFO, b"\0"),)
    suite = old[0] if old else CipherSuite(0xC02F)
    return ServerHello(version, random, b"", suite, 0, Extensions(bodies))


def _is_real(suite: int) -> bool:
    """Neither a signalling value nor one of GREASE."""
    return suite not in (_SCSV, 0x5600) and suite & 0x0F0F != 0x0A0A


@req("4.2.3-16", "4.2.3-18")
@pytest.mark.parametrize("sentinel", list(_SENTINELS))
def test_downgrade_sentinel(
    server: ScriptedServer, features: ClientFeatures, sentinel: str
) -> None:
    """A ServerHello of TLS 1.2 that has a downgrade sentinel is refused."""
    random = server.random.randbytes(24) + _SENTINELS[sentinel]
    server.say(_old_server_hello(server, random))
    if features.tls12:
        server.expect_alert(AlertDescription.illegal_parameter)
    else:
        server.expect_alert(AlertDescription.illegal_parameter, AlertDescription.protocol_version)


@req("4.3.1-15", "E.1-3")
def test_no_supported_versions_is_an_older_version(
    server: ScriptedServer, features: ClientFeatures
) -> None:
    """A ServerHello without supported_versions is of TLS 1.2: taken as such, or refused."""
    server.say(_old_server_hello(server, server.random.randbytes(32)))
    if features.tls12:
        server.expect_quiet()
    else:
        server.expect_alert(AlertDescription.protocol_version)


@req("E.5-4")
@pytest.mark.parametrize("version", [ProtocolVersion.SSL_3_0, ProtocolVersion.TLS_1_1])
def test_versions_that_are_gone(server: ScriptedServer, version: ProtocolVersion) -> None:
    """A ServerHello of SSL 3.0 or TLS 1.1 is refused."""
    server.say(_old_server_hello(server, server.random.randbytes(32), version))
    server.expect_alert(AlertDescription.protocol_version)


@req("4.3.1-15", "9.2-3")
def test_supported_versions_left_out(server: ScriptedServer) -> None:
    """A ServerHello of TLS 1.3 but for supported_versions is not taken for one of TLS 1.3."""
    server.accept().hello(drop("server_hello.extensions[supported_versions]"))
    server.expect_abort()


@req("4.3.1-17", "4.3.1-18")
@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0303])
def test_selected_version_before_tls13(server: ScriptedServer, version: int) -> None:
    """A selected_version before TLS 1.3 is refused, also where that version was offered."""
    path = "server_hello.extensions[supported_versions].selected_version"
    server.accept().hello(set_field(path, version))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.3.1-18")
@pytest.mark.parametrize("version", [0x0305, 0x7F1C, 0xFEFC, 0x0000])
def test_selected_version_not_offered(server: ScriptedServer, version: int) -> None:
    """A selected_version that was not offered is refused."""
    path = "server_hello.extensions[supported_versions].selected_version"
    server.accept().hello(set_field(path, version))
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.3.1-16", "4.3-8")
@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_server_hello_in_order(server: ScriptedServer, order: str) -> None:
    """A ServerHello of TLS 1.3 is taken, whatever the order of its extensions."""
    server.accept()
    if order == "backwards":
        server.edit(move("server_hello.extensions[key_share]", 0))
    server.hello().encrypted_extensions().authenticate().finish().complete()


@req("9.2-6", "4.2.3-10")
def test_neither_key_share_nor_psk(server: ScriptedServer) -> None:
    """A ServerHello with neither key_share nor pre_shared_key is refused."""
    server.accept().hello(drop("server_hello.extensions[key_share]"))
    server.expect_abort()


@req("6-9")
def test_octets_after_the_server_hello(server: ScriptedServer) -> None:
    """Octets after the extensions of a ServerHello are refused."""
    server.accept().hello(append("server_hello", b"\0"))
    server.expect_alert(AlertDescription.decode_error)
