"""Region encoder: frames merge by area, order does not matter, absence is learned."""

from __future__ import annotations

import torch

from sama_plugin.nn.pooling import mask_pool, merge_frames
from sama_plugin.nn.region import SamaRegionEncoder

WIDTH, HIDDEN, TOKENS, SIDE = 10, 8, 6, 5


def encoder():
    torch.manual_seed(0)
    return SamaRegionEncoder(WIDTH, HIDDEN, SIDE, 7)


def entries(count, seed=0):
    """Frame rows, weights, shapes of `count` entries over four frames, and the frames' tokens."""
    torch.manual_seed(seed)
    features = torch.randn(4, TOKENS, WIDTH)
    return (
        features,
        torch.arange(count) % 4,
        torch.rand(count, TOKENS),
        torch.rand(count, SIDE, SIDE),
    )


def test_merging_frames_by_area_is_pooling_over_all_their_tokens():
    features, rows, weights, _ = entries(3)
    pooled, area = mask_pool(features[rows], weights)
    merged = merge_frames(pooled, area, torch.zeros(3, dtype=torch.long), 1)
    together, total = mask_pool(features[rows].flatten(0, 1)[None], weights.flatten()[None])
    torch.testing.assert_close(merged, together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(total, area.sum(0, keepdim=True))


def test_one_frame_is_kept_bit_by_bit_even_without_area():
    vectors = torch.randn(3, WIDTH)
    owner = torch.tensor([2, 0, 1])
    merged = merge_frames(vectors, torch.tensor([0.0, 3.7, 1e-7]), owner, 3)
    assert torch.equal(merged[owner], vectors)


def test_empty_masks_pool_to_zero_and_half_covered_cells_count_half():
    features = torch.tensor([[[4.0], [8.0]]]).expand(3, -1, -1)
    pooled, area = mask_pool(features, torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.5]]))
    torch.testing.assert_close(pooled[:, 0], torch.tensor([0.0, 6.0, 16 / 3]))
    assert area.tolist() == [0, 2, 1.5]


def test_entries_in_any_order_give_the_same_regions():
    features, rows, weights, shapes = entries(5)
    owner = torch.tensor([0, 1, 1, 3, 0])
    model, mixed = encoder(), torch.tensor([3, 0, 4, 2, 1])
    one = model(features, rows, weights, shapes, owner, 4)
    two = model(features, rows[mixed], weights[mixed], shapes[mixed], owner[mixed], 4)
    torch.testing.assert_close(one.tokens, two.tokens)
    torch.testing.assert_close(one.aggregator_rows, two.aggregator_rows)


def test_a_region_without_entries_is_the_absent_vector():
    features, rows, weights, shapes = entries(2)
    model = encoder()
    found = model(features, rows, weights, shapes, torch.tensor([0, 2]), 3)
    assert torch.equal(found.tokens[1], model.absent)
    assert torch.equal(found.aggregator_rows[1], model.absent_rows)
    assert not torch.equal(found.tokens[0], model.absent)
    (found.tokens[1].sum() + found.aggregator_rows[1].sum()).backward()
    grads = {name: p.grad.abs().sum() > 0 for name, p in model.named_parameters()}
    assert {name for name, moved in grads.items() if moved} == {"absent", "absent_rows"}


def test_a_new_visual_token_is_the_pooled_feature_itself():
    features, rows, weights, shapes = entries(2)
    found = encoder()(features, rows, weights, shapes, torch.arange(2), 2)
    torch.testing.assert_close(found.tokens[:, 0], mask_pool(features[rows], weights)[0])
