"""What several files of tests need: looks at what was sent, tickets for clients, signs of life."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tlsconform.mutate import Edit
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import CipherSuite

MESSAGE: Final = b"hello\n"


def check(holds: bool, expected: str, got: object, requirement: str | None = None) -> None:
    """Raises NonConformance unless what the implementation sent is as expected."""
    if not holds:
        raise NonConformance(expected, str(got), requirement)


def no_doubles(items: Iterable[object], what: str, requirement: str | None = None) -> None:
    """Nothing is in a list twice."""
    listed = list(items)
    doubles = sorted({str(item) for item in listed if listed.count(item) > 1})
    check(not doubles, f"no {what} twice", ", ".join(doubles), requirement)


def give_ticket(
    serve: Callable[..., ScriptedServer],
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


def resume(
    serve: Callable[..., ScriptedServer], target: ClientTarget
) -> tuple[ScriptedServer, bytes]:
    """Give the client a ticket and run it again: the peer that has read its offer, and the PSK."""
    name, psk = give_ticket(serve, target)
    server = serve(resume=True).accept()
    if name not in server.identities_offered:
        raise NotApplicable("the client does not offer its ticket this time")
    return server, psk


def client_lives(server: ScriptedServer, target: ClientTarget, sends_data: bool) -> None:
    """After a complete handshake: the client sends what it is told to, or at least stays."""
    if not sends_data:
        server.expect_quiet()
        return
    target.say(MESSAGE)
    received = server.receive_data()
    while MESSAGE not in received:
        received += server.receive_data()
