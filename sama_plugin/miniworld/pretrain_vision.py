"""Stage V of the mini host's pre-training: the projected visual tokens learn to name what they see.

A chat loss alone would have to discover colours, shapes and places through rare words at the end of
long answers. Here every one of a frame's 64 cells is supervised directly: which colour, shape,
texture and size the thing in it has, and where that thing's centre is. Outlines come first: a ViT
this small finds no shape by its name alone (it stays at chance), so each cell also draws its own
pixels and a thumbnail of the whole thing, from which the name is a small step. The attribute heads
are the decoder's own (tied) word embeddings, so a token that shows a red circle already points
towards " red" and " circle" when the decoder first meets it. The other heads are thrown away. Used
by `pretrain_host.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sama_plugin.miniworld.crowds import sample_crowd
from sama_plugin.miniworld.host import MINI
from sama_plugin.miniworld.motion import colour_progress, place, trajectories, trajectory
from sama_plugin.miniworld.rendered import RenderedClips
from sama_plugin.miniworld.things import COLOURS, FRAMES, SHAPES, SIZES, TEXTURES, Clip
from sama_plugin.miniworld.world import sample_clip

BINS = 16
GRID = MINI.grid
MIN_COVER = 0.12
MOST_THINGS = 8
OUTLINE = 8
THUMBNAIL = 12
WEIGHTS = {"outline": 2.0, "thumbnail": 10.0, "shape": 3.0}
"""Shape is the hard part; everything else weighs 1."""
DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0))
"""(rows, columns) to the patch that each head of a new tower looks at."""
DISTANCES = (1, 1, 2, 2)
FOCUS = 1.6
WORDS = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "size": tuple(SIZES),
}


@dataclass
class Cells:
    """What a batch of frames shows: (B, N) long, -1 where a cell shows nothing or is not one class.

    `centre` (B, N), `outline` (B, N, 64) and `thumbnail` (B, N, 144) are float 0/1: whether a
    thing's centre is here, which pixels of the cell (at half resolution) belong to its owner, and
    the owner's visible mask scaled to its radius.
    """

    colour: torch.Tensor
    shape: torch.Tensor
    texture: torch.Tensor
    size: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    centre: torch.Tensor
    outline: torch.Tensor
    thumbnail: torch.Tensor


class CellHeads(nn.Module):
    """Reads cells from projected tokens (B, N, C)."""

    def __init__(self, width: int):
        super().__init__()
        self.places = nn.Linear(width, 2 * BINS)
        self.flags = nn.Linear(width, 2)
        self.outline = nn.Linear(width, OUTLINE**2)
        self.thumbnail = nn.Linear(width, THUMBNAIL**2)
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def forward(self, tokens: torch.Tensor, codes: nn.Module) -> dict[str, torch.Tensor]:
        """(B, N, C) tokens and the words' codes by attribute -> logits by name, classes last."""
        sharp = self.sharpness.exp()
        out = {name: sharp * (tokens @ getattr(codes, name).T) for name in WORDS}
        out["x"], out["y"] = self.places(tokens).split(BINS, dim=-1)
        out["shown"], out["centre"] = self.flags(tokens).unbind(-1)
        out["outline"], out["thumbnail"] = self.outline(tokens), self.thumbnail(tokens)
        return out


