"""Scripted peers: they know how to say everything, and no rules.

Composed of the reference's codec, key schedule and record deprotection, never of its state machine.
A step builds a correct message; edits have the last word on it before it is sent and enters the
transcript, so that keys and MACs are right for what was in fact said.
"""

from tlsconform.peer.base import Peer
from tlsconform.peer.client import OfferedPsk, ScriptedClient
from tlsconform.peer.server import ScriptedServer

__all__ = ["OfferedPsk", "Peer", "ScriptedClient", "ScriptedServer"]
