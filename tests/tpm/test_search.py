"""Proof by search: the memory of a process that protects its secrets, and all that passes its TPM.

Its peer, software in this process, tells every secret of the connection. Each is searched for in
every form that we can think of, in images of the other's memory, at moments that include every
command to the TPM. The same search finds them where they are not protected as much.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest

from tests.tpm.decipher import auth_value
from tests.tpm.memory import PAGE, Found, Images, forms, search_memory, search_traffic
from tests.tpm.prepared import compressed, hmac_states
from tests.tpm.relay import Relay
from tests.tpm.support import SCENARIOS, Ends, client_config, server_config
from tests.tpm.swtpm import Swtpm
from tests.tpm.test_ledger import Telling, constants
from tests.unit.support import pki
from tpmtls.algorithms import SHA256
from tpmtls.backends.handle_model import HandleModel
from tpmtls.backends.handle_only import HandleOnlyBackend, LocalLink
from tpmtls.backends.handle_process import Field, Operation, frame
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import provision
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.codepoints import CipherSuite
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.events import ApplicationData, EarlyData, HandshakeCompleted
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys

GCM, CCM = "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256"
SHA384 = "TLS_AES_256_GCM_SHA384"
EVERY = 8
"""At which of the commands to the TPM an image is taken: at the first and each that many after."""

Secrets = set[tuple[str, bytes]]


class Agent:
    """The process, and what was seen of it."""

    def __init__(
        self,
        role: str,
        suite: str,
        backend: str,
        protect: tuple[str, ...] | None = None,
        tcti: str | None = None,
        psk: bytes | None = None,
    ) -> None:
        made = pki().server()
        told = {
            "role": role,
            "suite": suite,
            "backend": backend,
            "protect": protect,
            "tcti": tcti,
            "psk": None if psk is None else psk.decode(),
            "ca": str(pki().ca),
            "chain": str(made.chain),
            "key": str(made.key),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tpm.protected", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.images = Images(self.process.pid)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def do(self, what: str, data: bytes = b"") -> bytes:
        """One step; what the process has to send then. An image is taken after it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {data.hex()}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line.endswith("\n"), "the process has ended"
        self.images.take()
        return bytes.fromhex(line)

    def child(self) -> int:
        """The one process that it started."""
        pid = self.process.pid
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def stop(self) -> None:
        for stream in self.process.stdin, self.process.stdout:
            assert stream is not None
            stream.close()
        assert self.process.wait() == 0


class Conversation:
    """Connections between the process and software here, which tells its secrets."""

    def __init__(self, agent: Agent, role: str, suite: str) -> None:
        self.agent = agent
        self.role = role
        self.peer = Telling()
        suites = (CipherSuite[suite],)
        self.client = client_config(session_cache=SessionCache(), suites=suites)
        self.server = server_config(
            ticket_keys=TicketKeys(), replay_guard=ReplayGuard(), suites=suites
        ).replace(max_early_data=1000)
        self.here: Connection
        self.data = b""
        self.psk: str | None = None

    def connect(self, *, early_data: bytes = b"") -> None:
        """A handshake, and data in both directions."""
        self.data = b""
        if self.role == "client":
            self.here = ServerConnection(self.server, self.peer)
            to_here = self.agent.do("early" if early_data else "client", early_data)
        else:
            self.agent.do("server")
            client = ClientConnection(self.client, self.peer, early_data=bool(early_data))
            if early_data:
                client.send_early_data(early_data)
            self.here = client
            to_here = b""
        self.exchange(to_here)
        self.talk()

    def exchange(self, to_here: bytes) -> None:
        while True:
            if to_here:
                self.here.receive_data(to_here)
            for event in self.here.events():
                if isinstance(event, HandshakeCompleted):
                    self.psk = event.psk
                elif isinstance(event, ApplicationData | EarlyData):
                    self.data += event.data
            to_there = self.here.data_to_send()
            if not to_there:
                return
            to_here = self.agent.do("receive", to_there)

    def talk(self) -> None:
        self.exchange(self.agent.do("send", b"from there"))
        self.here.send_data(b"from here")
        self.exchange(b"")
        assert self.data.endswith(b"from there")

    def everything(self) -> Secrets:
        """Two handshakes, the second resumed and with 0-RTT, and KeyUpdates; what to search for."""
        self.connect()
        self.exchange(self.agent.do("rekey"))
        self.talk()
        self.exchange(self.agent.do("close"))
        self.here.close()
        self.exchange(b"")
        self.connect(early_data=b"early")
        assert self.psk == "resumption"
        self.exchange(self.agent.do("close"))
        return self.secrets()

    def secrets(self) -> Secrets:
        """What the peer knows, and not everyone."""
        known = constants()
        return {(name, octets) for name, octets in self.peer.secrets if octets not in known}


