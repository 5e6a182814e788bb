"""The demo's page: scores before and after, the training curve, the conversations.

Charts are inline SVG in the page's own colours, so that they follow light and dark. Used by `demo`.
"""

from __future__ import annotations

import dataclasses
from html import escape
from itertools import zip_longest
from typing import Any, Mapping, Sequence

from sama_plugin.infer.page import ConversationView
from sama_plugin.miniworld.script import Outcome

ROWS = (
    ("grounding_jf", "Find it", "expression to masks over the whole clip, J&F"),
    (
        "grounding_jf_motion",
        "Find it among look-alikes",
        "only motion or history tells them apart, J&F",
    ),
    (
        "region_qa",
        "Questions about what is pointed at",
        "what, which colour, what does it do; by mask, box or point",
    ),
    (
        "region_qa_shuffled",
        "the same, pointing at another clip's thing",
        "control: answers that come from the region must fail here",
    ),
    ("dialogue_miou", "Grounded conversations: masks", "tube mIoU over several turns"),
    ("dialogue_recall", "Grounded conversations: phrases", "phrases found with the right mask"),
    ("no_target_accuracy", "Something that is not there", "says so, and makes no mask"),
    ("chat_accuracy", "Plain chat", "the base's own skill, which must not suffer"),
)
CURVES = (
    ("loss_text", "text", "var(--accent)"),
    ("loss_mask_bce", "mask BCE", "#e08a2e"),
    ("loss_mask_dice", "mask Dice", "#c65bd0"),
)
WIDTH, HEIGHT, LEFT, BOTTOM = 900, 230, 40, 24


def gallery(views: Sequence[ConversationView], most: int = 3) -> str:
    """Videos side by side: of each conversation the turn with most phrases, then the next ones."""
    ranked = [
        sorted((turn for turn in view.turns if turn.video), key=lambda turn: -len(turn.phrases))
        for view in views
    ]
    shown = [turn for row in zip_longest(*ranked) for turn in row if turn is not None][:most]
    figures = "".join(
        f'<figure class="region"><video src="{escape(turn.video)}" loop muted autoplay playsinline>'
        f"</video><figcaption>{escape(turn.answer)}</figcaption></figure>"
        for turn in shown
    )
    return f'<div class="regions gallery">{figures}</div>' if figures else ""


def score_table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A row a metric: before, after, bars with 95 % intervals.

    Args:
        before, after: `evaluate(...)["scores"]`.
    """
    rows = []
    for metric, name, meaning in ROWS:
        old, new = before[metric], after[metric]
        rows.append(
            f'<tr><td class="name">{escape(name)}<small>{escape(meaning)}</small></td>'
            f'<td class="value">{_percent(old["value"])}</td>'
            f'<td class="value"><b>{_percent(new["value"])}</b> '
            f"<small>{_interval(new)}</small></td>"
            f'<td class="bar">{_bars(old, new)}</td><td class="value">{new["n"]}</td></tr>'
        )
    head = "<tr><th></th><th>before</th><th>after</th><th></th><th>cases</th></tr>"
    return f'<table class="scores">{head}{"".join(rows)}</table>'


def loss_curve(history: Sequence[Mapping[str, float]]) -> str:
    """Loss parts over the steps; empty without at least two log lines."""
    points = [entry for entry in history if "step" in entry and "loss" in entry]
    if len(points) < 2:
        return ""
    last = max(entry["step"] for entry in points)
    curves = [(key, name, colour) for key, name, colour in CURVES if key in points[-1]]
    curves = curves or [("loss", "loss", "var(--accent)")]
    values = [entry[key] for entry in points for key, _, _ in curves if key in entry]
    top = sorted(values)[int(0.97 * (len(values) - 1))] or 1.0

    def place(step: float, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 10) * step / last
        y = (HEIGHT - BOTTOM) * (1 - min(value / top, 1.0)) + 6
        return f"{x:.1f},{y:.1f}"

    parts = [_grid(top, last)]
    for number, (key, name, colour) in enumerate(curves):
        line = " ".join(place(one["step"], one[key]) for one in _smooth(points, key))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.2" '
            'stroke-linejoin="round"/>'
            f'<text x="{WIDTH - 120}" y="{24 + 20 * number}" fill="{colour}" font-size="14" '
            f'font-weight="600">{escape(name)}</text>'
        )
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" role="img" '
        f'aria-label="training loss">{"".join(parts)}</svg></div>'
    )


def with_truth(view: ConversationView, outcomes: Sequence[Outcome]) -> ConversationView:
    """The conversation with the true answers below the model's; unasked lines are left out."""
    asked = [outcome for outcome in outcomes if not outcome.failure]
    turns = []
    for turn, outcome in zip(view.turns, asked):
        truth = f"truth: {outcome.line.answer}"
        if outcome.iou is not None:
            truth += f"  Masks overlap the true ones by {outcome.iou:.0%}."
        turns.append(dataclasses.replace(turn, truth=truth))
    return dataclasses.replace(view, turns=tuple(turns))


def _percent(value: float) -> str:
    return "\u2013" if value != value else f"{100 * value:.1f}"


def _interval(score: Mapping[str, Any]) -> str:
    if score["value"] != score["value"]:
        return ""
    return f"{100 * score['low']:.0f} to {100 * score['high']:.0f}"


def _bars(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    drawn = []
    for score, y, height, colour in ((old, 2, 7, "var(--idle)"), (new, 12, 13, "var(--good)")):
        value = score["value"]
        if value != value:
            continue
        drawn.append(
            f'<rect x="0" y="{y}" width="{100 * value:.2f}" height="{height}" fill="{colour}"/>'
        )
    if new["value"] == new["value"]:
        low, high = 100 * new["low"], 100 * new["high"]
        drawn.append(
            f'<path d="M{low:.2f} 18.5H{high:.2f}M{low:.2f} 15v7M{high:.2f} 15v7" '
            'stroke="var(--ink)" stroke-width="1.2" vector-effect="non-scaling-stroke" '
            'fill="none"/>'
        )
    return (
        '<svg viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">'
        '<rect x="0" y="0" width="100" height="28" fill="var(--line)" opacity=".45"/>'
        f"{''.join(drawn)}</svg>"
    )


def _grid(top: float, last: float) -> str:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = (HEIGHT - BOTTOM) * (1 - share) + 6
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" font-size="12" text-anchor="end" '
            f'fill="var(--soft)">{top * share:.2g}</text>'
        )
    lines.append(
        f'<text x="{WIDTH - 10}" y="{HEIGHT + 4}" font-size="12" text-anchor="end" '
        f'fill="var(--soft)">step {last:.0f}</text>'
    )
    return "".join(lines)


def _smooth(points: Sequence[Mapping[str, float]], key: str) -> list[dict[str, float]]:
    """Running mean over a twentieth of the points."""
    reach = max(1, len(points) // 40)
    known = [point for point in points if key in point]
    smooth = []
    for number, point in enumerate(known):
        near = known[max(0, number - reach) : number + reach + 1]
        smooth.append({"step": point["step"], key: sum(one[key] for one in near) / len(near)})
    return smooth
