"""Commands and responses as octets: header, handles, authorization area (TPM 2.0 Part 1 §18).

A `Command` says what is asked; `encode` makes its frame and `decode` takes the response apart. How
a command is authorized is apart from what it asks: by default with its entities' passwords, in
clear; an `Authorization` stands for any other way, such as sessions that encrypt parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from typing import Any, ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from tpmtls.backends.tpm.responses import command_name
from tpmtls.violations import TpmUnavailable

T = TypeVar("T")

NO_SESSIONS: Final = 0x8001
SESSIONS: Final = 0x8002
HEADER_SIZE: Final = 10
_SESSIONS_TAG: Final = SESSIONS.to_bytes(2, "big")
_HEADERS: Final = (Struct(">HII"), Struct(">HIII"), Struct(">HIIII"), Struct(">HIIIII"))
"""Tag, size, command code, and that many handles."""
_handle: Final = attrgetter("handle")
_RS_PW: Final = (0x40000009).to_bytes(4, "big")
_EMPTY_PASSWORD: Final = b"\x00\x00\x00\x09" + _RS_PW + bytes(5)
_ONE_KEY: Final = Struct(f">HIII{len(_EMPTY_PASSWORD)}s")
"""A header with one handle, and the area that authorizes it with an empty password."""


class Entity:
    """What a handle stands for: its Name, and its password (authValue) where it has one."""

    __slots__ = ("auth", "handle", "name")

    def __init__(self, handle: int, name: bytes, auth: bytes = b"") -> None:
        self.handle = handle
        self.name = name
        self.auth = auth

    def __repr__(self) -> str:
        return f"<{type(self).__name__} 0x{self.handle:08x}>"


def permanent(handle: int, auth: bytes = b"") -> Entity:
    """A hierarchy, a PCR or a session: its Name is its handle (Part 1 §16)."""
    return Entity(handle, handle.to_bytes(4, "big"), auth)


OWNER: Final = permanent(0x40000001)
NULL_HIERARCHY: Final = permanent(0x40000007)


@dataclass(slots=True, eq=False, repr=False)
class Command(Generic[T]):
    """One command: what Part 3 gives it, and how its response parameters are read.

    The first `authorized` of the handles need an authorization.
    """

    makes_handle: ClassVar[bool] = False

    code: int
    handles: tuple[Entity, ...]
    parameters: bytes
    parse: Callable[[bytes], T]
    authorized: int = 0

    def __repr__(self) -> str:
        return f"<{command_name(self.code)} {list(self.handles)}>"  # parameters may be secret


class Created(NamedTuple):
    """What the TPM says of a new object.

    `public` (TPMT_PUBLIC) and `private` (TPM2B_PRIVATE's buffer) are empty where it does not say.
    """

    name: bytes = b""
    public: bytes = b""
    private: bytes = b""


class Creation(Command[Created]):
    """A command whose response begins with the handle of a new object."""

    __slots__ = ()
    makes_handle: ClassVar[bool] = True


class Authorization(Protocol):
    """The sessions of one command: authorizing its handles, encrypting its parameters, or both.

    `seal` is called once per command, under the device's lock and with all handles loaded; `open`
    once for its response, unless that is an error.
    """

    def seal(self, command: Command[Any]) -> tuple[bytes, bytes]:
        """The authorization area without its size, and the parameters as they are to be sent."""

    def open(self, command: Command[Any], parameters: bytes, area: bytes) -> bytes:
        """The response's parameters in clear; `area` is its authorization area, to be verified.

        Raises TpmError where it does not verify.
        """


def encode(command: Command[Any], authorization: Authorization | None) -> bytes:
    """The frame of a command."""
    handles, body = command.handles, command.parameters
    if authorization is None and command.authorized == 1 == len(handles) and not handles[0].auth:
        # most of what is sent; the rest would make the same of it, in three times the time
        size, handle = _ONE_KEY.size + len(body), handles[0].handle
        return _ONE_KEY.pack(SESSIONS, size, command.code, handle, _EMPTY_PASSWORD) + body
    tag = SESSIONS
    if authorization is not None:
        area, parameters = authorization.seal(command)
        body = len(area).to_bytes(4, "big") + area + parameters
    elif command.authorized:
        body = _passwords(handles[: command.authorized]) + body
    else:
        tag = NO_SESSIONS
    header = _HEADERS[len(handles)]
    size = header.size + len(body)
    return header.pack(tag, size, command.code, *map(_handle, handles)) + body


def _passwords(entities: tuple[Entity, ...]) -> bytes:
    """The area with a password for each (Part 1 §19.4), after its size."""
    if len(entities) == 1 and not entities[0].auth:
        return _EMPTY_PASSWORD
    area = b"".join([_RS_PW + bytes(3) + sized(entity.auth) for entity in entities])
    return len(area).to_bytes(4, "big") + area


def decode(
    command: Command[Any], authorization: Authorization | None, response: bytes
) -> tuple[int, bytes]:
    """Handle (or 0) and parameters of a response whose code is TPM_RC_SUCCESS."""
    offset, handle = HEADER_SIZE, 0
    if command.makes_handle:
        handle = int.from_bytes(response[HEADER_SIZE : HEADER_SIZE + 4], "big")
        offset += 4
    if response[:2] != _SESSIONS_TAG:
        parameters = response[offset:]
        if authorization is not None:  # then somebody took away what is to be verified
            parameters = authorization.open(command, parameters, b"")
        return handle, parameters
    end = offset + 4 + int.from_bytes(response[offset : offset + 4], "big")
    parameters = response[offset + 4 : end]
    if authorization is not None:
        parameters = authorization.open(command, parameters, response[end:])
    return handle, parameters


# -- marshalling (Part 2) --------------------------------------------------------------------------


def sized(data: bytes) -> bytes:
    """A TPM2B: the octets after their number."""
    return len(data).to_bytes(2, "big") + data


def only(parameters: bytes) -> bytes:
    """The buffer of a TPM2B that is all there is."""
    if len(parameters) != 2 + int.from_bytes(parameters[:2], "big"):
        raise malformed()
    return parameters[2:]


class Reader:
    """Takes parameters apart, from the left."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, number: int) -> bytes:
        """That many octets."""
        start, self._offset = self._offset, self._offset + number
        if self._offset > len(self._data):
            raise malformed()
        return self._data[start : self._offset]

    def integer(self, size: int) -> int:
        """An unsigned integer of that many octets."""
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """The buffer of a TPM2B."""
        return self.take(self.integer(2))

    @property
    def rest(self) -> bytes:
        """All that was not taken."""
        return self._data[self._offset :]

    def end(self) -> None:
        """Raises unless everything was taken."""
        if self._offset != len(self._data):
            raise malformed()


def malformed() -> TpmUnavailable:
    """The error for a response that is not one."""
    return TpmUnavailable("the TPM's response is malformed: is this a TPM 2.0?")
