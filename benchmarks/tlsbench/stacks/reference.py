"""The reference itself, sans-IO, with secrets in software or in whatever backend is given."""

from __future__ import annotations

import tpmtls
from tlsbench.stacks.base import HOST, Files, Run, Stack, Stream, pump
from tpmtls.backends.base import Backend
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.events import ApplicationData


class ReferenceStream(Stream):
    """A connection of the reference."""

    def __init__(self, connection: tpmtls.ClientConnection) -> None:
        self._connection = connection

    def seal(self, data: bytes) -> bytes:
        self._connection.send_data(data)
        return self._connection.data_to_send()

    def open(self, records: bytes) -> int:
        self._connection.receive_data(records)
        events = self._connection.events()
        return sum(len(event.data) for event in events if isinstance(event, ApplicationData))


class Reference(Stack):
    """tpmtls."""

    name = "tpmtls"

    def version(self) -> str:
        return tpmtls.__version__

    def handshakes(self, files: Files, group: NamedGroup, *, resumed: bool) -> Run:
        cache = tpmtls.SessionCache() if resumed else None
        client_config = tpmtls.ClientConfig(
            trust=files.ca, server_name=HOST, groups=(group,), session_cache=cache
        )
        server_config = tpmtls.ServerConfig(
            credentials=(files.credential(),), groups=(group,), tickets=int(resumed)
        )

        def run() -> bool:
            client = tpmtls.ClientConnection(client_config)
            server = tpmtls.ServerConnection(server_config)
            pump(client, server)
            if client.info is None or not server.handshake_complete:
                raise RuntimeError("the handshake did not complete")
            return client.info.psk == "resumption"

        if resumed:
            run()
            if not run():
                raise RuntimeError("the handshake was not resumed")
        return run

    def stream(
        self,
        server: tpmtls.ServerConnection,
        files: Files,
        suite: CipherSuite,
        backend: Backend | None = None,
    ) -> Stream:
        config = tpmtls.ClientConfig(trust=files.ca, server_name=HOST, suites=(suite,))
        client = tpmtls.ClientConnection(config, backend)
        pump(client, server)
        client.events()
        return ReferenceStream(client)
