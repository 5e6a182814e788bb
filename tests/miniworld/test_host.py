"""The mini host: deterministic, a real InternVL, and its tokenizer loses nothing."""

from __future__ import annotations

import pytest
import torch

from sama_plugin.miniworld.host import TINY, load_mini, tiny_host
from sama_plugin.miniworld.tokenizer import SPECIAL_TOKENS, build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "a red circle moves left; a blue square stays still.",
        "What is at x 7, y 12 at the start?",
        "héllo wörld €, 漢字 \t tabs\n\nnewlines  and   blanks ",
        "<p> the star </p> [SEG] <region>",
        "",
    ],
)
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_world_words_are_single_tokens(tokenizer):
    assert len(tokenizer("Where is the striped purple star at the start?").input_ids) == 10


def test_special_tokens_are_one_id_each(tokenizer):
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token).input_ids) == 1
        assert tokenizer.decode(tokenizer(token).input_ids, skip_special_tokens=True) == ""
    assert tokenizer.context_image_token == "<IMG_CONTEXT>"


def test_tokenizer_survives_saving(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "<|im_start|>user\n<img><IMG_CONTEXT></img>\nWhat is this?<|im_end|>\n"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert len(again) == len(tokenizer)
    assert again.start_image_token == "<img>"
    assert again.chat_template == tokenizer.chat_template


def test_chat_template_is_chatml(tokenizer):
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    )


def test_same_seed_same_weights():
    state = torch.get_rng_state()
    first, second, other = tiny_host(3)[0], tiny_host(3)[0], tiny_host(4)[0]
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.parameters(), second.parameters()))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def test_tiny_host_reads_frames_and_answers():
    model, tokenizer = tiny_host()
    picture = "<img>" + "<IMG_CONTEXT>" * TINY.tokens_per_frame + "</img>\n"
    inputs = tokenizer(f"<|im_start|>user\n{picture}What is this?<|im_end|>\n", return_tensors="pt")
    black, noise = (
        torch.zeros(1, 3, 64, 64),
        torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
    )
    with torch.no_grad():
        seen = [model(**inputs, pixel_values=pixels).logits for pixels in (black, noise)]
    assert seen[0].shape == (1, inputs.input_ids.shape[1], len(tokenizer))
    assert not torch.allclose(*seen)
    out = model.generate(**inputs, pixel_values=noise, max_new_tokens=3)
    assert out.shape[1] <= inputs.input_ids.shape[1] + 3


def test_save_and_load_give_the_same_host(tmp_path):
    model, tokenizer = tiny_host(1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_mini(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert loaded.lm_head.weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
