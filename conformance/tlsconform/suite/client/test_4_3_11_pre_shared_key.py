"""§4.3.9, §4.3.10, §4.3.11: how a client resumes, and sends early data."""

from __future__ import annotations

import time
from typing import Final

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import check, client_lives, give_ticket, resume, retry_body
from tlsconform.targets import ClientTarget
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType, PskKeyExchangeMode
from tpmtls.wire.extensions import EarlyDataIndication, OfferedPsks

LIMIT: Final = 4096
"""Octets of early data that our tickets allow."""

both_hellos = pytest.mark.parametrize("hello", ["first", "second"])


def _offer(serve: Serve, target: ClientTarget, hello: str) -> ScriptedServer:
    """The peer that has read an offer of a PSK, in the first ClientHello or the second."""
    server, _ = resume(serve, target)
    if hello == "second":
        server.retry(retry_body(server))
        if not server.identities_offered:
            raise NotApplicable("the client offers no PSK after a HelloRetryRequest")
    return server


def _other_suite(server: ScriptedServer, *, same_hash: bool) -> CipherSuite:
    """Another suite that the client offers, with the hash of the ticket's or not."""
    for suite in server.offer.cipher_suites:
        row = SUITES.get(suite)
        if row is not None and suite != server.suite and (row.hash == server.hash) is same_hash:
            return suite
    raise NotApplicable("the client offers no such cipher suite")


# -- the offer -------------------------------------------------------------------------------------


@needs("resumption")
@req("4.3.9-1", "4.3.9-2", "9.2-7", "9.2-8")
@both_hellos
def test_modes_go_with_the_psk(serve: Serve, target: ClientTarget, hello: str) -> None:
    """A ClientHello with pre_shared_key has psk_key_exchange_modes."""
    server = _offer(serve, target, hello)
    check(bool(server.modes_offered), "psk_key_exchange_modes", "none")


@needs("resumption")
@req("4.3.9-8", "2.2-1")
@both_hellos
def test_share_goes_with_the_psk(serve: Serve, target: ClientTarget, hello: str) -> None:
    """A ClientHello that offers a PSK with psk_dhe_ke has key_share."""
    server = _offer(serve, target, hello)
    has_share = ExtensionType.key_share in server.offer.extensions.types
    requires = PskKeyExchangeMode.psk_dhe_ke in server.modes_offered
    check(has_share, "key_share", "none", "4.3.9-8" if requires else "2.2-1")


@needs("resumption")
@req("4.3.11-13", "4.3.9-8")
def test_resumption(serve: Serve, target: ClientTarget, features: ClientFeatures) -> None:
    """A ticket's binder verifies, and the handshake under its PSK completes."""
    server, psk = resume(serve, target)
    index = 0
    check(server.binder_is_valid(index, psk), "a binder that verifies", "another")
    server.hello(psk=psk).encrypted_extensions().finish().complete()
    client_lives(server, target, features.sends_data)


@needs("resumption", "psk_ke")
@req("4.3.11-13")
def test_resumption_without_a_share(serve: Serve, target: ClientTarget) -> None:
    """A client that offers psk_ke takes a ServerHello without key_share."""
    server, psk = resume(serve, target)
    server.hello(psk=psk, with_share=False).encrypted_extensions().finish().complete()


@needs("resumption")
@req("4.3.11.1-1")
def test_ticket_is_not_offered_after_its_lifetime(serve: Serve, target: ClientTarget) -> None:
    """A ticket with a lifetime of one second is not offered after three.

    Who counts in whole seconds may be off by almost two, one at either end.
    """
    name, _ = give_ticket(serve, target, lifetime=1)
    time.sleep(3.1)
    server = serve(resume=True).accept()
    check(name not in server.identities_offered, "no offer of that ticket", "an offer of it")


@needs("external_psk")
@req("4.3.11-1", "4.3.11-3", "9.2-8")
def test_external_psk(server: ScriptedServer, external_psk: tuple[bytes, bytes]) -> None:
    """An external PSK is offered with age 0 and a binder of SHA-256, and can be used."""
    identity, key = external_psk
    _use_sha256(server.accept())
    offered = server.offer.extensions.get(OfferedPsks)
    if offered is None or identity not in server.identities_offered:
        raise NotApplicable("the client does not offer its external PSK")
    index = server.identities_offered.index(identity)
    age = offered.identities[index].obfuscated_ticket_age
    check(age == 0, "obfuscated_ticket_age 0", age, "4.3.11-1")
    valid = server.binder_is_valid(index, key, resumption=False)
    check(valid, "a binder of SHA-256 that verifies", "another", "4.3.11-3")
    server.hello(psk=key, index=index).encrypted_extensions().finish().complete()


