"""What is said of a connection: one line for people, or one JSON object."""

from __future__ import annotations

import json
from typing import Any

from tpmtls.cli.exits import say
from tpmtls.session import Session


def place(address: Any) -> str:
    """A socket's address as HOST:PORT."""
    if not isinstance(address, tuple) or len(address) < 2:
        return str(address) or "?"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(session: Session) -> dict[str, Any]:
    """What the handshake settled, for `json`."""
    negotiated = session.negotiated
    return {
        "version": negotiated.version.name,
        "suite": negotiated.suite.name,
        "group": None if negotiated.group is None else negotiated.group.name,
        "psk": negotiated.psk,
        "alpn": negotiated.alpn,
        "server_name": negotiated.server_name,
        "early_data_accepted": negotiated.early_data_accepted,
        "peer_certificate": subject(session),
    }


def subject(session: Session) -> str | None:
    """Whom the peer's certificate names, as RFC 4514 writes it."""
    certificate = session.peer_certificate
    return None if certificate is None else certificate.subject.rfc4514_string()


def one_line(values: dict[str, Any]) -> str:
    """The same for people: what there is of it, the first three without their names."""
    words = [
        str(value) if name in ("version", "suite", "group") else f"{name}={value}"
        for name, value in values.items()
        if value is not None
    ]
    return " ".join(words)


def say_json(**values: Any) -> None:
    """One JSON object, in one line, on stderr."""
    say(json.dumps(values))
