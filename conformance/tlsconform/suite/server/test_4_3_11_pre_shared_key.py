"""§4.3.11: which PSKs a server selects, and what binders it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, find, flip, insert, move, offset, set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import OfferedPsk, ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.session import session_of
from tlsconform.suite.helpers import check, fetch_ticket, read_legacy_answer, server_lives
from tlsconform.suite.server.helpers import complete_without_psk
from tpmtls.algorithms import SHA256, SUITES
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType
from tpmtls.transcript import Transcript
from tpmtls.wire.extensions import UnknownExtension

HELLO: Final = "client_hello"
PSK: Final = f"{HELLO}.extensions[pre_shared_key]"
BINDERS: Final = f"{PSK}.binders"
UNKNOWN: Final = OfferedPsk(b"nobody knows this one", bytes(32))
SHA256_SUITES: Final = tuple(s for s, row in SUITES.items() if row.hash == SHA256)
SHA384_SUITES: Final = (CipherSuite.TLS_AES_256_GCM_SHA384,)


@pytest.fixture
def external(request: pytest.FixtureRequest) -> OfferedPsk:
    """The external PSK that the server has; it is one for SHA-256."""
    known = session_of(request.config).psk
    if known is None:
        raise NotApplicable("no external PSK is known")
    return OfferedPsk(*known, resumption=False)


def resumes(client: ScriptedClient, psks: Sequence[OfferedPsk], index: int = 0) -> ScriptedClient:
    """Offer these, complete the handshake, and see that the one at `index` is selected."""
    client.hello(psks=psks).complete()
    selected = client.selected_psk
    got = "none" if selected is None else f"identity {list(psks).index(selected)}"
    check(selected is psks[index], f"identity {index}", got)
    return client


def is_selected(client: ScriptedClient) -> bool:
    """Whether the server answers with a ServerHello that selects a PSK."""
    answer = read_legacy_answer(client)
    return answer is not None and ExtensionType.pre_shared_key in answer.extensions


# -- which -----------------------------------------------------------------------------------------


@req("4.3.11-9", "9.2-7")
@needs("resumption")
def test_ticket(connect: Connect, features: ServerFeatures) -> None:
    """A ticket with a binder that verifies is good for a handshake."""
    ticket = fetch_ticket(connect)
    server_lives(resumes(connect(), (ticket,)), features)


@req("4.3.11-9")
@needs("resumption", "retry")
def test_ticket_after_retry(connect: Connect, features: ServerFeatures) -> None:
    """After a HelloRetryRequest, the binder that covers it verifies."""
    ticket = fetch_ticket(connect)
    client = connect()
    suites = (ticket.suite,)
    client.hello(psks=(ticket,), shares=(), suites=suites).read_retry()
    client.hello_again().complete()
    check(client.selected_psk is not None, "the PSK selected", "none")
    server_lives(client, features)


@req("4.3.11-6")
@needs("resumption")
@pytest.mark.parametrize("count", [1, 5])
def test_unknown_identities_before(connect: Connect, features: ServerFeatures, count: int) -> None:
    """Identities that the server does not know are passed over."""
    unknown = [replace(UNKNOWN, identity=bytes((i,)) * 64) for i in range(count)]
    ticket = fetch_ticket(connect)
    server_lives(resumes(connect(), (*unknown, ticket), count), features)


@req("4.3.11-7", "4.3.11-6")
@pytest.mark.parametrize("size", [1, 32, 200, 2000])
def test_unknown_identity_alone(
    client: ScriptedClient, features: ServerFeatures, size: int
) -> None:
    """With no identity that it knows, the server goes on with its certificate."""
    client.hello(psks=(replace(UNKNOWN, identity=bytes(size)),)).complete()
    check(client.selected_psk is None, "no PSK", "one selected")
    server_lives(client, features)


@req("4.3.11-7", "4.3.11-6")
@needs("resumption")
def test_mangled_ticket(connect: Connect, features: ServerFeatures) -> None:
    """A ticket with a bit inverted is none: the server goes on with its certificate."""
    ticket = fetch_ticket(connect)
    name = ticket.identity
    middle = len(name) // 2
    mangled = name[:middle] + bytes((name[middle] ^ 1,)) + name[middle + 1 :]
    client = connect()
    client.hello(psks=(replace(ticket, identity=mangled),)).complete()
    check(client.selected_psk is None, "no PSK", "one selected")
    server_lives(client, features)


@req("4.3.11-4")
@needs("resumption", "suites:TLS_AES_256_GCM_SHA384", "suites:TLS_AES_128_GCM_SHA256")
@pytest.mark.parametrize("of", ["SHA-256", "SHA-384"])
def test_hash_of_a_ticket(connect: Connect, features: ServerFeatures, of: str) -> None:
    """A ticket is not selected with a suite of another hash."""
    own, other = SHA256_SUITES, SHA384_SUITES
    if of == "SHA-384":
        own, other = other, own
    ticket = fetch_ticket(connect, suites=own)
    client = connect()
    client.hello(psks=(ticket,), suites=other)
    complete_without_psk(client)
    check(client.selected_psk is None, "no PSK", "one of another hash selected")
    server_lives(client, features)


@req("4.3.11-4")
@needs("resumption", "suites:TLS_AES_256_GCM_SHA384", "suites:TLS_AES_128_GCM_SHA256")
@pytest.mark.parametrize("order", ["SHA-256 first", "SHA-384 first"])
def test_hash_of_suite_and_psk(connect: Connect, order: str) -> None:
    """Whatever the order of suites, the suite selected has the PSK's hash."""
    ticket = fetch_ticket(connect)
    suites = (*SHA256_SUITES, *SHA384_SUITES)
    client = connect()
    client.hello(psks=(ticket,), suites=suites if order == "SHA-256 first" else suites[::-1])
    client.read_server_hello()
    got = client.hash
    check(client.selected_psk is None or got == ticket.hash, ticket.hash.name, got.name)


