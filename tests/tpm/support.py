"""What the tests of the TPM backend share: its levels, and handshakes in memory that use it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Self

import pytest

from tests.unit import support
from tpmtls.algorithms import SHA256, SHA384
from tpmtls.backends.base import Backend
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.opening import open_device
from tpmtls.codepoints import CipherSuite, NamedGroup, PskKeyExchangeMode
from tpmtls.config import ClientConfig, ExternalPsk, ServerConfig
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys

P256, P384 = NamedGroup.secp256r1, NamedGroup.secp384r1

LEVEL_SETS: tuple[frozenset[str], ...] = (
    frozenset({"sign"}),
    frozenset({"ecdhe"}),
    frozenset({"hkdf"}),
    frozenset({"aead"}),
    frozenset(LEVELS),
)
"""The sets of protection levels that are tested: each alone, and all together."""


def level_name(levels: Collection[str]) -> str:
    """A set of levels for people, always in the same order."""
    return "+".join(level for level in LEVELS if level in levels)


each_level = pytest.mark.parametrize("levels", LEVEL_SETS, ids=level_name)


def backend_over(transport: Any, protect: Collection[str] | None, **options: Any) -> TpmBackend:
    """A backend over a transport of one's own, which tries again without a pause."""
    device = Device(transport, patience=Patience(sleep=lambda _: None))
    return TpmBackend(open_device(device), protect, **options)


def at_rest(backend: TpmBackend) -> int:
    """How many objects the backend keeps between connections, once it has made all of those."""
    for algorithm in SHA256, SHA384:
        secret = backend.import_psk(bytes(32), algorithm)
        stored = backend.unwrap(backend.wrap(secret), "PSK", algorithm)
        size, empty = algorithm.digest_size, algorithm.empty_digest
        constant = backend.extract(algorithm, None, None, "early_secret")
        derived = backend.expand_label(constant, b"derived", empty, size, "derived")
        handshake = backend.extract(algorithm, derived, None, "handshake_secret")
        backend.destroy(secret, stored, constant, derived, handshake)
    return backend.tpm.live


# -- two ends in memory ----------------------------------------------------------------------------


def client_config(**changes: Any) -> ClientConfig:
    return support.client_config(**{"groups": (P256, P384), **changes})


def server_config(**changes: Any) -> ServerConfig:
    return support.server_config(**{"groups": (P256, P384), **changes})


class Pair(support.Pair):
    """Two ends in memory, each with a backend; None stands for software."""

    def __init__(
        self,
        backends: Ends,
        client: ClientConfig | None = None,
        server: ServerConfig | None = None,
        *,
        early_data: bytes | None = None,
    ) -> None:
        self.client = ClientConnection(
            client or client_config(), backends.client, early_data=early_data is not None
        )
        self.server = ServerConnection(server or server_config(), backends.server)
        self.client_wire, self.server_wire = b"", b""
        self.client_events, self.server_events = [], []
        if early_data:
            self.client.send_early_data(early_data)

    def end(self) -> Self:
        """Close both ends, which then have to forget everything."""
        self.client.close()
        self.server.close()
        self.exchange()
        return self

    def forget(self) -> None:
        """Drop both ends, wherever they are."""
        self.client.forget()
        self.server.forget()


@dataclass(frozen=True)
class Ends:
    """The backends of both ends."""

    client: Backend | None
    server: Backend | None


def ends(role: str, backend: Backend, other: Backend | None = None) -> Ends:
    """The TPM as `role`, `other` (software) as its peer; or the TPM as both."""
    return Ends(
        backend if role in ("client", "both") else other,
        backend if role in ("server", "both") else other,
    )


ROLES = ("client", "server", "both")


# -- what two ends can do --------------------------------------------------------------------------


def full(backends: Ends) -> None:
    pair = Pair(backends).complete()
    pair.talk()
    assert pair.info.psk is None
    assert pair.info.group == P256
    pair.end()


