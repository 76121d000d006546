"""What pytest loads wherever tlsconform is installed: options, and no more until one is used.

`tlsconform server HOST:PORT` runs pytest with `--tls-server`; so can users.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeAlias

import pytest

from tlsconform.marks import role_of

if TYPE_CHECKING:
    from tlsconform.peer import ScriptedClient, ScriptedServer

Connect: TypeAlias = "Callable[..., ScriptedClient]"
"""What the fixture `connect` is."""
Serve: TypeAlias = "Callable[..., ScriptedServer]"
"""What the fixture `serve` is."""

OURS: Final = "tlsconform.targets.inprocess"
RUN: Final = "tlsconform.fixtures"
TARGETS: Final = ("tls_server", "tls_client", "tls_self")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tlsconform", "TLS 1.3 conformance (RFC 9846)")
    add = group.addoption
    add("--tls-server", metavar="HOST:PORT", help="ask the server that listens there")
    add("--tls-client", metavar="COMMAND", help="ask this client; {host} and {port} are filled in")
    add("--tls-client-resume", metavar="COMMAND", help="the client's command to resume {session}")
    add("--tls-client-early-data", metavar="COMMAND", help="… and to send {early_data} as 0-RTT")
    add("--tls-self", metavar="BACKEND", help="ask tpmtls in this process: software, tpm, …")
    add("--tls-self-module", metavar="MODULE", default=OURS, help="another make of it: mutants")
    add("--tls-server-name", metavar="NAME", default="localhost", help="server_name to send")
    add("--tls-psk", metavar="ID:HEX", help="an external PSK that the target knows")
    add("--tls-alpn", metavar="A,B", default="", help="protocols to try, beside the usual ones")
    add("--tls-seed", metavar="N", type=int, default=0, help="what makes a run repeat (default: 0)")
    add("--tls-timeout", metavar="S", type=float, default=2.0, help="seconds that silence may last")
    add("--tls-rfc", choices=("9846", "8446"), default="9846", help="which RFC's rules to judge by")
    add("--tls-level", choices=("must", "should"), default="must", help="what fails the run")
    add("--tls-json", metavar="FILE", help="write everything there, as JSON under a schema")
    add("--tls-html", metavar="FILE", help="write a page for people there")
    add("--tls-pcap-dir", metavar="DIR", help="write captures and key logs of failed tests there")
    add("--tls-expect", metavar="FILE", help="TOML with the failures that are expected")


def pytest_configure(config: pytest.Config) -> None:
    """Bring in the plugin itself where there is a target."""
    config.addinivalue_line("markers", "req(id, …): requirements of RFC 9846 it is about")
    config.addinivalue_line("markers", "needs(feature, …): what the target must have")
    if any(getattr(config.option, target) for target in TARGETS):
        config.pluginmanager.register(import_module(RUN), RUN)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a target, the suite's tests can be listed, but not run."""
    if config.pluginmanager.has_plugin(RUN) or config.option.collectonly:
        return
    if any(role_of(item) is not None for item in items):
        raise pytest.UsageError(
            "the tests of tlsconform need a target: --tls-server, --tls-client or --tls-self"
        )
