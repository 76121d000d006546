"""The run that is observed: a client's two connections to a server in the same process.

A full handshake with client authentication, data both ways, KeyUpdate both ways, data again, close;
then the session is resumed, with 0-RTT where the profile allows it, and goes the same way. With an
external PSK both connections are made with it, and nobody shows a certificate. It is the client
whose secrets are observed. The server is software, and its secrets are nobody's business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tpmtls import open_backend
from tpmtls.algorithms import SUITES
from tpmtls.audit.journal import AUTH_VALUE, Journal
from tpmtls.audit.model import Observation
from tpmtls.audit.observation import (
    EXTERNAL_PSK,
    PROVISIONED,
    SIGNING_KEY,
    Observed,
    ObservedSigner,
    made_by,
)
from tpmtls.audit.profiles import Profile
from tpmtls.backends.base import Backend, Signer
from tpmtls.backends.references import open_key
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.backends.tpm import keys
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.psk import provision
from tpmtls.certificates import issuing
from tpmtls.codepoints import CipherSuite, NamedGroup
from tpmtls.config import ClientConfig, Credential, ExternalPsk, ServerConfig
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import HandshakeCompleted, PskKind
from tpmtls.record import RECORD_HEADER_SIZE
from tpmtls.tickets import SessionCache
from tpmtls.violations import BackendError, TpmLacks

GROUP: Final = NamedGroup.secp256r1
DEFAULT_SUITE: Final = CipherSuite.TLS_AES_128_GCM_SHA256
SERVER_NAME: Final = "localhost"
PSK_IDENTITY: Final = b"audit"
MAX_EARLY_DATA: Final = 1024


# -- who takes part --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parties:
    """Both configurations of the two connections, and the client's observed backend."""

    backend: Observed
    client: ClientConfig
    server: ServerConfig
    server_backend: Backend | None = None


def _parties(profile: Profile, suite: CipherSuite, tpm: Tpm | None, backend: Observed) -> Parties:
    common: dict[str, Any] = {"suites": (suite,), "groups": (GROUP,)}
    if profile.psk and tpm is not None:
        ours, theirs = _psks(tpm, suite, backend.journal)
        return Parties(
            backend,
            ClientConfig(server_name=SERVER_NAME, psks=(ours,), **common),
            ServerConfig(psks=(theirs,), tickets=0, **common),
        )
    server, client = _server_credential(), _client_credential(tpm, backend)
    return Parties(
        backend,
        ClientConfig(
            trust=_pem(server),
            server_name=SERVER_NAME,
            session_cache=SessionCache(),
            credentials=(client,),
            **common,
        ),
        ServerConfig(
            credentials=(server,),
            client_trust=_pem(client),
            require_client_certificate=True,
            tickets=1,
            max_early_data=MAX_EARLY_DATA,
            **common,
        ),
    )


def _psks(tpm: Tpm, suite: CipherSuite, journal: Journal) -> tuple[ExternalPsk, ExternalPsk]:
    """The client's, in the TPM as two keys, and the server's. To put it there is not observed."""
    key, algorithm = os.urandom(32), SUITES[suite].hash
    provisioned = provision(tpm, PSK_IDENTITY, key, algorithm)
    for identity in (EXTERNAL_PSK, *PROVISIONED):
        journal.know(identity, "host")
    for identity in PROVISIONED:
        journal.put(identity, "tpm", stored=True)
    return (
        ExternalPsk(PSK_IDENTITY, hash=algorithm, provisioned=provisioned),
        ExternalPsk(PSK_IDENTITY, key, algorithm),
    )


def _server_credential() -> Credential:
    return _self_signed(SoftwareSigner(ec.generate_private_key(ec.SECP256R1())), SERVER_NAME)


def _client_credential(tpm: Tpm | None, backend: Observed) -> Credential:
    """An ECDSA key on P-256, on the host, or as `tpmtls key create` makes it."""
    signer: Signer
    if tpm is None:
        backend.journal.know(SIGNING_KEY, "host")
        signer = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
    else:
        with tpm.device.recording() as recorder:
            made = keys.create_key(tpm, "ecc-p256")
        backend.journal.know(SIGNING_KEY, made_by(recorder) or "tpm")
        signer = open_key(made.pem(), tpm=tpm)
    return _self_signed(ObservedSigner(backend, signer), "client")


def _self_signed(signer: issuing.KnownSigner, name: str) -> Credential:
    names = [issuing.parse_name(name)]
    now = datetime.now(UTC).replace(microsecond=0)
    made = issuing.self_signed(signer, issuing.subject_for(names[0]), names, now=now, days=1)
    return Credential.load(made.public_bytes(Encoding.PEM), signer, lambda key: key)


def _pem(credential: Credential) -> bytes:
    return credential.leaf.public_bytes(Encoding.PEM)


# -- the two connections ---------------------------------------------------------------------------


