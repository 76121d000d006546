"""A live server of ours in a process of its own, which tells its secrets to whoever may ask.

    python -m tests.audit.experiments.server '{"chain": …, "key": …, "ca": …, "psk": […, …]}'

Clients get back what they send. A line on stdin, the port of a client, is answered by a line on
stdout: what the server knows of that connection, secrets and all. It is software, so that it has
what its client has, whatever holds the secrets there; what of that an attacker gets is for the
ledger of the client to say.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from typing import Any

from tests.interop.peers.interface import PATIENCE
from tests.tpm.test_ledger import Telling
from tpmtls import wrap_server
from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Aead, Secret
from tpmtls.backends.software import SoftwareSecret
from tpmtls.codepoints import CipherSuite, NamedGroup, PskKeyExchangeMode
from tpmtls.config import Credential, ExternalPsk, ServerConfig
from tpmtls.sockets import TlsStream
from tpmtls.violations import TlsError

EARLY_DATA = 1000
READ = 2**14


class TellingParents(Telling):
    """Tells, too, what each secret was expanded from, and in which order they came."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str, bytes]] = []
        """Name, name of the parent or nothing, octets."""
        self._parent = ""

    def _tell(self, secret: Secret) -> Secret:
        assert isinstance(secret, SoftwareSecret)
        self.told.append((secret.name, self._parent, bytes(secret.octets)))
        return super()._tell(secret)

    def expand_label(self, *arguments: Any) -> Secret:
        self._parent = arguments[0].name
        try:
            return super().expand_label(*arguments)
        finally:
            self._parent = ""

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        assert isinstance(key, SoftwareSecret)
        parent = next(p for name, p, octets in reversed(self.told) if octets == key.octets)
        before = set(self.secrets)
        made = super().aead(suite, key, iv)
        self.told += [(name, parent, octets) for name, octets in self.secrets - before]
        return made


class Known:
    """What there is to tell of a connection."""

    def __init__(self) -> None:
        self.backend = TellingParents()
        self.ready = threading.Event()
        """The handshake is complete, or failed."""
        self.facts: dict[str, Any] = {}

    def to_json(self) -> str:
        self.ready.wait(PATIENCE)
        secrets = [(name, parent, octets.hex()) for name, parent, octets in self.backend.told]
        return json.dumps({"facts": self.facts, "secrets": secrets})


class LiveServer:
    """Serves until its stdin ends."""

    def __init__(self, told: dict[str, Any]) -> None:
        psks = [ExternalPsk(told["psk"][0].encode(), bytes.fromhex(told["psk"][1]))]
        self._config = ServerConfig(
            credentials=(Credential.load(told["chain"], told["key"]),),
            client_trust=told["ca"],
            request_client_certificate=True,
            psks=tuple(psks),
            psk_modes=(PskKeyExchangeMode.psk_dhe_ke,),
            groups=(NamedGroup.secp256r1,),
            suites=tuple(CipherSuite[name] for name in told["suites"]),
            tickets=1,
            max_early_data=EARLY_DATA,
            handshake_timeout=PATIENCE,
        )
        self._known: dict[int, Known] = {}
        self.listener = socket.create_server(("127.0.0.1", 0))

    def accept(self) -> None:
        """Serve each client in a thread of its own."""
        while True:
            sock, (_, port) = self.listener.accept()
            sock.settimeout(PATIENCE)
            known = self._known[port] = Known()  # ports come again
            threading.Thread(target=self._serve, args=(sock, known), daemon=True).start()

    def _serve(self, sock: socket.socket, known: Known) -> None:
        try:
            with wrap_server(sock, self._config, known.backend) as stream:
                known.facts = _facts(stream)
                known.ready.set()
                while data := stream.recv(READ):
                    stream.sendall(data)
        except (TlsError, OSError) as error:
            known.facts["error"] = str(error)
        finally:
            known.ready.set()

    def tell(self, port: int) -> str:
        """What is known of the client at that port."""
        return self._known[port].to_json()


def _facts(stream: TlsStream) -> dict[str, Any]:
    certificate = stream.peer_certificate
    return {
        "psk": stream.negotiated.psk,
        "early_data": stream.early_data.decode(),
        "client": None if certificate is None else certificate.subject.rfc4514_string(),
    }


def main() -> None:
    server = LiveServer(json.loads(sys.argv[1]))
    threading.Thread(target=server.accept, daemon=True).start()
    print(server.listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        print(server.tell(int(line)), flush=True)


if __name__ == "__main__":
    main()
