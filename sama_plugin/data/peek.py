"""`peek`: what the model will see of a few samples, on one page.

For every sample the frames each reader gets, with regions outlined and known masks filled, and the
exact token string with every slot coloured and everything that is learnt underlined. Nothing is
drawn from the record: frames, plan and tokens come from the code that training runs. Used by
`sama data peek`.
"""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import Iterable, Optional, Union

import numpy as np

from sama_plugin.assets import asset
from sama_plugin.atomic import atomic_path
from sama_plugin.data.decode import Clip, read_clip
from sama_plugin.data.encode import Encoded, Encoder
from sama_plugin.data.regions import RegionRule
from sama_plugin.data.report import BAD_RECORD, BadRecord
from sama_plugin.dialog.sample import Sample
from sama_plugin.dialog.spans import SLOT_KINDS, Span
from sama_plugin.media.frames import FramePolicy
from sama_plugin.viz.draw import contact_sheet, overlay

LEGEND = (
    ("image", "frames the language model reads"),
    ("context", "what the aggregator says"),
    ("region", "a region"),
    ("seg", "a mask"),
    ("learnt", "learnt"),
)


def peek(
    samples: Iterable[tuple[Union[Sample, BadRecord], FramePolicy]],
    encoder: Encoder,
    path: Union[str, Path],
    rule: Optional[RegionRule] = None,
) -> Path:
    """Write the page; returns its path.

    Args:
        samples: with the policy their frames are planned with. In the place of one that training
            could not read stands what is wrong with it.
        rule: of the region encoder, which says how many slots a region has; by default the
            encoder's own number.
    """
    sections = [_section(sample, policy, encoder, rule) for sample, policy in samples]
    style = "".join(
        asset(f"page/{name}.css").read_text(encoding="utf-8") for name in ("style", "peek")
    )
    legend = "".join(f'<span class="{kind}">{escape(words)}</span>' for kind, words in LEGEND)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>What the model sees</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<header><h1>What the model sees</h1>\n"
        f'<p class="lead">{len(sections)} samples as training reads them.</p></header>\n'
        f'<main>\n<div class="legend">{legend}</div>\n' + "\n".join(sections) + "\n</main>\n"
        "</body>\n</html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def token_html(encoded: Encoded, encoder: Encoder) -> str:
    """The token string: one `<span>` a run, classed by kind, long runs of one slot counted."""
    return "".join(_run(span, encoded.input_ids, encoder) for span in encoded.layout.spans)


def _section(
    sample: Union[Sample, BadRecord],
    policy: FramePolicy,
    encoder: Encoder,
    rule: Optional[RegionRule],
) -> str:
    if isinstance(sample, BadRecord):
        name, said = escape(sample.record), escape(sample.message)
        return (
            f'<section class="sample bad">\n<h2>{name}</h2>\n<p>set aside: {said}</p>\n</section>'
        )
    try:
        return _seen(sample, policy, encoder, rule)
    except BAD_RECORD as error:
        bad = BadRecord.of(error, "", sample.source, sample.id)
        return _section(bad, policy, encoder, rule)


def _seen(sample: Sample, policy: FramePolicy, encoder: Encoder, rule: Optional[RegionRule]) -> str:
    clip = read_clip(sample, policy)
    laid = None if rule is None else [rule.slots(one, clip.size) for one in sample.regions]
    encoded = encoder.encode(sample, clip.plan, laid)
    slots = encoded.layout.slots
    counts = ", ".join(f"{len(slots[kind])} {kind}" for kind in SLOT_KINDS if slots[kind])
    facts = f"{len(encoded)} tokens" + (f": {counts}" if counts else "")
    media = ", ".join(sample.media.sources) or "text only"
    pictures = "".join(f'<img alt="" src="{_inline(sheet)}">' for sheet in _sheets(sample, clip))
    return (
        f'<section class="sample" id="{escape(sample.id)}">\n<h2>{escape(sample.id)}</h2>\n'
        f"<p>{escape(media)}<br>{escape(facts)}<br>{escape(str(clip.plan))}</p>\n{pictures}\n"
        f'<div class="tokens">{token_html(encoded, encoder)}</div>\n</section>'
    )


def _sheets(sample: Sample, clip: Clip) -> list[np.ndarray]:
    """Contact sheets of the frames that are read and of those on which masks are asked for."""
    plan = clip.plan
    if sample.media.kind == "images":
        return [contact_sheet([row], labels=[f"image {i}"]) for i, row in enumerate(clip.rows)]
    sheets = []
    if clip.rows:
        names = [
            f"frame {frame} · {time:.2f} s · {_readers(frame, clip)}"
            for frame, time in zip(plan.rows, clip.times)
        ]
        drawn = _drawn(sample, list(clip.rows), plan.rows, with_masks=False)
        sheets.append(contact_sheet(drawn, labels=names, title="encoded frames, regions outlined"))
    if clip.segments:
        frames = tuple(clip.segments)
        drawn = _drawn(sample, list(clip.segments.values()), frames, with_masks=True)
        names = [f"frame {frame}" for frame in frames]
        sheets.append(contact_sheet(drawn, labels=names, title="masks that are learnt"))
    return sheets


def _drawn(
    sample: Sample, frames: list[np.ndarray], indices: tuple[int, ...], with_masks: bool
) -> np.ndarray:
    targets = sample.targets if with_masks else ()
    regions = () if with_masks else sample.regions
    return overlay(
        np.stack(frames),
        [target.track for target in targets],
        [target.phrase for target in targets],
        list(range(len(targets))),
        indices=indices,
        prompts={f"{i} {region.name}".strip(): region.prompts for i, region in enumerate(regions)},
    )


def _readers(frame: int, clip: Clip) -> str:
    plan = clip.plan
    named = (("language model", plan.llm), ("aggregator", plan.aggregator))
    return ", ".join(name for name, frames in named if frame in frames) or "region only"


def _run(span: Span, ids: list[int], encoder: Encoder) -> str:
    text = encoder.text.tokenizer.decode(ids[span.start : span.end])
    count = span.end - span.start
    if span.kind in SLOT_KINDS and count > 2:
        text = encoder.text.tokenizer.decode(ids[span.start : span.start + 1]) + f" × {count}"
    kind = f"{span.kind} learnt" if span.supervised else span.kind
    return f'<span class="{kind}">{escape(text)}</span>'


def _inline(picture: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
