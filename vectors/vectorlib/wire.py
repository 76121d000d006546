"""Handshake messages ↔ named fields: one layout drives both directions.

Small on purpose and independent of `tpmtls.wire`, which the vectors are there to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from .names import EXTENSION_TYPES, HANDSHAKE_TYPES, RETRY_RANDOM


class WireError(ValueError):
    """Octets that do not follow the layout."""


class Reader:
    """Takes octets from the front."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        if len(self.octets) < count:
            raise WireError(f"{count} octets wanted, {len(self.octets)} left")
        taken, self.octets = self.octets[:count], self.octets[count:]
        return taken

    def opaque(self, width: int) -> bytes:
        """The content of a vector whose length takes `width` octets."""
        return self.take(int.from_bytes(self.take(width), "big"))


def prefixed(width: int, content: bytes) -> bytes:
    """`content` as a vector whose length takes `width` octets."""
    return len(content).to_bytes(width, "big") + content


class Field(Protocol):
    """One field's codec: JSON value ↔ octets."""

    def decode(self, reader: Reader) -> Any:
        """Take the field's JSON value from the reader."""

    def encode(self, value: Any) -> bytes:
        """The octets of a JSON value."""


@dataclass(frozen=True)
class Fixed:
    """A fixed number of octets, as hex."""

    length: int

    def decode(self, reader: Reader) -> str:
        """Hex of the next octets."""
        return reader.take(self.length).hex()

    def encode(self, value: str) -> bytes:
        """The octets that the hex names."""
        return bytes.fromhex(value)


@dataclass(frozen=True)
class Number:
    """An unsigned integer."""

    width: int

    def decode(self, reader: Reader) -> int:
        """The next integer."""
        return int.from_bytes(reader.take(self.width), "big")

    def encode(self, value: int) -> bytes:
        """The integer in network order."""
        return value.to_bytes(self.width, "big")


@dataclass(frozen=True)
class Opaque:
    """A vector of octets, as hex."""

    width: int

    def decode(self, reader: Reader) -> str:
        """Hex of the vector's content."""
        return reader.opaque(self.width).hex()

    def encode(self, value: str) -> bytes:
        """Length and content."""
        return prefixed(self.width, bytes.fromhex(value))


@dataclass(frozen=True)
class Rest:
    """All octets that are left, as hex."""

    def decode(self, reader: Reader) -> str:
        """Hex of what is left."""
        return reader.take(len(reader.octets)).hex()

    def encode(self, value: str) -> bytes:
        """The octets that the hex names."""
        return bytes.fromhex(value)


@dataclass(frozen=True)
class ListOf:
    """A vector of items."""

    width: int
    item: Field

    def decode(self, reader: Reader) -> list[Any]:
        """The items in order."""
        inner = Reader(reader.opaque(self.width))
        items = []
        while inner.octets:
            items.append(self.item.decode(inner))
        return items

    def encode(self, value: list[Any]) -> bytes:
        """Length and items."""
        return prefixed(self.width, b"".join(self.item.encode(item) for item in value))


@dataclass(frozen=True)
class Struct:
    """Named fields one after the other."""

    fields: Mapping[str, Field]

    def decode(self, reader: Reader) -> dict[str, Any]:
        """The fields by name, in wire order."""
        return {name: field.decode(reader) for name, field in self.fields.items()}

    def encode(self, value: dict[str, Any]) -> bytes:
        """The fields in wire order."""
        return b"".join(field.encode(value[name]) for name, field in self.fields.items())


@dataclass(frozen=True)
class Named:
    """A code point, by its name."""

    width: int
    codes: Mapping[str, int]

    def decode(self, reader: Reader) -> str:
        """The name of the next code point."""
        code = int.from_bytes(reader.take(self.width), "big")
        for name, known in self.codes.items():
            if known == code:
                return name
        raise WireError(f"no name for code point {code:#x}")

    def encode(self, value: str) -> bytes:
        """The code point of a name."""
        return self.codes[value].to_bytes(self.width, "big")


