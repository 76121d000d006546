"""A peer's misbehaviour as data: what it does, and the violation that it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.scripted import Edits, ScriptedPeer
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    WatchedBackend,
    assert_dead,
    client_config,
    server_config,
)
from tpmtls.codepoints import (
    AlertLevel,
)
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.messages import (
    Alert,
)


@dataclass(frozen=True)
class Case:
    """A peer's misbehaviour, and the violation that it is.

    `config` changes the target's configuration, `peer` is how the scripted peer is made;
    `early_data` makes the target offer some.
    """

    violation: Violation
    edits: Edits = field(default_factory=dict)
    script: Callable[[Any], object] = lambda peer: peer.handshake()
    config: Mapping[str, Any] = field(default_factory=dict)
    peer: Mapping[str, Any] = field(default_factory=dict)
    early_data: bytes | None = None

    def against_client(self) -> None:
        """Play the server, and be refused."""
        config, early = client_config(**self.config), self.early_data is not None
        target = ClientConnection(config, WatchedBackend(), early_data=early)
        target.send_early_data(self.early_data or b"")
        peer = ScriptedServer(target, self.edits, **self.peer)
        with refused(peer, self.violation):
            self.script(peer)

    def against_server(self) -> None:
        """Play the client, and be refused."""
        target = ServerConnection(server_config(**self.config), WatchedBackend())
        peer = ScriptedClient(target, self.edits, **self.peer)
        with refused(peer, self.violation):
            self.script(peer)


@contextmanager
def refused(peer: ScriptedPeer, violation: Violation) -> Iterator[None]:
    """The target finds that violation, says so in one fatal alert, and is dead."""
    with pytest.raises(PeerViolation) as caught:
        yield
    assert caught.value.violation is violation, caught.value
    assert peer.receive_alert() == Alert(AlertLevel.fatal, violation.alert)
    assert_dead(peer.target, caught.value)
