"""Whatever stands on the wire is a valid message, written back as it came, or a PeerViolation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies as draw
from tpmtls.codepoints import AlertDescription, ExtensionType, HandshakeType
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.codec import (
    Bounded,
    Code,
    Codec,
    Fixed,
    Nested,
    Opaque,
    Reader,
    Rest,
    Struct,
    Uint,
    Vector,
    fields_of,
)
from tpmtls.wire.extensions import (
    PLACEMENT,
    ExtensionBlock,
    ExtensionBody,
    Extensions,
    HelloExtensionBlock,
    Padding,
    Place,
    UnknownExtension,
)
from tpmtls.wire.messages import (
    HEADER_SIZE,
    MESSAGES,
    Alert,
    HandshakeMessage,
    HelloRetryRequest,
    decode_message,
    frame,
)
from vectors.vectorlib.library import TRACES, load_trace

T = TypeVar("T")

ALERTS = {AlertDescription.decode_error, AlertDescription.illegal_parameter}
ALERTS_OF_A_WRONG_TYPE = ALERTS | {AlertDescription.unexpected_message}

STRUCTURES = [*draw.MESSAGES, *(b for b in draw.BODIES if b is not UnknownExtension), Alert]


def outcome(decode: Callable[[], T]) -> T | PeerViolation:
    """What came of reading; any other exception goes through, and fails the test."""
    try:
        return decode()
    except PeerViolation as error:
        return error


def survives(octets: bytes, alerts: set[AlertDescription] = ALERTS) -> None:
    """The octets are a message that is written back the same, or a violation with such an alert."""
    message = outcome(lambda: decode_message(octets))
    if isinstance(message, PeerViolation):
        assert message.alert in alerts, message
        return
    written = message.to_octets()
    if not getattr(message, "extensions", True):
        # A Hello older than TLS 1.3 has no extensions, or none in them: we keep no difference.
        octets, written = octets[HEADER_SIZE:], written[HEADER_SIZE:]
        assert octets in (written, written + b"\0\0")
    else:
        assert written == octets


# -- what is written is read back ------------------------------------------------------------------


@settings(max_examples=250)
@given(draw.messages())
def test_a_message_survives_encoding_and_decoding(message: HandshakeMessage) -> None:
    octets = message.to_octets()
    decoded = decode_message(octets)
    assert decoded == message
    assert type(decoded) is type(message)
    assert decoded.to_octets() == octets


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda structure: structure.__name__)
def test_a_structure_survives_encoding_and_decoding(structure: type[Struct]) -> None:
    @settings(max_examples=40)
    @given(draw.structures(structure))
    def survives_alone(value: Struct) -> None:
        octets = value.encode()
        assert structure.decode(octets) == value
        if not is_open_ended(structure):
            reader = Reader(octets + b"next")
            assert structure.read(reader) == value
            assert reader.remaining == len(b"next")

    survives_alone()


def is_open_ended(structure: type[Struct]) -> bool:
    """Whether it ends where its container does; a Hello may even lack its extensions."""
    return any(isinstance(codec, Rest | HelloExtensionBlock) for _, codec in fields_of(structure))


def test_every_message_is_drawn_and_can_be_received() -> None:
    assert set(MESSAGES.values()) | {HelloRetryRequest} == set(draw.MESSAGES)


def test_every_extension_stands_somewhere() -> None:
    placed = {body for bodies in PLACEMENT.values() for body in bodies.values()}
    assert placed | {UnknownExtension} == set(draw.BODIES)


# -- what is not a message is a violation ----------------------------------------------------------


@pytest.mark.req("6-9")
@settings(max_examples=100)
@given(draw.messages())
def test_every_truncation(message: HandshakeMessage) -> None:
    octets = message.to_octets()
    for size in range(len(octets)):
        with pytest.raises(PeerViolation) as caught:
            decode_message(octets[:size])
        assert caught.value.violation is Violation.TRUNCATED
    for size in range(len(octets) - HEADER_SIZE):
        survives(frame(HandshakeType(octets[0]), octets[HEADER_SIZE:][:size]))


@pytest.mark.req("6-9")
@settings(max_examples=200)
@given(draw.messages(), st.binary(min_size=1, max_size=20))
def test_every_extension_by_extra_octets(message: HandshakeMessage, extra: bytes) -> None:
    octets = message.to_octets()
    with pytest.raises(PeerViolation) as caught:
        decode_message(octets + extra)
    assert caught.value.violation is Violation.TRAILING_DATA
    survives(frame(HandshakeType(octets[0]), octets[HEADER_SIZE:] + extra))


@settings(max_examples=100)
@given(draw.messages(), st.integers(0, 7))
def test_a_bit_flip_in_every_octet(message: HandshakeMessage, bit: int) -> None:
    octets = message.to_octets()
    for position in range(len(octets)):
        survives_flip(octets, 8 * position + bit)


@pytest.mark.parametrize("name", TRACES)
def test_a_bit_flip_in_every_octet_of_recorded_messages(name: str) -> None:
    for message in load_trace(name).messages():
        assert decode_message(message.octets).to_octets() == message.octets
        for position in range(len(message.octets)):
            survives_flip(message.octets, 8 * position)
            survives_flip(message.octets, 8 * position + 1 + position % 7)


def survives_flip(message: bytes, bit: int) -> None:
    """The same of a message with one bit changed; in its first octet, that is another type."""
    octets = bytearray(message)
    octets[bit // 8] ^= 1 << bit % 8
    survives(bytes(octets), ALERTS_OF_A_WRONG_TYPE if bit < 8 else ALERTS)


@settings(max_examples=200)
@given(draw.messages(), st.data())
def test_octets_put_in_taken_out_and_overwritten(
    message: HandshakeMessage, data: st.DataObject
) -> None:
    octets, body = message.to_octets(), message.encode()
    start = data.draw(st.integers(0, len(body)))
    stop = data.draw(st.integers(start, min(len(body), start + 8)))
    bent = body[:start] + data.draw(st.binary(max_size=8)) + body[stop:]
    survives(frame(HandshakeType(octets[0]), bent))


@settings(max_examples=400)
@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=200))
def test_arbitrary_bodies(msg_type: HandshakeType, body: bytes) -> None:
    survives(frame(msg_type, body))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_arbitrary_octets(octets: bytes) -> None:
    survives(octets, ALERTS_OF_A_WRONG_TYPE)


# -- extension blocks ------------------------------------------------------------------------------

blocks = st.sampled_from(list(Place)).flatmap(
    lambda place: st.tuples(
        st.just(place),
        st.lists(
            draw.extension_bodies(place),
            min_size=1,
            max_size=6,
            unique_by=lambda body: body.extension_type,
        ),
    )
)


def block(*bodies: ExtensionBody) -> bytes:
    """An extension block, written without a look at what it holds."""
    ExtensionBlock(Place.CH).write(Extensions(bodies), out := bytearray())
    return bytes(out)


@pytest.mark.req("4.3-10")
@given(blocks, st.data())
def test_a_second_extension_of_a_type(
    drawn: tuple[Place, list[ExtensionBody]], data: st.DataObject
) -> None:
    place, bodies = drawn
    twice = data.draw(st.sampled_from(bodies))
    again = data.draw(st.sampled_from([twice, UnknownExtension(twice.extension_type, b"\0")]))
    bodies.insert(data.draw(st.integers(0, len(bodies))), again)
    for codec in (ExtensionBlock(place), HelloExtensionBlock(place)):
        with pytest.raises(PeerViolation) as caught:
            codec.read(Reader(block(*bodies)))
        assert caught.value.violation is Violation.DUPLICATE_EXTENSION
        assert str(twice.extension_type) in caught.value.detail


@pytest.mark.req("4.3-7", "4.4.1-3")
@given(blocks, st.data())
def test_an_extension_in_the_wrong_place(
    drawn: tuple[Place, list[ExtensionBody]], data: st.DataObject
) -> None:
    place, bodies = drawn
    elsewhere = [kind for kind, places in PLACEMENT.items() if place not in places]
    stray = UnknownExtension(data.draw(st.sampled_from(elsewhere)), data.draw(st.binary()))
    bodies.insert(data.draw(st.integers(0, len(bodies))), stray)
    with pytest.raises(PeerViolation) as caught:
        ExtensionBlock(place).read(Reader(block(*bodies)))
    assert caught.value.violation is Violation.EXTENSION_NOT_ALLOWED
    assert caught.value.detail == f"{stray.extension_type} in {place.value}"


@pytest.mark.req("4.3-2")
@given(blocks, st.data())
def test_octets_after_the_structure_of_an_extension(
    drawn: tuple[Place, list[ExtensionBody]], data: st.DataObject
) -> None:
    place, bodies = drawn
    at = data.draw(st.integers(0, len(bodies) - 1))
    body = bodies[at]
    longer = body.encode() + data.draw(st.binary(min_size=1))
    bodies[at] = UnknownExtension(body.extension_type, longer)
    octets = block(*bodies)
    read = outcome(lambda: ExtensionBlock(place).read(Reader(octets)))
    if isinstance(body, UnknownExtension | Padding):
        assert isinstance(read, Extensions)
        assert block(*read) == octets
    else:
        assert isinstance(read, PeerViolation)
        assert read.violation is Violation.EXTENSION_TRAILING_DATA


@pytest.mark.req("4.2.2-18", "4.4.2-7", "4.7.1-18", "9.3-6")
@given(st.sampled_from(list(Place)), draw.structures(UnknownExtension))
def test_an_unknown_extension_is_kept_everywhere(place: Place, body: UnknownExtension) -> None:
    for codec in (ExtensionBlock(place), HelloExtensionBlock(place)):
        assert codec.read(Reader(block(body))) == (body,)


@pytest.mark.req("4.3.1-15")
@given(blocks.filter(lambda drawn: drawn[0] in (Place.CH, Place.SH, Place.HRR)))
def test_a_hello_without_supported_versions_is_not_interpreted(
    drawn: tuple[Place, list[ExtensionBody]],
) -> None:
    place, bodies = drawn
    older = [b for b in bodies if b.extension_type != ExtensionType.supported_versions]
    octets = block(*older)
    assert HelloExtensionBlock(place).read(Reader(octets)) == tuple(
        UnknownExtension(body.extension_type, body.encode()) for body in older
    )


# -- size ------------------------------------------------------------------------------------------


def shortest(codec: Codec[Any]) -> Any:
    """The shortest value that `codec` writes."""
    match codec:
        case Uint():
            return 0
        case Code():
            return codec.enumeration(0)
        case Fixed():
            return bytes(codec.size)
        case Opaque():
            return bytes(codec.minimum)
        case Nested():
            return codec.structure(*(shortest(inner) for _, inner in fields_of(codec.structure)))
        case ExtensionBlock():
            return Extensions()
    raise TypeError(codec)


def longest(codec: Bounded[Any], limit: int) -> Any:
    """A value of as many octets as `limit` allows, of many items where it has items."""
    match codec:
        case Opaque():
            return bytes(limit)
        case Vector():
            item = shortest(codec.item)
            codec.item.write(item, one := bytearray())
            return (item,) * (limit // len(one))
        case ExtensionBlock():
            return Extensions([UnknownExtension(ExtensionType(0xFFFF), bytes(limit - 4))])
    raise TypeError(codec)


VECTORS = {
    f"{structure.__name__}.{name}": codec
    for structure in STRUCTURES
    for name, codec in fields_of(structure)
    if isinstance(codec, Bounded)
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_longest_vectors(name: str) -> None:
    codec = VECTORS[name]
    limit = min(codec.maximum, 2**16)
    value = longest(codec, limit)
    codec.write(value, out := bytearray())
    assert limit - 32 <= len(out) - codec.prefix <= limit
    assert codec.read(Reader(bytes(out))) == value
    with pytest.raises(PeerViolation) as caught:
        codec.read(Reader(bytes(out[:-1])))
    assert caught.value.violation is Violation.TRUNCATED


@pytest.mark.req("6-9")
@pytest.mark.parametrize("name", VECTORS)
def test_lengths_out_of_bounds(name: str) -> None:
    codec = VECTORS[name]
    for length in (codec.minimum - 1, codec.maximum + 1):
        if not 0 <= length < 2 ** (8 * codec.prefix):
            continue
        octets = length.to_bytes(codec.prefix, "big") + bytes(length)
        with pytest.raises(PeerViolation) as caught:
            codec.read(Reader(octets))
        assert caught.value.violation is Violation.VECTOR_LENGTH