def sha384(backends: Ends) -> None:
    suites = (CipherSuite.TLS_AES_256_GCM_SHA384,)
    pair = Pair(backends, client_config(suites=suites, groups=(P384,))).complete()
    pair.talk()
    assert pair.info.suite is suites[0]
    assert pair.info.group == P384
    pair.end()


def retry(backends: Ends) -> None:
    pair = Pair(backends, None, server_config(groups=(P384,), retry_with_cookie=True)).complete()
    pair.talk()
    assert pair.info.group == P384
    pair.end()


def client_certificate(backends: Ends) -> None:
    pair = Pair(
        backends,
        client_config(credentials=(support.client_credential(),)),
        server_config(client_trust=support.trust(), require_client_certificate=True),
    ).complete()
    pair.talk()
    assert pair.server.info is not None
    assert pair.server.info.peer_chain
    pair.end()


def after_handshake_certificate(backends: Ends) -> None:
    pair = Pair(
        backends,
        client_config(credentials=(support.client_credential(),), post_handshake_auth=True),
        server_config(client_trust=support.trust()),
    ).complete()
    pair.server.request_client_certificate()
    pair.exchange()
    pair.talk()
    pair.end()


def key_updates(backends: Ends) -> None:
    pair = Pair(backends).complete()
    pair.client.update_keys(request_peer=True)
    pair.exchange().talk()
    pair.server.update_keys()
    pair.exchange().talk()
    pair.server.update_keys(request_peer=True)
    pair.exchange().talk()
    pair.end()


def exporters(backends: Ends) -> None:
    pair = Pair(backends).complete()
    for label in ("EXPORTER-test", "key", "iv", "resumption", "exporter"):
        for length in (16, 32, 80):
            exported = pair.client.export_keying_material(label, b"context", length)
            assert exported == pair.server.export_keying_material(label, b"context", length)
            assert len(exported) == length
    pair.end()


def external_psk(backends: Ends) -> None:
    for mode in PskKeyExchangeMode.psk_dhe_ke, PskKeyExchangeMode.psk_ke:
        psks = (ExternalPsk(b"an identity", bytes(range(32))),)
        pair = Pair(
            backends,
            client_config(psks=psks, psk_modes=(mode,), session_cache=SessionCache()),
            server_config(credentials=(), psks=psks, psk_modes=(mode,)),
        ).complete()
        pair.talk()
        assert pair.info.psk == "external"
        pair.end()


def sessions(**changes: Any) -> tuple[ClientConfig, ServerConfig]:
    """Two ends that can resume."""
    client = client_config(session_cache=SessionCache(), **changes)
    server = server_config(ticket_keys=TicketKeys(), replay_guard=ReplayGuard())
    return client, server.replace(max_early_data=1000)


def resumption(backends: Ends) -> None:
    for suite in CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite.TLS_AES_256_GCM_SHA384:
        client, server = sessions(suites=(suite,))
        Pair(backends, client, server).complete().end()
        for _ in range(3):  # tickets beget tickets
            pair = Pair(backends, client, server).complete()
            pair.talk()
            assert pair.info.psk == "resumption"
            pair.end()


def early_data(backends: Ends) -> None:
    client, server = sessions()
    Pair(backends, client, server).complete().end()
    pair = Pair(backends, client, server, early_data=b"early")
    pair.to_server()
    export = pair.client.export_early_keying_material("label", b"", 32)
    assert export == pair.server.export_early_keying_material("label", b"", 32)
    pair.complete().talk()
    assert pair.info.early_data_accepted
    pair.end()


def rejected_early_data(backends: Ends) -> None:
    client, server = sessions()
    Pair(backends, client, server).complete().end()
    pair = Pair(backends, client, server.replace(groups=(P384,)), early_data=b"early").complete()
    pair.talk()
    assert pair.info.early_data_accepted is False
    assert pair.info.psk == "resumption"
    pair.end()


Scenario = Callable[[Ends], None]
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        full,
        sha384,
        retry,
        client_certificate,
        after_handshake_certificate,
        key_updates,
        exporters,
        external_psk,
        resumption,
        early_data,
        rejected_early_data,
    )
}
