"""Real masks at full resolution: codecs lose nothing, a region means the pixels it was given."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sama_plugin.infer.session import VideoSession
from sama_plugin.media import masks
from sama_plugin.media.frames import FramePolicy
from sama_plugin.media.prompts import RegionPrompt
from sama_plugin.media.tracks import MaskTrack


@pytest.fixture(scope="module")
def masklet(sama_data):
    """The real SA-V annotation: (121 frames, 5 objects) of compressed RLE, 848 x 480."""
    path = sama_data / "annotations/sav/sav_000001_manual.json"
    return json.loads(path.read_text())["masklet"]


def test_sav_masks_are_written_as_they_were(masklet):
    for frame in masklet[::10]:
        for rle in frame:
            mask = masks.decode(rle)
            assert masks.encode(mask) == rle
            labels = masks.run_lengths(rle)
            again = {"size": rle["size"], "counts": [int(run) for run in labels]}
            assert np.array_equal(masks.decode(again), mask)


def test_a_sav_object_is_a_track(masklet):
    frames = range(0, 4 * len(masklet), 4)  # annotated frame i is video frame 4 i
    rles = {frame: one[3] if masks.area(one[3]) else None for frame, one in zip(frames, masklet)}
    track = MaskTrack((848, 480), 483, rles)
    again = MaskTrack.from_json(json.loads(json.dumps(track.to_json())))
    assert again == track
    assert len(track.visible()) == 8 and track.area(0) == 0 and track.area(1) is None
    visible = track.visible()
    tube = track.tube(visible)
    assert MaskTrack.from_masks(tube, visible, track.total).rles == {
        frame: track.rles[frame] for frame in visible
    }


@pytest.mark.parametrize("result", ["osvos", "rvos"])
@pytest.mark.parametrize("clip", ["horsejump-high", "motocross-jump"])
def test_davis_results_go_to_rle_and_back(sama_data, tmp_path, result, clip):
    files = sorted((sama_data / "davis_masks" / result / clip).glob("*.png"))[::12]
    labels = np.stack([masks.read_png(path) for path in files])  # (N, H, W)
    rebuilt = np.zeros_like(labels)
    for label in np.unique(labels)[1:]:
        track = MaskTrack.from_masks(labels == label)
        rebuilt[track.tube(range(len(labels)))] = label
    assert np.array_equal(rebuilt, labels)
    masks.write_png(tmp_path / "again.png", labels[0])
    assert np.array_equal(masks.read_png(tmp_path / "again.png"), labels[0])


def test_region_records_of_other_datasets_can_be_pointed_at(sama_data):
    records = json.loads(
        (sama_data / "annotations/gar/gar_bench_caption_simple_sample.json").read_text()
    )
    found = list(rles_in(records))
    assert found
    for rle in found:
        height, width = rle["size"]
        prompt = RegionPrompt.from_mask(0, rle).validate(height, width, 1)
        assert prompt.mask_array(height, width).sum() == masks.area(rle)
        assert RegionPrompt.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt


def rles_in(value):
    """Every RLE in a JSON value."""
    if isinstance(value, dict) and {"size", "counts"} <= set(value):
        yield value
    elif isinstance(value, (dict, list)):
        for child in value.values() if isinstance(value, dict) else value:
            yield from rles_in(child)


def test_regions_of_sav_masks_reach_the_model_with_their_area(sama, masklet):
    """Five objects in one question; the one that is not there yet is refused, nothing changes."""
    frames = np.zeros((5, 848, 480, 3), np.uint8)
    policy = FramePolicy(aggregator=2, llm=1, prompted=1)
    with VideoSession(sama, frames, frames=policy) as session:
        names = []
        for number, rle in enumerate(masklet[0]):
            if not masks.area(rle):
                with pytest.raises(ValueError, match="the mask on frame 0 .* is empty"):
                    session.region(f"thing{number}", frame=0, mask=rle)
                continue
            session.region(f"thing{number}", frame=0, mask=rle)
            names.append(f"thing{number}")
        assert list(session.regions) == names == ["thing0", "thing1", "thing2", "thing4"]
        session.ask(" and ".join(f"@{name}" for name in names) + " ?", masks=False)
        (turn,) = session.turns
        assert turn.prompt_ids.count(sama.ids.region) == 2 * len(names)
        batch = session._visual.batch([turn], first=True)
    areas = [masks.area(masklet[0][number]) for number in (0, 1, 2, 4)]
    shares = batch.entry_weights.double().mean(1) * 848 * 480
    assert shares.numpy() == pytest.approx(areas, rel=1e-5)
    shapes = batch.entry_shape.double().mean((1, 2)) * 848 * 480
    assert shapes.numpy() == pytest.approx(areas, rel=1e-5)
