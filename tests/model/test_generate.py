"""Decoding: equal to the host's own greedy text, [SEG] states equal to a teacher-forced pass."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.dialog.stops import Stop
from sama_plugin.errors import ConfigError, SlotError
from sama_plugin.model.generate import Sampling, generate, teacher_forced


def words(sama, text="what does the red circle do?"):
    return sama.tokenizer(text).input_ids


def favour(sama, order):
    """Make the model say `order` whatever it reads."""
    head = sama.host.get_output_embeddings()
    calls = iter(order)

    def push(module, args, logits):
        wanted = next(calls, None)
        if wanted is None:
            return None
        pushed = logits.clone()
        pushed[..., wanted] = 1e4
        return pushed

    return head.register_forward_hook(push)


def test_greedy_text_is_the_hosts_own(sama):
    ids = torch.tensor([words(sama)])
    wanted = sama.host.generate(ids, max_new_tokens=8, do_sample=False, use_cache=True)
    ours = torch.tensor(sama.ids.in_order())

    def silence(module, args, logits):  # of a fresh plugin, whose rows mean nothing yet
        return logits.index_fill(-1, ours, -1e4)

    hook = sama.host.get_output_embeddings().register_forward_hook(silence)
    found = generate(sama, ids[0].tolist(), None, max_new_tokens=8)
    hook.remove()
    assert found.ids == wanted[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("trailing", [False, True])
def test_seg_states_are_those_of_the_consuming_step(sama, trailing):
    seg, stop = sama.ids.seg, sama.tokenizer.eos_token_id
    said = [seg, words(sama, "it")[0], seg] + ([] if trailing else [stop])
    hook = favour(sama, said)
    found = generate(sama, words(sama), None, stop=Stop((stop,)), max_new_tokens=len(said))
    hook.remove()
    assert found.ids == said and found.stopped == (not trailing)
    assert found.seg_states.shape == (2, sama.modules.width)
    forced, _ = teacher_forced(sama, words(sama) + found.ids, None)
    assert torch.allclose(found.seg_states, forced, atol=1e-5)


def test_continuing_a_cache_equals_one_pass(sama):
    ids = words(sama, "what does the red circle do? what is it?")
    whole = generate(sama, ids, None, max_new_tokens=4)
    half = generate(sama, ids[:5], None, max_new_tokens=1)
    assert half.past.get_seq_length() == 5
    rest = generate(sama, ids[5:], None, past=half.past, max_new_tokens=4)
    assert rest.ids == whole.ids


def test_placeholders_are_never_generated(sama):
    hook = favour(sama, [sama.ids.region, sama.ids.context, sama.image_id, sama.ids.region_open])
    found = generate(sama, words(sama), None, max_new_tokens=4)
    hook.remove()
    banned = {sama.ids.region, sama.ids.context, sama.image_id, sama.ids.region_open}
    assert not banned & set(found.ids)


def test_sampling_is_seeded(sama):
    sampling = Sampling(temperature=1.0, top_p=0.9, top_k=50, seed=3)
    first, second = (
        generate(sama, words(sama), None, max_new_tokens=12, sampling=sampling) for _ in range(2)
    )
    other = Sampling(temperature=1.0, seed=4)
    assert first.ids == second.ids
    assert generate(sama, words(sama), None, max_new_tokens=12, sampling=other).ids != first.ids


@pytest.mark.parametrize("field", ["beams", "sequences"])
def test_several_sequences_are_refused(field):
    with pytest.raises(ConfigError, match="one sequence"):
        Sampling(**{field: 2})


@pytest.mark.parametrize(
    "field, value",
    [("temperature", -1.0), ("temperature", float("nan")), ("top_p", 0.0), ("top_k", -1)],
)
def test_impossible_sampling_is_refused(field, value):
    with pytest.raises(ConfigError, match=f"{field} {value}"):
        Sampling(**{field: value})


def test_an_empty_prompt_is_an_error(sama):
    with pytest.raises(SlotError, match="nothing to continue"):
        generate(sama, [], None)


def test_stream_hears_every_token(sama):
    heard = []
    found = generate(sama, words(sama), None, max_new_tokens=5, on_token=heard.append)
    assert heard == found.ids
