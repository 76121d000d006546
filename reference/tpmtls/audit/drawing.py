"""The key schedule of one connection as a picture: Figure 5 of RFC 9846 §7.1 and what follows it.

Laid out from the tables that the protocol runs by (`key_schedule`), for the secrets that were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tpmtls.audit.derivations import HASH_KEY, Connection, Scene, path
from tpmtls.key_schedule import (
    APPLICATION_TRAFFIC,
    DERIVED,
    EXPANSIONS,
    EXTERNAL_BINDER_KEY,
    EXTRACTED,
    FINISHED_KEY,
    NEXT_GENERATION,
    RESUMPTION_BINDER_KEY,
    SCHEDULE,
    TICKET_PSK,
    WRITE_IV,
    WRITE_KEY,
    Derivation,
    Stage,
)

CHARACTER: Final = 7.25
"""Width of a character of the names: 12 px of a monospaced font."""
HEIGHT: Final = 36
ROW: Final = 48
GAP: Final = 8
RAIL: Final = 7
"""How far below a row its lines run that pass what is nearer."""
TICKET_WIDTH: Final = 130


def width_of(name: str) -> int:
    """Of the box around a name and its icon."""
    return round(len(name) * CHARACTER) + 36


CHAIN_WIDTH: Final = max(width_of(stage.value) for stage in Stage)
ROW_WIDTH: Final = max(width_of(row.secret) for row in SCHEDULE)
INPUTS: Final = 3
INPUT_WIDTH: Final = max(width_of(name) for name in EXTRACTED.values() if name)
CHAIN: Final = INPUTS + INPUT_WIDTH + 26
ROWS: Final = CHAIN + CHAIN_WIDTH + 48
PARTS: Final = ROWS + ROW_WIDTH + 26
"""Where the columns begin."""
LABELS: Final = {each.value: f"“{each.label.decode('ascii')}”" for each in EXPANSIONS}
EPHEMERAL_KEY: Final = "ephemeral_key"
REMARKS: Final = {
    "signing_key": "certificate",
    "authValue": "of the chain",
    EPHEMERAL_KEY: "ours",
    HASH_KEY: "H of GCM",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One secret: its id as `Scene.canonical` has it, what is written on it, and its place.

    The id is empty where there is nothing but zeros.
    """

    id: str
    name: str
    remark: str
    x: int
    y: int
    width: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def middle(self) -> int:
        return self.y + HEIGHT // 2


