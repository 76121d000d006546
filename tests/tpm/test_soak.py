"""A thousand handshakes, and hundreds that end anywhere: the TPM has no more in it than before."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.support import (
    LEVEL_SETS,
    ROLES,
    SCENARIOS,
    Ends,
    Pair,
    at_rest,
    client_config,
    each_level,
    ends,
    server_config,
    sessions,
)
from tests.unit import support
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.codepoints import AlertDescription
from tpmtls.connection import Connection
from tpmtls.violations import TlsError

SEED = 9846
HANDSHAKES = 1000
ABORTED = 200
ALL = LEVEL_SETS[-1]


def test_a_thousand_handshakes(libtpms: Tpm) -> None:
    with open_tpm("libtpms:") as beside:
        objects, open_sessions = transient(beside), loaded_sessions(beside)
        backend = TpmBackend(libtpms, ALL)
        before = at_rest(backend)
        configurations = {role: sessions() for role in ROLES}  # one's tickets are not the other's
        dice = random.Random(SEED)
        for number in range(HANDSHAKES):
            role = ROLES[number % 3]
            if dice.random() < 0.5:  # in the other half of the cases: resume
                configurations[role] = sessions()
            Pair(ends(role, backend), *configurations[role]).complete().end()
            assert libtpms.live == before
        backend.close()
        assert transient(beside) == objects
        assert loaded_sessions(beside) == open_sessions


# -- handshakes that end anywhere ------------------------------------------------------------------


def fails(act: Callable[[], object]) -> None:
    with suppress(TlsError):
        act()


def cut(connection: Connection, _dice: random.Random) -> None:
    """The transport ends."""
    fails(lambda: connection.receive_data(b""))


def garble(connection: Connection, dice: random.Random) -> None:
    """What comes next is nothing that the peer sent."""
    fails(lambda: connection.receive_data(b"\x16\x03\x03\x00\x20" + dice.randbytes(32)))
    connection.forget()  # in its first state it may still be waiting for the rest


def alert(connection: Connection, _dice: random.Random) -> None:
    connection.abort(AlertDescription.handshake_failure)


def drop(connection: Connection, _dice: random.Random) -> None:
    connection.forget()


def cancel(connection: Connection, _dice: random.Random) -> None:
    connection.cancel()
    connection.forget()


ENDS = (cut, garble, alert, drop, cancel)


def deliver(pair: Pair, octets: int, dice: random.Random) -> bool:
    """Carry that many octets, in pieces; False where the handshake ends before."""
    waiting = {pair.client: b"", pair.server: b""}
    others: dict[Connection, Connection] = {
        pair.client: pair.server,
        pair.server: pair.client,
    }
    while octets > 0:
        for source, target in others.items():
            waiting[target] += source.data_to_send()
        ready = [connection for connection, octets_left in waiting.items() if octets_left]
        if not ready:
            return False
        target = dice.choice(ready)
        size = min(octets, dice.randint(1, len(waiting[target])))
        piece, waiting[target] = waiting[target][:size], waiting[target][size:]
        target.receive_data(piece)
        octets -= size
    return True


def abort_somewhere(backends: Ends, dice: random.Random) -> bool:
    """One handshake of some kind, ended at some point; False where that came too late."""
    client, server = client_config(), server_config()
    early = None
    match dice.randrange(4):
        case 0:
            server = server.replace(groups=(server.groups[1],))
        case 1:
            client = client.replace(credentials=(support.client_credential(),))
            server = server.replace(client_trust=support.trust(), require_client_certificate=True)
        case 2:
            client, server = sessions()
            Pair(backends, client, server).complete().end()
            early = b"early"
    pair = Pair(backends, client, server, early_data=early)
    there = deliver(pair, dice.randrange(1, 1800), dice)
    for connection in dice.sample([pair.client, pair.server], 2):
        dice.choice(ENDS)(connection, dice)
    return there


@each_level
def test_aborted_handshakes_leave_nothing(libtpms: Tpm, levels: frozenset[str]) -> None:
    backend = TpmBackend(libtpms, levels)
    before = at_rest(backend)
    dice = random.Random(SEED)
    aborted = 0
    while aborted < ABORTED:
        aborted += abort_somewhere(ends(dice.choice(ROLES), backend), dice)
        assert libtpms.live == before


@pytest.mark.parametrize("role", ROLES)
def test_connections_that_nobody_closes_go_with_the_next_command(libtpms: Tpm, role: str) -> None:
    backend = TpmBackend(libtpms, ALL)
    before = at_rest(backend)
    for _ in range(10):
        Pair(ends(role, backend)).complete()
    gc.collect()
    SCENARIOS["full"](ends(role, backend))
    assert libtpms.live == before
