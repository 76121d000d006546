"""The connections that are attacked: those that an audit observes, over TCP to a live server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.audit.experiments.attacks import stored_sessions
from tests.audit.experiments.follow import Recording, records
from tests.audit.experiments.live import Ours, Told
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.oracles import ask_about, ask_for_keys
from tpmtls.backends.tpm.device import Exchange
from tpmtls.record import RECORD_HEADER_SIZE

_PARTS = frozenset(("derived", "finished_key", "write_key", "write_iv", "ghash_key"))
"""What is named after the secret that it was made of."""
_OF_THE_TICKET = {
    "PSK": "1/PSK",
    "finished_key": "2/binder_key/finished_key",
    "derived": "2/early_secret/derived",
    "client_early_traffic_secret": "2/client_early_traffic_secret",
}


@dataclass(frozen=True)
class Answer:
    """What a TPM told code on the machine, and from which moment on it could."""

    secret: str
    octets: bytes
    moment: str


@dataclass(frozen=True)
class Run:
    """What became of two connections."""

    recordings: Mapping[int, Recording]
    told: Mapping[str, bytes]
    """All secrets by their ids: which of them an attacker gets is for the observation to say."""
    answers: tuple[Answer, ...]
    disk: Path
    """A copy of the machine's disk from between the two."""
    bus: tuple[Exchange, ...]
    """All that passed between host and TPM."""
    pipe: tuple[bytes, ...]
    """All that passed to the handle-only model and back."""
    said: frozenset[bytes]
    """All data."""


def run(machine: Machine, server: Ours, copy: Path) -> Run:
    """Two connections; each piece of data is the name of its moment."""
    told: dict[str, bytes] = {}
    answers: list[Answer] = []
    recordings: dict[int, Recording] = {}
    bus: list[Exchange] = []
    said: set[bytes] = set()
    for number in 1, 2:
        early_data = b"2 early data" if number == 2 and not machine.profile.psk else b""
        device = machine.tpm.device.recording() if machine.tpm else nullcontext(None)
        with device as recorder, machine.connect(server, early_data=early_data) as line:
            for moment in f"{number} data", f"{number} data again":
                assert line.ask(moment.encode()) == moment.encode()
                said.add(moment.encode())
                told |= by_id(server.tell(line.port), number)
                if moment == "1 data":  # later ones tell no more
                    keys = ask_for_keys(machine, line)
                    answers += [
                        Answer(f"1/{name}/write_key", octets, moment)
                        for name, octets in keys.items()
                    ]
                line.update_keys()
            line.close()
        said.add(early_data)
        recordings[number] = Recording(line.sent, line.received)
        if recorder is not None:
            bus += recorder.exchanges
        if number == 1:
            machine.store()
            shutil.copytree(machine.disk, copy)
    hello = next(records(recordings[2].sent))[RECORD_HEADER_SIZE:]
    for ticket in stored_sessions(copy):
        for name, octets in ask_about(machine, ticket.psk, hello=hello):
            moment = "2 early data" if name == "client_early_traffic_secret" else "between"
            answers.append(Answer(_OF_THE_TICKET[name], octets, moment))
    return Run(
        recordings,
        told,
        tuple(answers),
        copy,
        tuple(bus),
        tuple(machine.pipe),
        frozenset(said - {b""}),
    )


def by_id(told: Told, number: int) -> dict[str, bytes]:
    """What a server tells of a connection, by the ids that an observation has for it."""
    named: dict[str, bytes] = {}
    for name, parent, octets in told.secrets:
        whole = f"{parent}/{name}" if name in _PARTS else name
        external = name == "PSK" and not parent
        named.setdefault("0/PSK" if external else f"{number}/{whole}", octets)
    if "0/PSK" in named:
        named["0/finished_key"] = named[f"{number}/binder_key/finished_key"]
        named["0/derived"] = named[f"{number}/early_secret/derived"]
    return named
