"""The server's end of a connection."""

from __future__ import annotations

from tpmtls.backends.base import Backend
from tpmtls.codepoints import ProtocolVersion
from tpmtls.config import ServerConfig
from tpmtls.connection.base import Connection
from tpmtls.handshake import server, server_states
from tpmtls.handshake.machine import Context, Step
from tpmtls.handshake.post_handshake import (
    MAX_PENDING_REQUESTS,
    ServerConnected,
    request_certificate,
    send_ticket,
)
from tpmtls.violations import ConnectionStateError


class ServerConnection(Connection):
    """The server's end."""

    _table = server.SERVER

    def __init__(self, config: ServerConfig, backend: Backend | None = None) -> None:
        # req: 5.1-21
        super().__init__(config, backend)
        self._writer.unprotected_version = ProtocolVersion.TLS_1_2
        self._reader.accepts_early_alerts = True
        self._state = server_states.WaitClientHello(Context(config, self.backend))

    def request_client_certificate(self) -> None:
        """Ask the client to authenticate now (RFC 9846 §4.7.2).

        Raises ConnectionStateError where the client did not say that it is willing.
        """
        # req: 4.3.6-1 4.4.2-9 4.7.2-1
        self._act("request a certificate", _request_certificate)

    def send_tickets(self, count: int = 1) -> None:
        """Send so many more session tickets; none where the client could not use them."""
        for _ in range(count):
            self._act("send a ticket", lambda state: Step(*send_ticket(state)))

    @property
    def _early_data_allowed(self) -> int:
        state = self._state
        return state.max_early_data if isinstance(state, server_states.WaitEndOfEarlyData) else 0


def _request_certificate(state: ServerConnected) -> Step:
    if not state.allows_post_handshake_auth:
        raise ConnectionStateError("the client does not offer post-handshake authentication")
    if len(state.pending) >= MAX_PENDING_REQUESTS:
        raise ConnectionStateError("too many certificate requests are unanswered")
    return request_certificate(state)
