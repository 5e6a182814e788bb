"""Do no harm: attached but unused is bit-identical, detached is as before."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from sama_plugin.errors import HostError
from sama_plugin.hosts.internvl.prompt import IMAGE_TOKEN
from sama_plugin.model.attach import attach, attached, unwrap
from tests.model.conftest import tiny_config
from tests.tiny_tokenizer import tiny_tokenizer


def host_inputs(tokenizer, pixels, question="what is it?"):
    """Token ids and pixels of one question about all frames."""
    tokens = pixels.shape[0] * 16
    text = "<img>" + "<IMG_CONTEXT>" * tokens + "</img>\n" + question
    return {"input_ids": tokenizer(text, return_tensors="pt").input_ids, "pixel_values": pixels}


def hook_census(model):
    """Everything attach could leave behind: hooks, instance attributes and submodules of every
    module.
    """
    census = {}
    for name, module in model.named_modules():
        hooks = tuple(len(value) for key, value in sorted(vars(module).items()) if "hooks" in key)
        census[name] = (hooks, tuple(sorted(vars(module))), tuple(module._modules))
    return census


def test_attached_but_unused_is_bit_identical(tiny, frames):
    model, tokenizer = tiny
    inputs = host_inputs(tokenizer, frames)
    with torch.no_grad():
        before = model(**inputs).logits
        text_before = model.generate(**inputs, max_new_tokens=8, do_sample=False)
        attach(model, tokenizer, tiny_config())
        assert torch.equal(model(**inputs).logits, before)
        assert torch.equal(model.generate(**inputs, max_new_tokens=8, do_sample=False), text_before)


def test_detach_restores_every_module_hook_and_attribute(tiny, frames):
    model, tokenizer = tiny
    census, keys = hook_census(model), list(model.state_dict())
    vocabulary, size = len(tokenizer), model.config.text_config.vocab_size
    sama = attach(model, tokenizer, tiny_config())
    assert hook_census(model) != census
    assert sama.detach() is model
    assert hook_census(model) == census
    assert list(model.state_dict()) == keys
    assert (len(tokenizer), model.config.text_config.vocab_size) == (vocabulary, size)


def test_attach_again_after_detach(tiny):
    model, tokenizer = tiny
    attach(model, tokenizer, tiny_config()).detach()
    assert attached(attach(model, tokenizer, tiny_config()).host).host is model


def test_twice_is_refused(sama, tiny):
    with pytest.raises(HostError, match="already has the plugin"):
        attach(*tiny, tiny_config())


def test_compiled_host_is_refused(tiny):
    model, tokenizer = tiny
    model.model.language_model.compile(backend="eager")
    with pytest.raises(HostError, match="compiled"):
        attach(model, tokenizer, tiny_config())


def test_unknown_host_is_refused(tiny):
    with pytest.raises(HostError, match="no host adapter recognises"):
        attach(torch.nn.Linear(2, 2), tiny[1], tiny_config())


def words_of_another_host():
    """A tokenizer that has no word for this host's image placeholder."""
    core = tiny_tokenizer().backend_tokenizer
    described = json.loads(core.to_str())
    described["added_tokens"] = [
        one for one in described["added_tokens"] if one["content"] != IMAGE_TOKEN
    ]
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)))


def split_special_tokens():
    tokenizer = tiny_tokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, split_special_tokens=True
    )


@pytest.mark.parametrize("made", [words_of_another_host, split_special_tokens])
def test_a_tokenizer_that_splits_a_special_token_is_refused(tiny, made):
    model, _ = tiny
    with pytest.raises(HostError, match="splits '<IMG_CONTEXT>' into .'<', .* should be one token"):
        attach(model, made(), tiny_config())
    assert not hasattr(model, "sama")


def test_users_tokenizer_is_untouched_unless_shared(tiny):
    model, tokenizer = tiny
    size = len(tokenizer)
    sama = attach(model, tokenizer, tiny_config())
    assert len(tokenizer) == size and len(sama.tokenizer) == size + 7
    sama.detach()
    shared = attach(model, tokenizer, tiny_config(), share_tokenizer=True)
    assert shared.tokenizer is tokenizer and len(tokenizer) == size + 7


def test_calls_do_not_nest(sama):
    with sama.call(None), pytest.raises(HostError, match="do not nest"), sama.call(None):
        pass


def test_vocabulary_size_is_raised_only_during_a_call(sama):
    field = sama.host.config.text_config
    size = field.vocab_size
    with sama.call(None):
        assert field.vocab_size == sama.taps.vocabulary == size + 7
    assert field.vocab_size == size


def test_same_seed_same_plugin_and_global_rng_untouched(tiny):
    model, tokenizer = tiny
    state = torch.random.get_rng_state()
    first = attach(model, tokenizer, tiny_config())
    weights = copy.deepcopy(first.modules.state_dict())
    first.detach()
    second = attach(model, tokenizer, tiny_config())
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, weight in second.modules.state_dict().items():
        assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("order", ["peft first", "peft after"])
def test_peft_before_or_after(tiny, order):
    from peft import LoraConfig, get_peft_model

    model, tokenizer = tiny
    lora = LoraConfig(r=2, target_modules=r".*language_model\.layers\.\d+\.self_attn\.q_proj")
    if order == "peft first":
        wrapped = get_peft_model(model, lora)
        sama = attach(wrapped, tokenizer, tiny_config())
    else:
        sama = attach(model, tokenizer, tiny_config())
        wrapped = get_peft_model(model, lora)
    names = sama.mark_trainable()
    assert unwrap(wrapped) is sama.host and attached(wrapped) is sama
    trainable = {name for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name for name in trainable)
    assert sum("sama." in name for name in trainable) == len(names) > 0


@pytest.mark.parametrize("how", ["kin", "mean"])
def test_new_tokens_start_as_the_hosts_own_words_for_the_same(tiny, how):
    model, tokenizer = tiny
    sama = attach(model, tokenizer, dataclasses.replace(tiny_config(), start_rows=how))
    table = model.get_input_embeddings().weight
    rows = dict(zip(sama.ids.in_order(), sama.modules.input_rows.weight))
    for new, kin in ((sama.ids.seg, "<box>"), (sama.ids.phrase_open, "<ref>")):
        same = torch.equal(rows[new], table[tokenizer.convert_tokens_to_ids(kin)])
        assert same == (how == "kin")
    assert not any(torch.equal(rows[sama.ids.region], row) for row in table)
