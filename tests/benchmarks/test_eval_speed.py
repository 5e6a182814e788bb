"""The frame-by-frame side of the J and F benchmark is the protocol: equal to the golden numbers."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.eval.golden import topics

pytest.importorskip("cv2", reason="the frame-by-frame side dilates with OpenCV")


def test_the_loop_is_the_reference(sama_golden):
    from benchmarks import eval_jf_speed

    seen = 0
    for topic in topics(sama_golden, "davis_jf"):
        pairs = np.load(topic.folder / "synthetic_inputs.npz")
        for name, numbers in topic.read("expected")["synthetic"].items():
            if f"{name}__void" in pairs:
                continue
            target, prediction = pairs[f"{name}__gt"] > 0, pairs[f"{name}__pred"] > 0
            pair = target[None], prediction[None]
            found = eval_jf_speed.one_by_one(*pair)
            assert found[:, 0] == pytest.approx([numbers["J"], numbers["F"]], abs=1e-9), name
            assert np.array_equal(eval_jf_speed.together(*pair), found)
            seen += 1
    assert seen


def test_it_counts_real_masks(sama_data, monkeypatch, capsys):
    from benchmarks import eval_jf_speed

    monkeypatch.setattr(eval_jf_speed, "DATA", sama_data)
    monkeypatch.setattr(eval_jf_speed, "AIM", 0.0)  # nothing is timed here
    flags = ["--clips", "horsejump-high", "--frames", "2"]
    monkeypatch.setattr(sys, "argv", ["eval_jf_speed.py", *flags])
    assert eval_jf_speed.main() == 0
    assert "bit-equal" in capsys.readouterr().out
