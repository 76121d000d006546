"""Captures of failed tests, made from the journal: a pcap file, and the key log to read it with."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tlsconform.journal import Direction, Entry, Journal

_MAGIC: Final = 0xA1B2C3D4
_RAW_IP: Final = 101
_SEGMENT: Final = 1400
_PORTS: Final = {"client": 40000, "server": 443}
_SYN, _ACK, _FIN = 0x02, 0x10, 0x01


def write_capture(folder: Path, test: str, role: str, journal: Journal) -> Path:
    """Write `<test>.pcap` and `<test>.keylog`; `role` is the one under test. The capture's path.

    Addresses, ports and TCP itself are made up: the octets of the records are real.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.=-]+", "_", test).strip("_")[:150]
    path = folder / f"{name}.pcap"
    header = struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, 1 << 16, _RAW_IP)
    path.write_bytes(header + b"".join(_packets(journal, role)))
    (folder / f"{name}.keylog").write_text("".join(f"{line}\n" for line in journal.key_log))
    return path


def _packets(journal: Journal, role: str) -> Iterator[bytes]:
    for number in range(1, journal.connections + 1):
        entries = [e for e in journal.entries if e.connection == number and e.octets]
        if entries:
            yield from _connection(entries, number, role)


def _connection(entries: list[Entry], number: int, role: str) -> Iterator[bytes]:
    """One TCP connection: its handshake, and its octets in segments."""
    start = entries[0].time
    sequence = {"client": 1, "server": 1}
    other = {"client": "server", "server": "client"}
    yield _packet("client", number, 0, 0, _SYN, b"", start)
    yield _packet("server", number, 0, 1, _SYN | _ACK, b"", start)
    yield _packet("client", number, 1, 1, _ACK, b"", start)
    for entry in entries:
        sender = role if _is_from_target(entry.direction) else other[role]
        for at in range(0, len(entry.octets), _SEGMENT):
            piece = entry.octets[at : at + _SEGMENT]
            acknowledged = sequence[other[sender]]
            yield _packet(sender, number, sequence[sender], acknowledged, _ACK, piece, entry.time)
            sequence[sender] += len(piece)


def _is_from_target(direction: Direction | None) -> bool:
    return direction == "received"


def _packet(
    sender: str, number: int, sequence: int, acknowledged: int, flags: int, data: bytes, at: float
) -> bytes:
    ports = [_PORTS["client"] + number, _PORTS["server"]]
    addresses = [bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2))]
    if sender == "server":
        ports.reverse()
        addresses.reverse()
    tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 0xFFFF, 0, 0)
    length = 20 + len(tcp) + len(data)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, length, 0, 0, 64, 6, 0) + b"".join(addresses)
    octets = ip + tcp + data
    seconds, fraction = divmod(at, 1)
    return (
        struct.pack("<IIII", int(seconds), int(fraction * 1e6), len(octets), len(octets)) + octets
    )
