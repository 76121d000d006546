"""The presentation language: what each codec reads, writes and refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import pytest

from tpmtls.codepoints import NamedGroup, PskKeyExchangeMode
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.codec import (
    Code,
    Codec,
    Fixed,
    Nested,
    Opaque,
    Opaque8,
    Opaque16,
    Reader,
    Rest,
    Struct,
    Uint,
    Uint8,
    Uint16,
    Uint32,
    Vector,
    fields_of,
)


@dataclass(frozen=True, slots=True)
class Point(Struct):
    x: Uint8
    y: Uint16


@dataclass(frozen=True, slots=True)
class Path(Struct):
    kind: ClassVar[str] = "path"
    label: Opaque8
    start: Point
    points: Annotated[tuple[Point, ...], Vector(Nested(Point), 3, 30)]
    note: str = "not on the wire"


PATH = Path(b"ab", Point(1, 2), (Point(3, 4), Point(5, 6)))
PATH_OCTETS = bytes.fromhex("02 6162 01 0002 06 03 0004 05 0006")


def written(codec: Codec[Any], value: Any) -> bytes:
    codec.write(value, out := bytearray(b"before"))
    assert out.startswith(b"before")
    return bytes(out[6:])


def read(codec: Codec[Any], octets: bytes) -> Any:
    reader = Reader(octets)
    value = codec.read(reader)
    reader.finish()
    return value


def refusal(codec: Codec[Any], octets: bytes) -> Violation:
    with pytest.raises(PeerViolation) as caught:
        read(codec, octets)
    return caught.value.violation


# -- reader ----------------------------------------------------------------------------------------


def test_a_reader_goes_forward() -> None:
    reader = Reader(b"\x01\x02\x03\x04\x05")
    assert reader.uint(2) == 0x0102
    assert reader.remaining == 3
    assert reader.take(1) == b"\x03"
    assert reader.take(2) == b"\x04\x05"
    assert reader.remaining == 0
    reader.finish()


@pytest.mark.req("6-9")
@pytest.mark.parametrize("method", ["take", "uint"])
def test_a_reader_never_goes_past_its_end(method: str) -> None:
    reader = Reader(b"\x01")
    with pytest.raises(PeerViolation) as caught:
        getattr(reader, method)(2)
    assert caught.value.violation is Violation.TRUNCATED
    assert reader.remaining == 1, "it stays where it is"


def test_what_is_left_over_is_counted() -> None:
    with pytest.raises(PeerViolation, match="2 octets") as caught:
        Reader(b"ab").finish()
    assert caught.value.violation is Violation.TRAILING_DATA
    with pytest.raises(PeerViolation) as caught:
        Reader(b"ab").finish(Violation.EXTENSION_TRAILING_DATA)
    assert caught.value.violation is Violation.EXTENSION_TRAILING_DATA


# -- codecs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "value", "octets"),
    [
        (Uint(1), 255, "ff"),
        (Uint(3), 0x010203, "010203"),
        (Code(NamedGroup, 2), NamedGroup.x25519, "001d"),
        (Code(NamedGroup, 2), NamedGroup(0x1A1A), "1a1a"),
        (Code(PskKeyExchangeMode, 1), PskKeyExchangeMode.psk_dhe_ke, "01"),
        (Fixed(2), b"\1\2", "0102"),
        (Fixed(0), b"", ""),
        (Rest(), b"\1\2\3", "010203"),
        (Rest(), b"", ""),
        (Opaque(0, 255), b"", "00"),
        (Opaque(0, 32), b"a", "0161"),
        (Opaque(0, 256), b"a", "000161"),
        (Opaque(0, 2**16 - 1), b"a", "000161"),
        (Opaque(0, 2**24 - 1), b"a", "00000161"),
        (Vector(Uint(2), 0, 254), (), "00"),
        (Vector(Uint(2), 2, 2**16 - 2), (1, 2), "000400010002"),
        (Vector(Opaque(1, 255), 2, 255), (b"h2", b"x"), "05 02 6832 01 78"),
        (Nested(Point), Point(1, 2), "010002"),
    ],
)
def test_codecs_write_and_read(codec: Codec[Any], value: Any, octets: str) -> None:
    assert written(codec, value) == bytes.fromhex(octets)
    assert read(codec, bytes.fromhex(octets)) == value
    assert type(read(codec, bytes.fromhex(octets))) is type(value)


@pytest.mark.req("6-9")
@pytest.mark.parametrize(
    ("codec", "octets", "violation"),
    [
        (Uint(2), "01", Violation.TRUNCATED),
        (Code(NamedGroup, 2), "00", Violation.TRUNCATED),
        (Fixed(2), "01", Violation.TRUNCATED),
        (Fixed(2), "010203", Violation.TRAILING_DATA),
        (Opaque(0, 255), "", Violation.TRUNCATED),
        (Opaque(0, 255), "0161"[:2], Violation.TRUNCATED),
        (Opaque(1, 255), "00", Violation.VECTOR_LENGTH),
        (Opaque(0, 32), "21" + "00" * 33, Violation.VECTOR_LENGTH),
        (Opaque(0, 32), "2100", Violation.VECTOR_LENGTH),
        (Vector(Uint(2), 2, 254), "00", Violation.VECTOR_LENGTH),
        (Vector(Uint(2), 2, 254), "ff" + "00" * 255, Violation.VECTOR_LENGTH),
        (Vector(Uint(2), 2, 254), "03000000", Violation.TRUNCATED),
        (Vector(Uint(2), 2, 254), "0400000000"[:8], Violation.TRUNCATED),
        # an item's own length may not reach over the end of the vector
        (Vector(Opaque(1, 255), 2, 255), "03 02 68 32 01 78", Violation.TRAILING_DATA),
        (Vector(Opaque(1, 255), 2, 255), "02 02 68 32", Violation.TRUNCATED),
    ],
)
def test_codecs_refuse(codec: Codec[Any], octets: str, violation: Violation) -> None:
    assert refusal(codec, bytes.fromhex(octets)) is violation


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        (Uint(1), 256),
        (Uint(2), -1),
        (Code(PskKeyExchangeMode, 1), PskKeyExchangeMode(0x100)),
        (Fixed(2), b"a"),
        (Fixed(2), b"abc"),
        (Opaque(1, 255), b""),
        (Opaque(0, 32), bytes(33)),
        (Opaque(0, 2**16 - 1), bytes(2**16)),
        (Vector(Uint(2), 2, 254), ()),
        (Vector(Uint(2), 2, 254), (0,) * 128),
    ],
)
def test_what_has_no_encoding_is_a_value_error(codec: Codec[Any], value: Any) -> None:
    with pytest.raises(ValueError, match=r"octets"):
        written(codec, value)


@pytest.mark.parametrize(
    ("maximum", "prefix"),
    [(1, 1), (32, 1), (255, 1), (256, 2), (2**16 - 2, 2), (2**16 - 1, 2), (2**24 - 1, 3)],
)
def test_the_prefix_is_as_wide_as_the_bound_needs(maximum: int, prefix: int) -> None:
    assert Opaque(0, maximum).prefix == prefix


# -- structures ------------------------------------------------------------------------------------


def test_a_structure_is_its_fields_in_order() -> None:
    assert PATH.encode() == PATH_OCTETS
    assert Path.decode(PATH_OCTETS) == PATH
    PATH.write(out := bytearray(b"x"))
    assert out == b"x" + PATH_OCTETS


def test_only_annotated_fields_stand_on_the_wire() -> None:
    assert [name for name, _ in fields_of(Path)] == ["label", "start", "points"]
    assert fields_of(Path) is fields_of(Path), "found out once"
    kinds = [type(codec) for _, codec in fields_of(Path)]
    assert kinds == [Opaque, Nested, Vector]


def test_shorthands() -> None:
    @dataclass(frozen=True, slots=True)
    class All(Struct):
        a: Uint8
        b: Uint16
        c: Uint32
        d: Opaque8
        e: Opaque16

    assert All(1, 2, 3, b"4", b"5").encode().hex() == "010002000000030134000135"


@pytest.mark.req("6-9")
def test_an_error_names_the_field_that_it_is_in() -> None:
    for octets, detail in (
        ("02 6162 01 00", "Path.start: Point.y"),
        ("02 6162 01 0002 02 03 00", "Path.points: 2 octets, not 3..30"),
        ("02 6162 01 0002 04 03 0004 05", "Path.points: Point.y"),
        ("02 61", "Path.label"),
    ):
        with pytest.raises(PeerViolation) as caught:
            Path.decode(bytes.fromhex(octets))
        assert caught.value.detail == detail


def test_octets_after_a_structure_are_the_violation_that_the_caller_names() -> None:
    with pytest.raises(PeerViolation, match="1 octets") as caught:
        Point.decode(b"\0\0\0\0")
    assert caught.value.violation is Violation.TRAILING_DATA
    with pytest.raises(PeerViolation) as caught:
        Point.decode(b"\0\0\0\0", trailing=Violation.EXTENSION_TRAILING_DATA)
    assert caught.value.violation is Violation.EXTENSION_TRAILING_DATA


def test_a_structure_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PATH.label = b"other"  # type: ignore[misc]
