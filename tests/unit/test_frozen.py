"""Our frozen dataclasses behave as the standard library's do, each side by side with its twin."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar

import pytest

import tpmtls
from tpmtls import frozen
from tpmtls.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Empty:
    """No fields at all."""


@dataclass(frozen=True, slots=True)
class Point:
    """Each kind of field."""

    kind: ClassVar[str] = "point"
    x: int
    y: int = 2
    hidden: int = field(default=3, repr=False)
    ignored: int = field(default=4, compare=False)
    made: list[int] = field(default_factory=list)
    named: str = field(default="n", kw_only=True)


@dataclass(frozen=True, slots=True)
class Point3(Point):
    """Inherits its first fields."""

    z: int = 5


@dataclass(frozen=True, slots=True)
class Doubled:
    """Looks at itself when made, and compares in its own way."""

    value: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", 2 * self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "doubled"


class PlainPoint:
    kind: ClassVar[str] = "point"
    x: int
    y: int = 2
    hidden: int = field(default=3, repr=False)
    ignored: int = field(default=4, compare=False)
    made: list[int] = field(default_factory=list)
    named: str = field(default="n", kw_only=True)


PlainPoint.__qualname__ = PlainPoint.__name__ = "Point"
Standard: Any = dataclasses.dataclass(frozen=True, slots=True)(PlainPoint)
ARGUMENTS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    ((1,), {}),
    ((1, 7), {"named": "m"}),
    ((), {"x": 0, "made": [1]}),
    ((1, 2, 3, 4, [5]), {"named": ""}),
)


@pytest.mark.parametrize(("positional", "named"), ARGUMENTS)
def test_it_is_made_and_shown_like_the_standard_one(
    positional: tuple[Any, ...], named: dict[str, Any]
) -> None:
    ours, theirs = Point(*positional, **named), Standard(*positional, **named)
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
    assert repr(ours) == repr(theirs)
    assert dataclasses.astuple(dataclasses.replace(ours, y=9)) == dataclasses.astuple(
        dataclasses.replace(theirs, y=9)
    )


@pytest.mark.parametrize(
    ("positional", "named"),
    [((), {}), ((1, 2, 3, 4, [], "named"), {}), ((1,), {"x": 1}), ((1,), {"other": 1})],
)
def test_what_the_standard_one_does_not_take_is_refused(
    positional: tuple[Any, ...], named: dict[str, Any]
) -> None:
    for made in (Point, Standard):
        with pytest.raises(TypeError):
            made(*positional, **named)


def test_the_signature_can_be_read() -> None:
    ours = inspect.signature(Point).parameters
    theirs = inspect.signature(Standard).parameters
    assert [(p.name, p.kind, p.annotation) for p in ours.values()] == [
        (p.name, p.kind, p.annotation) for p in theirs.values()
    ]
    assert (ours["y"].default, ours["named"].default) == (2, "n")
    assert Point.__match_args__ == Standard.__match_args__


def test_equal_are_those_of_one_class_with_equal_fields() -> None:
    assert Point(1) == Point(1, ignored=9)
    assert Point(1) != Point(2)
    assert Point(1) != Point3(1)
    assert Point(1) != object()
    assert Empty() == Empty()
    assert Empty() != Doubled(1)
    hashable = Point(1, made=()), Point(1, made=(), ignored=9)  # type: ignore[arg-type]
    assert len({*hashable, Empty(), Empty()}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


@pytest.mark.parametrize("name", ["x", "unknown"])
def test_nothing_can_be_changed(name: str) -> None:
    point = Point3(1)
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(point, name, 2)
    with pytest.raises(FrozenInstanceError, match=name):
        delattr(point, name)
    assert not hasattr(point, "__dict__")


def test_fields_are_inherited() -> None:
    assert dataclasses.asdict(Point3(1, z=6)) == dataclasses.asdict(Point(1)) | {"z": 6}
    assert [entry.name for entry in dataclasses.fields(Point3)][-1] == "z"


def test_what_a_class_defines_itself_is_kept() -> None:
    doubled = Doubled(2)
    assert (doubled.value, repr(doubled), doubled == 5) == (4, "doubled", True)
    with pytest.raises(TypeError, match="unhashable"):
        hash(doubled)


def test_it_can_be_copied() -> None:
    point = Point3(1, made=[1])
    for twin in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert twin == point
        assert twin is not point


def test_other_dataclasses_are_the_standard_librarys() -> None:
    @dataclass(slots=True)
    class Open:
        value: int

    opened = Open(1)
    opened.value = 2
    assert opened == Open(2)


def classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(tpmtls.__path__, "tpmtls."):
        if module.name.startswith(("tpmtls.wire", "tpmtls.handshake", "tpmtls.events")):
            yield from filter(
                dataclasses.is_dataclass, vars(importlib.import_module(module.name)).values()
            )


def test_what_is_made_for_each_message_is_made_so() -> None:
    made = {c for c in classes() if c.__setattr__ is frozen._refuse}
    assert len(made) > 60
