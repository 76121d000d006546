"""Asking an implementation what it supports, before the tests that depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from tlsconform.channel import Silence
from tlsconform.features import REQUEST, ClientFeatures, ServerFeatures
from tlsconform.journal import Journal
from tlsconform.outcome import Finding, NotApplicable, TargetUnavailable
from tlsconform.peer import OfferedPsk, ScriptedClient, ScriptedServer
from tlsconform.pki import Authority
from tlsconform.targets import ClientTarget, ServerTarget
from tpmtls.algorithms import GROUPS, SCHEMES, SUITES
from tpmtls.codepoints import (
    CipherSuite,
    ContentType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.wire.extensions import (
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    PostHandshakeAuth,
    ProtocolNameList,
    RecordSizeLimit,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import (
    CertificateRequest,
    HelloRetryRequest,
    NewSessionTicket,
    ServerHello,
)

QUIET: Final = 0.3
"""Seconds to wait for what may not come."""
OURS_HAVE: Final = (
    "resumption",
    "psk_ke",
    "external_psk",
    "retry",
    "client_certificate",
    "post_handshake_auth",
    "record_size_limit",
)
ALPN_TRIED: Final = (b"http/1.1", b"h2", b"http/1.0", b"echo", b"imap", b"smtp", b"xmpp-client")
TLS12_SUITES: Final = tuple(
    CipherSuite(code) for code in (0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA8, 0xCCA9)
)


class ServerProbe:
    """Connections to a server that say what it supports."""

    def __init__(
        self,
        target: ServerTarget,
        authority: Authority,
        *,
        server_name: str | None = "localhost",
        psk: tuple[bytes, bytes] | None = None,
        alpn: Sequence[bytes] = (),
        timeout: float = 2.0,
    ) -> None:
        self._target, self._server_name = target, server_name
        self._psk, self._alpn = psk, (*alpn, *ALPN_TRIED)
        self._credential = authority.credential("p256", "client")
        self._timeout = timeout
        self._groups: tuple[NamedGroup, ...] = tuple(GROUPS)

    def features(self) -> ServerFeatures:
        """All of it; raises TargetUnavailable where not even a plain handshake succeeds."""
        found: dict[str, Any] = {}
        with self._client() as client:
            self._plain_handshake(client, found)
        if found["client_certificate"]:
            found["client_certificate_required"] = self._takes(self._insists)
        self._groups = self._usable_groups()
        found["groups"] = tuple(group.name for group in self._groups)
        found["suites"] = tuple(
            s.name for s in SUITES if self._takes(partial(self._suite, suite=s))
        )
        found["signature_schemes"] = tuple(
            s.name
            for s, row in SCHEMES.items()
            if row.signs_handshakes and self._takes(partial(self._scheme, scheme=s))
        )
        found["retry"] = self._takes(self._retry)
        found["alpn"] = tuple(n.decode() for n in dict.fromkeys(self._alpn) if self._has_alpn(n))
        found["record_size_limit"] = self._takes(self._record_size_limit)
        found["tls12"] = self._takes(self._tls12)
        found |= self._resumption(bool(found["tickets"]))
        found["external_psk"] = self._psk is not None and self._takes(self._external)
        if self._target.in_process:
            # it is ours, and has them: what the probe cannot see, or a bug hides, tests are to show
            found |= dict.fromkeys((*OURS_HAVE, "client_certificate_required"), True)
        return ServerFeatures(**found)

    @contextmanager
    def _client(self) -> Iterator[ScriptedClient]:
        client = ScriptedClient(
            self._target.connect(),
            Journal(),
            seed="probe",
            timeout=self._timeout,
            share_groups=self._groups,
            server_name=self._server_name,
            credential=self._credential,
        )
        try:
            yield client
        finally:
            client.close()

    def _takes(self, ask: Callable[[ScriptedClient], bool]) -> bool:
        with self._client() as client:
            try:
                return ask(client)
            except (Finding, Silence):
                return False

    def _plain_handshake(self, client: ScriptedClient, found: dict[str, Any]) -> None:
        try:
            client.hello(extensions=(PostHandshakeAuth(),), groups=self._groups).complete()
            found["client_certificate"] = client.request is not None
            tickets = self._talk(client, found)
        except Finding as finding:
            raise TargetUnavailable(
                f"{self._target.name} completes no TLS 1.3 handshake: {finding}"
            ) from None
        found["tickets"] = len(tickets)
        found["early_data"] = max((t.max_early_data for t in tickets), default=0)

    def _insists(self, client: ScriptedClient) -> bool:
        """Whether a client without a certificate is sent away."""
        client.credential = None
        client.hello(groups=self._groups).complete()
        try:
            client.expect_quiet(QUIET)
        except Finding:
            return True
        return False

    def _talk(self, client: ScriptedClient, found: dict[str, Any]) -> list[OfferedPsk]:
        """Send a request; what comes back says whether it answers, and brings the tickets."""
        tickets: list[OfferedPsk] = []
        client.send_data(REQUEST)
        while True:
            try:
                record = client.next_record(QUIET)
            except Silence:
                return tickets
            if record is None or record.content_type is ContentType.alert:
                return tickets
            if record.content_type is ContentType.application_data:
                found["responds"] = found.get("responds", False) or bool(record.fragment)
                continue
            client.assembler.add(record.fragment)
            while (octets := client.assembler.next_message()) is not None:
                message = client.decode(octets)
                if isinstance(message, NewSessionTicket):
                    tickets.append(client.psk_of(message))
                elif isinstance(message, CertificateRequest):
                    found["post_handshake_auth"] = True

    # -- single questions --------------------------------------------------------------------------

    def _usable_groups(self) -> tuple[NamedGroup, ...]:
        return tuple(g for g in GROUPS if self._takes(partial(self._group, group=g)))

    def _group(self, client: ScriptedClient, group: NamedGroup) -> bool:
        answer = client.hello(groups=(group,), shares=(group,)).read_server_hello()
        share = answer.extensions.get(KeyShareServerHello)
        return share is not None and share.server_share.group == group

    def _suite(self, client: ScriptedClient, suite: CipherSuite) -> bool:
        client.hello(suites=(suite,), groups=self._groups)
        return client.read_server_hello().cipher_suite == suite

    def _scheme(self, client: ScriptedClient, scheme: SignatureScheme) -> bool:
        certificates = tuple(s for s, row in SCHEMES.items() if not row.signs_handshakes)
        client.hello(schemes=(scheme, *certificates), groups=self._groups).read_flight()
        return client.verify is not None and client.verify.algorithm == scheme

    def _retry(self, client: ScriptedClient) -> bool:
        retry = client.hello(groups=self._groups, shares=()).read_retry()
        return retry.extensions.get(KeyShareHelloRetryRequest) is not None

    def _has_alpn(self, name: bytes) -> bool:
        def ask(client: ScriptedClient) -> bool:
            client.hello(groups=self._groups, extensions=(ProtocolNameList((name,)),))
            client.read_server_hello()
            parameters = client.read_encrypted_extensions()
            return parameters.extensions.get(ProtocolNameList) is not None

        return self._takes(ask)

    def _record_size_limit(self, client: ScriptedClient) -> bool:
        client.hello(groups=self._groups, extensions=(RecordSizeLimit(2**14 + 1),))
        client.read_server_hello()
        return client.read_encrypted_extensions().extensions.get(RecordSizeLimit) is not None

    def _tls12(self, client: ScriptedClient) -> bool:
        client.hello(versions=(ProtocolVersion.TLS_1_2,), suites=TLS12_SUITES, groups=self._groups)
        message, _ = client.next_message()
        return isinstance(message, ServerHello | HelloRetryRequest)

    def _resumption(self, has_tickets: bool) -> dict[str, bool]:
        """Whether tickets are good for resumption, with and without a key exchange.

        The tickets' connections are closed before they are used: many a server takes one at a time.
        """
        modes = {
            "resumption": PskKeyExchangeMode.psk_dhe_ke,
            "psk_ke": PskKeyExchangeMode.psk_ke,
        }
        if not has_tickets:
            return dict.fromkeys(modes, False)
        return {
            name: self._takes(partial(self._resumes, ticket=self._ticket(), mode=mode))
            for name, mode in modes.items()
        }

    def _ticket(self) -> OfferedPsk:
        with self._client() as client:
            try:
                client.hello(groups=self._groups).complete()
                return self._talk(client, {})[0]
            except (Finding, IndexError):
                raise TargetUnavailable(f"{self._target.name} gives tickets unreliably") from None

    def _resumes(
        self, client: ScriptedClient, ticket: OfferedPsk, mode: PskKeyExchangeMode
    ) -> bool:
        client.hello(groups=self._groups, psks=(ticket,), modes=(mode,))
        answer = client.read_server_hello()
        has_share = answer.extensions.get(KeyShareServerHello) is not None
        return client.selected_psk is not None and has_share is (mode is not mode.psk_ke)

    def _external(self, client: ScriptedClient) -> bool:
        if self._psk is None:
            return False
        offered = OfferedPsk(*self._psk, resumption=False)
        client.hello(groups=self._groups, psks=(offered,)).read_server_hello()
        return client.selected_psk is not None


class ClientProbe:
    """Runs of a client that say what it supports."""

    def __init__(
        self,
        target: ClientTarget,
        authority: Authority,
        *,
        psk: tuple[bytes, bytes] | None = None,
        timeout: float = 2.0,
    ) -> None:
        self._target, self._psk, self._timeout = target, psk, timeout
        self._credentials = tuple(authority.credential(kind) for kind in ("p256", "rsa"))

    def features(self) -> ClientFeatures:
        """All of it; raises TargetUnavailable where not even a plain handshake succeeds."""
        found: dict[str, Any] = {}
        try:
            self._plain_handshake(found)
        finally:
            self._target.finish()
        found["client_certificate"] = self._takes(self._certificate)
        found["resumption"] = self._takes(self._resumes)
        found["early_data"] = found["resumption"] and self._takes(self._sends_early_data)
        if self._target.in_process:
            found |= dict.fromkeys((*OURS_HAVE, "sends_data", "compatibility", "server_name"), True)
        return ClientFeatures(**found)

    def _server(self, **how: Any) -> ScriptedServer:
        channel = self._target.start(**how)
        return ScriptedServer(
            channel, Journal(), seed="probe", timeout=self._timeout, credentials=self._credentials
        )

    def _takes(self, ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except (Finding, Silence, NotApplicable, TargetUnavailable):
            return False
        finally:
            self._target.finish()

    def _plain_handshake(self, found: dict[str, Any]) -> None:
        server = self._server()
        try:
            server.accept()
            self._read_offer(server, found)
            server.flight().complete()
        except (Finding, NotApplicable) as problem:
            output = self._target.output().strip().splitlines()
            last = f"; it said: {output[-1]}" if output else ""
            raise TargetUnavailable(
                f"{self._target.name} completes no TLS 1.3 handshake: {problem}{last}"
            ) from None
        self._target.say(b"hello\n")
        found["sends_data"] = self._quietly(lambda: bool(server.receive_data(1.0)))
        server.close()

    @staticmethod
    def _quietly(ask: Callable[[], bool]) -> bool:
        try:
            return ask()
        except (Finding, Silence):
            return False

    def _read_offer(self, server: ScriptedServer, found: dict[str, Any]) -> None:
        offer = server.offer
        extensions = offer.extensions
        groups = extensions.get(SupportedGroups)
        versions = extensions.get(SupportedVersions)
        alpn = extensions.get(ProtocolNameList)
        names = {extension.extension_type.name for extension in extensions}
        found["suites"] = tuple(suite.name for suite in offer.cipher_suites)
        found["groups"] = () if groups is None else tuple(g.name for g in groups.named_group_list)
        found["shares"] = tuple(entry.group.name for entry in server.shares_offered)
        found["signature_schemes"] = tuple(s.name for s in server.schemes_offered)
        found["extensions"] = tuple(sorted(names))
        found["retry"] = server.retry_group() is not None
        found["psk_ke"] = PskKeyExchangeMode.psk_ke in server.modes_offered
        found["alpn"] = () if alpn is None else tuple(n.decode() for n in alpn.protocol_name_list)
        found["tls12"] = versions is not None and ProtocolVersion.TLS_1_2 in versions.versions
        found["compatibility"] = bool(offer.legacy_session_id)
        for name in ("server_name", "record_size_limit", "post_handshake_auth"):
            found[name] = name in names

    def _certificate(self) -> bool:
        server = self._server(needs=frozenset({"client_certificate"})).accept()
        server.hello().encrypted_extensions().certificate_request().authenticate().finish()
        server.complete()
        server.close()
        return bool(server.client_certificate and server.client_certificate.certificate_list)

    def _resumes(self) -> bool:
        name = self._give_ticket(0)
        again = self._server(resume=True).accept()
        again.close()
        return name in again.identities_offered

    def _sends_early_data(self) -> bool:
        self._give_ticket(4096)
        again = self._server(resume=True, early_data=True).accept()
        again.close()
        return "early_data" in {e.extension_type.name for e in again.offer.extensions}

    def _give_ticket(self, max_early_data: int) -> bytes:
        server = self._server().handshake()
        name, _ = server.say_ticket(max_early_data=max_early_data)
        server.end_politely(self._target)
        return name
