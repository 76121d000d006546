"""Attacks where the traffic is: in the middle of the network, on the bus, on the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.audit.experiments.attacks import stored_sessions
from tests.audit.experiments.follow import Recording, follow, records
from tests.audit.experiments.forge import rewrite
from tests.audit.experiments.line import Line
from tests.audit.experiments.live import Ours
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.oracles import ask_for_keys
from tests.audit.experiments.run import Run, by_id
from tests.audit.experiments.trial import restricted
from tests.tpm.fakes import command_code
from tpmtls.aead.cipher import xor
from tpmtls.algorithms import SHA256, SUITES
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.codepoints import ContentType
from tpmtls.key_schedule import CLIENT_EARLY_TRAFFIC_SECRET, KeySchedule, traffic_aead
from tpmtls.record import RECORD_HEADER_SIZE
from tpmtls.tickets import SessionCache
from tpmtls.violations import TlsError

WRITTEN, INSTEAD = b"pay 100 to bob", b"pay 900 to eve"
WRITES = "client_application_traffic_secret_0"
EARLY = "client_early_traffic_secret"
_TEXT = re.compile(rb"([ -~]+)\x17")
"""What a record has inside, where it is text: the content, then its type."""


# -- in the middle ---------------------------------------------------------------------------------


def forge(machine: Machine, server: Ours, secrets: frozenset[str], *, asks: bool) -> bool:
    """Change what the client says on a new connection, with secrets of a first one.

    `asks`: and with what the TPM answers about its keys.
    """
    machine.cache = SessionCache()
    with machine.connect(server) as line:
        assert line.ask(b"1 data") == b"1 data"
        told = by_id(server.tell(line.port), 1)
        known = restricted(told, secrets & told.keys())
        if asks:
            keys = ask_for_keys(machine, line)
            known |= {f"1/{name}/write_key": octets for name, octets in keys.items()}
        recording = {1: Recording(line.sent, line.received)}
        have = follow(recording, known, external=machine.profile.psk).have
        hash_key = have.get(f"1/{WRITES}/ghash_key")
        line.meddle = lambda record: rewrite(record, WRITTEN, INSTEAD, hash_key)
        try:
            return line.ask(WRITTEN) == INSTEAD
        except TlsError:
            return False


def forge_early(machine: Machine, server: Ours, secrets: frozenset[str]) -> bool:
    """Change the 0-RTT data that the client sends on its second connection."""
    if machine.profile.psk:
        return False
    machine.cache = SessionCache()
    with machine.connect(server) as line:
        line.close()
    told = by_id(server.tell(line.port), 1)
    known = restricted(told, secrets & told.keys())

    def meddle(octets: bytes) -> bytes:
        have = follow({2: Recording(octets, b"")}, known).have
        return b"".join(
            rewrite(record, WRITTEN, INSTEAD, have.get(f"2/{EARLY}/ghash_key"))
            if record[0] == ContentType.application_data
            else record
            for record in records(octets)
        )

    changed = [meddle]  # the first flight, and nothing else
    try:
        with machine.connect(
            server, early_data=WRITTEN, meddle=lambda o: changed.pop()(o) if changed else o
        ) as line:
            early_data: str = server.tell(line.port).facts["early_data"]
    except TlsError:
        return False
    return early_data.encode() == INSTEAD


# -- on the bus ------------------------------------------------------------------------------------


def overheard(run: Run) -> set[bytes]:
    """Data of the recording that shows under what passed between host and TPM, without a key."""
    blocks = {
        response[at : at + 16]
        for command, response in run.bus
        if command_code(command) == CommandCode.EncryptDecrypt2
        for at in range(16, len(response) - 15, 16)
    }
    found = set()
    for recording in run.recordings.values():
        for stream in recording:
            for record in records(stream):
                body = record[RECORD_HEADER_SIZE:-16]
                if record[0] == ContentType.application_data and len(body) <= 16:
                    texts = (_TEXT.fullmatch(xor(body, block[: len(body)])) for block in blocks)
                    found |= {text[1] for text in texts if text is not None}
    for frame in run.pipe:
        found |= {text for text in run.said if text in frame}
    return found


# -- on the machine --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """What code in the client's process can do with its keys, wherever they are."""

    recorded: bool
    future: bool
    forges: bool


def use(machine: Machine, server: Ours) -> Use:
    """Open what was received, and what comes; and seal a record of its own."""
    machine.cache = SessionCache()
    with machine.connect(server) as line:
        assert line.ask(b"before") == b"before"
        recorded = _opened(line, list(records(line.received))[-1], before=1)
        line.client.send_data(b"after!")
        line.pass_on()
        record = line.intercept()
        future = _opened(line, record, before=0)
        line.deliver(record)
        assert line.hear(6) == b"after!"
        line.inject(line.client._writer.write(ContentType.application_data, INSTEAD))
        return Use(b"before" in recorded, b"after!" in future, line.hear(len(INSTEAD)) == INSTEAD)


def _opened(line: Line, record: bytes, *, before: int) -> bytes:
    """What is in a record, by the one who has its keys: it may be one that it has opened."""
    reader = line.client._reader
    assert reader._protection is not None
    header, body = record[:RECORD_HEADER_SIZE], record[RECORD_HEADER_SIZE:]
    return reader._protection.aead.open(reader._sequence - before, header, body) or b""


def read_early_data(machine: Machine, run: Run) -> bool:
    """Whether recorded 0-RTT data can be had with the stored sessions and the TPM they are of."""
    backend, stream = machine.backend, list(records(run.recordings[2].sent))
    hello, *_ = (record for record in stream if record[0] == ContentType.handshake)
    sealed, *_ = (record for record in stream if record[0] == ContentType.application_data)
    for ticket in stored_sessions(run.disk):
        schedule = KeySchedule(backend, SHA256, backend.unwrap(ticket.psk, "PSK", SHA256))
        digest = SHA256.digest(hello[RECORD_HEADER_SIZE:])
        secret = schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
        aead = traffic_aead(backend, SUITES[ticket.suite], secret)
        inner = aead.open(0, sealed[:RECORD_HEADER_SIZE], sealed[RECORD_HEADER_SIZE:])
        aead.close()
        backend.destroy(secret)
        schedule.close()
        if inner is not None:
            return True
    return False
