"""SVG: key schedules coloured by exposure, strips of time, icons; what recurs is defined once."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from tpmtls.audit.derivations import Connection, Scene
from tpmtls.audit.drawing import HEIGHT, Drawing, Node
from tpmtls.audit.exposure import Exposure, host_memory
from tpmtls.audit.model import Observation, SecretSeen

NUMBERS: Final = {each: number for number, each in enumerate(Exposure)}
"""By which the style sheet knows them."""
ICONS: Final = {
    Exposure.HOST: '<path d="M1 7c3-5 9-5 12 0c-3 5-9 5-12 0z"/>'
    '<circle class="f" cx="7" cy="7" r="2"/>',
    Exposure.PASSES: '<path d="M7 1v2.6M7 10.4V13M1 7h11M8.8 3.8L12 7l-3.2 3.2"/>',
    Exposure.ENCRYPTED: '<path d="M2.5 6.5h9v6h-9zM4.5 6.5v-2a2.5 2.5 0 0 1 5 0v2M7 9v1.5"/>',
    Exposure.INSIDE: '<path class="f" d="M4.5 4.5h5v5h-5z"/><path d="M2.5 2.5h9v9h-9z'
    'M5 .5v2M9 .5v2M5 11.5v2M9 11.5v2M.5 5h2M.5 9h2M11.5 5h2M11.5 9h2"/>',
    Exposure.PUBLIC: '<circle cx="7" cy="7" r="6"/>'
    '<path d="M1 7h12M7 1c-4 3-4 9 0 12c4-3 4-9 0-12"/>',
}
"""Pictures of 14 by 14 pixels, so that colours are not all there is."""
KEY_WIDTH: Final = 30
"""Of a box in the legend."""
TICK: Final = 7
"""Width of one moment in a strip."""
PATTERNS: Final = (
    '<marker id="arrow" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" '
    'orient="auto"><path d="M0 0L6 3L0 6z"/></marker>'
    '<pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect class="b" width="7" height="7"/><path d="M0 0V7"/>'
    '</pattern><pattern id="dots" width="8" height="8" patternUnits="userSpaceOnUse">'
    '<rect class="b" width="8" height="8"/><circle cx="2" cy="2" r="1"/>'
    '<circle cx="6" cy="6" r="1"/></pattern>'
)


def icon(what: Exposure) -> str:
    """Its icon, to stand in a line of text; nothing where it has none."""
    if what not in ICONS:
        return ""
    return f'<svg class="i"><use href="#i{NUMBERS[what]}"/></svg>'


class Figures:
    """All figures of a page; `definitions` is to be asked last, and to stand first."""

    def __init__(self) -> None:
        self._shared: dict[str, str] = {}
        self._boxes = dict.fromkeys((what, KEY_WIDTH) for what in Exposure)

    def definitions(self) -> str:
        """What the figures refer to."""
        icons = (
            f'<symbol id="i{NUMBERS[what]}" class="icon" viewBox="0 0 14 14">{drawn}</symbol>'
            for what, drawn in ICONS.items()
        )
        boxes = (_box(what, width) for what, width in self._boxes)
        shared = (f'<g id="{id_}">{drawn}</g>' for drawn, id_ in self._shared.items())
        drawn = "".join((PATTERNS, *icons, *boxes, *shared))
        return f'<svg class="definitions" aria-hidden="true"><defs>{drawn}</defs></svg>'

    def key(self, what: Exposure) -> str:
        """A box for the legend."""
        return (
            f'<svg class="key e{NUMBERS[what]}" viewBox="-2 -2 {KEY_WIDTH + 4} {HEIGHT + 4}" '
            f'aria-hidden="true"><use href="#b{NUMBERS[what]}-{KEY_WIDTH}"/></svg>'
        )

    def schedule(
        self,
        scene: Scene,
        connection: Connection,
        exposures: Mapping[str, Exposure],
        rows: Mapping[str, str],
    ) -> str:
        """The key schedule of a connection; a secret's box leads to its row in a table."""
        drawing = Drawing(scene, connection)
        boxes = []
        for node in drawing.nodes:
            what = exposures.get(node.id, _unseen(node, connection))
            self._boxes[what, node.width] = None
            box = f'<use href="#b{NUMBERS[what]}-{node.width}" x="{node.x}" y="{node.y}"/>'
            if node.id in rows:
                label = f'href="#{rows[node.id]}" aria-label="{escape(node.name)}: {what.value}"'
                boxes.append(f'<a class="e{NUMBERS[what]}" {label}>{box}</a>')
            else:
                boxes.append(f'<g class="e{NUMBERS[what]}">{box}</g>')
        return (
            f'<svg class="schedule" viewBox="0 0 {drawing.width} {drawing.height}" '
            f'width="{drawing.width}" height="{drawing.height}">{"".join(boxes)}'
            f'<use class="frame" href="#{self._once(self._frame(drawing))}"/></svg>'
        )

    def _frame(self, drawing: Drawing) -> str:
        """What is the same whatever became of the secrets: lines and names."""
        lines = "".join(f'<path d="{line}"/>' for line in drawing.lines)
        names = "".join(
            f'<use href="#{self._once(_name(node))}" x="{node.x}" y="{node.y}"/>'
            for node in drawing.nodes
        )
        return f'<g class="lines">{lines}</g>{names}'

    def strip(self, observation: Observation, secret: SecretSeen) -> str:
        """The moments from left to right: a bar where it is in host memory, low where at times."""
        found = host_memory(observation, secret)
        width = len(found) * TICK
        drawn = f'<path class="axis" d="M0 6h{width}"/>'
        for what in ("always", "at times"):
            moments = (f"M{at * TICK} 6h{TICK}" for at, each in enumerate(found) if each == what)
            drawn += f'<path class="{what.replace(" ", "-")}" d="{"".join(moments)}"/>'
        return f'<svg class="strip"><use href="#{self._once(drawn)}"/></svg>'

    def _once(self, drawn: str) -> str:
        return self._shared.setdefault(drawn, f"f{len(self._shared)}")


def _unseen(node: Node, connection: Connection) -> Exposure:
    """Why there is no secret of that name."""
    constant = connection.psk is None and node.id in (connection.early_secret, connection.derived)
    return Exposure.PUBLIC if constant or not node.id else Exposure.ABSENT


def _name(node: Node) -> str:
    """What is written on a node's box."""
    if not node.remark:
        return f'<text x="27" y="22">{escape(node.name)}</text>'
    return (
        f'<text x="27" y="16">{escape(node.name)}</text>'
        f'<text x="27" y="29" class="r">{escape(node.remark)}</text>'
    )


def _box(what: Exposure, width: int) -> str:
    """The box of a node, with its icon."""
    number = NUMBERS[what]
    drawn = f'<rect width="{width}" height="{HEIGHT}" rx="5"/>'
    if what in ICONS:
        drawn += f'<use href="#i{number}" x="8" y="11" width="14" height="14"/>'
    return f'<g id="b{number}-{width}" class="box">{drawn}</g>'
