"""Compositions that only held-out clips show, so that a held-out score is about things never seen
doing that.

No training clip holds one (`world`), and no training request is one-sided about one: what is asked
for and never there (`expressions`), always passed over (`reference`) or always a wrong option
(`options`) would be learnt to be nowhere.
"""

from __future__ import annotations

from sama_plugin.miniworld.things import COLOURS, MOTIONS, SHAPES, Thing

RESERVED = frozenset(
    {
        *zip(COLOURS, (MOTIONS[i] for i in (3, 5, 0, 6, 2, 7, 4, 1))),
        *zip(SHAPES, (MOTIONS[i] for i in (1, 4, 6, 0, 5, 3))),
    }
)
"""(colour or shape, motion) pairs that only held-out clips show: 14 of 112, each colour and shape
once.
"""


def reserved_motions(thing: Thing) -> set[str]:
    """Motions that no thing of this shape, or of one of its colours, makes in training clips."""
    looks = (*thing.colours, thing.shape)
    return {motion for look, motion in RESERVED if look in looks}


def is_reserved(thing: Thing) -> bool:
    """Whether one of the thing's colours or its shape is reserved together with its motion."""
    return thing.motion in reserved_motions(thing)
