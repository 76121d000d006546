"""What several files of tests need: looks at what was sent, tickets, signs of life."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tlsconform.channel import Silence
from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.mutate import Edit
from tlsconform.outcome import Deviation, NonConformance, NotApplicable, TargetUnavailable
from tlsconform.peer import OfferedPsk, ScriptedClient, ScriptedServer
from tlsconform.peer.base import Peer
from tlsconform.peer.wire import parse_alert
from tlsconform.plugin import Connect, Serve
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    ContentType,
    ExtensionType,
    HandshakeType,
)
from tpmtls.wire.extensions import Cookie, ExtensionBody, KeyShareHelloRetryRequest

MESSAGE: Final = b"hello\n"
COOKIE: Final = Cookie(b"tlsconform")
STILL_OPEN: Final = "a connection still open"
PATIENCE: Final = 4
"""Some servers sleep between two looks at a connection: how many times the usual to wait for what
they are to send."""


def check(holds: bool, expected: str, got: object, requirement: str | None = None) -> None:
    """Raises NonConformance unless what the implementation sent is as expected."""
    if not holds:
        raise NonConformance(expected, str(got), requirement)


def no_doubles(items: Iterable[object], what: str, requirement: str | None = None) -> None:
    """Nothing is in a list twice."""
    listed = list(items)
    doubles = sorted({str(item) for item in listed if listed.count(item) > 1})
    check(not doubles, f"no {what} twice", ", ".join(doubles), requirement)


def refused_with_overflow(finding: NonConformance) -> None:
    """What a record that is too long was refused with: record_overflow, if with any alert."""
    if finding.got == "the end of the connection":
        raise Deviation("alert record_overflow", finding.got, "6.2-2")
    check("record_overflow" in finding.got, "alert record_overflow", finding.got)


def goes_on_reading(peer: Peer, data: bytes) -> None:
    """After user_canceled: data is read, or at least not complained of. Nobody has to answer it."""
    try:
        peer.expect_quiet()
        peer.send_data(data)
        peer.expect_quiet()
    except NonConformance as finding:
        raise Deviation("reading until close_notify", finding.got, "6.1-4") from None


def expect_close_notify(peer: Peer) -> None:
    """close_notify of level warning before it closes; one that stays open may have more to say."""
    while True:
        try:
            record = peer.next_record()
        except Silence:
            raise NotApplicable("its direction stays open") from None
        if record is None:
            raise NonConformance("close_notify", "the end of the connection", "6.1-7")
        if record.content_type is ContentType.alert:
            alert = parse_alert(record)
            check(alert.description == AlertDescription.close_notify, "close_notify", alert)
            check(alert.level == AlertLevel.warning, "warning", alert.level.name, "6.1-2")
            return


def expect_closed(peer: Peer) -> None:
    """It sends no more application data, and closes; alerts may come."""
    while True:
        try:
            record = peer.next_record()
        except Silence:
            raise NonConformance("the connection closed", STILL_OPEN) from None
        if record is None:
            return
        if record.content_type is ContentType.application_data and record.fragment:
            raise NonConformance("no more data", f"{len(record.fragment)} octets of data")
        if record.content_type is ContentType.alert:
            parse_alert(record)


# -- clients ---------------------------------------------------------------------------------------


def give_ticket(
    serve: Serve,
    target: ClientTarget,
    *edits: Edit,
    suite: CipherSuite | None = None,
    lifetime: int = 7200,
    max_early_data: int = 0,
) -> tuple[bytes, bytes]:
    """Run the client once, and leave it a ticket: the ticket's identity, and its PSK."""
    server = serve().accept()
    if suite is not None:
        server.use_suite(suite)
    server.flight().complete()
    ticket = server.say_ticket(*edits, lifetime=lifetime, max_early_data=max_early_data)
    server.end_politely(target)
    return ticket


def resume(serve: Serve, target: ClientTarget) -> tuple[ScriptedServer, bytes]:
    """Give the client a ticket and run it again: the peer that has read its offer, and the PSK."""
    name, psk = give_ticket(serve, target)
    server = serve(resume=True).accept()
    if name not in server.identities_offered:
        raise NotApplicable("the client does not offer its ticket this time")
    return server, psk


