"""Between a process and its swtpm: records all that passes, and lets one look at the process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from tests.tpm.swtpm import Swtpm


class Relay:
    """Listens in a swtpm's place; `each` is called at each command, while the process waits."""

    def __init__(self, server: Swtpm) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.recorded: list[bytes] = []
        """Commands and responses, in turns."""
        self.each: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._server.port)) as tpm:
                while command := _frame(client):
                    self.recorded.append(command)
                    self.each()
                    tpm.sendall(command)
                    response = _frame(tpm)
                    self.recorded.append(response)
                    client.sendall(response)


def _frame(connection: socket.socket) -> bytes:
    """A command or response; nothing where the connection ended."""
    octets = b""
    while len(octets) < 10 or len(octets) < int.from_bytes(octets[2:6], "big"):
        try:
            more = connection.recv(4096)
        except OSError:
            return b""
        if not more:
            return b""
        octets += more
    return octets
