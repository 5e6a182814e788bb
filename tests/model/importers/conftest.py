"""The tiny SAM2 of the synthetic checkpoints is a segmenter like any other; a vocabulary file."""

from __future__ import annotations

import pytest

from sama_plugin.segment.base import SEGMENTERS
from sama_plugin.segment.sizes import SIZES
from tests.tiny_vocabulary import write_vocabulary

from . import synthetic


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    builder = "sama_plugin.segment.sam2:build_named"
    monkeypatch.setitem(SIZES, synthetic.SEGMENTER, synthetic.SIZES_INSIDE)
    monkeypatch.setitem(SEGMENTERS._targets, synthetic.SEGMENTER, builder)


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    return write_vocabulary(tmp_path_factory.mktemp("bert") / "vocab.txt")