def about_chains(target: ClientTarget) -> None:
    """A client that was not told whom to trust cannot be asked about chains."""
    if not target.knows_authority:
        raise NotApplicable("the client's command has no {ca}: it is not told whom to trust")


def client_lives(server: ScriptedServer, target: ClientTarget, sends_data: bool) -> None:
    """After a complete handshake: the client sends what it is told to, or at least stays."""
    if not sends_data:
        server.expect_quiet()
        return
    target.say(MESSAGE)
    received = server.receive_data()
    while MESSAGE not in received:
        received += server.receive_data()


WHERE: Final = {
    "server_hello": "server_hello.extensions",
    "hello_retry_request": "hello_retry_request.extensions",
    "encrypted_extensions": "encrypted_extensions.extensions",
    "certificate": "certificate.certificate_list[0].extensions",
    "certificate_request": "certificate_request.extensions",
}
"""Where each of our messages has its extensions."""


def retry_body(server: ScriptedServer) -> ExtensionBody:
    """What a HelloRetryRequest asks for where that does not matter: a share, if one is left.

    Clients are known that take no HelloRetryRequest which asks for a cookie alone.
    """
    group = server.retry_group()
    return COOKIE if group is None else KeyShareHelloRetryRequest(group)


def flight_with(server: ScriptedServer, message: str, *edits: Edit) -> None:
    """Our flight up to that message, which is edited; the ClientHello has been read."""
    server.edit(*edits)
    if message == "hello_retry_request":
        about_cookie = any("[cookie]" in edit.path for edit in edits)
        server.say_retry(COOKIE if about_cookie else retry_body(server))
        return
    server.hello()
    if message != "server_hello":
        server.encrypted_extensions()
    if message == "certificate_request":
        server.certificate_request()
    if message == "certificate":
        server.certificate()


# -- servers ---------------------------------------------------------------------------------------


def server_lives(client: ScriptedClient, features: ServerFeatures) -> None:
    """After a complete handshake: the server answers data, or at least does not complain."""
    client.send_data(REQUEST)
    if features.responds:
        client.receive_data(PATIENCE * client.timeout)
    else:
        client.expect_quiet()


def fetch_ticket(connect: Connect, **offer: Any) -> OfferedPsk:
    """A ticket from a connection of its own, which is closed; `offer` goes to `hello`."""
    client = connect()
    client.hello(**offer).complete()
    client.send_data(REQUEST)
    try:
        client.wait_for_ticket()
    except NonConformance:
        raise TargetUnavailable("the server gives tickets unreliably") from None
    ticket = client.read_ticket()
    client.close()
    return ticket


@dataclass(frozen=True)
class LegacyAnswer:
    """A ServerHello, read by the rules that all versions share: `extensions` may be left out."""

    version: int
    random: bytes
    suite: int
    extensions: tuple[ExtensionType, ...]

    @property
    def is_tls13(self) -> bool:
        """Whether the version that it means is TLS 1.3."""
        return ExtensionType.supported_versions in self.extensions


def read_legacy_answer(client: ScriptedClient) -> LegacyAnswer | None:
    """The server's next message as a ServerHello of any version; None where it refuses."""
    try:
        record = client.next_record()
    except Silence:
        raise NonConformance("ServerHello or an alert", "silence") from None
    if record is None or record.content_type is ContentType.alert:
        return None
    client.assembler.add(record.fragment)
    octets = client.assembler.next_message() or client.next_octets()
    check(octets[0] == HandshakeType.server_hello, "ServerHello", HandshakeType(octets[0]).name)
    body = octets[4:]
    after = 35 + body[34]
    block, found = body[after + 5 :], []
    while len(block) >= 4:
        found.append(ExtensionType(int.from_bytes(block[:2], "big")))
        block = block[4 + int.from_bytes(block[2:4], "big") :]
    return LegacyAnswer(
        int.from_bytes(body[:2], "big"),
        body[2:34],
        int.from_bytes(body[after : after + 2], "big"),
        tuple(found),
    )
