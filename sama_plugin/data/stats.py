"""What a dataset holds, as distributions: turns, words, regions, [SEG]s, objects a clip, mask
areas, frames, tokens.

Numbers come from the samples that training would read; nothing is decoded. Token budgets are those
of a host when an encoder is given: the frames its policy would hand on, slots and text together.
Used by `sama data stats`, which prints a table and writes a page of histograms.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, Optional, Union

import numpy as np

from sama_plugin.assets import asset
from sama_plugin.atomic import atomic_path
from sama_plugin.data.plan import plan_sample
from sama_plugin.data.regions import RegionRule
from sama_plugin.data.report import BAD_RECORD, BadRecord
from sama_plugin.dialog.sample import Sample
from sama_plugin.errors import DataError
from sama_plugin.logs import get_logger
from sama_plugin.media import masks
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.video import open_video

if TYPE_CHECKING:
    from sama_plugin.data.encode import Encoder

log = get_logger("data")

MEASURES = {
    "turns": "turns of a sample",
    "question words": "words of a question",
    "answer words": "words of an answer",
    "regions": "regions of a sample",
    "segs": "[SEG]s of a sample",
    "objects": "grounded phrases of a clip, each once",
    "known frames": "frames with known masks, a target",
    "mask area": "part of the frame under a mask, in percent",
    "frames": "frames of the clip",
    "tokens": "tokens of a sample as the host reads it",
}
BINS = 24


@dataclass
class Stats:
    """Values of every measure, and counts of kinds.

    Attributes:
        values: measure to its values. kinds: media kinds, prompt kinds, repeated phrases.
    """

    name: str
    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    kinds: Counter = field(default_factory=Counter)
    phrases: Counter = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Counts and quantiles, for `--json`."""
        return {
            "name": self.name,
            "kinds": dict(self.kinds),
            "phrases": dict(self.phrases.most_common(20)),
            "measures": {name: _quantiles(found) for name, found in self.values.items() if found},
        }

    def lines(self) -> list[str]:
        """The table as text."""
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        lines = [f"{self.name}: {kinds}"]
        lines.append(f"{'':<16}{'n':>9}{'mean':>10}{'min':>9}{'median':>9}{'95 %':>9}{'max':>9}")
        for name in MEASURES:
            if self.values.get(name):
                row = _quantiles(self.values[name])
                numbers = "".join(f"{row[key]:>9.4g}" for key in ("min", "median", "p95", "max"))
                lines.append(f"{name:<16}{row['n']:>9}{row['mean']:>10.4g}{numbers}")
        often = ", ".join(f"{phrase} {count}" for phrase, count in self.phrases.most_common(8))
        return [*lines, f"phrases: {often}"] if often else lines


def measure(
    name: str,
    samples: Iterable[Union[Sample, BadRecord]],
    encoder: Optional[Encoder] = None,
    frames: Optional[FramePolicy] = None,
    masks_per_target: int = 4,
    rule: Optional[RegionRule] = None,
) -> Stats:
    """The distributions of a dataset.

    Args:
        samples: bad records are counted and left out.
        encoder: of a host, for `tokens`; frames its policy.
        masks_per_target: masks whose area is measured, evenly over the track.
        rule: of the region encoder, which says how many slots a region has; by default the
            encoder's own number.
    """
    stats = Stats(name)
    objects: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        try:
            if isinstance(sample, BadRecord):
                raise DataError(sample.message)
            if encoder is not None:
                plan = plan_sample(sample, frames or FramePolicy(), _frames(sample))
                slots = None if rule is None else _slots(sample, rule)
                stats.values["tokens"].append(len(encoder.encode(sample, plan, slots)))
        except BAD_RECORD as error:
            stats.kinds["set aside"] += 1
            log.warning("%s: set aside: %s", name, error)
            continue
        _add(stats, sample, objects, masks_per_target)
    stats.values["objects"] = [float(len(found)) for found in objects.values()]
    return stats


