"""The languages of the mini world under one name: what is asked and said about a clip.

Plain talk is in `chat`, noun phrases in `expressions`, questions with regions in `regions`,
grounded conversations in `dialogues`; `reference` is the grammar they share. All take the random
generator from the caller and use one closed vocabulary.
"""

from __future__ import annotations

from sama_plugin.miniworld.chat import STILL_KINDS, ChatTurn, chat_turns
from sama_plugin.miniworld.dialogues import GroundedTurn, dialogues
from sama_plugin.miniworld.expressions import Expression, expressions
from sama_plugin.miniworld.regions import RegionQuestion, region_questions

__all__ = [
    "STILL_KINDS",
    "ChatTurn",
    "Expression",
    "GroundedTurn",
    "RegionQuestion",
    "chat_turns",
    "dialogues",
    "expressions",
    "region_questions",
]
