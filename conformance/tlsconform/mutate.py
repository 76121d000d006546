"""Messages as trees of fields, and edits of them by path: what malforms a message on purpose.

A tree is made from a message of the reference's codec, which stays as strict as it is. An edit
changes one node of the tree before it becomes octets:

    set_field("client_hello.legacy_version", 0x0304)
    wrong_length("client_hello.extensions[key_share].client_shares", +1)
    drop("certificate_verify.signature")

Lengths around an edited node follow, except for the one that an edit makes lie.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tpmtls.wire.codec import Codec, Nested, Opaque, Struct, Vector, fields_of
from tpmtls.wire.extensions import ExtensionBlock, ExtensionBody, UnknownExtension
from tpmtls.wire.messages import HandshakeMessage

SHOWN: Final = 48
"""Octets of a field that a description shows."""


@dataclass(eq=False, slots=True)
class Node:
    """One field: `lead` (a type in front of the length), length of `prefix` octets, content.

    The content is that of `children`, or `content` where there are none. `declared` is what the
    length says where it lies.
    """

    name: str
    content: bytes = b""
    children: list[Node] = field(default_factory=list)
    lead: bytes = b""
    prefix: int = 0
    declared: int | None = None
    edits: list[str] = field(default_factory=list)

    def body(self) -> bytes:
        """The content, without type and length."""
        return b"".join(child.encode() for child in self.children) or self.content

    def encode(self) -> bytes:
        """The octets; a length that does not fit its octets is cut to them."""
        body = self.body()
        length = len(body) if self.declared is None else self.declared
        mask = (1 << 8 * self.prefix) - 1
        return self.lead + (length & mask).to_bytes(self.prefix, "big") + body

    def flatten(self) -> None:
        """Make of the children what they encode to, so that octets can be cut or added."""
        self.content = self.body()
        self.children = []

    def child(self, selector: str) -> Node:
        """The child with that name, or that index."""
        for child in self.children:
            if child.name == selector:
                return child
        if selector.lstrip("-").isdecimal() and -len(self.children) <= int(selector) < len(
            self.children
        ):
            return self.children[int(selector)]
        raise NoSuchField(f"{self.name or 'the message'} has no {selector!r}")


class NoSuchField(LookupError):
    """An edit's path leads nowhere: the edit does not fit the message."""


# -- messages to trees -----------------------------------------------------------------------------


def tree(message: HandshakeMessage) -> Node:
    """The message as a tree; its root is named by the class in snake case, `client_hello`."""
    octets = message.to_octets()
    return Node(name_of(type(message)), lead=octets[:1], prefix=3, children=_fields(message))


def name_of(kind: type[HandshakeMessage]) -> str:
    """The root's name for a class of messages: `ClientHello` → `client_hello`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _fields(structure: Struct) -> list[Node]:
    if isinstance(structure, UnknownExtension):
        return [Node("data", structure.data)]
    return [
        node
        for name, codec in fields_of(type(structure))
        for node in _field(name, codec, getattr(structure, name))
    ]


def _field(name: str, codec: Codec[Any], value: Any) -> Iterator[Node]:
    if isinstance(codec, ExtensionBlock):
        yield Node(name, prefix=codec.prefix, children=[extension(body) for body in value])
    elif isinstance(codec, Vector):
        items = [n for i, item in enumerate(value) for n in _field(str(i), codec.item, item)]
        yield Node(name, prefix=codec.prefix, children=items)
    elif isinstance(codec, Opaque):
        yield Node(name, value, prefix=codec.prefix)
    elif isinstance(codec, Nested):
        yield Node(name, children=_fields(value))
    else:
        codec.write(value, out := bytearray())
        yield Node(name, bytes(out))


def extension(body: ExtensionBody) -> Node:
    """An extension as a node of an extension block, named by its type: `key_share`."""
    kind = body.extension_type
    return Node(kind.name, lead=kind.to_bytes(2, "big"), prefix=2, children=_fields(body))


# -- paths -----------------------------------------------------------------------------------------

_SEGMENT: Final = re.compile(r"\.?([A-Za-z_]\w*)|\[([\w-]+)\]")


def parse_path(path: str) -> tuple[str, ...]:
    """`client_hello.extensions[key_share].client_shares[0]` → its segments."""
    segments, position = [], 0
    while position < len(path):
        match = _SEGMENT.match(path, position)
        if match is None:
            raise ValueError(f"{path!r} is no field path: look at column {position + 1}")
        segments.append(match[1] or match[2])
        position = match.end()
    return tuple(segments)


def find(root: Node, path: str) -> Node:
    """The node at a path that starts with the root's name; raises NoSuchField."""
    return _parent_and_node(root, path)[1]


def _parent_and_node(root: Node, path: str) -> tuple[Node | None, Node]:
    first, *rest = parse_path(path)
    if first != root.name:
        raise NoSuchField(f"{path!r} is not in a {root.name}")
    parent, node = None, root
    for segment in rest:
        parent, node = node, node.child(segment)
    return parent, node


def offset(root: Node, wanted: Node) -> int:
    """Where the encoding of a node starts in that of the root, in octets."""
    position = len(root.lead) + root.prefix
    for child in root.children:
        if child is wanted:
            return position
        if any(node is wanted for _, node in walk(child)):
            return position + offset(child, wanted)
        position += len(child.encode())
    raise NoSuchField(wanted.name)


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below, the first included, with its path."""
    path = path or node.name
    yield path, node
    for child in node.children:
        indexed = child.name.isdecimal() or node.name == "extensions"
        yield from walk(child, f"{path}[{child.name}]" if indexed else f"{path}.{child.name}")


def length_fields(message: HandshakeMessage) -> list[str]:
    """The path of every node of the message that has a length, its header's first."""
    return [path for path, node in walk(tree(message)) if node.prefix]


