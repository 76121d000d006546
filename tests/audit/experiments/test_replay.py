"""The network sends recorded 0-RTT data once more."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.audit.experiments import live
from tests.audit.experiments.machine import Machine
from tests.interop.peers.interface import PATIENCE
from tests.pki import Pki
from tpmtls.audit.profiles import BY_KEY

pytestmark = pytest.mark.usefixtures("need_libtpms")

ORDER = b"pay the bearer"


def first_flight(line_sent: bytes) -> bytes:
    """The ClientHello and the records under early data's keys, as they were on the wire."""
    flight, at = b"", 0
    while at < len(line_sent):
        size = 5 + int.from_bytes(line_sent[at + 3 : at + 5], "big")
        flight += line_sent[at : at + size]
        at += size
        if flight[-size] == 23:  # one record of application data is all there is
            return flight
    raise AssertionError("there is no early data")


def replay(server: live.Server, flight: bytes) -> int:
    """Send it; the port that it was sent from. The server has answered by then."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(flight)
        assert connection.recv(2**14)
        port: int = connection.getsockname()[1]
    return port


def accepted_early_data(server: live.Ours, port: int) -> bool:
    """Whether our server has made the keys to read it, and so has read it."""
    return ("write_key", "client_early_traffic_secret") in {
        (name, parent) for name, parent, _ in server.tell(port).secrets
    }


def test_ours_refuses(ours: live.Ours, pki: Pki, tmp_path: Path) -> None:
    with Machine(BY_KEY["software"], tmp_path, pki) as machine:
        machine.connect(ours).close()
        with machine.connect(ours, early_data=ORDER) as line:
            line.close()
    assert ours.tell(line.port).facts["early_data"] == ORDER.decode()
    assert accepted_early_data(ours, line.port)
    for _ in range(2):
        assert not accepted_early_data(ours, replay(ours, first_flight(line.sent)))


@pytest.mark.parametrize(("option", "times"), [("-anti_replay", 1), ("-no_anti_replay", 3)])
def test_openssl_refuses_unless_told_otherwise(
    option: str, times: int, need_openssl: None, pki: Pki, tmp_path: Path
) -> None:
    with (
        live.openssl(pki, "-early_data", option) as server,
        Machine(BY_KEY["all"], tmp_path, pki) as machine,
    ):
        machine.connect(server).close()
        with machine.connect(server, early_data=ORDER) as line:
            assert line.info.early_data_accepted
            line.close()
        for _ in range(2):
            replay(server, first_flight(line.sent))
        machine.connect(server).close()
        server.await_text(b"CIPHER is", 3)  # of the handshakes that were completed
        assert server.count(ORDER) == times
