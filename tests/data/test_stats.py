"""Statistics count what the samples hold."""

from __future__ import annotations

from sama_plugin.data.stats import MEASURES, measure
from tests.data.factories import FRAMES, HEIGHT, WIDTH, grounded_sample, plain_sample, text_sample


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
