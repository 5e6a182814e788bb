"""Statistics count what the samples hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sama_plugin.data.encode import Encoder
from sama_plugin.data.regions import region_rule
from sama_plugin.data.stats import MEASURES, measure
from sama_plugin.dialog.sample import Region
from sama_plugin.hosts.internvl.adapter import InternVLAdapter
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.model.config import RegionConfig
from tests.data.factories import (
    FRAMES,
    HEIGHT,
    WIDTH,
    grounded_sample,
    plain_sample,
    region,
    text_sample,
    write_clip,
)
from tests.tiny_tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def encoder():
    return Encoder(tiny_tokenizer(plugin=True), InternVLAdapter(), tokens_per_frame=4)


def test_counts(tmp_path):
    samples = [grounded_sample("a.npy"), plain_sample("a.npy"), text_sample()]
    stats = measure("all", samples)
    assert stats.kinds["samples"] == 3 and stats.kinds["video"] == 2 and stats.kinds["none"] == 1
    assert stats.kinds["targets without masks"] == 1 and stats.kinds["mask prompts"] == 1
    assert stats.values["segs"] == [3, 0, 0] and stats.values["regions"] == [1, 0, 0]
    assert stats.values["objects"] == [3.0]
    assert stats.values["known frames"] == [FRAMES, FRAMES]
    assert max(stats.values["mask area"]) == 100 * 64 / (HEIGHT * WIDTH)
    assert stats.values["frames"][0] == FRAMES
    assert set(stats.values) <= set(MEASURES)
    assert any(line.startswith("segs") for line in stats.lines())


def test_an_empty_dataset_has_no_rows():
    assert measure("none", []).to_json()["measures"] == {}


@pytest.mark.parametrize("kind, slots", [("sama", 2), ("videorefer", 3), ("pixelrefer", 5)])
def test_tokens_count_the_slots_of_the_region_encoder(encoder, kind, slots):
    """A region on three frames, two slots by the encoder's own count."""
    sample = grounded_sample("nowhere.npy", region=region(0, 1, 2))
    rule = region_rule(RegionConfig(kind=kind, cells=5), (4, 4))
    plain, counted = measure("a", [sample], encoder), measure("a", [sample], encoder, rule=rule)
    (before,), (after,) = plain.values["tokens"], counted.values["tokens"]
    assert after - before == slots - 2


def test_a_clip_is_opened_only_for_a_size_that_is_nowhere_else(encoder, tmp_path):
    box = Region((RegionPrompt.from_box(0, (2, 4, 10, 12)),))
    unseen = grounded_sample(str(tmp_path / "clip.npy"), region=box, track=None)
    unseen = replace(unseen, turns=unseen.turns[:1])
    rule = region_rule(RegionConfig(kind="pixelrefer"), (4, 4))
    unsized = region_rule(RegionConfig(), (4, 4))
    aside = [
        measure("a", [unseen], encoder, rule=one).kinds["set aside"] for one in (rule, unsized)
    ]
    assert aside == [1, 0]
    write_clip(tmp_path / "clip.npy")
    masked = grounded_sample(str(tmp_path / "clip.npy"), region=region(0), track=None)
    masked = replace(masked, turns=masked.turns[:1])
    found, wanted = (measure("a", [one], encoder, rule=rule) for one in (unseen, masked))
    assert found.values["tokens"] == wanted.values["tokens"]
