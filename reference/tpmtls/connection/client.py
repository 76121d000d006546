"""The client's end of a connection."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Final

from tpmtls.backends.base import Backend
from tpmtls.codepoints import ContentType
from tpmtls.config import ClientConfig
from tpmtls.connection.base import KEY_UPDATE_MARGIN, Connection
from tpmtls.events import TicketReceived
from tpmtls.handshake import client, client_key_exchange, client_states
from tpmtls.handshake.machine import Action, Context, Emit, protect
from tpmtls.record import Epoch
from tpmtls.tickets import SessionTicket
from tpmtls.violations import BackendError, ConnectionStateError, PeerAlert, TlsError

MAX_TICKETS_REMEMBERED: Final = 256
"""Tickets, the latest, that are discarded if the connection that they came over fails."""


class ClientConnection(Connection):
    """The client's end. Its ClientHello is in `data_to_send` from the start.

    `early_data=True` offers 0-RTT; ConfigurationError where no ticket or PSK permits it.
    """

    _table = client.CLIENT

    def __init__(
        self, config: ClientConfig, backend: Backend | None = None, *, early_data: bool = False
    ) -> None:
        # req: F.5-3
        super().__init__(config, backend)
        step = client_key_exchange.start(Context(config, self.backend), early_data=early_data)
        self._early_data_sent = 0
        self._cache = config.session_cache
        self._tickets: deque[SessionTicket] = deque(maxlen=MAX_TICKETS_REMEMBERED)
        self._take(step)

    def _perform(self, action: Action) -> None:
        super()._perform(action)
        if isinstance(action, Emit) and isinstance(action.event, TicketReceived):
            self._tickets.append(action.event.ticket)

    def _fail(self, error: TlsError) -> None:
        # req: 6-5
        if error.alert is not None and not self.closed:
            self._leave_early_keys()
        super()._fail(error)
        if self._cache is not None and (error.alert is not None or isinstance(error, PeerAlert)):
            self._cache.discard(self._tickets)

    def _leave_early_keys(self) -> None:
        """Let the alert go out under handshake keys, for a server that may reject early data.

        Once early data is accepted, such a server would wait for EndOfEarlyData first.
        """
        # req: A.1-1
        state = self._state
        early = self._writer.epoch is Epoch.EARLY
        if not early or not isinstance(state, client_states.WaitEncryptedExtensions):
            return
        negotiated = state.negotiated
        with suppress(BackendError):
            self._writer.rekey(
                protect(self.backend, Epoch.HANDSHAKE, negotiated.suite, negotiated.client_secret)
            )

    @property
    def early_data_limit(self) -> int:
        """Octets of 0-RTT data that may still be sent."""
        if self.closed or self._writer.epoch is not Epoch.EARLY:
            return 0
        state = self._state
        if isinstance(state, client_states.WaitServerHello):
            psks = state.offer.psks
        elif isinstance(state, client_states.AfterServerHello):
            psks = state.negotiated.offer.psks
        else:
            return 0
        return psks[0].max_early_data - self._early_data_sent

    @property
    def early_data_accepted(self) -> bool | None:
        """The server's decision; None while it is open, or where none was offered."""
        if self.info is not None:
            return self.info.early_data_accepted
        state = self._state
        negotiated = state.negotiated if isinstance(state, client_states.AfterServerHello) else None
        return None if negotiated is None else negotiated.accepted_early_data

    def send_early_data(self, data: bytes) -> None:
        """Send 0-RTT data, which an attacker can replay; raises ConnectionStateError past the
        limits of ticket and key. What the server rejects is not sent again.
        """
        # req: 4.3.10-15 4.3.10-16 5.5-2 F.5-4
        if len(data) > self.early_data_limit:
            raise self._failure or ConnectionStateError(
                f"early data is limited to {self.early_data_limit} more octets now"
            )
        records = -(-len(data) // self._writer.fragment_size)
        left = self._writer.records_left(self.config.max_records_per_key) - KEY_UPDATE_MARGIN
        if records > left:
            raise ConnectionStateError("the key of early data is used up and cannot be renewed")
        self._early_data_sent += len(data)
        if data:
            self._renew_keys()
            self._write(ContentType.application_data, data)
