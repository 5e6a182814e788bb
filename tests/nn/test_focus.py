"""Focus: what was pointed at is found again, and where nothing was the mean is read."""

import torch
from torch.nn import functional as F

from sama_plugin.nn.focus import Focus, sought
from sama_plugin.nn.layout import lay_out

WIDTH, HIDDEN, TOKENS = 32, 8, 6


def scene():
    """Two samples: three frames and two prompts, two frames and one prompt."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(5, TOKENS, WIDTH), dim=-1) * 4
    layout = lay_out(torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1]), 2, 4, 4)
    context = torch.randn(len(layout.reading_prompt), 3, HIDDEN)
    return features, context, layout


def test_a_thing_that_moved_is_read_where_it_is_now():
    features, context, layout = scene()
    thing = torch.randn(WIDTH)
    places = (4, 0, 2)
    for frame, place in enumerate(places):
        features[frame, place] = thing + 0.1 * torch.randn(WIDTH)
    looks = torch.stack([torch.zeros(WIDTH), features[0, 4], torch.zeros(WIDTH)])
    read = Focus(WIDTH, HIDDEN)(features, context, layout, looks)
    for frame, place in enumerate(places):
        near = F.cosine_similarity(read[3 + frame], features[frame, place], dim=0)
        assert near > 0.99


def test_without_regions_it_starts_as_the_mean_and_learns_from_the_context():
    features, context, layout = scene()
    focus, nothing = Focus(WIDTH, HIDDEN), torch.zeros(3, WIDTH)
    mean = features.mean(1)[layout.pair_frame]
    read = focus(features, context, layout, nothing)
    torch.testing.assert_close(read, mean)
    (read * torch.randn_like(read)).sum().backward()
    assert focus.words.weight.grad.abs().sum() > 0
    with torch.no_grad():
        focus.words.weight -= focus.words.weight.grad
    assert not torch.allclose(focus(features, context, layout, nothing), mean)


def test_what_is_sought_is_the_mean_look_of_a_prompts_regions():
    features = torch.arange(12.0).reshape(2, 3, 2)
    weights = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 1]])
    found = sought(
        features,
        entry_row=torch.tensor([0, 1, 1]),
        entry_weights=weights,
        entry_owner=torch.tensor([0, 1, 2]),
        region_prompt=torch.tensor([0, 0, 2]),
        prompts=3,
    )
    first = (features[0, 0] + features[1, 2]) / 2
    wanted = torch.stack([first, torch.zeros(2), features[1, 1:].mean(0)])
    torch.testing.assert_close(found, wanted)