# -- edits -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of one field; `what` says which, for people."""

    path: str
    what: str
    change: Callable[[Node | None, Node], None] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.path} {self.what}"

    @property
    def message(self) -> str:
        """The name of the message that it is for."""
        return parse_path(self.path)[0]

    def apply(self, root: Node) -> None:
        """Change the tree; raises NoSuchField where the path leads nowhere."""
        parent, node = _parent_and_node(root, self.path)
        self.change(parent, node)
        marked = node if parent is None or node in parent.children else parent
        marked.edits.append(self.what if marked is node else f"{node.name} {self.what}")


def set_field(path: str, value: bytes | int) -> Edit:
    """Another content: octets, or a number in as many octets as the field has."""

    def change(_: Node | None, node: Node) -> None:
        size = len(node.body())
        node.children = []
        node.content = value if isinstance(value, bytes) else value.to_bytes(size, "big")

    shown = value.hex() if isinstance(value, bytes) else f"{value:#x}"
    return Edit(path, f"set to {shown[:SHOWN] or 'nothing'}", change)


def flip(path: str, position: int = 0) -> Edit:
    """The lowest bit of one octet of the content inverted; -1 is the last octet."""

    def change(_: Node | None, node: Node) -> None:
        node.flatten()
        content = bytearray(node.content)
        content[position] ^= 1
        node.content = bytes(content)

    return Edit(path, f"with a bit of octet {position} inverted", change)


def wrong_length(path: str, by: int = 0, to: int | None = None) -> Edit:
    """A length that lies: by so much, or as said; the content stays."""

    def change(_: Node | None, node: Node) -> None:
        if not node.prefix:
            raise NoSuchField(f"{path} has no length")
        node.declared = len(node.body()) + by if to is None else to

    return Edit(
        path, f"with its length off by {by:+d}" if to is None else f"of length {to}", change
    )


def append(path: str, octets: bytes) -> Edit:
    """More octets at the end of the content; its length follows."""

    def change(_: Node | None, node: Node) -> None:
        node.flatten()
        node.content += octets

    return Edit(path, f"with {octets[:SHOWN].hex()} appended", change)


def truncate(path: str, octets: int = 1) -> Edit:
    """Fewer octets at the end of the content; its length follows."""

    def change(_: Node | None, node: Node) -> None:
        node.flatten()
        node.content = node.content[: max(0, len(node.content) - octets)]

    return Edit(path, f"with its last {octets} octets cut off", change)


def drop(path: str) -> Edit:
    """Without the field, its type and its length."""

    def change(parent: Node | None, node: Node) -> None:
        _siblings(parent, path).remove(node)

    return Edit(path, "left out", change)


def duplicate(path: str) -> Edit:
    """With the field twice, one after the other."""

    def change(parent: Node | None, node: Node) -> None:
        siblings = _siblings(parent, path)
        siblings.insert(siblings.index(node), node)

    return Edit(path, "twice", change)


def move(path: str, to: int) -> Edit:
    """The field at another place among its siblings: 0 is the first, -1 the last."""

    def change(parent: Node | None, node: Node) -> None:
        siblings = _siblings(parent, path)
        siblings.remove(node)
        siblings.insert(to if to >= 0 else len(siblings) + 1 + to, node)

    return Edit(path, f"moved to place {to}", change)


def retype(path: str, code: int) -> Edit:
    """Another type in front of a message or an extension."""

    def change(_: Node | None, node: Node) -> None:
        node.lead = code.to_bytes(len(node.lead), "big")

    return Edit(path, f"under type {code:#x}", change)


def insert(path: str, body: ExtensionBody | bytes, at: int = 0) -> Edit:
    """One more item in a list or extension block: an extension, or octets with their own length."""
    item = Node("inserted", body) if isinstance(body, bytes) else extension(body)

    def change(_: Node | None, node: Node) -> None:
        node.children.insert(at if at >= 0 else len(node.children) + 1 + at, item)

    return Edit(path, f"with {item.name} {item.encode()[:SHOWN].hex()} inserted", change)


def _siblings(parent: Node | None, path: str) -> list[Node]:
    if parent is None:
        raise NoSuchField(f"{path} is a whole message: leave out sending it instead")
    return parent.children


# -- descriptions ----------------------------------------------------------------------------------


def describe(node: Node, depth: int = 0) -> list[str]:
    """The tree as lines, two blanks a level; those that an edit touched start with `>`."""
    mark = ">" if node.edits else " "
    note = f"   <- {'; '.join(node.edits)}" if node.edits else ""
    length = ""
    if node.prefix:
        told = len(node.body()) if node.declared is None else node.declared
        length = f" ({told} octets)"
    value = "" if node.children else f" {_hex(node.content)}"
    lines = [f"{mark} {'  ' * depth}{node.name}{length}{value}{note}"]
    for child in node.children:
        lines += describe(child, depth + 1)
    return lines


def _hex(octets: bytes) -> str:
    shown = octets[:SHOWN].hex()
    return shown + (f"… {len(octets)} octets" if len(octets) > SHOWN else "")