@pytest.fixture
def machine(swtpm: Swtpm) -> Iterator[Relay]:
    provision(swtpm.tcti)
    relay = Relay(swtpm)
    yield relay
    relay.close()


NAMES = {
    *("shared_secret", "handshake_secret", "main_secret", "derived", "finished_key"),
    *("client_handshake_traffic_secret", "server_handshake_traffic_secret"),
    *("client_application_traffic_secret_0", "server_application_traffic_secret_0"),
    *("client_application_traffic_secret_1", "server_application_traffic_secret_1"),
    *("exporter_secret", "resumption_secret", "PSK", "early_secret", "binder_key"),
    *("client_early_traffic_secret", "early_exporter_secret", "write_key", "write_iv"),
}
"""The secrets of a connection, of its resumption with 0-RTT, and of KeyUpdates."""


def take_images(relay: Relay, *images: Images) -> None:
    """At each EVERYth command to the TPM, while the process waits."""
    commands = count()

    def each() -> None:
        if not next(commands) % EVERY:
            for of in images:
                of.take()

    relay.each = each


def look(
    agent: Agent, role: str, suite: str, relay: Relay | None = None, inside: Images | None = None
) -> Secrets:
    """Run everything, taking images, of what is `inside` the TPM or model too; the secrets."""
    if relay is not None:
        take_images(relay, agent.images, *(() if inside is None else (inside,)))
    secrets = Conversation(agent, role, suite).everything()
    agent.images.take()
    if inside is not None:
        inside.take()
    if relay is not None:
        relay.each = lambda: None
    agent.do("end")
    agent.stop()
    assert {name for name, _ in secrets} - {"ghash_key"} == NAMES
    return secrets


def names(found: Found) -> set[str]:
    return {name for name, _ in found}


# -- where nothing is to be found ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "suite"),
    [("client", CCM), ("server", CCM), ("client", GCM), ("server", SHA384)],
)
def test_chained(swtpm: Swtpm, machine: Relay, role: str, suite: str) -> None:
    agent = Agent(role, suite, "tpm", ("chained",), machine.tcti)
    inside = Images(swtpm.process.pid)
    secrets = look(agent, role, suite, machine, inside)
    assert agent.images.moments > 50
    with open_tpm(swtpm.tcti) as tpm:
        secrets.add(("authValue", auth_value(tpm)))
    in_clear = {"write_iv"} if suite == CCM else {"write_iv", "ghash_key"}
    assert names(search_traffic(machine.recorded, secrets)) == in_clear
    assert names(search_memory(agent.images.pieces, secrets)) == in_clear
    there = names(search_memory(inside.pieces, secrets))  # these very secrets, where they are
    assert "authValue" in there
    assert len(there & NAMES) > 12, there


@pytest.mark.parametrize("role", ["client", "server"])
def test_chained_external_psk(swtpm: Swtpm, role: str) -> None:
    """Provisioned by another process."""
    provision(swtpm.tcti)
    known = ExternalPsk(b"an identity", os.urandom(32), SHA256)
    with open_tpm(swtpm.tcti) as tpm:
        psk = ChainedBackend(tpm).provision_psk(known.identity, known.key, SHA256).encode()
    relay = Relay(swtpm)
    agent = Agent(role, CCM, "tpm", ("chained",), relay.tcti, psk)
    take_images(relay, agent.images)
    talk = Conversation(agent, role, CCM)
    talk.client = talk.client.replace(psks=(known,))
    talk.server = talk.server.replace(psks=(known,))
    talk.connect()
    assert talk.psk == "external"
    relay.each = lambda: None
    agent.do("end")
    agent.stop()
    relay.close()
    secrets = talk.secrets()
    assert {name for name, _ in secrets} >= {"PSK", "early_secret", "finished_key", "derived"}
    assert names(search_traffic(relay.recorded, secrets)) == {"write_iv"}
    assert names(search_memory(agent.images.pieces, secrets)) == {"write_iv"}


@pytest.mark.parametrize("role", ["client", "server"])
def test_handle_only(role: str) -> None:
    agent = Agent(role, GCM, "handle-only")
    inside = Images(agent.child())
    secrets = look(agent, role, GCM, inside=inside)
    assert names(search_memory(agent.images.pieces, secrets)) == set()
    assert names(search_memory(inside.pieces, secrets)) >= LIVE - {"PSK"} | {"write_key"}


