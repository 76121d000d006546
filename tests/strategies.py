"""Hypothesis strategies for everything that can stand on the wire, derived from its declaration.

A structure's fields carry their codecs, so walking those is enough: a message or an extension that
is added to the reference is drawn from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from hypothesis import strategies as st

from tpmtls.codepoints import CodePoint, ExtensionType
from tpmtls.wire import extensions as wire_extensions
from tpmtls.wire import messages as wire_messages
from tpmtls.wire.codec import (
    Code,
    Codec,
    Fixed,
    Nested,
    Opaque,
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
    Place,
    UnknownExtension,
)
from tpmtls.wire.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Alert,
    HandshakeMessage,
    HelloRetryRequest,
    ServerHello,
)

S = TypeVar("S", bound=Struct)
C = TypeVar("C", bound=CodePoint)
Strategy = st.SearchStrategy[Any]

EXTRA = 40
"""Octets that a string has at most above its minimum: enough to be cut and bent anywhere."""

GREASE = tuple(step << 12 | step << 4 | 0x0A0A for step in range(16))
"""RFC 8701 §2."""


# -- code points -----------------------------------------------------------------------------------


def code_points(enumeration: type[C], size: int) -> st.SearchStrategy[C]:
    """Known values, GREASE where it fits, and anything else."""
    values: st.SearchStrategy[int] = st.integers(0, 2 ** (8 * size) - 1)
    if size == 2:
        values = st.sampled_from(GREASE) | values
    return st.sampled_from(enumeration) | values.map(enumeration)


def unknown_extension_types() -> st.SearchStrategy[ExtensionType]:
    """Types that the placement table does not have."""
    return code_points(ExtensionType, 2).filter(lambda kind: kind not in PLACEMENT)


# -- codecs ----------------------------------------------------------------------------------------


def values(codec: Codec[Any]) -> Strategy:
    """Values that `codec` can write, and reads back as the same."""
    for kind, build in BUILDERS:
        if isinstance(codec, kind):
            return build(codec)
    raise TypeError(f"no strategy for {type(codec).__name__}: add one to {__name__}.BUILDERS")


def _vectors(codec: Vector[Any]) -> Strategy:
    def fits(items: tuple[Any, ...]) -> bool:
        return codec.minimum <= sum(map(size, items)) <= codec.maximum

    def size(item: Any) -> int:
        codec.item.write(item, out := bytearray())
        return len(out)

    items = st.lists(values(codec.item), min_size=bool(codec.minimum), max_size=5)
    return items.map(tuple).filter(fits)


def _blocks(codec: ExtensionBlock) -> st.SearchStrategy[Extensions]:
    if isinstance(codec, HelloExtensionBlock):
        return st.one_of(_tls_1_3_block(codec.place), _older_block())
    return _block(codec.place)


def _block(place: Place) -> st.SearchStrategy[Extensions]:
    """Each type at most once, in any order."""
    return st.lists(
        extension_bodies(place), max_size=6, unique_by=lambda body: body.extension_type
    ).map(Extensions)


def _tls_1_3_block(place: Place) -> st.SearchStrategy[Extensions]:
    versions = PLACEMENT[ExtensionType.supported_versions][place]
    return st.builds(
        lambda block, body, at: Extensions(
            (*block[:at], body, *block[at:])
            if ExtensionType.supported_versions not in block.types
            else block
        ),
        _block(place),
        structures(versions),
        st.integers(0, 6),
    )


def _older_block() -> st.SearchStrategy[Extensions]:
    """A Hello without supported_versions: its extensions are not interpreted."""
    kinds = code_points(ExtensionType, 2).filter(lambda k: k != ExtensionType.supported_versions)
    return st.lists(
        st.builds(UnknownExtension, kinds, st.binary(max_size=EXTRA)),
        max_size=4,
        unique_by=lambda body: body.extension_type,
    ).map(Extensions)


BUILDERS: list[tuple[type[Codec[Any]], Callable[[Any], Strategy]]] = [
    (Uint, lambda codec: st.integers(0, 2 ** (8 * codec.size) - 1)),
    (Code, lambda codec: code_points(codec.enumeration, codec.size)),
    (Fixed, lambda codec: st.binary(min_size=codec.size, max_size=codec.size)),
    (Rest, lambda codec: st.binary(max_size=EXTRA)),
    (
        Opaque,
        lambda codec: st.binary(
            min_size=codec.minimum, max_size=min(codec.maximum, codec.minimum + EXTRA)
        ),
    ),
    (Vector, _vectors),
    (Nested, lambda codec: structures(codec.structure)),
    (ExtensionBlock, _blocks),
]
"""How to draw what a kind of codec writes."""


# -- structures ------------------------------------------------------------------------------------


def structures(structure: type[S]) -> st.SearchStrategy[S]:
    """Instances of one structure; of UnknownExtension, any that the table does not know."""
    fields = {name: values(codec) for name, codec in fields_of(structure)}
    if structure is UnknownExtension:
        fields = {"type": unknown_extension_types(), "data": st.binary(max_size=EXTRA)}
    if structure is HelloRetryRequest:
        fields["random"] = st.just(HELLO_RETRY_REQUEST_RANDOM)
    if structure is ServerHello:
        fields["random"] = fields["random"].filter(lambda r: r != HELLO_RETRY_REQUEST_RANDOM)
    drawn: st.SearchStrategy[S] = st.builds(structure, **fields)
    return drawn


def extension_bodies(place: Place) -> st.SearchStrategy[ExtensionBody]:
    """Extensions that may stand in `place`, unknown ones among them."""
    known = [structures(bodies[place]) for bodies in PLACEMENT.values() if place in bodies]
    return st.one_of(*known, structures(UnknownExtension))


def declared(module: ModuleType, base: type[S]) -> tuple[type[S], ...]:
    """The structures of a kind that a module declares."""
    return tuple(
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, base) and found is not base
    )


MESSAGES = declared(wire_messages, HandshakeMessage)
BODIES = declared(wire_extensions, ExtensionBody)


def messages() -> st.SearchStrategy[HandshakeMessage]:
    """Any handshake message."""
    return st.one_of(*map(structures, MESSAGES))


def alerts() -> st.SearchStrategy[Alert]:
    """Any alert."""
    return structures(Alert)