def _use_sha256(server: ScriptedServer) -> None:
    for suite in server.offer.cipher_suites:
        if suite in SUITES and SUITES[suite].hash.name == "sha256":
            server.use_suite(suite)
            return
    raise NotApplicable("the client offers no cipher suite with SHA-256")


@needs("external_psk")
@req("4.3.11-3", "4.3.11-14")
def test_external_psk_with_another_hash(
    server: ScriptedServer, external_psk: tuple[bytes, bytes]
) -> None:
    """An external PSK is refused with a cipher suite of another hash than SHA-256."""
    _use_sha256(server.accept())
    if external_psk[0] not in server.identities_offered:
        raise NotApplicable("the client does not offer its external PSK")
    suite = _other_suite(server, same_hash=False)
    index = server.identities_offered.index(external_psk[0])
    server.hello(set_field("server_hello.cipher_suite", suite), psk=external_psk[1], index=index)
    server.expect_alert(AlertDescription.illegal_parameter)


# -- the selection ---------------------------------------------------------------------------------


@needs("resumption")
@req("4.3.11-13", "4.3.11-14")
@pytest.mark.parametrize("beyond", ["by one", "65535"])
def test_identity_out_of_range(serve: Serve, target: ClientTarget, beyond: str) -> None:
    """A selected_identity that was not offered is refused."""
    server, psk = resume(serve, target)
    offered = len(server.identities_offered)
    server.hello(psk=psk, index=offered if beyond == "by one" else 65535)
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("resumption")
@req("4.3.11-13", "4.3.11-14", "4.7.1-6")
def test_suite_of_another_hash(serve: Serve, target: ClientTarget) -> None:
    """A PSK selected with a cipher suite of another hash is refused, though that was offered."""
    server, psk = resume(serve, target)
    suite = _other_suite(server, same_hash=False)
    server.hello(set_field("server_hello.cipher_suite", suite), psk=psk)
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("resumption")
@req("4.3.11-13")
def test_other_suite_of_the_same_hash(serve: Serve, target: ClientTarget) -> None:
    """A PSK can be used with another cipher suite than its ticket's, if the hash is the same."""
    server, psk = resume(serve, target)
    server.use_suite(_other_suite(server, same_hash=True))
    server.hello(psk=psk).encrypted_extensions().finish().complete()


@needs("resumption")
@req("4.3.11-13", "4.3.11-14")
def test_no_share_where_it_is_due(serve: Serve, target: ClientTarget) -> None:
    """A PSK selected without key_share is refused where psk_ke was not offered."""
    server, psk = resume(serve, target)
    if PskKeyExchangeMode.psk_ke in server.modes_offered:
        raise NotApplicable("the client offers psk_ke")
    server.hello(psk=psk, with_share=False)
    # §6.2 has an alert for a mandatory extension that is not there: that is this, too
    server.expect_alert(AlertDescription.illegal_parameter, AlertDescription.missing_extension)


@needs("resumption")
@req("4.3.11-13")
def test_full_handshake_instead(serve: Serve, target: ClientTarget) -> None:
    """A server that selects no PSK is authenticated by its certificate."""
    server, _ = resume(serve, target)
    server.hello().encrypted_extensions().authenticate().finish().complete()


@needs("resumption")
@req("4-2")
@pytest.mark.parametrize("message", ["certificate", "certificate_request"])
def test_certificate_beside_the_psk(serve: Serve, target: ClientTarget, message: str) -> None:
    """With a ticket's PSK selected, neither a certificate nor a request for one may follow."""
    server, psk = resume(serve, target)
    server.hello(psk=psk).encrypted_extensions()
    if message == "certificate":
        server.certificate()
    else:
        server.certificate_request()
    server.expect_alert(AlertDescription.unexpected_message)


@needs("resumption")
@req("4-2")
def test_finished_without_authentication(serve: Serve, target: ClientTarget) -> None:
    """Without a PSK selected, a Finished right after EncryptedExtensions is refused."""
    server, _ = resume(serve, target)
    server.hello().encrypted_extensions().finish()
    server.expect_alert(AlertDescription.unexpected_message)


# -- early data ------------------------------------------------------------------------------------


def _early(serve: Serve, target: ClientTarget) -> tuple[ScriptedServer, bytes]:
    """The peer that has read a ClientHello with early data, and the PSK."""
    name, psk = give_ticket(serve, target, max_early_data=LIMIT)
    server = serve(resume=True, early_data=True).accept()
    if ExtensionType.early_data not in server.offer.extensions.types:
        raise NotApplicable("the client does not send early data this time")
    check(name in server.identities_offered, "an offer of the ticket", "none", "4.3.10-1")
    return server, psk


