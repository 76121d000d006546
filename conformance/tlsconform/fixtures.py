"""The rest of the pytest plugin, for runs that have a target: its session, and the fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tlsconform.journal import Journal
from tlsconform.marks import role_of
from tlsconform.outcome import NotApplicable, TargetUnavailable
from tlsconform.peer import ScriptedClient, ScriptedServer
from tlsconform.pki import Authority
from tlsconform.plugin import Connect, Serve
from tlsconform.report.plugin import Reporter
from tlsconform.session import SUITE, Session, session_of
from tlsconform.targets import ClientTarget
from tlsconform.verdicts import Judge

EXIT_UNAVAILABLE: Final = 3


def pytest_configure(config: pytest.Config) -> None:
    session = Session.from_options(config)
    if session is None:
        return
    config.stash[SUITE] = session
    pcap_dir = config.option.tls_pcap_dir
    judge = Judge(session, None if pcap_dir is None else Path(pcap_dir))
    config.pluginmanager.register(judge, "tlsconform-judge")
    workers = getattr(config, "workerinput", None)
    if workers is None:
        reporter = Reporter(session, config.option.tls_json, config.option.tls_html)
        config.pluginmanager.register(reporter, "tlsconform-reporter")
    try:
        session.learn(None if workers is None else workers["tlsconform"])
    except TargetUnavailable as error:
        session.close()
        pytest.exit(f"tlsconform: {error}", returncode=EXIT_UNAVAILABLE)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell xdist's workers what was found out about the target, so that it is asked once."""
    session = node.config.stash.get(SUITE, None)
    if session is not None:
        node.workerinput["tlsconform"] = session.known()


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SUITE, None)
    if session is not None:
        session.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of the role that is not under test."""
    session = session_of(config)
    ours = [item for item in items if role_of(item) is not None]
    left_out = [item for item in ours if role_of(item) not in session.roles]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _needs(request: pytest.FixtureRequest) -> frozenset[str]:
    return frozenset(n for mark in request.node.iter_markers("needs") for n in mark.args)


@pytest.fixture
def journal() -> Journal:
    """What this test says and hears."""
    return Journal()


@pytest.fixture
def rfc(request: pytest.FixtureRequest) -> str:
    """The RFC that the run judges by: "9846", or "8446"."""
    return session_of(request.config).rfc


@pytest.fixture
def features(request: pytest.FixtureRequest) -> Any:
    """What the target supports: ServerFeatures or ClientFeatures."""
    return session_of(request.config).features[role_of(request.node) or "server"]


@pytest.fixture
def authority(request: pytest.FixtureRequest) -> Authority:
    """Who certifies the scripted peers; it has their keys."""
    return session_of(request.config).authority


@pytest.fixture
def connect(request: pytest.FixtureRequest, journal: Journal) -> Iterator[Connect]:
    """Opens connections to the server under test: each call gives a ScriptedClient."""
    session, needs = session_of(request.config), _needs(request)
    opened: list[ScriptedClient] = []

    def open_connection(**how: Any) -> ScriptedClient:
        client = session.connect(journal, f"{request.node.nodeid}#{len(opened)}", needs, **how)
        opened.append(client)
        return client

    yield open_connection
    _wind_up(opened)


@pytest.fixture
def client(connect: Connect) -> ScriptedClient:
    """A scripted client, connected to the server under test."""
    return connect()


@pytest.fixture
def serve(request: pytest.FixtureRequest, journal: Journal) -> Iterator[Serve]:
    """Starts the client under test: each call gives the ScriptedServer that it connected to."""
    session, needs = session_of(request.config), _needs(request)
    opened: list[ScriptedServer] = []

    def start(*, resume: bool = False, early_data: bool = False) -> ScriptedServer:
        seed = f"{request.node.nodeid}#{len(opened)}"
        server = session.serve(journal, seed, needs, resume=resume, early_data=early_data)
        opened.append(server)
        return server

    yield start
    output = session.client.output() if opened else ""
    if output:
        journal.remark("the client printed:\n" + "\n".join(output.splitlines()[-20:]))
    session.client.finish()
    _wind_up(opened)


@pytest.fixture
def target(request: pytest.FixtureRequest) -> ClientTarget:
    """The client under test: what has it send data, or end by itself."""
    return session_of(request.config).client


@pytest.fixture
def external_psk(request: pytest.FixtureRequest) -> tuple[bytes, bytes]:
    """Identity and key of the external PSK that the target knows."""
    psk = session_of(request.config).psk
    if psk is None:
        raise NotApplicable("no external PSK is given (--psk)")
    return psk


@pytest.fixture
def server(serve: Serve) -> ScriptedServer:
    """A scripted server, to which the client under test has connected."""
    return serve()


def _wind_up(peers: list[Any]) -> None:
    unused = [str(edit) for peer in peers for edit in peer.unused_edits]
    for peer in peers:
        peer.close()
    if unused:
        pytest.fail(f"edits that nothing was sent with: {'; '.join(unused)}", pytrace=False)