class Drawing:
    """Nodes and lines of one connection; `width` and `height` in pixels."""

    def __init__(self, scene: Scene, connection: Connection) -> None:
        self._connection = connection
        self._seen = {scene.canonical(each): each for each in scene.observation.secrets}
        self._traffic = [secret for _, secret in scene.traffic(connection)]
        self._last = scene.connections[-1].number
        self._y = INPUTS
        self.nodes: list[Node] = []
        self.lines: list[str] = []
        salt: Node | None = None
        for stage in Stage:
            salt = self._stage(stage, salt)
        self._rest()
        self.width = max(node.right for node in self.nodes) + INPUTS
        self.height = max(node.y for node in self.nodes) + HEIGHT + INPUTS

    # -- the figure --------------------------------------------------------------------------------

    def _stage(self, stage: Stage, salt: Node | None) -> Node | None:
        """One secret of the left side, and all that comes of it; returns the salt of the next."""
        made = self._connection.at(stage)
        secret = self._node(made, "HKDF-Extract", CHAIN, CHAIN_WIDTH, stage.value)
        if salt is not None:
            self._down(salt, secret)
        self._input(stage, secret)
        unused = RESUMPTION_BINDER_KEY if self._connection.external else EXTERNAL_BINDER_KEY
        for row in SCHEDULE:
            if row.parent is stage and row is not unused:
                self._row(row, secret)
        if stage not in DERIVED.parents:
            return None
        below = self._connection.derived if stage is Stage.EARLY else path(made, DERIVED.value)
        self._y -= ROW  # beside the last row
        salt = self._node(below, LABELS[DERIVED.value], CHAIN, CHAIN_WIDTH)
        self._down(secret, salt)
        self._y += ROW + GAP
        return salt

    def _input(self, stage: Stage, secret: Node) -> None:
        name, number = EXTRACTED[stage], self._connection.number
        if stage is Stage.EARLY and self._connection.psk is not None:
            remark = "external" if self._connection.external else "of a ticket"
            node = self._node(self._connection.psk, remark, INPUTS, INPUT_WIDTH)
        elif stage is Stage.EARLY or name is None:
            node = self._node("", "zeros", INPUTS, INPUT_WIDTH, "0")
        else:
            node = self._node(path(number, name), "ECDHE", INPUTS, INPUT_WIDTH)
            self._y += ROW
            key = path(number, EPHEMERAL_KEY)
            key_node = self._node(key, REMARKS[EPHEMERAL_KEY], INPUTS, INPUT_WIDTH)
            self._up(key_node, node)
            self._y -= ROW
        self.lines.append(f"M{node.right} {node.middle}H{secret.x}")

    def _row(self, row: Derivation, parent: Node) -> None:
        """One arrow of the figure, and the generations after it."""
        own = path(self._connection.number, row.secret)
        own = self._connection.binder_key if row.secret == EXTERNAL_BINDER_KEY.secret else own
        remark = f"“{row.label.decode('ascii')}”"
        if row.point.value:
            remark += f", messages to {row.point.value}"
        node = self._node(own, remark, ROWS, ROW_WIDTH)
        trunk = (parent.right + ROWS) // 2
        self.lines.append(f"M{parent.right} {parent.middle}H{trunk}V{node.middle}H{node.x}")
        self._parts(row, node)
        self._y += ROW
        if row in APPLICATION_TRAFFIC:
            stem = own.rpartition("_")[0]
            for later in self._traffic:
                if later != own and later.rpartition("_")[0] == stem:
                    above = node
                    node = self._node(later, LABELS[NEXT_GENERATION.value], ROWS, ROW_WIDTH)
                    self._down(above, node)
                    self._parts(row, node)
                    self._y += ROW

    def _parts(self, row: Derivation, parent: Node) -> None:
        """What is made of a secret, to its right: in columns, so that they can be compared."""
        x, made_here = PARTS, dict[str, Node]()
        if row in TICKET_PSK.parents:
            ticket = path(self._connection.number, TICKET_PSK.value)
            self._join(parent, self._node(ticket, LABELS[TICKET_PSK.value], x, TICKET_WIDTH))
            return
        for part in (FINISHED_KEY.value, WRITE_IV.value, WRITE_KEY.value, HASH_KEY):
            made = path(parent.id, part)
            if part == FINISHED_KEY.value and row.secret == EXTERNAL_BINDER_KEY.secret:
                made = self._connection.binder_finished_key
            if made in self._seen:
                node = self._node(made, REMARKS.get(part) or LABELS[part], x)
                if part == HASH_KEY and WRITE_KEY.value in made_here:
                    self._join(made_here[WRITE_KEY.value], node)
                elif made_here:
                    self._below(parent, node)
                else:
                    self._join(parent, node)
                made_here[part] = node
            x += width_of(part) + GAP

    def _rest(self) -> None:
        """What has no place in the figure: on its left, from the last secret of the chain down."""
        drawn, x = {node.id for node in self.nodes}, INPUTS
        self._y = max(node.y for node in self.nodes if node.x == CHAIN) + ROW
        for made, secret in self._seen.items():
            if made not in drawn and self._here(secret.connection):
                width = max(width_of(secret.name), INPUT_WIDTH)
                if x > INPUTS and x + width > ROWS - 2 * GAP:
                    x, self._y = INPUTS, self._y + ROW
                later = "of its ticket" if secret.connection > self._last else secret.parent
                x = self._node(made, REMARKS.get(secret.name, later), x, width).right + GAP

    def _here(self, connection: int) -> bool:
        return min(max(connection, 1), self._last) == self._connection.number

    # -- parts -------------------------------------------------------------------------------------

    def _node(self, made: str, remark: str, x: int, width: int = 0, name: str = "") -> Node:
        name = name or made.rpartition("/")[2]
        node = Node(made, name, remark, x, self._y, width or width_of(name))
        self.nodes.append(node)
        return node

    def _join(self, left: Node, right: Node) -> None:
        self.lines.append(f"M{left.right} {left.middle}H{right.x}")

    def _below(self, left: Node, right: Node) -> None:
        """Past what stands between them, and up."""
        bottom = right.y + HEIGHT
        self.lines.append(f"M{left.right} {left.middle}h12V{bottom + RAIL}H{right.x + 15}V{bottom}")

    def _up(self, below: Node, above: Node) -> None:
        self.lines.append(f"M{below.x + 15} {below.y}V{above.y + HEIGHT}")

    def _down(self, above: Node, below: Node) -> None:
        self.lines.append(f"M{above.x + 15} {above.y + HEIGHT}V{below.y}")