@needs("early_data")
@req("4.3.10-1", "4.3.10-2")
def test_early_data(serve: Serve, target: ClientTarget) -> None:
    """Early data comes under the first PSK's keys, and its end is told once it is accepted."""
    server, psk = _early(serve, target)
    first = server.identities_offered[0]
    check(server.binder_is_valid(0, psk), "early data under the first PSK", first.hex()[:32])
    server.read_early_data(psk)
    check(bool(server.receive_data()), "early data", "none")
    server.hello(psk=psk).encrypted_extensions(EarlyDataIndication()).finish()
    server.read_end_of_early_data().complete()


@needs("early_data")
@req("4-1")
def test_early_data_rejected(serve: Serve, target: ClientTarget) -> None:
    """Where early data is not accepted, no EndOfEarlyData is sent."""
    server, psk = _early(serve, target)
    server.read_early_data(psk)
    server.receive_data()
    server.hello(psk=psk).encrypted_extensions().finish().complete()


@needs("early_data")
@req("4-1")
def test_early_data_and_a_full_handshake(serve: Serve, target: ClientTarget) -> None:
    """Where no PSK is selected, early data is over, and a full handshake completes."""
    server, psk = _early(serve, target)
    server.read_early_data(psk)
    server.receive_data()
    server.hello().encrypted_extensions().authenticate().finish().complete()


@needs("resumption")
@req("4.3-6")
def test_early_data_accepted_that_was_not_offered(serve: Serve, target: ClientTarget) -> None:
    """early_data in EncryptedExtensions is refused where a PSK, but no early data was offered."""
    server, psk = resume(serve, target)
    if ExtensionType.early_data in server.offer.extensions.types:
        raise NotApplicable("the client offers early data")
    server.hello(psk=psk).encrypted_extensions(EarlyDataIndication())
    server.expect_alert(AlertDescription.unsupported_extension)


@needs("early_data")
@req("4.3.11-15", "4.3.11-16")
def test_early_data_accepted_without_the_psk(serve: Serve, target: ClientTarget) -> None:
    """early_data in EncryptedExtensions is refused where the ServerHello selects no PSK."""
    server, psk = _early(serve, target)
    server.read_early_data(psk)
    server.hello().encrypted_extensions(EarlyDataIndication())
    server.expect_abort()


@needs("early_data")
@req("4.3.11-15", "4.3.11-16")
def test_early_data_accepted_with_another_psk(serve: Serve, target: ClientTarget) -> None:
    """Early data accepted with another identity than the first is refused."""
    first = serve().handshake()
    tickets = dict(first.say_ticket(nonce=n, max_early_data=LIMIT) for n in (b"\0", b"\1"))
    first.end_politely(target)
    server = serve(resume=True, early_data=True).accept()
    offered = server.identities_offered
    if ExtensionType.early_data not in server.offer.extensions.types or len(offered) < 2:
        raise NotApplicable("the client does not offer a second PSK beside early data")
    server.read_early_data(tickets[offered[0]])
    server.hello(psk=tickets[offered[1]], index=1).encrypted_extensions(EarlyDataIndication())
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("early_data", "external_psk")
@req("4.3.11-15", "4.3.11-16")
def test_early_data_accepted_with_an_external_psk(
    serve: Serve, target: ClientTarget, external_psk: tuple[bytes, bytes]
) -> None:
    """Early data accepted with an external PSK that is not the first of the offer is refused."""
    server, psk = _early(serve, target)
    identity, key = external_psk
    if identity not in server.identities_offered[1:]:
        raise NotApplicable("the client does not offer its external PSK after the ticket")
    server.read_early_data(psk)
    index = server.identities_offered.index(identity)
    server.hello(psk=key, index=index).encrypted_extensions(EarlyDataIndication())
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("early_data")
@req("4.3-2")
def test_octets_in_early_data_accepted(serve: Serve, target: ClientTarget) -> None:
    """An early_data in EncryptedExtensions that is not empty is refused."""
    server, psk = _early(serve, target)
    server.read_early_data(psk)
    edit = set_field("encrypted_extensions.extensions[early_data]", b"\0")
    server.hello(psk=psk).encrypted_extensions(EarlyDataIndication(), edits=[edit])
    server.expect_alert(AlertDescription.decode_error)


@needs("resumption")
@req("4.3.11-14", "9.2-6")
def test_psk_and_nothing_offered_by_it(serve: Serve, target: ClientTarget) -> None:
    """A ServerHello with neither pre_shared_key nor key_share is refused after an offer too."""
    server, _ = resume(serve, target)
    server.hello(drop("server_hello.extensions[key_share]"))
    server.expect_abort()
