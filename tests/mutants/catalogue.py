"""The bugs: each a mistake that an implementer could make, spread over roles and areas."""

from __future__ import annotations

from tests.mutants.mutation import Mutant

MUTANTS = (
    Mutant(
        "session id echo not checked",
        "client",
        "handshake/client_key_exchange.py",
        "    if message.legacy_session_id_echo != offer.hello.legacy_session_id:",
        "    if False:",
    ),
)
