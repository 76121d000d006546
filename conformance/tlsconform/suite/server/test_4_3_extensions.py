"""§4.3: extensions where they belong, once, in any order, and with nothing behind them."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, drop, duplicate, insert, move
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import SCHEMES_OFFERED
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, fetch_ticket, no_doubles, server_lives
from tpmtls.codepoints import AlertDescription, ExtensionType
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    PostHandshakeAuth,
    ProtocolNameList,
    RecordSizeLimit,
    SignatureAlgorithmsCert,
    UnknownExtension,
)
from tpmtls.wire.messages import Certificate, CertificateEntry

EXTENSIONS: Final = "client_hello.extensions"
UNDERSTOOD: Final = (
    "supported_versions",
    "supported_groups",
    "signature_algorithms",
    "psk_key_exchange_modes",
    "key_share",
)
"""Those of every ClientHello here that every server has to understand to answer it."""


# -- what the server sends -------------------------------------------------------------------------


@req("4.3-1", "4.3-10")
@pytest.mark.parametrize("offer", ["little", "much"])
def test_extensions_of_the_server(
    client: ScriptedClient, features: ServerFeatures, offer: str
) -> None:
    """Each extension of the server is its structure and no more, and none is there twice."""
    bodies = tuple(_more(features)) if offer == "much" else ()
    client.hello(extensions=bodies).complete()  # reading them is what finds octets left over
    for what, block in _blocks(client).items():
        no_doubles([each.extension_type.name for each in block], f"extension of {what}")


@req("4.3-5", "4.3.5-1", "4.3.6-2", "4.3.9-6")
@pytest.mark.parametrize("offer", ["little", "much"])
def test_no_unsolicited_extension(
    client: ScriptedClient, features: ServerFeatures, offer: str
) -> None:
    """The server answers with no extension that the ClientHello did not have."""
    bodies = tuple(_more(features)) if offer == "much" else ()
    client.hello(extensions=bodies).complete()
    offered = {each.extension_type for each in client.first.extensions}
    never = {
        ExtensionType.oid_filters,
        ExtensionType.post_handshake_auth,
        ExtensionType.psk_key_exchange_modes,
    }
    for what, block in _blocks(client).items():
        kinds = {each.extension_type for each in block}
        check(kinds <= offered, f"answers in {what}", sorted(kinds - offered))
        check(not kinds & never, f"none of a client's in {what}", sorted(kinds & never))


def _more(features: ServerFeatures) -> list[ExtensionBody]:
    bodies: list[ExtensionBody] = [
        RecordSizeLimit(2**14 + 1),
        PostHandshakeAuth(),
        UnknownExtension(ExtensionType.status_request, bytes.fromhex("0100000000")),
    ]
    if features.alpn:
        bodies.append(ProtocolNameList((features.alpn[0].encode(),)))
    return bodies


def _blocks(client: ScriptedClient) -> dict[str, list[ExtensionBody]]:
    answer, parameters, certificate = client.answer, client.parameters, client.certificate
    if answer is None or parameters is None:
        raise RuntimeError("the flight has not been read")
    blocks = {
        "ServerHello": list(answer.extensions),
        "EncryptedExtensions": list(parameters.extensions),
    }
    entries = () if certificate is None else certificate.certificate_list
    for i, entry in enumerate(entries):
        blocks[f"certificate {i}"] = list(entry.extensions)
    return blocks


# -- octets left over ------------------------------------------------------------------------------


@req("4.3-2")
@pytest.mark.parametrize("name", UNDERSTOOD)
def test_octets_left_over(client: ScriptedClient, name: str) -> None:
    """An octet after the structure in an extension is refused."""
    client.hello(append(f"{EXTENSIONS}[{name}]", b"\0"))
    client.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@needs("resumption")
def test_octets_left_over_in_pre_shared_key(connect: Connect) -> None:
    """An octet after the binders is refused."""
    ticket = fetch_ticket(connect)
    client = connect().hello(insert(f"{EXTENSIONS}[pre_shared_key]", b"\0", at=-1), psks=(ticket,))
    client.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@needs("early_data")
def test_octets_left_over_in_early_data(connect: Connect) -> None:
    """Content of early_data, which has none in a ClientHello, is refused."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(
        append(f"{EXTENSIONS}[early_data]", b"\0\0\0\0"),
        psks=(ticket,),
        extensions=(EarlyDataIndication(),),
    )
    client.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@needs("alpn")
def test_octets_left_over_in_alpn(client: ScriptedClient, features: ServerFeatures) -> None:
    """An octet after the protocol names is refused."""
    names = ProtocolNameList((features.alpn[0].encode(),))
    client.hello(
        append(f"{EXTENSIONS}[application_layer_protocol_negotiation]", b"\0"), extensions=(names,)
    )
    client.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@needs("record_size_limit")
def test_octets_left_over_in_record_size_limit(client: ScriptedClient) -> None:
    """An octet after the limit is refused."""
    limit = RecordSizeLimit(2**14)
    client.hello(append(f"{EXTENSIONS}[record_size_limit]", b"\0"), extensions=(limit,))
    client.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@needs("post_handshake_auth")
def test_octets_left_over_in_post_handshake_auth(client: ScriptedClient) -> None:
    """Content of post_handshake_auth, which has none, is refused."""
    client.hello(
        append(f"{EXTENSIONS}[post_handshake_auth]", b"\0"), extensions=(PostHandshakeAuth(),)
    )
    client.expect_alert(AlertDescription.decode_error)