@req("4.3.11-2")
@needs("external_psk")
@pytest.mark.parametrize("age", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_age_of_external_psk(
    client: ScriptedClient, features: ServerFeatures, external: OfferedPsk, age: int
) -> None:
    """The age of an external PSK makes no difference."""
    server_lives(resumes(client, (replace(external, age=age),)), features)


@req("4.3.11-3", "4.3.11-4")
@needs("external_psk", "suites:TLS_AES_128_GCM_SHA256")
def test_hash_of_external_psk(
    client: ScriptedClient, features: ServerFeatures, external: OfferedPsk
) -> None:
    """An external PSK for which no hash was said has SHA-256, and goes with such suites."""
    client.hello(psks=(external,), suites=SHA256_SUITES).complete()
    check(client.selected_psk is not None, "the PSK selected", "none")
    server_lives(client, features)


@req("4.3.11-3", "4.3.11-4")
@needs("external_psk", "suites:TLS_AES_256_GCM_SHA384")
def test_other_hash_of_external_psk(client: ScriptedClient, external: OfferedPsk) -> None:
    """An external PSK for which no hash was said does not go with suites of SHA-384."""
    selected = is_selected(client.hello(psks=(external,), suites=SHA384_SUITES))
    check(not selected, "no PSK, or an alert", "the PSK selected")


# -- binders ---------------------------------------------------------------------------------------


@req("4.3.11-10", "4.3.11-9")
@needs("resumption")
@pytest.mark.parametrize("position", [0, 15, -1], ids=["first", "middle", "last"])
def test_wrong_binder(connect: Connect, position: int) -> None:
    """A binder with a bit inverted is refused, and so is its PSK."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(flip(f"{BINDERS}[0]", position), psks=(ticket,))
    client.expect_abort()


@req("6.2-4")
@needs("resumption")
def test_alert_for_a_wrong_binder(connect: Connect) -> None:
    """A binder that does not verify gets the alert whose description has it: decrypt_error."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(flip(f"{BINDERS}[0]"), psks=(ticket,))
    client.expect_alert(AlertDescription.decrypt_error)


@req("4.3.11-10", "4.3.11-9")
@needs("resumption")
@pytest.mark.parametrize("what", ["of another key", "of zeros", "of an external PSK"])
def test_binder_of_another_key(connect: Connect, what: str) -> None:
    """A binder that is not from the ticket's key, as a ticket's key, is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    other = {
        "of another key": replace(ticket, key=bytes(len(ticket.key))),
        "of zeros": ticket,
        "of an external PSK": replace(ticket, resumption=False),
    }[what]
    zeros = bytes(ticket.hash.digest_size)
    edits = [set_field(f"{BINDERS}[0]", zeros)] if what == "of zeros" else []
    client.hello(*edits, psks=(other,))
    client.expect_abort()


@req("4.3.11-10", "4.3.11-9")
@needs("external_psk")
@pytest.mark.parametrize("what", ["a bit inverted", "of a ticket's key"])
def test_wrong_binder_of_external_psk(
    client: ScriptedClient, external: OfferedPsk, what: str
) -> None:
    """A binder of an external PSK that does not verify is refused."""
    edits = [flip(f"{BINDERS}[0]")] if what == "a bit inverted" else []
    psk = replace(external, resumption=what == "of a ticket's key")
    client.hello(*edits, psks=(psk,))
    client.expect_abort()


@req("4.3.11-9", "4.3.11-10")
@needs("resumption")
@pytest.mark.parametrize("field", ["random", "legacy_session_id", "age"])
def test_binder_over_another_hello(connect: Connect, field: str) -> None:
    """A binder over a ClientHello that differs by one bit from the one sent is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.psks = (ticket,)
    client.first = client.build_hello()
    root = client.hello_tree(client.first)
    path = f"{PSK}.identities[0].obfuscated_ticket_age" if field == "age" else f"{HELLO}.{field}"
    flip(path, -1).apply(root)
    client.say_tree(root)
    client.expect_abort()


@req("4.3.11-9", "4.3.11-10")
@needs("resumption", "retry")
def test_wrong_binder_after_retry(connect: Connect) -> None:
    """After a HelloRetryRequest, a binder with a bit inverted is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(psks=(ticket,), shares=(), suites=(ticket.suite,)).read_retry()
    client.hello_again(flip(f"{BINDERS}[0]"))
    client.expect_abort()


@req("4.3.11-9", "4.3.11-10")
@needs("resumption", "retry")
def test_binder_without_the_retry(connect: Connect) -> None:
    """After a HelloRetryRequest, a binder over the second ClientHello alone is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    retry = client.hello(psks=(ticket,), shares=(), suites=(ticket.suite,)).read_retry()
    root = client.hello_tree(client.second_hello(retry))
    binders = find(root, BINDERS)
    so_far, client.transcript = client.transcript, Transcript()
    binder = client.binder(ticket, root.encode()[: offset(root, binders)])
    client.transcript = so_far
    set_field(f"{BINDERS}[0]", binder).apply(root)
    client.say_tree(root)
    client.expect_abort()


@req("4.3.11-10")
@needs("resumption")
@pytest.mark.parametrize("size", [31, 33, 48, 255])
def test_length_of_a_binder(connect: Connect, size: int) -> None:
    """A binder that is not as long as the hash is refused."""
    ticket = fetch_ticket(connect, suites=SHA256_SUITES)
    client = connect()
    binder = bytes(size)
    client.hello(set_field(f"{BINDERS}[0]", binder), psks=(ticket,), suites=SHA256_SUITES)
    client.expect_abort()


@req("4.3.11-10")
@needs("resumption")
def test_missing_binder(connect: Connect) -> None:
    """Without a binder for the PSK to select, a ClientHello is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(drop(f"{BINDERS}[1]"), psks=(UNKNOWN, ticket))
    client.expect_abort()


@req("6-10", "4.3.11-10")
@needs("resumption")
def test_too_many_binders(connect: Connect) -> None:
    """More binders than identities are refused: there is one for each."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(insert(BINDERS, b"\x20" + bytes(32), at=-1), psks=(ticket,))
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@req("6-10", "4.3.11-10")
@needs("resumption")
def test_too_few_binders(connect: Connect) -> None:
    """A binder missing for a PSK that would not be selected makes the ClientHello wrong, too."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(drop(f"{BINDERS}[1]"), psks=(ticket, UNKNOWN))
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@req("4.3.11-11")
@needs("resumption")
def test_binders_are_not_tried_in_turn(connect: Connect) -> None:
    """Of two known PSKs, the server selects one, and then looks at its binder alone."""
    selected = []
    for wrong in (0, 1):
        tickets = (fetch_ticket(connect), fetch_ticket(connect))
        client = connect()
        selected.append(is_selected(client.hello(flip(f"{BINDERS}[{wrong}]"), psks=tickets)))
        client.close()
    check(not all(selected), "one order that fails", "the PSK with the good binder, both times")


@req("4.3.11-12", "4.3.11-11")
@needs("resumption")
@pytest.mark.parametrize("place", [0, 1], ids=["before", "after"])
def test_binder_of_an_unknown_identity(
    connect: Connect, features: ServerFeatures, place: int
) -> None:
    """A wrong binder of a PSK that is not selected makes no difference."""
    ticket = fetch_ticket(connect)
    client = connect()
    psks = (UNKNOWN, ticket) if place == 0 else (ticket, UNKNOWN)
    client.edit(flip(f"{BINDERS}[{place}]"))
    server_lives(resumes(client, psks, 1 - place), features)


# -- place -----------------------------------------------------------------------------------------


@req("4.3.11-18")
@pytest.mark.parametrize("place", [0, 3, -2])
def test_pre_shared_key_is_last(client: ScriptedClient, place: int) -> None:
    """pre_shared_key anywhere but at the end is refused, known identity or not."""
    client.hello(move(PSK, place), psks=(UNKNOWN,))
    client.expect_alert(AlertDescription.illegal_parameter)


@req("4.3.11-18")
@needs("resumption")
@pytest.mark.parametrize("kind", [0x0A0A, 21], ids=["grease", "padding"])
def test_nothing_after_pre_shared_key(connect: Connect, kind: int) -> None:
    """An extension after pre_shared_key is refused, though no server looks into it."""
    ticket = fetch_ticket(connect)
    client = connect()
    unknown = UnknownExtension(ExtensionType(kind), b"\0")
    client.hello(insert("client_hello.extensions", unknown, at=-1), psks=(ticket,))
    client.expect_alert(AlertDescription.illegal_parameter)
