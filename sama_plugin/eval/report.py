"""A summary as text: every metric in its readings, what is missing, and what others published."""

from __future__ import annotations

from typing import Any, Mapping

WIDTH = 30


def text(summary: Mapping[str, Any]) -> str:
    """The table that `sama eval` prints."""
    material = summary["material"]
    lost = material["questions_not_read"]["count"]
    less = f", {lost} more could not be read" if lost else ""
    lines = [
        f"{summary['benchmark']}: {material['cases']} cases in {material['videos']} videos{less}",
        f"{'metric':{WIDTH}}{'reading':>10}{'value':>9}{'95 %':>20}{'n':>7}",
    ]
    for row in summary["metrics"]:
        lines.append(_row(row))
        lines += [
            f"    {kind:{WIDTH - 4}}{'':>10}{_value(one)}{'':>20}{one['n']:7}"
            for kind, one in row["kinds"].items()
            if len(row["kinds"]) > 1
        ]
    for metric, why in summary["not_computed"].items():
        lines.append(f"not computed: {metric}: {why}")
    lines += [f"{count} {what}" for what, count in summary["counts"].items() if count]
    for name, title in (
        ("questions_not_read", "questions could not be read and are in no number"),
        ("odd_records", "records are odd"),
        ("ids_that_occur_twice", "ids occur more than once (all kept)"),
    ):
        if material[name]["count"]:
            lines.append(f"{material[name]['count']} {title}{_first(material[name])}")
    for name, title in (("failures", "cases failed"), ("faults", "cases have faulty masks")):
        if summary[name]["count"]:
            lines.append(f"{title}{_first(summary[name])}")
    sent = summary["submission"]
    if sent:
        lines.append(f"for the server: {sent['file']} with {sent['pictures']} pictures")
    judge = summary["judge"]
    if judge["name"] != "none":
        lines.append(
            f"judge: {judge['asked']} asked, {judge['cached']} from the cache, {judge['failed']} "
            f"failed, {judge['over_budget']} over budget, {judge['tokens_in']} + "
            f"{judge['tokens_out']} tokens, cost {judge['cost']:g}; cached answers had cost "
            f"{judge['cached_cost']:g}"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in summary["notes"])])


def _first(found: Mapping[str, Any]) -> str:
    causes = found.get("causes", 1)
    return f"{f' for {causes} reasons' if causes > 1 else ''}, first: {found['first'][0]}"


def _row(row: Mapping[str, Any]) -> str:
    name = f"{row['metric']:{WIDTH}}{row['reading']:>10}"
    if row["value"] is None:
        return f"{name}{_value(row)}"
    interval = "" if row["low"] is None else f"{row['low']:.3f} .. {row['high']:.3f}"
    return f"{name}{_value(row)}{interval:>20}{row['n']:7}"


def _value(row: Mapping[str, Any]) -> str:
    return f"{'none':>9}" if row["value"] is None else f"{row['value']:9.3f}"