def write_page(all_stats: Iterable[Stats], path: Union[str, Path]) -> Path:
    """A page of histograms, one section a dataset; returns its path."""
    style = asset("page/style.css").read_text(encoding="utf-8")
    body = "\n".join(_section(stats) for stats in all_stats)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>What the data holds</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>What the data holds</h1></header>\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _add(stats: Stats, sample: Sample, objects: dict[str, set[str]], most: int) -> None:
    values, kinds = stats.values, stats.kinds
    kinds["samples"] += 1
    kinds[sample.media.kind] += 1
    values["turns"].append(len(sample.turns))
    values["regions"].append(len(sample.regions))
    values["segs"].append(len(sample.targets))
    for turn in sample.turns:
        values["question words"].append(len(turn.user.split()))
        if turn.assistant is not None:
            values["answer words"].append(len(turn.assistant.split()))
        kinds["open questions" if turn.assistant is None else "answers"] += 1
    for region in sample.regions:
        kinds.update(f"{prompt.kind} prompts" for prompt in region.prompts)
    if sample.media.kind == "video":
        values["frames"].append(_frames(sample))
    for target in sample.targets:
        stats.phrases[target.phrase.lower()] += 1
        objects[sample.media.sources[0]].add(target.phrase.lower())
        if target.track is None:
            kinds["targets without masks"] += 1
            continue
        known = target.track.frames()
        values["known frames"].append(len(known))
        pixels = target.track.size[0] * target.track.size[1]
        for frame in known[:: max(1, len(known) // most)][:most]:
            rle = target.track.rles[frame]
            values["mask area"].append(100 * masks.area(rle) / pixels if rle else 0.0)


def _frames(sample: Sample) -> int:
    """Frames of the medium as far as the annotation knows them."""
    if sample.media.kind != "video":
        return len(sample.media.sources)
    tracks = [target.track.total for target in sample.targets if target.track is not None]
    return max([*tracks, 1 + max(sample.pointed_frames, default=0)])


def _slots(sample: Sample, rule: RegionRule) -> list[int]:
    """Tokens of each region; a medium is opened only if a rule needs its size and no mask has
    it.
    """
    size = _size(sample) if rule.sized and sample.regions else (0, 0)
    return [rule.slots(region, size) for region in sample.regions]


def _size(sample: Sample) -> tuple[int, int]:
    prompts = [prompt for region in sample.regions for prompt in region.prompts]
    sizes = [tuple(prompt.mask["size"]) for prompt in prompts if prompt.mask is not None]
    sizes += [target.track.size for target in sample.targets if target.track is not None]
    if sizes:
        return sizes[0]
    with open_video(sample.media.sources[0]) as reader:
        return reader.size


def _quantiles(values: list[float]) -> dict[str, Any]:
    found = np.asarray(values, dtype=float)
    return {
        "n": len(found),
        "mean": float(found.mean()),
        "min": float(found.min()),
        "median": float(np.median(found)),
        "p95": float(np.percentile(found, 95)),
        "max": float(found.max()),
    }


def _section(stats: Stats) -> str:
    table = escape("\n".join(stats.lines()))
    plots = "\n".join(
        f"<figure>{_histogram(stats.values[name])}<figcaption>{escape(words)}</figcaption></figure>"
        for name, words in MEASURES.items()
        if stats.values.get(name)
    )
    return f"<section>\n<h2>{escape(stats.name)}</h2>\n<pre>{table}</pre>\n{plots}\n</section>"


def _histogram(values: list[float]) -> str:
    """Bars as an inline picture; what lies above the 99th percentile is in the last bar."""
    found = np.asarray(values, dtype=float)
    low, high = float(found.min()), float(np.percentile(found, 99))
    counts, _ = np.histogram(found.clip(low, high), BINS, (low, max(high, low + 1)))
    bars = "".join(
        f'<rect x="{10 * i}" y="{100 - 100 * count / counts.max():.1f}" width="9" '
        f'height="{100 * count / counts.max():.1f}" fill="currentColor"/>'
        for i, count in enumerate(counts.tolist())
    )
    ends = (
        f'<text x="0" y="114" font-size="11">{low:.4g}</text>'
        f'<text x="{10 * BINS}" y="114" font-size="11" text-anchor="end">{high:.4g}</text>'
    )
    return f'<svg viewBox="0 0 {10 * BINS} 118" width="360" role="img">{bars}{ends}</svg>'
