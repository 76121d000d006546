"""One end of a connection in a process of its own, told what to do on stdin, a line at a time.

    python -m tests.tpm.protected '{"role": "client", "backend": "tpm", "protect": ["chained"], …}'

It knows nothing of what its peer knows, so that what is found in its memory is its own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tpmtls import open_backend
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.config import ClientConfig, Credential, ExternalPsk, ServerConfig
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys


class Protected:
    """The backend, the configuration, and the connection there is."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.backend = open_backend(told["backend"], tcti=told["tcti"], protect=told["protect"])
        psk = told["psk"]
        common: dict[str, Any] = {
            "psks": () if psk is None else (ExternalPsk.load(psk.encode()),),
            "groups": (NamedGroup.secp256r1,),
            "suites": (CipherSuite[told["suite"]],),
        }
        self.config: ClientConfig | ServerConfig
        if told["role"] == "client":
            self.config = ClientConfig(
                trust=told["ca"], server_name="localhost", session_cache=SessionCache(), **common
            )
        else:
            self.config = ServerConfig(
                credentials=(Credential.load(told["chain"], told["key"]),),
                ticket_keys=TicketKeys(),
                replay_guard=ReplayGuard(),
                max_early_data=1000,
                **common,
            )
        self.connection: ClientConnection | ServerConnection

    def act(self, what: str, data: bytes) -> None:
        """One step."""
        match what:
            case "client":
                assert isinstance(self.config, ClientConfig)
                self.connection = ClientConnection(self.config, self.backend)
            case "early":
                assert isinstance(self.config, ClientConfig)
                self.connection = ClientConnection(self.config, self.backend, early_data=True)
                self.connection.send_early_data(data)
            case "server":
                assert isinstance(self.config, ServerConfig)
                self.connection = ServerConnection(self.config, self.backend)
            case "receive":
                self.connection.receive_data(data)
            case "send":
                self.connection.send_data(data)
            case "rekey":
                self.connection.update_keys(request_peer=True)
            case "close":
                self.connection.close()
            case "end":
                self.backend.close()


def main() -> None:
    protected = Protected(json.loads(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, data = line.strip().partition(" ")
        protected.act(what, bytes.fromhex(data))
        connection = getattr(protected, "connection", None)
        print(connection.data_to_send().hex() if connection else "", flush=True)


if __name__ == "__main__":
    main()
