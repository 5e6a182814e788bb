"""What a mini-world clip is made of: things with attributes, a motion and perhaps a history; a
wall; a backdrop.

A clip is a small specification, not pixels: everything (pictures, masks, sentences, answers) is
derived from it, so a clip is stored as a few lines of JSON and two readers never disagree. Things
are numbered by their place in `Clip.things`; the visible map of `render` holds that number plus
one. Used by every file of this room.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping, Optional

FRAMES = 16
"""Frames of every clip (T)."""
SIZE = 128
"""Height and width of every clip, in pixels."""
FPS = 8

COLOURS = {
    "red": (226, 32, 38),
    "green": (34, 176, 58),
    "blue": (38, 82, 240),
    "yellow": (250, 226, 40),
    "purple": (158, 44, 200),
    "orange": (255, 136, 14),
    "cyan": (44, 220, 232),
    "white": (248, 248, 248),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
NAMELESS_COLOURS = {
    "pink": (255, 140, 185),
    "brown": (150, 92, 52),
    "mint": (160, 235, 178),
    "lilac": (188, 166, 244),
}
"""Colours that no sentence says: see `nameless`."""
NAMELESS_SHAPES = ("bar", "moon", "hourglass")
TEXTURES = ("plain", "striped", "dotted")
SIZES = {"tiny": (6.0, 7.0), "small": (9.5, 11.0), "large": (15.0, 17.0)}
"""Range of the radius in pixels. Tiny things are always plain: a texture would not survive at that
size.
"""

HEADINGS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
MOVES = ("moves left", "moves right", "moves up", "moves down")
LEAVES = "leaves and returns"
MOTIONS = (*MOVES, "stays still", "turns around", "circles", LEAVES)

HIDES = "hides"
CHANGES = "changes colour"
BEHIND = "passes behind"
IN_FRONT = "passes in front of"
HISTORIES = (HIDES, LEAVES, CHANGES, BEHIND, IN_FRONT)


@dataclass(frozen=True)
class Thing:
    """One textured object.

    `origin` is the centre at the first frame (of "circles": the centre it goes around), x right and
    y down in pixels. `heading` and `distance` (pixels) belong to the motions along an axis;
    `distance` of "circles" is the radius of the way, `phase` (radians) where it begins and `spin`
    (+1 or -1) its sense. `angle` tilts the shape. `depth` orders the drawing: higher is nearer,
    negative is behind the wall. `other` is the thing passed behind or in front of.
    """

    colour: str
    shape: str
    texture: str
    size: str
    radius: float
    angle: float
    motion: str
    origin: tuple[float, float]
    heading: str = ""
    distance: float = 0.0
    phase: float = 0.0
    spin: int = 1
    depth: int = 1
    history: Optional[str] = None
    other: Optional[int] = None
    colour_after: Optional[str] = None

    @property
    def colours(self) -> tuple[str, ...]:
        """Every colour it has during the clip, in order of time."""
        return (self.colour,) if self.colour_after is None else (self.colour, self.colour_after)

    @property
    def extent(self) -> float:
        """Half side in pixels of a square that holds the shape at any tilt."""
        return 1.2 * self.radius

    @property
    def nameless(self) -> bool:
        """Whether no word says how it looks."""
        return self.shape in NAMELESS_SHAPES

    def name(self, level: int = 0) -> str:
        """0: "red circle"; 1: "striped red circle"; 2: "small striped red circle". The colour is
        that of the start. A nameless one is a "thing".
        """
        if self.nameless:
            return "thing"
        words = (self.size, self.texture, self.colour, self.shape)
        return " ".join(words[2 - level :])


@dataclass(frozen=True)
class Wall:
    """A static grey brick rectangle, [x0, x1) by [y0, y1) in pixels; in front of things of negative
    depth.
    """

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Backdrop:
    """A soft gradient between two muted RGB colours along `angle` (radians), plus noise drawn from
    `seed`.
    """

    first: tuple[int, int, int]
    second: tuple[int, int, int]
    angle: float
    seed: int


@dataclass(frozen=True)
class Clip:
    """One clip: `things` (N), at most one wall, a backdrop. `seed` and `split` are where it came
    from.
    """

    seed: int
    split: str
    things: tuple[Thing, ...]
    wall: Optional[Wall]
    backdrop: Backdrop

    @property
    def name(self) -> str:
        return f"{self.split}-{self.seed:06d}" + ("-nameless" if self.nameless else "")

    @property
    def nameless(self) -> bool:
        """Whether its things have no names but "thing": all of them, or none."""
        return any(thing.nameless for thing in self.things)

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """Pairs (behind, in front) of things whose ways cross."""
        pairs = []
        for index, thing in enumerate(self.things):
            if thing.history == BEHIND:
                pairs.append((index, thing.other))
            elif thing.history == IN_FRONT:
                pairs.append((thing.other, index))
        return tuple(pairs)

    @property
    def look_alikes(self) -> tuple[tuple[int, int], ...]:
        """Pairs of things of one colour (at the start) and one shape."""
        looks = [(thing.colour, thing.shape) for thing in self.things]
        return tuple(
            (first, second)
            for first in range(len(looks))
            for second in range(first + 1, len(looks))
            if looks[first] == looks[second]
        )

    def histories(self, index: int) -> tuple[tuple[str, Optional[int]], ...]:
        """What happens to a thing, as (history, other thing or None); a moving partner of a
        crossing has its own.
        """
        found = []
        thing = self.things[index]
        if thing.history is not None:
            found.append((thing.history, thing.other))
        if thing.motion in MOVES:
            for behind, front in self.passes:
                if behind == index and thing.history != BEHIND:
                    found.append((BEHIND, front))
                if front == index and thing.history != IN_FRONT:
                    found.append((IN_FRONT, behind))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready mapping; `from_json` gives back an equal clip."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Clip:
        """The inverse of `to_json`."""
        things = tuple(
            Thing(**{**thing, "origin": tuple(thing["origin"])}) for thing in record["things"]
        )
        backdrop = dict(record["backdrop"])
        for key in ("first", "second"):
            backdrop[key] = tuple(backdrop[key])
        wall = Wall(**record["wall"]) if record["wall"] else None
        return cls(record["seed"], record["split"], things, wall, Backdrop(**backdrop))
