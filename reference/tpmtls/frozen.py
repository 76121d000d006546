"""Frozen dataclasses that cost less: the standard library's, but for how their methods are made.

A handshake makes more than a hundred objects of `@dataclass(frozen=True, slots=True)`, and a
program that imports a connection makes about as many such classes. The standard library compiles
six methods for each class, and its `__init__` goes the long way around its own `__setattr__`. Here
one method is compiled, `__init__`, which puts each value into its slot; the others are made of
what exists. A class takes a quarter of the time to make, and an object two thirds of it.

Type checkers see the standard library's decorator; `fields`, `replace`, `asdict` and patterns work
as ever. A dataclass that inherits from one of these must be made by this decorator, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(**options):
        """`dataclasses.dataclass(**options)`; with `frozen=True, slots=True` alone, made here."""
        if options != {"frozen": True, "slots": True}:
            return dataclasses.dataclass(**options)
        return _frozen


__all__ = ["dataclass"]

_BARE: Final = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True)


def _frozen(declared: type) -> type:
    """The class with slots for its fields, and the methods that it does not define itself."""
    made: Any = _BARE(declared)
    entries = fields(made)
    compared = [entry.name for entry in entries if entry.compare]
    for name, method in {
        "__init__": _init(made, entries),
        "__repr__": _repr,
        **_comparison(compared),
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__setstate__": _setstate,
    }.items():
        if name not in declared.__dict__:
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


# -- __init__ --------------------------------------------------------------------------------------


def _init(made: Any, entries: tuple[Field[Any], ...]) -> Callable[..., None]:
    """Compiled, as positional and keyword parameters with defaults are; `made` has the slots."""
    known: dict[str, Any] = {"MISSING": MISSING}
    positional, by_keyword, body = ["self"], ["*"], []
    for entry in entries:
        name = entry.name
        known[f"set_{name}"] = getattr(made, name).__set__
        value, parameter = name, name
        if entry.default is not MISSING:
            known[f"default_{name}"] = entry.default
            parameter = f"{name}=default_{name}"
        elif entry.default_factory is not MISSING:
            known[f"make_{name}"] = entry.default_factory
            parameter = f"{name}=MISSING"
            value = f"make_{name}() if {name} is MISSING else {name}"
        (by_keyword if entry.kw_only else positional).append(parameter)
        body.append(f" set_{name}(self, {value})")
    if hasattr(made, "__post_init__"):
        body.append(" self.__post_init__()")
    parameters = positional + (by_keyword if len(by_keyword) > 1 else [])
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(body or [" pass"]), known)  # noqa: S102
    init: Callable[..., None] = known["__init__"]
    init.__qualname__ = f"{made.__qualname__}.__init__"
    init.__annotations__ = {entry.name: entry.type for entry in entries} | {"return": None}
    return init


# -- the others ------------------------------------------------------------------------------------


def _comparison(names: list[str]) -> dict[str, Callable[..., Any]]:
    """Equal to one of the very same class whose fields are equal, and hashed by the fields."""
    values: Callable[[Any], Any] = attrgetter(*names) if names else type

    def __eq__(self: Any, other: Any) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)  # type: ignore[no-any-return]

    def __hash__(self: Any) -> int:
        return hash(values(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(_shown(self))})"


def _shown(value: Any) -> Iterator[str]:
    for entry in fields(value):
        if entry.repr:
            yield f"{entry.name}={getattr(value, entry.name)!r}"


def _refuse(self: Any, name: str, _value: Any = None) -> NoReturn:
    raise FrozenInstanceError(f"cannot change field {name!r} of {type(self).__name__}")


def _setstate(self: Any, state: tuple[None, dict[str, Any]]) -> None:
    """For `copy` and `pickle`, which would use the `__setattr__` that refuses."""
    for name, value in state[1].items():
        object.__setattr__(self, name, value)
