"""The presentation language (RFC 9846 §3): one declaration drives both directions.

A structure is a frozen dataclass whose fields are annotated with the codec that reads and writes
them. Inner lengths are always enforced: a vector is parsed inside its own bounds, and what is left
over at the end of a structure is an error.

    @dataclass(frozen=True, slots=True)
    class KeyShareEntry(Struct):
        group: Annotated[NamedGroup, Code(NamedGroup, 2)]
        key_exchange: Annotated[bytes, Opaque(1, 2**16 - 1)]
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from tpmtls.codepoints import CodePoint
from tpmtls.violations import PeerViolation, Violation

T = TypeVar("T")


class Reader:
    """A cursor over octets that never reads past its end."""

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.end = len(data)

    @property
    def remaining(self) -> int:
        """Octets left."""
        return self.end - self.position

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        start = self.position
        end = start + count
        if end > self.end:
            raise PeerViolation(Violation.TRUNCATED)
        self.position = end
        return self.data[start:end]

    def uint(self, size: int) -> int:
        """An unsigned integer of `size` octets, in network order."""
        start = self.position
        end = start + size
        if end > self.end:
            raise PeerViolation(Violation.TRUNCATED)
        self.position = end
        return int.from_bytes(self.data[start:end], "big")

    def finish(self, violation: Violation = Violation.TRAILING_DATA) -> None:
        """Raise `violation` if octets are left."""
        if self.position != self.end:
            raise PeerViolation(violation, f"{self.remaining} octets")


class Codec(ABC, Generic[T]):
    """Reads and writes one type of the presentation language."""

    __slots__ = ()

    @abstractmethod
    def read(self, reader: Reader) -> T:
        """Take one value from `reader`; raises PeerViolation where it does not parse."""

    @abstractmethod
    def write(self, value: T, out: bytearray) -> None:
        """Append the encoding of `value` to `out`; raises ValueError where it has none."""

    def read_all(self, reader: Reader) -> tuple[T, ...]:
        """Take values until nothing is left in `reader`."""
        items = []
        while reader.position < reader.end:
            items.append(self.read(reader))
        return tuple(items)

    def write_all(self, values: Iterable[T], out: bytearray) -> None:
        """Append the encodings of several values."""
        for value in values:
            self.write(value, out)


class Uint(Codec[int]):
    """uint8, uint16, uint24 or uint32, by its size in octets (RFC 9846 §3.3)."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, reader: Reader) -> int:
        return reader.uint(self.size)

    def write(self, value: int, out: bytearray) -> None:
        out += _uint(value, self.size)


def _uint(value: int, size: int) -> bytes:
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise ValueError(f"{value} is no unsigned integer of {size} octets") from None


C = TypeVar("C", bound=CodePoint)


class Code(Codec[C]):
    """An enumerated of `size` octets (RFC 9846 §3.5); unknown values are kept."""

    __slots__ = ("_members", "_packing", "enumeration", "size")

    def __init__(self, enumeration: type[C], size: Literal[1, 2]) -> None:
        self.enumeration = enumeration
        self.size = size
        self._members = _Members(enumeration)
        self._packing = "B" if size == 1 else "H"

    def read(self, reader: Reader) -> C:
        return self._members[reader.uint(self.size)]

    def read_all(self, reader: Reader) -> tuple[C, ...]:
        octets = reader.take(reader.remaining)
        count, excess = divmod(len(octets), self.size)
        if excess:
            raise PeerViolation(Violation.TRUNCATED)
        values = struct.unpack(f">{count}{self._packing}", octets)
        return tuple([self._members[value] for value in values])

    def write(self, value: C, out: bytearray) -> None:
        out += _uint(value, self.size)

    def write_all(self, values: Iterable[C], out: bytearray) -> None:
        codes = tuple(values)
        try:
            out += struct.pack(f">{len(codes)}{self._packing}", *codes)
        except struct.error as error:
            raise ValueError(f"{codes} are no enumerated of {self.size} octets: {error}") from None


class _Members(dict[int, C]):
    """The members of an enumeration by value; what it does not list is made when asked for."""

    __slots__ = ("_enumeration",)

    def __init__(self, enumeration: type[C]) -> None:
        super().__init__({member.value: member for member in enumeration})
        self._enumeration = enumeration

    def __missing__(self, value: int) -> C:
        return self._enumeration(value)