class _Pair:
    """Both ends of one connection, what is said carried by hand."""

    def __init__(self, parties: Parties, number: int, *, early_data: bool) -> None:
        parties.backend.connection = number
        self._journal = parties.backend.journal
        self._number = number
        self._begin("ClientHello")
        self.server = ServerConnection(parties.server, parties.server_backend)
        self.client = ClientConnection(parties.client, parties.backend, early_data=early_data)
        if early_data:
            self._begin("early data")
            self.client.send_early_data(b"early")

    def _begin(self, name: str) -> None:
        self._journal.begin(f"{self._number} {name}", self._number)

    def handshake(self) -> HandshakeCompleted:
        """Flight by flight; what was agreed."""
        self.server.receive_data(self.client.data_to_send())
        flight = self.server.data_to_send()
        end = RECORD_HEADER_SIZE + int.from_bytes(flight[3:RECORD_HEADER_SIZE], "big")
        self._begin("ServerHello")
        self.client.receive_data(flight[:end])
        self._begin("Finished")
        self.client.receive_data(flight[end:])
        self.server.receive_data(self.client.data_to_send())
        ticket = self.server.data_to_send()
        if ticket:
            self._begin("NewSessionTicket")
            self.client.receive_data(ticket)
        if self.client.info is None or self.server.info is None:
            raise BackendError("the handshake did not complete")
        return self.client.info

    def use(self) -> None:
        """Data both ways, KeyUpdate both ways, data again, and the end."""
        self._begin("data")
        self._talk()
        self._begin("KeyUpdate")
        self.client.update_keys()
        self.server.update_keys()
        self._exchange()
        self._begin("data again")
        self._talk()
        self._begin("close")
        self.client.close()
        self.server.close()
        self._exchange()

    def _talk(self) -> None:
        self.client.send_data(b"to the server")
        self.server.send_data(b"to the client")
        self._exchange()

    def _exchange(self) -> None:
        while (to_server := self.client.data_to_send()) + (to_client := self.server.data_to_send()):
            if to_server:
                self.server.receive_data(to_server)
            if to_client:
                self.client.receive_data(to_client)


def _connect(parties: Parties, *, early_data: bool) -> None:
    external: PskKind | None = "external" if parties.client.psks else None
    journal = parties.backend.journal
    _connect_once(parties, 1, psk=external, early_data=False)
    journal.begin("between")
    later = replace(parties, server=parties.server.replace(tickets=0))
    _connect_once(later, 2, psk=external or "resumption", early_data=early_data)
    journal.begin("after")


def _connect_once(parties: Parties, number: int, *, psk: PskKind | None, early_data: bool) -> None:
    """Make one connection, use it, and let go of it."""
    pair = _Pair(parties, number, early_data=early_data)
    agreed = pair.handshake()
    if agreed.psk != psk or bool(agreed.early_data_accepted) != early_data:
        raise BackendError(f"connection {number} was not made as it was to be")
    pair.use()


# -- the run ---------------------------------------------------------------------------------------


def observe(
    profile: Profile,
    suite: CipherSuite = DEFAULT_SUITE,
    *,
    tcti: str | None = None,
    owner_password: bytes | None = None,
    server: Backend | None = None,
    watch: Callable[[str], None] = lambda _: None,
) -> Observation:
    """Run the scenario and say what was seen.

    `server` is the other end's backend, by default software; `watch` is told the name of each
    moment when it begins. Raises TpmError or ConfigurationError where this TPM cannot do what the
    profile or the suite asks for.
    """
    started = perf_counter()
    with ExitStack() as stack:
        tpm = None
        if profile.needs_tpm:
            tpm = stack.enter_context(open_tpm(tcti, owner_password=owner_password))
        journal = Journal(watch)
        with _backend(profile, tcti, owner_password) as opened:
            backend = Observed(opened, journal)
            _check(backend, suite)
            if "chained" in profile.protect:
                journal.know(AUTH_VALUE, "host")
                journal.put(AUTH_VALUE, "tpm", stored=False)
            parties = replace(_parties(profile, suite, tpm, backend), server_backend=server)
            commands = 0 if tpm is None else tpm.device.statistics.commands
            early_data = not profile.psk
            journal.begin("before")
            _connect(parties, early_data=early_data)
            secrets = journal.close()
            for credential in parties.client.credentials:
                credential.signer.close()
            return Observation(
                profile=profile.key,
                title=profile.title,
                suite=suite.name,
                group=GROUP.name,
                tpm=None if tpm is None else tpm.name,
                psk=profile.psk,
                early_data=early_data,
                moments=tuple(journal.moments),
                secrets=tuple(secrets),
                claim=backend.ledger.claim,
                commands=0 if tpm is None else tpm.device.statistics.commands - commands,
                seconds=perf_counter() - started,
            )


@contextmanager
def _backend(profile: Profile, tcti: str | None, owner_password: bytes | None) -> Iterator[Backend]:
    if profile.backend == "tpm":
        backend = open_backend(
            "tpm", tcti=tcti, protect=profile.protect, owner_password=owner_password
        )
    else:
        backend = open_backend(profile.backend)
    try:
        yield backend
    finally:
        backend.close()


def _check(backend: Backend, suite: CipherSuite) -> None:
    if suite not in backend.suites:
        raise TpmLacks(f"this TPM cannot do {suite.name} at that level")
    if GROUP not in backend.groups:
        raise TpmLacks(f"this TPM cannot do {GROUP.name}")
