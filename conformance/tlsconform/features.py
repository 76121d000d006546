"""What an implementation supports, found out by asking it before the tests run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Self

REQUEST: Final = b"GET / HTTP/1.0\r\n\r\n"
"""What is sent to see whether a server answers: a web server does, and so does an echo."""


@dataclass(frozen=True)
class Features:
    """What both roles' features have in common."""

    def has(self, need: str) -> bool:
        """Whether a need is met: a field's name, or `suites:NAME`, `groups:NAME`…

        Raises LookupError for a need that no feature is called.
        """
        field, _, value = need.partition(":")
        if not hasattr(self, field):
            raise LookupError(f"no feature is called {field!r}")
        found = getattr(self, field)
        return value in found if value else bool(found)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


@dataclass(frozen=True)
class ServerFeatures(Features):
    """What a server does with a client that offers everything.

    Names are those of the IANA registries; `tickets` is how many come after a full handshake,
    `early_data` how many octets they allow, `responds` whether application data is answered.
    """

    suites: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    signature_schemes: tuple[str, ...] = ()
    tickets: int = 0
    resumption: bool = False
    psk_ke: bool = False
    early_data: int = 0
    external_psk: bool = False
    retry: bool = False
    client_certificate: bool = False
    client_certificate_required: bool = False
    post_handshake_auth: bool = False
    alpn: tuple[str, ...] = ()
    record_size_limit: bool = False
    responds: bool = False
    tls12: bool = False


@dataclass(frozen=True)
class ClientFeatures(Features):
    """What a client offers and does; names are those of the IANA registries.

    `shares` are the groups of its first key shares, `sends_data` says whether it sends what its
    stdin says, `retry` whether it has a group that it sent no share for.
    """

    suites: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    signature_schemes: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    resumption: bool = False
    psk_ke: bool = False
    early_data: bool = False
    external_psk: bool = False
    retry: bool = False
    client_certificate: bool = False
    post_handshake_auth: bool = False
    alpn: tuple[str, ...] = ()
    record_size_limit: bool = False
    sends_data: bool = False
    server_name: bool = False
    compatibility: bool = False
    tls12: bool = False


MEANINGS: Final = {
    "tickets": "gives no session tickets",
    "resumption": "does not resume sessions",
    "psk_ke": "does not do psk_ke",
    "early_data": "does not do 0-RTT",
    "external_psk": "has no external PSK that the suite knows (--psk)",
    "retry": "cannot be brought to a HelloRetryRequest",
    "client_certificate": "does not do client certificates",
    "client_certificate_required": "does not insist on client certificates",
    "post_handshake_auth": "does not do post-handshake authentication",
    "alpn": "does not do ALPN",
    "record_size_limit": "does not do record_size_limit",
    "responds": "does not answer application data",
    "sends_data": "does not send what its stdin says",
    "server_name": "does not send server_name",
    "compatibility": "does not use middlebox compatibility mode",
    "tls12": "does not do TLS 1.2",
}


def missing(features: Features, role: str, need: str) -> str | None:
    """Why a need is not met, in words; None where it is."""
    if features.has(need):
        return None
    field, _, value = need.partition(":")
    if value:
        return f"the {role} has no {value} among its {field.replace('_', ' ')}"
    return f"the {role} {MEANINGS.get(need, f'lacks {need}')}"


def in_words(value: object) -> str:
    """A feature's value for people: yes, no, a number or a list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