class Fixed(Codec[bytes]):
    """opaque name[size]."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, reader: Reader) -> bytes:
        return reader.take(self.size)

    def write(self, value: bytes, out: bytearray) -> None:
        if len(value) != self.size:
            raise ValueError(f"{len(value)} octets where {self.size} are due")
        out += value


class Rest(Codec[bytes]):
    """Whatever is left: for fields whose length the context gives, such as Finished."""

    __slots__ = ()

    def read(self, reader: Reader) -> bytes:
        return reader.take(reader.remaining)

    def write(self, value: bytes, out: bytearray) -> None:
        out += value


class Bounded(Codec[T]):
    """What all vectors share: a length prefix as wide as the upper bound needs (RFC 9846 §3.4)."""

    __slots__ = ("maximum", "minimum", "prefix")

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.prefix = (maximum.bit_length() + 7) // 8

    def read_octets(self, reader: Reader) -> bytes:
        """The octets inside; their number is checked against the bounds before they are taken."""
        data, start = reader.data, reader.position + self.prefix
        if start > reader.end:
            raise PeerViolation(Violation.TRUNCATED)
        length = int.from_bytes(data[reader.position : start], "big")
        if not self.minimum <= length <= self.maximum:
            raise PeerViolation(
                Violation.VECTOR_LENGTH, f"{length} octets, not {self.minimum}..{self.maximum}"
            )
        end = start + length
        if end > reader.end:
            raise PeerViolation(Violation.TRUNCATED)
        reader.position = end
        return data[start:end]

    def write_octets(self, octets: bytes | bytearray, out: bytearray) -> None:
        """The same, written."""
        length = len(octets)
        if not self.minimum <= length <= self.maximum:
            raise ValueError(f"{length} octets, not {self.minimum}..{self.maximum}")
        out += length.to_bytes(self.prefix, "big")
        out += octets


class Opaque(Bounded[bytes]):
    """opaque name<minimum..maximum>."""

    __slots__ = ()

    def read(self, reader: Reader) -> bytes:
        return self.read_octets(reader)

    def write(self, value: bytes, out: bytearray) -> None:
        self.write_octets(value, out)


class Vector(Bounded[tuple[T, ...]]):
    """T name<minimum..maximum>, the bounds in octets."""

    __slots__ = ("item",)

    def __init__(self, item: Codec[T], minimum: int, maximum: int) -> None:
        super().__init__(minimum, maximum)
        self.item = item

    def read(self, reader: Reader) -> tuple[T, ...]:
        return self.item.read_all(Reader(self.read_octets(reader)))

    def write(self, value: tuple[T, ...], out: bytearray) -> None:
        self.item.write_all(value, items := bytearray())
        self.write_octets(items, out)


class Struct:
    """Base of every structure: a frozen dataclass, its fields annotated with codecs."""

    __slots__ = ()

    def encode(self) -> bytes:
        """The octets of this structure."""
        out = bytearray()
        self.write(out)
        return bytes(out)

    def write(self, out: bytearray) -> None:
        """Append the octets of this structure to `out`."""
        for name, codec in _FIELDS[type(self)]:
            codec.write(getattr(self, name), out)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take one such structure from `reader`; an error names the field that it is in."""
        values = []
        for name, codec in _FIELDS[cls]:
            try:
                values.append(codec.read(reader))
            except PeerViolation as error:
                detail = f": {error.detail}" if error.detail else ""
                raise PeerViolation(error.violation, f"{cls.__name__}.{name}{detail}") from None
        return cls(*values)

    @classmethod
    def decode(cls, data: bytes, trailing: Violation = Violation.TRAILING_DATA) -> Self:
        """Parse all of `data`; octets left over are the violation `trailing`."""
        reader = Reader(data)
        value = cls.read(reader)
        reader.finish(trailing)
        return value


S = TypeVar("S", bound=Struct)


class Nested(Codec[S]):
    """A structure as the field or the vector item of another."""

    __slots__ = ("structure",)

    def __init__(self, structure: type[S]) -> None:
        self.structure = structure

    def read(self, reader: Reader) -> S:
        return self.structure.read(reader)

    def write(self, value: S, out: bytearray) -> None:
        value.write(out)


_Fields = tuple[tuple[str, Codec[Any]], ...]


class _FieldsByStructure(dict[type[Struct], _Fields]):
    """The fields of each structure, found out once: when they are first asked for."""

    def __missing__(self, structure: type[Struct]) -> _Fields:
        fields = self[structure] = tuple(_declared_fields(structure))
        return fields


_FIELDS: Final = _FieldsByStructure()


def fields_of(structure: type[Struct]) -> _Fields:
    """The fields of `structure` in their order on the wire, each with its codec."""
    return _FIELDS[structure]


def _declared_fields(structure: type[Struct]) -> Iterator[tuple[str, Codec[Any]]]:
    for name, hint in get_type_hints(structure, include_extras=True).items():
        if get_origin(hint) is Annotated:
            yield name, get_args(hint)[1]
        elif isinstance(hint, type) and issubclass(hint, Struct):
            yield name, Nested(hint)


Uint8 = Annotated[int, Uint(1)]
Uint16 = Annotated[int, Uint(2)]
Uint32 = Annotated[int, Uint(4)]
Opaque8 = Annotated[bytes, Opaque(0, 2**8 - 1)]
Opaque16 = Annotated[bytes, Opaque(0, 2**16 - 1)]
