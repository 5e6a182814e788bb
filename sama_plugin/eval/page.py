"""The page of a run, `index.html`: every metric in its readings, tables by type with n, pictures of
the best, the worst and random cases, what failed, settings, versions, and hashes of the data.

It is written from the same files as the summary and says nothing else; pictures lie in `cases/`.
"""

from __future__ import annotations

import json
import math
from html import escape
from pathlib import Path
from typing import Any, Mapping, Sequence

from sama_plugin.atomic import atomic_path
from sama_plugin.eval import published
from sama_plugin.eval.asking import Prediction
from sama_plugin.eval.harness import SCORES, Material
from sama_plugin.eval.journal import single_values
from sama_plugin.eval.pictures import choose, draw_case
from sama_plugin.eval.scoreboard import Scoreboard
from sama_plugin.infer.page import facts, note, page

PAGE, PICTURES = "index.html", "cases"
_STYLE = """<style>
.numbers { border-collapse: collapse; font-size: 14px; margin: 14px 0; }
.numbers td, .numbers th { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line);
  text-align: left; font-variant-numeric: tabular-nums; }
.case { margin: 22px 0 34px; } .case img { width: 100%; border-radius: 12px; }
.wrap { overflow-x: auto; }
</style>"""


def write_page(
    summary: Mapping[str, Any],
    material: Material,
    predictions: Mapping[str, Prediction],
    out: Path,
) -> Path:
    """Write the page and its pictures into a result folder."""
    with open(out / SCORES, encoding="utf-8") as stream:
        board = Scoreboard.from_lines(map(json.loads, stream))
    name = summary["settings"].get("benchmark", summary["benchmark"])
    found = summary["material"]
    sections = [
        _STYLE,
        facts(
            [
                (str(found["cases"]), "cases"),
                (str(found["videos"]), "videos"),
                (str(summary["failures"]["count"]), "failed"),
                (str(found["questions_not_read"]["count"]), "questions not read"),
            ]
        ),
        *map(note, summary["notes"]),
        _metrics(summary),
        _kinds(summary),
        _published(summary),
        _cases(summary, board, material, predictions, out),
        _trouble(summary),
        _origin(summary),
    ]
    lead = [
        "Readings: released is what the public code computes, corrected what it should have been, "
        "offline what the public protocol does not have."
    ]
    with atomic_path(out / PAGE) as temporary:
        temporary.write_text(page(f"{name}", lead, [s for s in sections if s]), encoding="utf-8")
    return out / PAGE


def headline_values(summary: Mapping[str, Any], board: Scoreboard) -> tuple[str, dict[str, float]]:
    """(what the cases are sorted by, its value by case or video); the first metric that there is if
    the headline could not be computed."""
    wanted = tuple(summary["headline"])
    name = wanted if wanted in board.parts else next(iter(sorted(board.parts)), None)
    if name is None:
        return "", {}
    values = {key: part.value for key, part in board.parts[name].items()}
    return f"{name[0]} ({name[1]})", {k: v for k, v in values.items() if not math.isnan(v)}


def _metrics(summary: Mapping[str, Any]) -> str:
    rows = [
        (row["metric"], row["reading"], _number(row["value"]), _interval(row), str(row["n"]))
        for row in summary["metrics"]
    ]
    missing = [(name, "not computed", "", why, "") for name, why in summary["not_computed"].items()]
    return "<h2>Numbers</h2>" + _table(
        ("metric", "reading", "value", "95 %", "n"), [*rows, *missing]
    )


def _kinds(summary: Mapping[str, Any]) -> str:
    rows = [
        (row["metric"], row["reading"], kind, _number(one["value"]), str(one["n"]))
        for row in summary["metrics"]
        for kind, one in row["kinds"].items()
        if len(row["kinds"]) > 1
    ]
    if not rows:
        return ""
    return "<h2>By type</h2>" + _table(("metric", "reading", "type", "value", "n"), rows)