# -- where they do not belong ----------------------------------------------------------------------


def _certificate_with(client: ScriptedClient, body: ExtensionBody) -> None:
    """A handshake in which our Certificate has that extension."""
    client.hello().read_flight()
    if client.request is None or client.credential is None:
        raise NonConformance("CertificateRequest", "none")
    context = client.request.certificate_request_context
    entries = tuple(CertificateEntry(der, Extensions()) for der in client.credential.chain)
    edit = insert("certificate.certificate_list[0].extensions", body)
    client.say(Certificate(context, entries), edit)
    # The rest of the flight, for servers that look at it as a whole.
    client.say_certificate_verify(client.credential, client.credential.schemes[0])
    client.finish()


@req("4.3-6")
@needs("client_certificate")
@pytest.mark.parametrize("kind", [0xFF77, 0x0A0A], ids=["private", "grease"])
def test_unsolicited_extension(client: ScriptedClient, kind: int) -> None:
    """An extension of a client's Certificate that the server did not ask for is refused."""
    _certificate_with(client, UnknownExtension(ExtensionType(kind), b""))
    client.expect_alert(AlertDescription.unsupported_extension)


@req("4.3-6", "4.3-7")
@needs("client_certificate")
@pytest.mark.parametrize(
    "body",
    [Cookie(b"cookie"), UnknownExtension(ExtensionType.key_share, b"\0\0")],
    ids=["cookie", "key_share"],
)
def test_misplaced_unsolicited_extension(client: ScriptedClient, body: ExtensionBody) -> None:
    """An extension of other messages in a client's Certificate, and not asked for, is refused."""
    _certificate_with(client, body)
    client.expect_alert(AlertDescription.unsupported_extension, AlertDescription.illegal_parameter)


@req("4.3-7")
@needs("client_certificate")
def test_misplaced_extension(client: ScriptedClient) -> None:
    """An extension that the CertificateRequest has, but a Certificate has not, is refused."""
    schemes = UnknownExtension(ExtensionType.signature_algorithms, bytes.fromhex("00020403"))
    _certificate_with(client, schemes)
    client.expect_alert(AlertDescription.illegal_parameter)


# -- order and number ------------------------------------------------------------------------------


@req("4.3-8")
@pytest.mark.parametrize("name", UNDERSTOOD)
@pytest.mark.parametrize("to", [0, -1], ids=["first", "last"])
def test_any_order(client: ScriptedClient, features: ServerFeatures, name: str, to: int) -> None:
    """An extension may be the first or the last."""
    client.handshake(move(f"{EXTENSIONS}[{name}]", to))
    server_lives(client, features)


@req("4.3-8", "4.3.11-18")
@needs("resumption")
def test_any_order_before_pre_shared_key(connect: Connect, features: ServerFeatures) -> None:
    """With pre_shared_key the last, the others may be in any order, its modes behind the shares."""
    ticket = fetch_ticket(connect)
    client = connect()
    edits = [move(f"{EXTENSIONS}[{name}]", 0) for name in UNDERSTOOD]
    client.hello(*edits, psks=(ticket,)).complete()
    check(client.selected_psk is not None, "the PSK selected", "none")
    server_lives(client, features)


@req("4.3-10", "6-10")
@pytest.mark.parametrize("name", UNDERSTOOD)
@pytest.mark.parametrize("apart", [False, True], ids=["adjacent", "apart"])
def test_twice(client: ScriptedClient, name: str, apart: bool) -> None:
    """The same extension twice is refused."""
    extension = f"{EXTENSIONS}[{name}]"
    client.hello(duplicate(extension), *([move(extension, 0)] if apart else []))
    client.expect_abort()  # the RFC names no alert


@req("4.3-10", "6-10")
@needs("resumption")
def test_pre_shared_key_twice(connect: Connect) -> None:
    """pre_shared_key twice is refused."""
    ticket = fetch_ticket(connect)
    client = connect().hello(duplicate(f"{EXTENSIONS}[pre_shared_key]"), psks=(ticket,))
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


# -- extensions that have to be there --------------------------------------------------------------


@req("9.2-12", "4.3.3-3")
def test_no_signature_algorithms(client: ScriptedClient) -> None:
    """Without signature_algorithms, there is nothing to choose a certificate by."""
    client.hello(drop(f"{EXTENSIONS}[signature_algorithms]"))
    client.expect_alert(AlertDescription.missing_extension)


@req("9.2-12")
@pytest.mark.parametrize("name", ["supported_groups", "key_share"])
def test_groups_and_shares_go_together(client: ScriptedClient, name: str) -> None:
    """One of supported_groups and key_share without the other is refused."""
    client.hello(drop(f"{EXTENSIONS}[{name}]"))
    client.expect_alert(AlertDescription.missing_extension)


@req("9.2-12")
def test_neither_groups_nor_shares(client: ScriptedClient) -> None:
    """Neither supported_groups nor key_share, and no PSK, is refused."""
    client.hello(drop(f"{EXTENSIONS}[supported_groups]"), drop(f"{EXTENSIONS}[key_share]"))
    client.expect_alert(AlertDescription.missing_extension)


@req("4.3.3-6", "4.3-8")
def test_signature_algorithms_cert(client: ScriptedClient, features: ServerFeatures) -> None:
    """signature_algorithms_cert beside signature_algorithms makes no difference here."""
    client.hello(extensions=(SignatureAlgorithmsCert(tuple(SCHEMES_OFFERED)),)).complete()
    server_lives(client, features)
