"""A dataset's questions in the words of a mixture: templates for "segment this" turns.

Only turns that ask for what one phrase names are reworded: no region, and one target whose phrase
the question holds. Anything else a person wrote stays as it is. Used by `mixture.py`, which seeds
the draw with (seed, epoch, item).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Sequence

from sama_plugin.dialog.sample import Sample, Turn
from sama_plugin.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np


def check_templates(templates: Sequence[str], where: str) -> None:
    """Raises ConfigError where a template has not exactly one place for the phrase."""
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{"):
            raise ConfigError(f"source {where}: ask: {template!r} needs exactly one {{}}")


def rephrase(sample: Sample, templates: Sequence[str], rng: np.random.Generator) -> Sample:
    """The sample with every such question in the words of a template; itself without templates."""
    if not templates:
        return sample
    turns = tuple(
        dataclasses.replace(turn, user=_asked(turn, templates[int(rng.integers(len(templates)))]))
        for turn in sample.turns
    )
    return dataclasses.replace(sample, turns=turns)


def _asked(turn: Turn, template: str) -> str:
    phrases = {target.phrase for target in turn.targets}
    if turn.regions or len(phrases) != 1:
        return turn.user
    phrase = phrases.pop().strip().rstrip(".")
    if not phrase or phrase.endswith("?") or phrase.lower() not in turn.user.lower():
        return turn.user
    return template.replace("{}", phrase)
