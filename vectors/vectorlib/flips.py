"""Shows that the checks miss nothing: flips octets of every hex value, one at a time."""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from .library import PATHS, Library
from .problems import Problem

_HEX: Final = re.compile(r"^(?:[0-9a-f]{2})+$")
# Keys whose values may look like hex and are words or numbers of sections
_WORDS: Final = {"section", "rfc9846"}
Check = Callable[[Library, str], Iterator[Problem]]
"""Finds the problems of a document of a library."""
EVERY_BIT: Final = (1, 2, 4, 8, 16, 32, 64, 128, 255)


@dataclass(frozen=True)
class HexField:
    """A hex value in a document: where it hangs, and its path for people."""

    path: str
    holder: Any
    key: Any

    @property
    def value(self) -> str:
        """The hex."""
        text: str = self.holder[self.key]
        return text


@dataclass(frozen=True)
class Flip:
    """One change: which octet of which field, and the bits that change."""

    path: str
    octet: int
    mask: int


@dataclass
class Report:
    """What happened to a document's flips."""

    document: str
    fields: int = 0
    octets: int = 0
    flips: int = 0
    without_information: list[Flip] = field(default_factory=list)
    survivors: list[Flip] = field(default_factory=list)

    @property
    def caught(self) -> int:
        """Flips that a recomputation caught."""
        return self.flips - len(self.without_information) - len(self.survivors)


def hex_fields(holder: Any, path: str = "") -> Iterator[HexField]:
    """Every hex value in a document, empty ones aside."""
    pairs: Iterable[tuple[Any, Any]] = (
        holder.items() if isinstance(holder, dict) else enumerate(holder)
    )
    for key, value in pairs:
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict | list):
            name = value.get("id") if isinstance(value, dict) else None
            yield from hex_fields(value, f"{path}[{name}]" if name else here)
        elif isinstance(value, str) and key not in _WORDS and _HEX.match(value):
            yield HexField(here, holder, key)


def sampled(fields: list[HexField], seed: int) -> Iterator[tuple[HexField, int, int]]:
    """A bit each of the first, middle and last octet of a field, and all of the first octet."""
    draw = random.Random(seed)  # noqa: S311 - a sample to test with, not a secret
    for one in fields:
        last = len(one.value) // 2 - 1
        for octet in sorted({0, last // 2, last}):
            yield one, octet, 1 << draw.randrange(8)
        yield one, 0, 0xFF


def exhaustive(fields: list[HexField]) -> Iterator[tuple[HexField, int, int]]:
    """Every octet of each field: each of its bits, and all of them."""
    for one in fields:
        for octet in range(len(one.value) // 2):
            for mask in EVERY_BIT:
                yield one, octet, mask


def flip_document(name: str, seed: int | None, check: Check | None = None) -> Report:
    """Flip octets of a committed document: a sample drawn from a seed, or every one for None.

    `check` is to notice them: `Library.problems` unless another is given.
    """
    library = Library()
    check = check or Library.problems
    document = library.documents[name]
    fields = list(hex_fields(document))
    report = Report(name, len(fields), sum(len(one.value) // 2 for one in fields))
    chosen = exhaustive(fields) if seed is None else sampled(fields, seed)
    for one, octet, mask in chosen:
        report.flips += 1
        if not _caught(check, library, name, one, octet, mask):
            flip = Flip(one.path, octet, mask)
            clamped = _is_clamped(one, octet, mask)
            (report.without_information if clamped else report.survivors).append(flip)
    return report


def flip_all(seed: int | None) -> Iterator[Report]:
    """The reports of all documents, made on all cores."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor() as pool:
        yield from pool.map(flip_document, PATHS, [seed] * len(PATHS))


def _caught(
    check: Check, library: Library, name: str, one: HexField, octet: int, mask: int
) -> bool:
    original = one.value
    octets = bytearray.fromhex(original)
    octets[octet] ^= mask
    one.holder[one.key] = octets.hex()
    try:
        return next(check(library, name), None) is not None
    finally:
        one.holder[one.key] = original


def _is_clamped(one: HexField, octet: int, mask: int) -> bool:
    """Whether RFC 7748 §5 fixes all the flipped bits, so that an X25519 key stays the same key."""
    if one.key != "private_key" or one.holder.get("group") != "x25519":
        return False
    ignored = {0: 0b0000_0111, 31: 0b1100_0000}.get(octet, 0)
    return mask & ~ignored == 0
