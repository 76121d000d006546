"""The documents of this folder as the RFCs' texts make them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .hkdf_cases import build_hkdf
from .keys import certificates, rsa_key
from .negotiated import negotiated
from .rfc_text import Line, RfcTextError, items, read_lines, section
from .trace import Trace
from .trace_builder import build_steps


@dataclass(frozen=True)
class Outline:
    """What the RFC's text does not say in a form that can be parsed."""

    section: str
    name: str
    summary: str
    resumes: str | None = None


OUTLINES: Final = (
    Outline(
        "3",
        "simple-1rtt",
        "Full handshake, server with an RSA key; a ticket, application data both ways, closure.",
    ),
    Outline(
        "4",
        "resumed-0rtt",
        "Resumption by the ticket of simple-1rtt, early data accepted; data both ways, closure.",
        resumes="simple-1rtt",
    ),
    Outline(
        "5",
        "hello-retry-request",
        "The server asks for a P-256 share with a cookie; full handshake after that, closure.",
    ),
    Outline(
        "6",
        "client-authentication",
        "The server, with an ECDSA key, asks for a certificate; the client shows an RSA one.",
    ),
    Outline(
        "7",
        "compatibility-mode",
        "Full handshake with a legacy session ID and change_cipher_spec records, closure.",
    ),
)


def build_documents(rfc8448: Path | None, rfc5869: Path | None) -> dict[str, dict[str, Any]]:
    """The documents that the given texts make, by name."""
    documents: dict[str, dict[str, Any]] = {}
    if rfc8448:
        lines = read_lines(rfc8448)
        documents = {outline.name: build_trace(lines, outline) for outline in OUTLINES}
        documents["keys"] = build_keys(lines, list(documents.values()))
    if rfc5869:
        documents["hkdf"] = build_hkdf(read_lines(rfc5869))
    return documents


def build_trace(lines: list[Line], outline: Outline) -> dict[str, Any]:
    """One trace."""
    inside = section(lines, outline.section)
    data: dict[str, Any] = {
        "$schema": "../schema/trace.schema.json",
        "name": outline.name,
        "summary": outline.summary,
        "source": {
            "document": "RFC 8448",
            "section": outline.section,
            "pages": [inside[0].page, inside[-1].page],
            "lines": [inside[0].number, inside[-1].number],
        },
        "resumes": outline.resumes,
        "negotiated": {},
    }
    try:
        data["steps"] = build_steps(items(inside))
        data["negotiated"] = negotiated(Trace(data))
    except LookupError as error:
        raise RfcTextError(f"section {outline.section}: not a trace, it lacks {error}") from error
    return data


def build_keys(lines: list[Line], traces: list[dict[str, Any]]) -> dict[str, Any]:
    """Section 2's RSA key and the certificates that the traces carry."""
    try:
        key = rsa_key(section(lines, "2"))
    except LookupError as error:
        raise RfcTextError(f"section 2: not the RSA key, it lacks {error}") from error
    return {
        "$schema": "../schema/keys.schema.json",
        "source": {"document": "RFC 8448", "section": "2"},
        "rsa_private_key": key,
        "certificates": certificates([Trace(trace) for trace in traces]),
    }
