"""What is under test: a server that listens, a client that is a command, or ours in process."""

from tlsconform.targets.base import ClientTarget, ServerTarget

__all__ = ["ClientTarget", "ServerTarget"]
