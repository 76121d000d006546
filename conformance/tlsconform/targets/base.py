"""The interface to an implementation under test."""

from __future__ import annotations

from abc import ABC, abstractmethod

from tlsconform.channel import Channel


class Target(ABC):
    """Either kind."""

    name: str
    """What the report calls it."""
    in_process = False
    """Whether it answers at once or not at all, so that nothing need be waited for."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back what the target holds."""


class ServerTarget(Target):
    """A server under test."""

    @abstractmethod
    def connect(self, needs: frozenset[str] = frozenset()) -> Channel:
        """A new connection to it; raises TargetUnavailable.

        `needs` are the features that the test asks for, so that a target that can be configured
        is configured to have them.
        """

    def request_client_certificate(self, channel: Channel) -> bool:
        """Make it ask for a certificate after the handshake; False where there is no way to."""
        return False


class ClientTarget(Target):
    """A client under test: it is started for each connection, and told to connect to us."""

    knows_authority = True
    """Whether it was told whom to trust: others cannot be asked about chains."""

    @abstractmethod
    def start(
        self,
        *,
        resume: bool = False,
        early_data: bool = False,
        needs: frozenset[str] = frozenset(),
    ) -> Channel:
        """Start the client; the connection that it makes. Raises TargetUnavailable.

        With `resume` it is to use what the connections of the same test left it.
        """

    def say(self, data: bytes) -> None:
        """Have the client send application data, as far as it does what its stdin says."""

    def wind_up(self) -> None:
        """Let the client end by itself, for a bounded time: its input is over."""

    @abstractmethod
    def output(self) -> str:
        """What the client has printed in this test, to be shown where a test fails."""

    @abstractmethod
    def finish(self) -> None:
        """End what is running, and forget what this test's connections left."""