class RecordedLink(LocalLink):
    """All that passes to the model and back."""

    def __init__(self, model: HandleModel) -> None:
        super().__init__(model)
        self.frames: list[bytes] = []

    def request(self, operation: Operation, fields: Sequence[Field]) -> tuple[int, list[bytes]]:
        status, made = super().request(operation, fields)
        self.frames += (frame(operation, fields), frame(status, made))
        return status, made


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", ["full", "key_updates", "resumption", "sha384"])
def test_what_passes_to_the_model(scenario: str, role: str) -> None:
    link, peer = RecordedLink(HandleModel()), Telling()
    backend = HandleOnlyBackend(link)
    SCENARIOS[scenario](Ends(backend, peer) if role == "client" else Ends(peer, backend))
    assert len(link.frames) > 50
    secrets = {(name, octets) for name, octets in peer.secrets if octets not in constants()}
    assert len(secrets) > 10
    assert names(search_traffic(link.frames, secrets)) == set()


# -- where the same search finds them --------------------------------------------------------------

LIVE = {"client_application_traffic_secret_0", "server_application_traffic_secret_0", "PSK"}


@pytest.mark.parametrize("role", ["client", "server"])
def test_software(role: str) -> None:
    agent = Agent(role, GCM, "software")
    secrets = look(agent, role, GCM)
    found = search_memory(agent.images.pieces, secrets)
    assert names(found) >= LIVE | {"write_key", "exporter_secret", "write_iv"}
    assert ("write_key", "round key 10") in found


@pytest.mark.parametrize("role", ["client", "server"])
def test_hkdf(machine: Relay, role: str) -> None:
    agent = Agent(role, GCM, "tpm", ("ecdhe", "hkdf", "aead"), machine.tcti)
    secrets = look(agent, role, GCM, machine)
    crossed = names(search_traffic(machine.recorded, secrets))
    assert crossed >= LIVE | {"shared_secret", "write_key", "main_secret"}
    found = names(search_memory(agent.images.pieces, secrets))
    assert len(found - {"write_iv", "ghash_key"}) >= 5  # they pass, and images are moments


# -- the search itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(9))
def test_each_form_is_found_wherever_it_is(at: int) -> None:
    secret = bytes(range(140, 204, 2))
    for _, form in forms(secret):
        page = (bytes(512 + at) + form).ljust(PAGE, b"y")
        assert names(search_memory([bytes(PAGE), page], [("a secret", secret)])) == {"a secret"}
        assert names(search_traffic([b"x", form, b"y"], [("a secret", secret)])) == {"a secret"}
    others = [bytes(range(64)) * 64, bytes(100)]
    assert search_memory([others[0]], [("a secret", secret)]) == set()
    assert search_traffic(others, [("a secret", secret)]) == set()


def test_a_form_that_happens_to_look_like_text() -> None:
    secret = bytes.fromhex("fd67e333c749188d945c6e48")
    digits = dict(forms(secret))["a Python integer, big end first"]
    assert digits.isascii()
    page = (bytes(512) + digits).ljust(PAGE, b"y")
    assert names(search_memory([page], [("a secret", secret)])) == {"a secret"}


@pytest.mark.parametrize(("name", "bits"), [("sha256", 32), ("sha384", 64)])
def test_the_states_of_hmac(name: str, bits: int) -> None:
    """They make the HMAC that the key makes; what was hashed before them is one block."""
    size, key = hashlib.new(name).digest_size, os.urandom(bits)

    def finish(state: list[int], data: bytes) -> bytes:
        length = (2 * bits + len(data)) * 8
        block = (data + b"\x80").ljust(2 * bits - 8, b"\0") + length.to_bytes(8, "big")
        words = compressed(state, block, bits)
        return b"".join([word.to_bytes(bits // 8, "big") for word in words])[:size]

    inner, outer = hmac_states(key, bits)
    assert finish(outer, finish(inner, b"data")) == hmac.digest(key, b"data", name)


def test_images_see_what_was_there_at_one_moment() -> None:
    code = """
import sys
room = bytearray(40960)
print(flush=True)
for line in sys.stdin:
    at = int(line)
    room[:] = bytes(40960)
    if at:
        room[at : at + 32] = bytes(octet ^ 0x55 for octet in range(32))
    print(flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    images, secret = Images(process.pid), bytes(octet ^ 0x55 for octet in range(32))
    found = []
    for at in 0, 8192 - 20, 0:
        process.stdin.write(f"{at}\n")
        process.stdin.flush()
        process.stdout.readline()
        images.take()
        found.append(bool(search_memory(images.pieces, [("a secret", secret)])))
    assert found == [False, True, True]
    process.stdin.close()
    process.stdout.close()
    assert process.wait() == 0