def _published(summary: Mapping[str, Any]) -> str:
    file, settings = published.default_file(), summary["settings"]
    if file is None or settings.get("suite") != settings.get("benchmark"):  # a twin
        return ""
    text = published.table(published.load_published(file), summary["published"])
    return f'<h2>What others report</h2><div class="wrap"><pre>{escape(text)}</pre></div>'


def _cases(
    summary: Mapping[str, Any],
    board: Scoreboard,
    material: Material,
    predictions: Mapping[str, Prediction],
    out: Path,
) -> str:
    metric, values = headline_values(summary, board)
    cases = {case.key: case for case in material.cases}
    first = {}  # a metric of videos is shown by the video's first case
    for case in reversed(material.cases):
        first[case.video] = case.key
    values = {key: value for key, value in values.items() if key in cases or key in first}
    telling = {
        key
        for key, case in cases.items()
        if case.sample.turns[-1].targets or predictions[key].tracks
    }
    chosen = choose(values or dict.fromkeys(cases, 0.0), telling)
    chosen = chosen if values else {"random": [*chosen["random"], *chosen["best"]]}
    parts = []
    (out / PICTURES).mkdir(exist_ok=True)
    for title, keys in chosen.items():
        by = f" by {escape(metric)}" if metric and title != "random" else ""
        parts.append(f"<h2>Cases: {title}{by}</h2>")
        for place, key in enumerate(keys):
            case = cases[key if key in cases else first[key]]
            file = f"{PICTURES}/{title}{place}.jpg"
            trouble = draw_case(case, predictions[case.key], out / file)
            parts.append(_case(case, predictions[case.key], values.get(key), file, trouble))
    return "\n".join(parts)


def _case(case, prediction: Prediction, value, file: str, trouble: str) -> str:
    turn = case.sample.turns[-1]
    said = prediction.error or prediction.text or prediction.plain or "(no words)"
    score = "" if value is None else f": {value:.3f}"
    picture = note(trouble) if trouble else f'<img src="{file}" alt="" loading="lazy">'
    return (
        f'<div class="case"><h3>{escape(case.key)}{score}</h3>'
        f"<p><b>Question</b> {escape(turn.user)}</p>"
        f"<p><b>Reference</b> {escape(turn.assistant or 'not public')}</p>"
        f"<p><b>Answer</b> {escape(said)}</p>{picture}</div>"
    )


def _trouble(summary: Mapping[str, Any]) -> str:
    counts = [(what, str(n)) for what, n in summary["counts"].items() if n]
    lists = {
        "failed, scored as empty answers": summary["failures"],
        "faulty masks, scored as empty answers": summary["faults"],
        "questions that could not be read": summary["material"]["questions_not_read"],
        "odd records, read all the same": summary["material"]["odd_records"],
        "ids that occur twice": summary["material"]["ids_that_occur_twice"],
    }
    parts = [_table(("what", "n"), counts)] if counts else []
    for title, found in lists.items():
        if found["count"]:
            names = "".join(f"<li>{escape(str(name))}</li>" for name in found["first"])
            parts.append(f"<h3>{found['count']} {title}</h3><ul>{names}</ul>")
    return "<h2>What went wrong</h2>" + "".join(parts) if parts else ""


def _origin(summary: Mapping[str, Any]) -> str:
    scored_with = {"scored_with_sha256": summary["scored_with_sha256"]}
    origin = {**summary["settings"], **scored_with, **summary["versions"]}
    rows = [(name, str(value)) for name, value in single_values(origin).items()]
    judge = [(f"judge: {k}", str(v)) for k, v in summary["judge"].items()]
    return "<h2>Settings, hashes, versions</h2>" + _table(("what", "value"), [*rows, *judge])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wrap"><table class="numbers"><tr>{top}</tr>{body}</table></div>'


def _number(value: Any) -> str:
    return "none" if value is None else f"{value:.4f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}"