EXTENSIONS: Final = ListOf(2, Struct({"type": Named(2, EXTENSION_TYPES), "data": Opaque(2)}))
SERVER_HELLO: Final = Struct(
    {
        "legacy_version": Fixed(2),
        "random": Fixed(32),
        "legacy_session_id_echo": Opaque(1),
        "cipher_suite": Fixed(2),
        "legacy_compression_method": Fixed(1),
        "extensions": EXTENSIONS,
    }
)
LAYOUTS: Final[Mapping[str, Struct]] = {
    "client_hello": Struct(
        {
            "legacy_version": Fixed(2),
            "random": Fixed(32),
            "legacy_session_id": Opaque(1),
            "cipher_suites": ListOf(2, Fixed(2)),
            "legacy_compression_methods": Opaque(1),
            "extensions": EXTENSIONS,
        }
    ),
    "server_hello": SERVER_HELLO,
    "hello_retry_request": SERVER_HELLO,
    "encrypted_extensions": Struct({"extensions": EXTENSIONS}),
    "certificate_request": Struct(
        {"certificate_request_context": Opaque(1), "extensions": EXTENSIONS}
    ),
    "certificate": Struct(
        {
            "certificate_request_context": Opaque(1),
            "certificate_list": ListOf(
                3, Struct({"cert_data": Opaque(3), "extensions": EXTENSIONS})
            ),
        }
    ),
    "certificate_verify": Struct({"algorithm": Fixed(2), "signature": Opaque(2)}),
    "finished": Struct({"verify_data": Rest()}),
    "end_of_early_data": Struct({}),
    "new_session_ticket": Struct(
        {
            "ticket_lifetime": Number(4),
            "ticket_age_add": Fixed(4),
            "ticket_nonce": Opaque(1),
            "ticket": Opaque(2),
            "extensions": EXTENSIONS,
        }
    ),
}


def decode_message(octets: bytes) -> tuple[str, dict[str, Any]]:
    """The message's type by name, and its fields. Refuses trailing octets."""
    reader = Reader(octets)
    name: str = Named(1, HANDSHAKE_TYPES).decode(reader)
    body = Reader(reader.opaque(3))
    fields = LAYOUTS[name].decode(body)
    if reader.octets or body.octets:
        raise WireError(f"octets left after {name}")
    if name == "server_hello" and fields["random"] == RETRY_RANDOM:
        name = "hello_retry_request"
    return name, fields


def encode_message(name: str, fields: dict[str, Any]) -> bytes:
    """The message with its type and length."""
    return bytes([HANDSHAKE_TYPES[name]]) + prefixed(3, LAYOUTS[name].encode(fields))


def extension(fields: dict[str, Any], name: str) -> bytes | None:
    """The data of one extension, or None where the message does not carry it."""
    for entry in fields.get("extensions", []):
        if entry["type"] == name:
            return bytes.fromhex(entry["data"])
    return None


def binders_length(fields: dict[str, Any]) -> int:
    """The octets of a ClientHello's binders list, its length included (RFC 9846 §4.3.11.2)."""
    reader = Reader(extension(fields, "pre_shared_key") or b"\0\0")
    reader.opaque(2)
    return len(reader.octets)


def psk_offer(fields: dict[str, Any]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """What pre_shared_key offers: (identity, obfuscated_ticket_age) pairs, and the binders."""
    reader = Reader(extension(fields, "pre_shared_key") or b"\0\0\0\0")
    identities, binders = Reader(reader.opaque(2)), Reader(reader.opaque(2))
    offered, proofs = [], []
    while identities.octets:
        offered.append((identities.opaque(2), identities.take(4)))
    while binders.octets:
        proofs.append(binders.opaque(1))
    return offered, proofs


def offered_shares(fields: dict[str, Any]) -> dict[int, bytes]:
    """A ClientHello's key shares: group → key_exchange."""
    reader = Reader(Reader(extension(fields, "key_share") or b"\0\0").opaque(2))
    shares = {}
    while reader.octets:
        group = int.from_bytes(reader.take(2), "big")
        shares[group] = reader.opaque(2)
    return shares


def selected_share(fields: dict[str, Any]) -> tuple[int, bytes]:
    """A ServerHello's key share; a HelloRetryRequest's has the group only."""
    reader = Reader(extension(fields, "key_share") or b"")
    group = int.from_bytes(reader.take(2), "big")
    return group, reader.opaque(2) if reader.octets else b""
