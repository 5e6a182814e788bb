"""The host's pre-training: what it learns from is what the host is later given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sama_plugin.hosts.internvl.prompt import visual_prefix
from sama_plugin.miniworld import pretrain_chat as chat
from sama_plugin.miniworld import pretrain_tracking as tracking
from sama_plugin.miniworld import pretrain_vision as vision
from sama_plugin.miniworld.crowds import sample_crowd
from sama_plugin.miniworld.fast_attention import use_matrix_attention
from sama_plugin.miniworld.host import MINI, build_mini, tiny_host
from sama_plugin.miniworld.language import chat_turns
from sama_plugin.miniworld.motion import place, trajectories
from sama_plugin.miniworld.pretrain_facts import FactCodes
from sama_plugin.miniworld.render import render
from sama_plugin.miniworld.things import COLOURS, FRAMES, SHAPES
from sama_plugin.miniworld.tokenizer import build_tokenizer
from sama_plugin.miniworld.world import sample_clip


def test_training_rows_are_the_chat_template_of_the_host():
    tokenizer = build_tokenizer()
    turns = [(t.question, t.answer) for t in chat_turns(_clip(), np.random.default_rng(0), 4)]
    ids, labels, _ = chat.ChatEncoder(tokenizer)(2, turns, budget=10_000)
    messages = []
    for question, answer in turns:
        prefix = "" if messages else visual_prefix(2, MINI.tokens_per_frame, video=True)
        messages.append({"role": "user", "content": prefix + question})
        messages.append({"role": "assistant", "content": answer})
    assert ids == tokenizer(tokenizer.apply_chat_template(messages, tokenize=False)).input_ids
    learnt = tokenizer.decode([token for token in labels if token != chat.IGNORE])
    assert learnt == "".join(f"{answer}<|im_end|>" for _, answer in turns)


def test_a_budget_cuts_whole_turns_and_keeps_the_first():
    turns = [("What is this?", "It is red."), ("What is that?", "It is blue.")]
    ids, *_ = chat.ChatEncoder(build_tokenizer())(1, turns, budget=1)
    text = build_tokenizer().decode(ids)
    assert "red.<|im_end|>" in text
    assert "blue" not in text


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_frames_are_sorted_inside_and_one_a_segment(count):
    for seed in range(20):
        picked = chat.pick_frames(np.random.default_rng(seed), count)
        middles = (np.arange(count) + 0.5) * FRAMES / count
        assert (np.diff(picked) > 0).all()
        assert picked.min() >= 0
        assert picked.max() < FRAMES
        assert (np.abs(picked - middles) <= FRAMES / count / 2 + 1).all()


def test_places_of_names_are_where_the_question_has_just_named_its_thing():
    tokenizer = build_tokenizer()
    questions = {
        "What colour is the star?": "star",
        "What does the red ring do?": "ring",
        "Where is the red ring that moves left at the end?": "left",
        "Is there a blue cross?": "cross",
    }
    turns = [(question, "Yes.") for question in questions]
    ids, _, places = chat.ChatEncoder(tokenizer)(1, turns, budget=10_000)
    assert [tokenizer.decode([ids[place]]).strip() for place in places] == list(questions.values())


def test_a_question_names_the_thing_that_its_answer_is_about():
    clip = sample_clip(4, "train")
    asked = 0
    for turn in chat_turns(clip, np.random.default_rng(1), 60):
        thing = tracking.named_thing(clip, turn)
        if turn.kind in ("colour", "shape", "texture", "size") and thing is not None:
            asked += 1
            assert str(getattr(clip.things[thing], turn.kind)) in turn.answer
    assert asked > 3


def test_a_new_decoder_looks_from_a_word_to_the_cells_that_show_it():
    model, tokenizer = build_mini(0)
    words = vision.word_ids(tokenizer)
    table = model.get_input_embeddings().weight
    codes = FactCodes(table, words, 0)
    decoder = model.model.language_model
    tracking.look_up_by_content(decoder, codes, torch.Generator().manual_seed(0))
    clip = _clip()
    cells = vision.look_at([(clip, 0, render(clip)[1][0])])
    thing = next(t for t in clip.things if (cells.shape == SHAPES.index(t.shape)).any())
    word = table[words["shape"][SHAPES.index(thing.shape)]]
    row = torch.cat([codes(cells)[0], word[None]])[None]
    decoder.set_attn_implementation("eager")
    with torch.no_grad():
        attention = decoder(inputs_embeds=row, output_attentions=True).attentions[0]
    named = (cells.shape[0] == SHAPES.index(thing.shape)).float()
    for head in attention[0, :2, -1, :-1]:  # the first group of heads
        assert (head * named).sum() > 0.6 * head.sum()
        assert head.sum() > 0.8


def test_codes_of_equal_seeds_are_equal_and_tell_places_apart():
    model, tokenizer = tiny_host(0)
    words, table = vision.word_ids(tokenizer), model.get_input_embeddings().weight
    one, two = (FactCodes(table, words, 0) for _ in range(2))
    torch.testing.assert_close(one.x, two.x)
    near, far = one.x[7] @ one.x[8], one.x[7] @ one.x[15]
    assert near > far


def test_numbers_are_close_or_not():
    assert chat.close("At x 3, y 7.", "At x 4, y 6.")
    assert not chat.close("At x 3, y 7.", "At x 5, y 7.")
    assert not chat.close("At x 3.", "At x 3, y 7.")


def test_cells_tell_the_facts_of_the_clip():
    clip = _clip()
    _, visible = render(clip)
    columns = vision._cells(clip, 0, visible[0])
    cells = vision.Cells(*map(torch.from_numpy, columns))
    owner = vision.owners(visible[0])
    for cell in np.flatnonzero(owner):
        thing = clip.things[owner[cell] - 1]
        x, y = place(trajectories(clip)[0, owner[cell] - 1])
        assert list(COLOURS)[cells.colour[cell]] == thing.colour
        assert SHAPES[cells.shape[cell]] == thing.shape
        assert (cells.x[cell], cells.y[cell]) == (x, y)
    assert (cells.shape[owner == 0] == -1).all()
    assert cells.outline[owner == 0].sum() == 0 or (visible[0] == 0).any()
    assert cells.centre.sum() == len(np.unique(owner[owner > 0]))


def test_a_crowd_is_crowded_and_always_the_same():
    crowd = sample_crowd(3)
    sample_crowd.cache_clear()
    assert sample_crowd(3) == crowd
    assert len(np.unique(render(crowd)[1][0])) > 6


def test_matrix_attention_computes_the_same_answers():
    stock, _ = tiny_host(0)
    fast, _ = tiny_host(0)
    use_matrix_attention(fast)
    ids = torch.tensor([[300, 301, *[stock.config.image_token_id] * 16, 302, 303, 304]])
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (m(input_ids=ids, pixel_values=pixels).logits for m in (stock, fast))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def _clip():
    return sample_clip(11, "train")
