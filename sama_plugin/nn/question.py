"""How the aggregator reads the question: token rows for the temporal Q-Former.

`HostQuestion` takes the host's frozen input embeddings, so no second tokenizer is needed.
`WordpieceQuestion` is the released layout: BERT word pieces with a table of its own. Either way
the rows of a region are then overwritten by what the region looks like (`write_region_rows`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sama_plugin.errors import SlotError

TEXT, VISUAL_ROW, SHAPE_ROW = 0, 1, 2  # values of `question_kind`


class HostQuestion(nn.Module):
    """Host embeddings through a linear layer, plus learned positions.

    The embeddings are normalised first: hosts differ in their scale by orders of magnitude.

    Args:
        width: Cq of the host's embeddings.
        hidden: h.
        positions: longest question, in tokens.
    """

    def __init__(self, width: int, hidden: int, positions: int):
        super().__init__()
        self.project = nn.Linear(width, hidden)
        self.positions = nn.Embedding(positions, hidden)
        nn.init.normal_(self.project.weight, std=width**-0.5)
        nn.init.zeros_(self.project.bias)
        nn.init.normal_(self.positions.weight, std=0.2)

    def forward(self, question: Tensor) -> Tensor:
        """(P, L, Cq) float to (P, L, h)."""
        level = F.layer_norm(question, question.shape[-1:], eps=1e-8)
        return self.project(level) + self.positions(_places(question, self.positions))


class WordpieceQuestion(nn.Module):
    """Learned word and position tables (30,530 and 512 rows as released)."""

    def __init__(self, vocabulary: int, hidden: int, positions: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(positions, hidden)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, question: Tensor) -> Tensor:
        """(P, L) long word-piece ids to (P, L, h)."""
        return self.words(question) + self.positions(_places(question, self.positions))


def write_region_rows(rows: Tensor, kind: Tensor, region_rows: Tensor) -> Tensor:
    """Overwrite the rows of regions, after positions were added (they carry no position).

    Args:
        rows: (P, L, h) question rows.
        kind: (P, L) long, 0 text, 1 visual row, 2 shape row of a region.
        region_rows: (R, 2, h) visual and shape vector, in text order.

    Raises:
        SlotError: there are not exactly R rows of each kind.
    """
    for value, name in ((VISUAL_ROW, "visual"), (SHAPE_ROW, "shape")):
        place = kind == value  # (P, L)
        found = int(place.sum())
        if found != region_rows.shape[0]:
            raise SlotError(
                f"the questions hold {found} {name} rows for {region_rows.shape[0]} regions; "
                "a question was cut or edited after its regions were counted"
            )
        vectors = region_rows[:, value - 1].to(rows.dtype)  # (R, h)
        rows = rows.masked_scatter(place[..., None], vectors)
    return rows


def _places(question: Tensor, table: nn.Embedding) -> Tensor:
    length = question.shape[1]
    if length > table.num_embeddings:
        raise SlotError(
            f"a question has {length} tokens, the aggregator reads {table.num_embeddings}; "
            "cut questions to `aggregator.max_question` where they are encoded"
        )
    return torch.arange(length, device=question.device)  # (L,)
