"""One run of the suite: the targets, what is known of them, and how it is judged."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

import pytest

from tlsconform.expectations import Expectations
from tlsconform.features import ClientFeatures, Features, ServerFeatures
from tlsconform.journal import Journal
from tlsconform.peer import ScriptedClient, ScriptedServer
from tlsconform.pki import Authority
from tlsconform.probe import ClientProbe, ServerProbe
from tlsconform.targets import ClientTarget, ServerTarget
from tlsconform.targets.program import CommandClient, check_command
from tlsconform.targets.tcp import TcpServer, parse_address
from tpmtls.codepoints import NamedGroup

SUITE: Final = pytest.StashKey["Session"]()
SELF_PSK: Final = (b"tlsconform", bytes(range(32)))
"""The external PSK that our own server and client are given in this process."""
SERVER_KINDS: Final = ("p256", "rsa", "p384", "ed25519", "p521", "ed448")
MAX_SHARES: Final = 2
"""Groups that scripted clients send a share for, unless a test says otherwise."""


def session_of(config: pytest.Config) -> Session:
    """The run's session; a usage error where the run has no target."""
    session = config.stash.get(SUITE, None)
    if session is None:
        raise pytest.UsageError("name a target: --tls-server, --tls-client or --tls-self")
    return session


@dataclass
class Session:
    """What a run knows; `command` is what repeats it, but for the choice of tests."""

    authority: Authority
    server: ServerTarget | None
    client_target: ClientTarget | None
    psk: tuple[bytes, bytes] | None
    server_name: str | None
    alpn: tuple[bytes, ...]
    seed: int
    timeout: float
    rfc: str
    level: str
    expectations: Expectations
    command: str
    features: dict[str, Features] = field(default_factory=dict)

    @classmethod
    def from_options(cls, config: pytest.Config) -> Session | None:
        """The session that the options ask for; None where they ask for none.

        Raises pytest.UsageError, in one line, where they make no sense.
        """
        option = config.option
        if not (option.tls_server or option.tls_client or option.tls_self):
            return None
        try:
            return cls._made(option)
        except ValueError as error:
            raise pytest.UsageError(f"tlsconform: {error}") from None

    @classmethod
    def _made(cls, option: Any) -> Session:
        authority = Authority()
        psk = None if option.tls_psk is None else parse_psk(option.tls_psk)
        server: ServerTarget | None = None
        client: ClientTarget | None = None
        if option.tls_self:
            psk = SELF_PSK
            ours = import_module(option.tls_self_module)
            server = ours.InProcessServer(authority, option.tls_self, psk)
            client = ours.InProcessClient(authority, option.tls_self, psk)
        if option.tls_server:
            server = TcpServer(parse_address(option.tls_server))
        if option.tls_client:
            client = _command_client(option, authority)
        return cls(
            authority,
            server,
            client,
            psk,
            option.tls_server_name or None,
            tuple(name.encode() for name in option.tls_alpn.split(",") if name),
            option.tls_seed,
            option.tls_timeout,
            option.tls_rfc,
            option.tls_level,
            Expectations.load(option.tls_expect),
            _command(option),
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles under test."""
        named = {"server": self.server, "client": self.client_target}
        return tuple(role for role, target in named.items() if target is not None)

    @property
    def client(self) -> ClientTarget:
        """The client under test."""
        if self.client_target is None:
            raise pytest.UsageError("the test needs a client under test")
        return self.client_target

    def target_name(self, role: str) -> str:
        """What the target of a role is called."""
        target = self.server if role == "server" else self.client_target
        return "" if target is None else target.name

    # -- what is known -----------------------------------------------------------------------------

    def learn(self, known: dict[str, Any] | None) -> None:
        """Ask the targets what they support, or take it from `known`; raises TargetUnavailable."""
        if known is not None:
            for role, data in known.items():
                kind = ServerFeatures if role == "server" else ClientFeatures
                self.features[role] = kind.from_json(data)
            return
        if self.server is not None:
            self.features["server"] = ServerProbe(
                self.server,
                self.authority,
                server_name=self.server_name,
                psk=self.psk,
                alpn=self.alpn,
                timeout=self.timeout,
            ).features()
        if self.client_target is not None:
            self.features["client"] = ClientProbe(
                self.client_target, self.authority, psk=self.psk, timeout=self.timeout
            ).features()

    def known(self) -> dict[str, Any]:
        """What was found out, as plain data."""
        return {role: found.to_json() for role, found in self.features.items()}

    # -- connections -------------------------------------------------------------------------------

    def connect(
        self, journal: Journal, seed: str, needs: frozenset[str], **how: Any
    ) -> ScriptedClient:
        """A scripted client, connected to the server under test."""
        if self.server is None:
            raise pytest.UsageError("the test needs a server under test")
        known = self.features.get("server")
        groups = known.groups if isinstance(known, ServerFeatures) else ()
        settings: dict[str, Any] = {
            "share_groups": tuple(NamedGroup[name] for name in groups[:MAX_SHARES])
            or (NamedGroup.x25519, NamedGroup.secp256r1),
            "server_name": self.server_name,
            "credential": self.authority.credential("p256", "client"),
        }
        return ScriptedClient(
            self.server.connect(needs),
            journal,
            seed=f"{self.seed}:{seed}",
            timeout=self.timeout,
            **settings | how,
        )

    def serve(
        self,
        journal: Journal,
        seed: str,
        needs: frozenset[str],
        *,
        resume: bool = False,
        early_data: bool = False,
    ) -> ScriptedServer:
        """A scripted server, to which the client under test has just connected."""
        channel = self.client.start(resume=resume, early_data=early_data, needs=needs)
        credentials = [self.authority.credential(kind) for kind in SERVER_KINDS]
        return ScriptedServer(
            channel,
            journal,
            seed=f"{self.seed}:{seed}",
            timeout=self.timeout,
            credentials=credentials,
        )

    def close(self) -> None:
        """Give back what the targets hold."""
        for target in (self.server, self.client_target):
            if target is not None:
                target.close()


def parse_psk(text: str) -> tuple[bytes, bytes]:
    """`ID:HEX` → identity and key; raises ValueError."""
    identity, colon, key = text.rpartition(":")
    try:
        octets = bytes.fromhex(key)
    except ValueError:
        octets = b""
    if not colon or not identity or not octets:
        raise ValueError("a PSK is ID:HEX, such as client1:000102…0f")
    return identity.encode(), octets


def _command_client(option: Any, authority: Authority) -> CommandClient:
    for command in (option.tls_client, option.tls_client_resume, option.tls_client_early_data):
        if command is not None:
            check_command(command)
    return CommandClient(
        option.tls_client,
        resume=option.tls_client_resume,
        early_data=option.tls_client_early_data,
        authority=authority,
    )


def _command(option: Any) -> str:
    """The `tlsconform` command that repeats the run."""
    words = ["tlsconform"]
    if option.tls_server:
        words += ["server", option.tls_server]
    elif option.tls_client:
        words += ["client", "--command", option.tls_client]
    else:
        words += ["self", "--backend", option.tls_self]
    for name, value, default in (
        ("--resume-command", option.tls_client_resume, None),
        ("--early-data-command", option.tls_client_early_data, None),
        ("--server-name", option.tls_server_name, "localhost"),
        ("--alpn", option.tls_alpn, ""),
        ("--rfc", option.tls_rfc, "9846"),
        ("--seed", str(option.tls_seed), "0"),
    ):
        if value is not None and value != default:
            words += [name, value]
    return shlex.join(words)
