"""A language model that takes and gives caches as tuples converses as one with a cache object."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import DynamicCache

from sama_plugin.hosts.internvl_chat import adapter
from sama_plugin.hosts.internvl_chat.pairs import extend, pairs_of
from sama_plugin.infer.session import VideoSession
from tests.data.factories import write_clip
from tests.hosts.conformance import disturbed, hold
from tests.hosts.internvl_chat.lookalike import internvl_chat


@pytest.fixture
def old_fashioned(monkeypatch):
    """Makes a Qwen2 take and give tuples only; returns the lengths that it will be given."""
    seen = []

    def teach(model):
        monkeypatch.setattr(adapter, "PAIRED", ("qwen2",))
        own = model.language_model.forward

        @functools.wraps(own)
        def forward(*args, past_key_values=None, **kwargs):
            assert past_key_values is None or isinstance(past_key_values, tuple)
            seen.append(0 if past_key_values is None else past_key_values[0][0].shape[2])
            cache = DynamicCache()
            if past_key_values is not None:
                extend(cache, past_key_values)
            output = own(*args, past_key_values=cache, **kwargs)
            output.past_key_values = pairs_of(cache)
            return output

        model.language_model.forward = forward
        return seen

    return teach


def test_it_converses_like_one_that_takes_a_cache(tmp_path, old_fashioned):
    clip = write_clip(tmp_path / "clip.npy")

    def talked(teach):
        model, tokenizer = internvl_chat()
        seen = teach(model)
        sama = disturbed(hold(model, tokenizer))
        with VideoSession(sama, clip) as session:
            for question in ("what is it?", "and then?"):
                session.ask(question, max_new_tokens=5)
            return session.ids, session.cached_tokens, seen

    plain, held, _ = talked(lambda model: None)
    ids, kept, seen = talked(old_fashioned)
    assert ids == plain and kept == held
    assert seen[0] == 0 and max(seen) > 0 and seen.count(0) == 1  # read once, then continued


def test_an_empty_cache_is_none_and_a_cropped_one_is_shorter():
    cache = DynamicCache()
    assert pairs_of(cache) is None
    whole = tuple((torch.randn(1, 2, 5, 3), torch.randn(1, 2, 5, 3)) for _ in range(2))
    extend(cache, whole)
    extend(cache, whole)  # nothing new
    assert all(torch.equal(a, b) for x, y in zip(pairs_of(cache), whole) for a, b in zip(x, y))
    cache.crop(-2)
    assert [keys.shape[2] for keys, _ in pairs_of(cache)] == [3, 3]