def start_with_places(model: nn.Module) -> None:
    """Fill the tower's position table (zeros in a new InternVL) with 2-D sines and cosines, and let
    its attention start as a small convolution.

    A shift of a sine is a rotation, so a query map that rotates its key map looks at the patch so
    many steps to the left, right, above or below. Every layer's four heads look into the four
    directions, one step in the first layers and two in the last; what they do there is learnt.
    """
    embeddings = model.model.vision_tower.embeddings
    rows, columns = embeddings.patch_embeddings.patch_shape
    width = embeddings.position_embeddings.shape[-1]
    rates = (max(rows, columns) * 2.0) ** -torch.linspace(0, 1, width // 4) * torch.pi
    turns = [torch.arange(count)[:, None] * rates for count in (rows, columns)]  # (S, width / 4)
    down, across = (torch.cat([turn.sin(), turn.cos()], -1) for turn in turns)  # (S, width / 2)
    table = torch.cat(
        [
            down[:, None].expand(rows, columns, -1),
            across[None].expand(rows, columns, -1),
        ],
        -1,
    )
    with torch.no_grad():
        embeddings.position_embeddings[0, 1:] = 2 * table.reshape(rows * columns, width)
        for depth, layer in enumerate(model.model.vision_tower.encoder.layer):
            _look_around(layer.attention, rates, DISTANCES[depth % len(DISTANCES)])


def _look_around(attention: nn.Module, rates: torch.Tensor, distance: int) -> None:
    """Let head h look `distance` patches along `DIRECTIONS[h]`, on top of its random maps.

    A head of width 4 n uses n of the `rates`, sine and cosine of both axes.
    """
    heads, width = attention.num_heads, attention.head_dim
    per_axis = width // 4
    for head in range(heads):
        chosen = torch.linspace(head % 2, 0.75 * len(rates), per_axis).long()
        for axis, steps in enumerate(DIRECTIONS[head % len(DIRECTIONS)]):
            turn = distance * steps * rates[chosen]
            sines = 2 * axis * len(rates) + chosen  # columns of the table
            cosines = sines + len(rates)
            out = head * width + 2 * axis * per_axis + torch.arange(per_axis)
            attention.k_proj.weight[out, sines] += FOCUS
            attention.k_proj.weight[out + per_axis, cosines] += FOCUS
            attention.q_proj.weight[out, sines] += FOCUS * turn.cos()
            attention.q_proj.weight[out, cosines] += FOCUS * turn.sin()
            attention.q_proj.weight[out + per_axis, cosines] += FOCUS * turn.cos()
            attention.q_proj.weight[out + per_axis, sines] -= FOCUS * turn.sin()


def word_ids(tokenizer: object) -> dict[str, list[int]]:
    """Token ids of the attribute words as they stand inside a sentence."""
    ids = {
        name: [tokenizer(f" {word}").input_ids for word in words] for name, words in WORDS.items()
    }
    assert all(len(word) == 1 for words in ids.values() for word in words), (
        "attribute words must be single tokens"
    )
    return {name: [word[0] for word in words] for name, words in ids.items()}


def sample_frames(
    sources: tuple[RenderedClips, ...], rng: np.random.Generator, batch: int
) -> tuple[np.ndarray, Cells]:
    """`batch` random frames, evenly from all sources: uint8 (B, 128, 128, 3) and what their cells
    show.
    """
    frames, shown = [], []
    for row in range(batch):
        source = sources[row % len(sources)]
        clip, frame = int(rng.integers(source.ready)), int(rng.integers(FRAMES))
        frames.append(source.frames[clip, frame])
        shown.append((clip_of(source.split, clip), frame, source.visible[clip, frame]))
    return np.stack(frames), look_at(shown)


def look_at(shown: list[tuple[Clip, int, np.ndarray]]) -> Cells:
    """What the cells of B frames show, each given as (clip, frame index, visible map)."""
    rows = [_cells(*frame) for frame in shown]
    return Cells(*(torch.from_numpy(np.stack(column)) for column in zip(*rows)))


@cache
def clip_of(split: str, index: int) -> Clip:
    """The facts behind rendered clip `index`."""
    return sample_crowd(index) if split == "crowd" else sample_clip(index, split)


def owners(visible: np.ndarray) -> np.ndarray:
    """Whose each cell is: uint8 (S, S) of thing index + 1 -> (N,) likewise, 0 for background.

    The thing with most pixels owns a cell if it covers at least 12 % of it.
    """
    cells = _by_cell(visible).astype(np.int64)  # (N, pixels)
    slots = MOST_THINGS + 1
    places = cells + slots * np.arange(GRID * GRID)[:, None]
    counts = np.bincount(places.ravel(), minlength=GRID * GRID * slots).reshape(-1, slots)
    counts[:, 0] = MIN_COVER * cells.shape[1]
    return counts.argmax(1).astype(np.uint8)


def cell_loss(
    logits: dict[str, torch.Tensor], cells: Cells
) -> tuple[torch.Tensor, dict[str, float]]:
    """Mean loss over the heads, and each head's accuracy on cells that show something."""
    shown = cells.shape >= 0
    losses = [
        F.binary_cross_entropy_with_logits(logits["shown"], shown.float()),
        F.binary_cross_entropy_with_logits(logits["centre"], cells.centre),
    ]
    scores = {"shown": ((logits["shown"] > 0) == shown).float().mean().item()}
    for name in ("outline", "thumbnail"):
        drawn = F.binary_cross_entropy_with_logits(logits[name][shown], getattr(cells, name)[shown])
        losses.append(WEIGHTS[name] * drawn)
        scores[name] = drawn.item()
    for name in (*WORDS, "x", "y"):
        target, guess = getattr(cells, name)[shown], logits[name][shown]
        losses.append(WEIGHTS.get(name, 1.0) * F.cross_entropy(guess, target, ignore_index=-1))
        scores[name] = (guess.argmax(-1) == target).float().mean().item()
    return torch.stack(losses).sum(), scores


def _cells(clip: Clip, frame: int, visible: np.ndarray) -> tuple[np.ndarray, ...]:
    """What each cell of one frame shows, in the order of `Cells`."""
    owner = owners(visible)  # (N,)
    table = np.array([[-1] * 6, *(row[frame] for row in thing_classes(clip))], dtype=np.int64)
    thumbnails = np.zeros((len(table), THUMBNAIL**2), dtype=np.float32)
    centre = np.zeros(GRID * GRID, dtype=np.float32)
    for thing in np.unique(owner[owner > 0]):
        x, y = table[thing, 4:] * GRID // BINS
        centre[y * GRID + x] = 1
        middle = trajectory(clip.things[thing - 1])[frame]
        thumbnails[thing] = _thumbnail(visible == thing, middle, clip.things[thing - 1].radius)
    mine = _by_cell(visible) == owner[:, None]  # (N, pixels of a cell)
    side = visible.shape[0] // GRID
    outline = mine.reshape(-1, side, side)[:, :: side // OUTLINE, :: side // OUTLINE]
    return (
        *table[owner].T.copy(),
        centre,
        outline.reshape(-1, OUTLINE**2).astype(np.float32),
        thumbnails[owner],
    )


def _thumbnail(mask: np.ndarray, middle: np.ndarray, radius: float) -> np.ndarray:
    """`mask` (S, S) around `middle` (x, y) at a scale of its radius: (144,) float 0/1, 0 outside
    the frame.
    """
    steps = np.linspace(-1.1, 1.1, THUMBNAIL) * radius
    x, y = (np.floor(middle[axis] + steps).astype(int) for axis in (0, 1))
    inside = (x >= 0) & (x < mask.shape[1]), (y >= 0) & (y < mask.shape[0])
    drawn = mask[np.ix_(y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1))]
    return (drawn & inside[1][:, None] & inside[0][None]).astype(np.float32).reshape(-1)


def _by_cell(visible: np.ndarray) -> np.ndarray:
    """(S, S) -> (N, pixels of a cell)."""
    size = visible.shape[0] // GRID
    return visible.reshape(GRID, size, GRID, size).transpose(0, 2, 1, 3).reshape(GRID * GRID, -1)


@cache
def thing_classes(clip: Clip) -> np.ndarray:
    """Classes of colour, shape, texture, size, x and y of every thing in every frame: (things, T,
    6).

    While a colour is changing it has no class (-1).
    """
    centres, changed = trajectories(clip), colour_progress()
    rows = np.zeros((len(clip.things), FRAMES, 6), dtype=np.int64)
    for index, thing in enumerate(clip.things):
        rows[index, :, 1:4] = [
            WORDS[name].index(getattr(thing, name)) for name in ("shape", "texture", "size")
        ]
        rows[index, :, 0] = WORDS["colour"].index(thing.colours[0])
        rows[index, changed > 0, 0] = -1 if len(thing.colours) > 1 else rows[index, 0, 0]
        rows[index, changed == 1, 0] = WORDS["colour"].index(thing.colours[-1])
        rows[index, :, 4:] = [place(centre) for centre in centres[:, index]]
    return rows
