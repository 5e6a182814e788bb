"""Prompts of the released models, to the newline, and the order of the vectors in them."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np

from sama_plugin.data.encode import Encoder
from sama_plugin.data.regions import nearest
from sama_plugin.dialog.parse import canonical
from sama_plugin.dialog.pointing import listed
from sama_plugin.dialog.released import IMAGE_TOKEN, WORDINGS
from sama_plugin.dialog.sample import Media, Region, Sample, Turn
from sama_plugin.dialog.tokens import CONTEXT_SLOT, REGION_MARK, REGION_SLOT
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.media.frames import FramePlan, FramePolicy, plan_frames
from tests.conftest import golden_folders
from tests.tiny_tokenizer import tiny_tokenizer

ASK, ANSWER, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n"


def test_prompts_and_the_order_of_their_vectors(sama_golden):
    for folder in golden_folders(sama_golden, "sama_layout"):
        constants = json.loads((folder / "meta.json").read_text())["constants"]
        entries = json.loads((folder / "expected.json").read_text())["conversations"]
        assert entries, f"{folder} holds no conversation"
        for entry in entries:
            try:
                check(entry, constants["tokens_per_frame_or_tile"])
            except AssertionError as error:
                raise AssertionError(f"{entry['name']}: {error}") from error


def check(entry: dict, tokens: int) -> None:
    wording = WORDINGS[entry["family"]]
    questions, answers = words_of(entry, wording)
    video = entry["family"].startswith(("video", "inference_video"))
    encoder = Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), tokens, wording=wording)
    media = Media("video" if video else "image", "clip.mp4")
    prompts = tuple(
        Turn(
            question.replace("<mask>", REGION_MARK),
            answer,
            (Region(()),) * question.count("<mask>"),
        )
        for question, answer in zip(questions, answers)
    )
    plan = plan_of(entry)
    encoded = encoder.encode(Sample(entry["name"], media, prompts), plan)
    text = encoder.text.tokenizer.decode(encoded.input_ids)
    shown, cells = written(text), cells_of(entry, math.isqrt(tokens))
    if cells:
        opening = "" if "full_prompt" in entry else "<image> "
        context = f"{{{entry['tiles']}}}\n"
        shown = shown.replace(context, written(opening + listing(cells)) + context, 1)
    if "full_prompt" in entry:
        assert shown == as_chatml(entry["full_prompt"], entry["template"])
    else:
        inputs = [part.split(ANSWER)[0] for part in shown.split(ASK)[1:]]
        assert inputs == entry["turn_inputs"]
        assert [canonical(one) for one in answers] == entry["turn_outputs"]
        counts = [sum(map(int, re.findall(r"{(\d+)}", one))) for one in inputs]
        assert counts == entry["placeholders_per_turn"]
    if entry["family"] == "inference_video":
        policy = FramePolicy(aggregator=32, llm=5, prompted=5, compat="released")
        whole = plan_frames(entry["video_frames"], policy)
        assert (whole.aggregator, whole.llm) == (plan.aggregator, plan.llm)
        assert list(whole.prompted) == entry["sam_language_frames"]
    slots = encoded.layout.slots
    total = sum(len(slots[kind]) for kind in ("image", "context", "region")) + sum(cells)
    assert total == entry["placeholders_total"] == entry["written_vectors"]
    found = order_of(encoded.layout)
    if cells:
        place = [kind for kind, _ in found].index("aggregator")
        found.insert(place, ("region_grid_selection", sum(cells)))
    wanted = [(run["kind"], run["count"]) for run in entry["splice_order"]]
    assert found == [*merged(wanted)]


def words_of(entry: dict, wording) -> tuple[list[str], list]:
    """Questions as they are written, with <mask> at regions, and answers."""
    if "full_prompt" in entry:
        question = wording.question(entry["question"]).lstrip("\n")
        assert [question] == entry["aggregator_prompts"]
        return [question], [None]
    if "conversation" not in entry:
        return entry["aggregator_prompts"], entry["turn_outputs"]
    questions = [turn["question"] for turn in entry["conversation"]]
    questions[0] = wording.question(questions[0])
    assert [question.strip() for question in questions] == entry["aggregator_prompts"]
    return questions, [turn["answer"] for turn in entry["conversation"]]


def plan_of(entry: dict) -> FramePlan:
    if entry.get("tiles") is not None or entry.get("context_items"):
        tiles, items = entry["tiles"], entry.get("context_items", entry["tiles"])
        return FramePlan(max(tiles, items), tuple(range(items)), tuple(range(tiles)), ())
    sparse = entry.get("sparse_indices") or list(range(entry["sparse_frames"]))
    dense = tuple(sparse[place] for place in entry["dense_positions"])
    return FramePlan(entry.get("video_frames") or len(sparse), tuple(sparse), dense, ())


def cells_of(entry: dict, grid: int) -> list[int]:
    """Cells that each region of an image covers."""
    if "boxes_xyxy" not in entry:
        return []
    width, height = entry["image_size_wh"]
    masks = np.zeros((len(entry["boxes_xyxy"]), height, width), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, entry["boxes_xyxy"]):
        mask[y0:y1, x0:x1] = True
    cells = [np.flatnonzero(nearest(mask, grid, grid)) for mask in masks]
    assert np.concatenate(cells).tolist() == entry["selected_grid_indices"]
    assert [len(one) for one in cells] == entry["region_cells"]
    return entry["region_cells"]


def listing(cells: list[int]) -> str:
    """Sa2VA's list of an image's regions, without the question behind it."""
    *segments, _ = listed(REGION_MARK * len(cells), cells, touching=False)
    return "".join(segment.text * segment.count for segment in segments)


def written(text: str) -> str:
    """{n} for n placeholders of any kind."""
    text = text.replace(CONTEXT_SLOT, IMAGE_TOKEN).replace(REGION_SLOT, IMAGE_TOKEN)
    runs = re.compile(f"(?:{IMAGE_TOKEN})+")
    return runs.sub(lambda run: f"{{{len(run[0]) // len(IMAGE_TOKEN)}}}", text)


def as_chatml(prompt: str, template: str) -> str:
    if template in ("qwen_chat", "internlm2_chat"):
        return prompt
    assert template == "phi3_chat", template
    for theirs, ours in (
        ("<|user|>\n", ASK),
        ("<|end|>\n<|assistant|>\n", ANSWER),
    ):
        prompt = prompt.replace(theirs, ours)
    return prompt


def order_of(layout):
    """Runs of vectors, a region as its visual and its shape vector."""
    kinds = {"image": "grid", "context": "aggregator"}
    spans = [span for span in layout.spans if span.kind in ("image", "context", "region")]
    runs = []
    for span in spans:
        if span.kind == "region":
            runs += [("visual", 1), ("shape", 1)]
        else:
            runs.append((kinds[span.kind], span.end - span.start))
    return list(merged(runs))


def merged(runs):
    """Frames or tiles in a row as one run."""
    for kind, group in itertools.groupby(runs, lambda run: run[0]):
        counts = [count for _, count in group]
        yield from [(kind, sum(counts))] if kind == "grid" else [(kind, one) for one in counts]


def test_sa2va_region_header(sama_golden):
    for folder in golden_folders(sama_golden, "sa2va_region_vp"):
        meta = json.loads((folder / "meta.json").read_text())
        wording = WORDINGS["image_visual_prompt"]
        hyper = meta["hyper"]
        text = wording.visual_prefix(hyper["items"], hyper["tokens_per_item"], video=False)
        text += listing(meta["cells_per_region"]) + wording.question(meta["text_in"])
        wanted = as_chatml(meta["full_prompt"], meta["flags"]["template"])
        assert f"{ASK}{written(text)}{ANSWER}" == wanted, folder.name
