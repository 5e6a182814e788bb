"""How alike two phrases are, in [0, 1]: the similarity behind Recall.

Corrected readings compare a reference phrase with its mask to a phrase of the answer with its mask
(`paired`); released ones count phrases in the text and masks apart.

"words" needs no model: the F1 of the phrases' content words. A path or hub id of a BERT-like model
gives the released rule: cosine of its mean-pooled last layer (the public code uses
bert-base-uncased). The two are different metrics; a summary says which was used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Sequence

import numpy as np

from sama_plugin.errors import ConfigError
from sama_plugin.eval.tubes import content

if TYPE_CHECKING:
    from sama_plugin.dialog.sample import Target
    from sama_plugin.eval.asking import Prediction

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""(references, predictions) to a (R, P) matrix."""

WORDS = "words"


def open_similarity(name: str) -> Similarity:
    """ "words", or the model of that path or hub id."""
    return word_overlap if name == WORDS else Embedded(name)


def paired(
    targets: Sequence[Target], prediction: Prediction, ious: np.ndarray, similarity: Similarity
) -> tuple[np.ndarray, np.ndarray]:
    """(IoU, similarity), both (reference phrases, masks of the answer) and indexed alike: a phrase
    without a mask, or a mask without a phrase, is like nothing.

    Args:
        ious: (references with a mask, masks of the answer).
    """
    drawn = [number for number, target in enumerate(targets) if target.track is not None]
    whole = np.zeros((len(targets), ious.shape[1]))
    whole[drawn] = ious
    said = [phrase.strip().lower() for phrase in prediction.phrases]
    alike = similarity([target.phrase.strip().lower() for target in targets], said)
    table = np.zeros(whole.shape)
    for column, phrase in enumerate(said[: whole.shape[1]]):
        table[:, column] = alike[:, column] if phrase else 0
    return whole, table


def word_overlap(references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
    """F1 of content words (articles left out); 1 where both have none."""
    table = [[_f1(content(one), content(other)) for other in predictions] for one in references]
    return np.array(table, dtype=float).reshape(len(references), len(predictions))


class Embedded:
    """Cosine of mean-pooled states of a text encoder; every phrase is read once."""

    def __init__(self, model: str):
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(model)
            self._model = AutoModel.from_pretrained(model).eval()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--similarity {model!r} is neither {WORDS!r} nor a text encoder: {error}"
            ) from error
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, references: Sequence[str], predictions: Sequence[str]) -> np.ndarray:
        if not references or not predictions:
            return np.zeros((len(references), len(predictions)))
        wanted = np.stack([self._embed(phrase) for phrase in references])
        found = np.stack([self._embed(phrase) for phrase in predictions])
        return wanted @ found.T

    def _embed(self, phrase: str) -> np.ndarray:
        if phrase not in self._known:
            import torch

            with torch.no_grad():
                inputs = self._tokenizer(phrase, return_tensors="pt", truncation=True)
                states = self._model(**inputs).last_hidden_state[0].mean(0)  # (C,)
            vector = states.float().numpy()
            self._known[phrase] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return self._known[phrase]


def _f1(one: frozenset[str], other: frozenset[str]) -> float:
    if not one and not other:
        return 1.0
    return 2 * len(one & other) / (len(one) + len(other))
