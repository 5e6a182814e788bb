"""What the user pointed at, drawn the way it was pointed: a box, clicks (plus on it, minus beside
it), a line.

Drawn twice as large and reduced, first a dark rim, then the colour. Mask prompts are contours,
drawn by `draw`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from PIL import Image, ImageDraw

from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.viz.colours import Colour

_FINER = 2
_RIM = (0, 0, 0, 150)


@dataclass(frozen=True)
class _Pen:
    """Ink, line width and source pixels to layer pixels; `rim` widens what is drawn below the
    colour.
    """

    draw: ImageDraw.ImageDraw
    ink: tuple[int, int, int, int]
    width: int
    scale: int
    rim: int

    def line(self, points: list[tuple[float, float]]) -> None:
        self.draw.line(points, fill=self.ink, width=self.width + 2 * self.rim, joint="curve")
        for x, y in (points[0], points[-1]):
            self.disc(x, y, self.width / 2 + self.rim)

    def disc(self, x: float, y: float, radius: float) -> None:
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self.ink)

    def ring(self, x: float, y: float, radius: float) -> None:
        outer = radius + self.rim
        box = (x - outer, y - outer, x + outer, y + outer)
        self.draw.ellipse(box, outline=self.ink, width=self.width + 2 * self.rim)


def draw_prompt(
    canvas: Image.Image, prompt: RegionPrompt, colour: Colour, scale: int, stroke: int
) -> None:
    """Draw a box, points or scribble on a canvas that is `scale` times as large as the frame, in
    place.

    Args:
        stroke: width of the lines in pixels of the canvas.
    """
    larger = (canvas.width * _FINER, canvas.height * _FINER)
    layer = Image.new("RGBA", larger, (*colour, 0))
    draw = ImageDraw.Draw(layer)
    for ink, rim in ((_RIM, _FINER), ((*colour, 255), 0)):
        _SHAPES[prompt.kind](_Pen(draw, ink, stroke * _FINER, scale * _FINER, rim), prompt)
    layer = layer.resize(canvas.size, Image.Resampling.BOX)
    canvas.paste(layer, (0, 0), layer)


def _box(pen: _Pen, prompt: RegionPrompt) -> None:
    x0, y0, x1, y1 = (side * pen.scale for side in prompt.box)
    pen.line([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _points(pen: _Pen, prompt: RegionPrompt) -> None:
    radius, arm = 5.5 * pen.width, 2.6 * pen.width
    for (x, y), label in zip(prompt.points, prompt.labels or (1,) * len(prompt.points)):
        x, y = x * pen.scale, y * pen.scale
        pen.ring(x, y, radius)
        pen.line([(x - arm, y), (x + arm, y)])
        if label:
            pen.line([(x, y - arm), (x, y + arm)])


def _scribble(pen: _Pen, prompt: RegionPrompt) -> None:
    pen.line([(x * pen.scale, y * pen.scale) for x, y in prompt.points])


_SHAPES: dict[str, Callable[[_Pen, RegionPrompt], None]] = {
    "box": _box,
    "points": _points,
    "scribble": _scribble,
}
