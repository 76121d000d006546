"""What a role of a trace is configured with: read from the fields of its messages."""

from collections.abc import Iterable
from typing import Any, Final

from tpmtls.algorithms import GROUPS
from tpmtls.codepoints import CipherSuite, NamedGroup, SignatureScheme
from tpmtls.config import DEFAULT_SCHEMES, ClientConfig, ServerConfig
from tpmtls.wire.extensions import (
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerNameList,
    SignatureAlgorithms,
    SupportedGroups,
)

from ..trace import Trace
from ..wire import extension
from .arrangement import Arrangement
from .difference import Difference
from .session import Session, injected, new_session_tickets

Fields = dict[str, Any]

TICKET_ID: Final = bytes(16)
"""By this the server's anti-replay knows a ticket; it stays inside the server."""


class Entropy:
    """Gives out known values in the order in which they are drawn."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._values = iter(values)

    def __call__(self, size: int) -> bytes:
        value = next(self._values, None)
        if value is None or len(value) != size:
            raise Difference("steps", f"{size} random octets are drawn that are not recorded")
        return value


def client_config(trace: Trace, session: Session) -> ClientConfig:
    """A client that offers what the recorded one does."""
    hello = trace.message("client.client_hello")
    fields = hello.fields
    session_id = injected(hello, "legacy_session_id")
    schemes, groups = _schemes(fields), _groups(fields)
    names = ServerNameList.decode(_extension(fields, "server_name")).server_name_list
    modes = PskKeyExchangeModes.decode(_extension(fields, "psk_key_exchange_modes"))
    return ClientConfig(
        suites=tuple(CipherSuite(int(code, 16)) for code in fields["cipher_suites"]),
        groups=groups,
        signature_schemes=schemes,
        certificate_schemes=schemes,
        psk_modes=modes.ke_modes,
        record_size_limit=_record_size_limit(fields),
        server_name=names[0].host_name.decode("ascii"),
        middlebox_compatibility=bool(session_id),
        verify=False,  # self-signed, and older than any root
        credentials=session.credentials,
        session_cache=session.cache,
        clock=lambda: session.now,
        entropy=Entropy(filter(None, (injected(hello, "random"), session_id))),
        arrange=Arrangement(trace, "client", groups),
    )


def server_config(trace: Trace, session: Session) -> ServerConfig:
    """A server that answers as the recorded one does."""
    messages = {message.type: message for message in trace.messages("server")}
    hello, parameters = messages["server_hello"], messages["encrypted_extensions"].fields
    request, retry = messages.get("certificate_request"), messages.get("hello_retry_request")
    schemes = DEFAULT_SCHEMES if request is None else _schemes(request.fields)
    groups, tickets = _groups(parameters), new_session_tickets(trace)
    drawn = [injected(hello, "random")]
    if retry is not None:
        drawn.insert(0, bytes(32))  # a cookie, in whose place the recorded one goes
    for ticket in tickets:
        drawn += [TICKET_ID, injected(ticket, "ticket_age_add")]
    lifetimes = [ticket.fields["ticket_lifetime"] for ticket in tickets]
    return ServerConfig(
        suites=(CipherSuite(int(hello.fields["cipher_suite"], 16)),),
        groups=groups,
        signature_schemes=schemes,
        certificate_schemes=schemes,
        record_size_limit=_record_size_limit(parameters),
        request_client_certificate=request is not None,
        retry_with_cookie=retry is not None,
        tickets=len(tickets),
        ticket_lifetime=lifetimes[0] if lifetimes else 0,
        ticket_keys=session.tickets,
        max_early_data=session.max_early_data,
        replay_guard=session.guard,
        credentials=session.credentials,
        clock=lambda: session.now,
        entropy=Entropy(drawn),
        arrange=Arrangement(trace, "server", groups),
    )


def _extension(fields: Fields, name: str) -> bytes:
    data = extension(fields, name)
    if data is None:
        raise LookupError(f"{name} is missing")
    return data


def _groups(fields: Fields) -> tuple[NamedGroup, ...]:
    listed = SupportedGroups.decode(_extension(fields, "supported_groups")).named_group_list
    return tuple(group for group in listed if group in GROUPS)


def _schemes(fields: Fields) -> tuple[SignatureScheme, ...]:
    listed = SignatureAlgorithms.decode(_extension(fields, "signature_algorithms"))
    schemes = listed.supported_signature_algorithms
    return tuple(scheme for scheme in schemes if scheme in DEFAULT_SCHEMES)


def _record_size_limit(fields: Fields) -> int:
    return RecordSizeLimit.decode(_extension(fields, "record_size_limit")).limit
