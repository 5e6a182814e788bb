"""BLEU, METEOR, ROUGE-L and CIDEr of a corpus of captions, one reference each, by pycocoevalcap.

The Penn Treebank tokeniser and METEOR are Java programs inside that package: without Java nothing
is computed and the error says so; another tokeniser would be another metric. Texts that are
tokenised already give everything but METEOR without Java. CIDEr's document frequencies come from
the corpus itself, so the corpus matters: the released SAMA-Bench scores every video alone (a video
with one caption then has CIDEr 0), the corrected reading scores the whole benchmark at once.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from sama_plugin.errors import ConfigError

NAMES = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr")
_BLEU_ORDER = 4


class CaptionMetricsMissing(ConfigError):
    """Java or pycocoevalcap is not installed; the message names which and how to get it."""


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a corpus by name (BLEU, METEOR, ROUGE-L in 0..1, CIDEr in 0..10), and of each
    caption in the same corpus, as the package returns them."""

    corpus: dict[str, float]
    captions: list[dict[str, float]]
    references: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)


def score_captions(references: Sequence[str], predictions: Sequence[str]) -> CaptionScores:
    """Tokenise, then score one corpus.

    Raises:
        CaptionMetricsMissing: no Java, or no pycocoevalcap.
    """
    return score_groups({"": (references, predictions)})[""]


def score_groups(
    groups: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> dict[str, CaptionScores]:
    """`score_captions` of many corpora, (references, predictions) by name: each is a corpus of its
    own, but Java starts twice in all."""
    for references, predictions in groups.values():
        _check(references, predictions)
    _need_java("the Penn Treebank tokeniser and METEOR")
    texts = [text for pair in groups.values() for side in pair for text in side]
    tokens = iter(tokenise(texts))
    scores = {}
    with _Meteor() as meteor:
        for name, (references, predictions) in groups.items():
            wanted = [next(tokens) for _ in references]
            found = [next(tokens) for _ in predictions]
            others = score_tokenised(wanted, found)
            total, singles = meteor.score(wanted, found)
            rows = [{**row, "METEOR": one} for row, one in zip(others.captions, singles)]
            corpus = {**others.corpus, "METEOR": total}
            scores[name] = CaptionScores(corpus, rows, wanted, found)
    return scores


def score_tokenised(references: Sequence[str], predictions: Sequence[str]) -> CaptionScores:
    """Everything but METEOR, of texts that are tokenised already (words between blanks); no Java.

    BLEU holds the package's smoothing constants (1e-15, 1e-9), so hopeless captions score a little
    more than 0.
    """
    _check(references, predictions)
    package = _package()
    wanted = {number: [text] for number, text in enumerate(references)}
    found = {number: [text] for number, text in enumerate(predictions)}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, bleus = package.Bleu(_BLEU_ORDER).compute_score(wanted, found, verbose=0)
        rouge, rouges = package.Rouge().compute_score(wanted, found)
        cider, ciders = package.Cider().compute_score(wanted, found)
    corpus = {f"Bleu_{n + 1}": float(bleu[n]) for n in range(_BLEU_ORDER)}
    corpus.update(ROUGE_L=float(rouge), CIDEr=float(cider))
    rows = []
    for number in range(len(references)):
        row = {f"Bleu_{n + 1}": float(bleus[n][number]) for n in range(_BLEU_ORDER)}
        rows.append({**row, "ROUGE_L": float(rouges[number]), "CIDEr": float(ciders[number])})
    return CaptionScores(corpus, rows, list(references), list(predictions))


def tokenise(texts: Sequence[str]) -> list[str]:
    """Penn Treebank tokens without punctuation, lower case; one run of Java for all texts."""
    _need_java("the Penn Treebank tokeniser")
    corpus = {number: [{"caption": text}] for number, text in enumerate(texts)}
    tokens = _package().PTBTokenizer().tokenize(corpus)
    return [tokens[number][0] for number in range(len(texts))]


def missing_parts() -> list[str]:
    """What has to be installed before `score_captions` works; empty if nothing."""
    parts = [] if shutil.which("java") else ["Java (e.g. apt install default-jre-headless)"]
    try:
        _package()
    except CaptionMetricsMissing:
        parts.append("pycocoevalcap (pip install pycocoevalcap)")
    return parts


class _Meteor:
    """METEOR 1.5 in one Java process, ended with the block."""

    def __enter__(self) -> _Meteor:
        self._scorer = _package().Meteor()
        return self

    def __exit__(self, *error: Any) -> None:
        self._scorer.meteor_p.kill()
        self._scorer.meteor_p.wait()

    def score(
        self, references: Sequence[str], predictions: Sequence[str]
    ) -> tuple[float, list[float]]:
        """Of the corpus, and of each caption."""
        wanted = {number: [text] for number, text in enumerate(references)}
        found = {number: [text] for number, text in enumerate(predictions)}
        total, singles = self._scorer.compute_score(wanted, found)
        return float(total), [float(one) for one in singles]


@dataclass(frozen=True)
class _Package:
    Bleu: Any
    Rouge: Any
    Cider: Any
    Meteor: Any
    PTBTokenizer: Any


def _package() -> _Package:
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.meteor.meteor import Meteor
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError as error:
        raise CaptionMetricsMissing(
            "caption metrics need pycocoevalcap, which is not installed; "
            "pip install 'sama_plugin[eval]'"
        ) from error
    return _Package(Bleu, Rouge, Cider, Meteor, PTBTokenizer)


def _need_java(what: str) -> None:
    if shutil.which("java") is None:
        raise CaptionMetricsMissing(
            f"caption metrics need Java for {what}, and no `java` is on the PATH; install a Java "
            "runtime (e.g. apt install default-jre-headless) and run the scoring again: answers "
            "are kept"
        )


def _check(references: Sequence[str], predictions: Sequence[str]) -> None:
    if len(references) != len(predictions) or not references:
        raise ConfigError(
            f"{len(references)} references for {len(predictions)} predictions; captions are scored "
            "in pairs, at least one"
        )
