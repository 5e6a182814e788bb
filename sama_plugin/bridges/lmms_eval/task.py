"""What a task pack's functions do: a document is a case, an answer is a prediction, and a metric of
lmms-eval is a row of our scoreboard.

Documents hold the sample as JSON text, because its parts differ from sample to sample. An answer is
the JSON of a `Prediction` (ours) or plain words (any other model, scored without masks).
"""

from __future__ import annotations

import functools
import json
from typing import Any, Callable, Mapping, Optional, Sequence

from sama_plugin.dialog.sample import Sample
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.benchmarks import SUITES, Means
from sama_plugin.eval.cases import Case
from sama_plugin.eval.judge import NoJudge
from sama_plugin.eval.phrases import WORDS, word_overlap

FIELDS = ("sama_key", "sama_sample")


def document(case: Case) -> dict[str, str]:
    """A case as a row of a dataset."""
    turn = case.sample.turns[-1]
    row = {"question": turn.user, "answer": turn.assistant or "", "video": case.video}
    key, sample = FIELDS
    return {**row, key: case.key, sample: json.dumps(case.sample.validate().to_json())}


def case_of(doc: Mapping[str, Any]) -> Optional[Case]:
    """The case of one of our documents; None for those of other tasks."""
    if not all(field in doc for field in FIELDS):
        return None
    key, sample = (doc[field] for field in FIELDS)
    return Case(key, Sample.from_json(json.loads(sample)))


def answer_text(prediction: Prediction) -> str:
    """A prediction as the text that lmms-eval keeps."""
    return json.dumps({"sama_prediction": prediction.to_json()})


def prediction_of(key: str, text: str) -> Prediction:
    """Inverse of `answer_text`; plain words become an answer without masks."""
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if isinstance(record, dict) and "sama_prediction" in record:
        return Prediction.from_json({**record["sama_prediction"], "id": key})
    return Prediction(key, text=text, plain=text)


def doc_to_visual(doc: Mapping[str, Any]) -> list[str]:
    """The path of the video."""
    return [doc["video"]]


def doc_to_text(doc: Mapping[str, Any], settings: Any = None) -> str:
    """The question; `<region>` marks stand where things are pointed at."""
    return doc["question"]


def process_results(
    doc: Mapping[str, Any], results: Sequence[str], metrics: Sequence[str]
) -> dict[str, tuple[Mapping[str, Any], str]]:
    """The document with its answer, for every metric: metrics are those of all cases at once."""
    return {metric: (dict(doc), results[0]) for metric in metrics}


def aggregation(suite: str, metric: str, reading: str) -> Callable[[Sequence[Any]], float]:
    """A function from all documents and answers to one number; NaN if it cannot be computed."""

    def value(items: Sequence[tuple[Mapping[str, Any], str]]) -> float:
        found = _values(
            suite, tuple((*(doc[field] for field in FIELDS), said) for doc, said in items)
        )
        return found.get((metric, reading), float("nan"))

    return value


@functools.lru_cache(maxsize=1)
def _values(suite: str, items: tuple[tuple[str, str, str], ...]) -> dict[tuple[str, str], float]:
    """Every metric of (key, sample, answer)s, by name and reading; lmms-eval asks for one metric
    after the other, of the same answers."""
    cases = [case_of(dict(zip(FIELDS, item))) for item in items]
    answers = {key: prediction_of(key, said) for key, _, said in items}
    board = SUITES.get(suite).score(cases, answers, Means(NoJudge(), word_overlap, WORDS))
    return {(row["metric"], row["reading"]): row["value"] for row in board.summary()}
