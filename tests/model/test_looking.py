"""States that look at the frames again: which do, where training sends them, what decoding sees."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sama_plugin.model.generate import generate
from sama_plugin.model.looking import looking_loss, samples_of, told
from sama_plugin.model.sama import VisualCache
from sama_plugin.nn.look import look_loss
from tests.model.test_taps import one_turn

IMAGE = 9


def test_a_position_waits_for_the_frames_of_its_sample():
    ids = torch.tensor([[1, IMAGE, 2, IMAGE, 3], [IMAGE, 4, 5, 6, 7], [1, 2, 3, 4, 5]])
    sample, awaits = samples_of(ids, None, None, IMAGE)
    assert sample.tolist() == [[0] * 5, [1] * 5, [2] * 5]
    assert awaits.int().tolist() == [[1, 1, 1, 0, 0], [0] * 5, [0] * 5]


def test_a_packed_row_holds_several_samples(sama):
    _, batch = one_turn(sama, targets=0)
    batch = dataclasses.replace(batch, sample_ids=["a", "b", "c"])
    ids = torch.tensor([[1, IMAGE, 2, 3, 4, 1, IMAGE, IMAGE, 5]])
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 1, 2, 3]])
    sample, awaits = samples_of(ids, batch, positions, IMAGE)
    assert sample.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2, 2]]
    assert awaits.int().tolist() == [[1, 0, 0, 0, 0, 1, 1, 0, 0]]


def conversation(sama, text):
    """(words, labels) of letters: r one of two region tokens, < and S as they look, A to Z words
    of an answer, anything else of a question."""
    special = {"r": sama.ids.region, "<": sama.ids.phrase_open, "S": sama.ids.seg}
    words = [special.get(letter, 20) for letter in text]
    labels = [20 if letter.isupper() or letter == "<" else -100 for letter in text]
    return torch.tensor([words]), torch.tensor([labels])


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("what?It", []),
        ("wrrt?It", [(4, None, 0)]),  # a question about one region: the answer looks there
        ("wrrrr?It", []),  # two: it is not known at which
        ("who?A<BS", [(3, 0, None), (5, 0, None)]),  # the answer's first phrase, and the phrase
        ("who?A<BSC<DS", [(3, 0, None), (5, 0, None), (9, 1, None)]),
        ("rr?A<BS", [(2, 0, None), (4, 0, None)]),  # what is grounded is better known
        ("rr?AArr?A<BSa?A", [(2, None, 0), (7, 0, None), (9, 0, None)]),
        ("a?ASrr?A", [(1, 0, None), (6, None, 0)]),  # a mask without a phrase
    ],
)
def test_who_is_told_to_look_where(sama, text, wanted):
    words, labels = conversation(sama, text)
    _, batch = one_turn(sama, regions=(text.count("r") + 1) // 2)
    found = list(told(words, labels, sama.ids, batch))
    assert found == [(0, *one) for one in wanted]


def trained(sama, frames, batch, inputs):
    with sama.call(batch) as call:
        sama.host(**inputs, pixel_values=frames)
    return call.looking


def test_the_loss_is_that_of_the_labelled_cells(sama, frames):
    """The target is labelled at moments 0 and 1; the language model read frames at 1/3 and 1."""
    inputs, batch = one_turn(sama, regions=0)
    keep = inputs["input_ids"][0] != sama.ids.region
    inputs = {name: value[:, keep] for name, value in inputs.items()}
    batch = dataclasses.replace(batch, label_present=torch.tensor([True, True]))
    looking, grid = trained(sama, frames, batch, inputs), sama.modules.grid
    labels = inputs["labels"]
    found = looking_loss(looking, inputs["input_ids"], labels, sama.ids, batch, grid)
    start = int((labels[0] == -100).sum()) - 1
    share = looking.shares[looking.number[0, start]][None]
    area = torch.nn.functional.adaptive_avg_pool2d(batch.label_mask[1:].float(), grid)[0]
    cells = torch.zeros(2, area.numel())
    cells[1] = (area / area.max()).flatten()
    judged = torch.zeros_like(cells)
    judged[1] = 1
    wanted = look_loss(share, cells.flatten()[None], judged.flatten()[None])
    assert found > 0
    torch.testing.assert_close(found, wanted)


def test_a_region_counts_where_it_was_read(sama, frames):
    inputs, batch = one_turn(sama, targets=0)
    grid, loss = sama.modules.grid, {}
    for row in (2, 3):  # the language model reads rows 1 and 3
        moved = dataclasses.replace(batch, entry_row=torch.tensor([row]))
        looking = trained(sama, frames, moved, inputs)
        loss[row] = looking_loss(
            looking, inputs["input_ids"], inputs["labels"], sama.ids, moved, grid
        )
    assert loss[2] == 0 and loss[2].requires_grad and loss[3] > 0


def test_decoding_says_what_one_pass_over_its_words_says(sama, frames):
    """Prefill and single steps look as a whole pass does, and it matters that they look."""
    inputs, batch = one_turn(sama, targets=0)
    prompt = inputs["input_ids"][0, : int((inputs["labels"][0] == -100).sum())].tolist()
    visual = sama.encode_frames(frames)
    cache = VisualCache(visual.features, None, visual.deep)
    found = generate(sama, prompt, batch, cache=cache, max_new_tokens=6)
    words = torch.tensor([[*prompt, *found.ids]])
    with torch.no_grad():
        with sama.call(batch, cache):
            whole = sama.host(input_ids=words).logits[0]
        with sama.call(batch, cache) as call:
            call.looks = False
            blind = sama.host(input_ids=words).logits[0]
    first = len(prompt) - 1
    allowed = whole[first : first + len(found.ids)]
    banned = [sama.ids.region, sama.ids.context, sama.image_id]
    banned += [sama.ids.region_open, sama.ids.region_close]
    assert allowed.index_fill(1, torch.tensor(banned), -1e9).argmax(-1).tolist() == found.ids
    assert not torch.allclose(whole[first:], blind[first:])
    waits = int((words[0] == sama.image_id).nonzero().max())
    assert torch.equal(whole[:waits], blind[:waits])  # nobody looks ahead of the frames


def test_seg_states_do_not_depend_on_it(sama, frames):
    inputs, batch = one_turn(sama)
    states = []
    for looks in (True, False):
        with torch.no_grad(), sama.call(batch) as call:
            call.looks = looks
            sama.host(input_ids=inputs["input_ids"], pixel_values=frames)
            states.append(sama.seg_states(call))
    assert torch.equal(*states)
