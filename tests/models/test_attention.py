"""The attention function and the masks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig

from outpace.errors import UnsupportedModel
from outpace.models.attention import slot_attention
from outpace.models.kv import SlotCache
from outpace.models.mask import PACKED_WIDTH, MaskBuilder
from outpace.models.runtime import Inputs


def tensors(heads=4, kv=2, width=3, slots=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(1, heads, width, 8, generator=generator)
    key = torch.randn(1, kv, slots, 8, generator=generator)
    value = torch.randn(1, kv, slots, 8, generator=generator)
    seen = torch.rand(width, slots, generator=generator) > 0.4
    seen[:, 0] = True
    mask = torch.zeros(1, 1, width, slots).masked_fill(~seen, torch.finfo(torch.float32).min)
    return query, key, value, mask


def by_hand(query, key, value, mask, softcap=None, sinks=None):
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) / 8**0.5
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores + mask
    if sinks is not None:
        column = sinks.reshape(1, -1, 1, 1).expand(1, query.shape[1], query.shape[2], 1)
        return (torch.softmax(torch.cat([scores, column], -1), -1)[..., :-1] @ value).transpose(
            1, 2
        )
    return (torch.softmax(scores, -1) @ value).transpose(1, 2)


@pytest.mark.parametrize("kv", [1, 2, 4])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("extra", ["nothing", "softcap", "sinks"])
def test_it_is_attention(kv, packed, extra):
    query, key, value, mask = tensors(kv=kv)
    softcap = 2.0 if extra == "softcap" else None
    sinks = torch.tensor([0.5, -1.0, 2.0, 0.0]) if extra == "sinks" else None
    wanted = by_hand(query, key, value, mask, softcap, sinks)
    given = mask.repeat(1, 1, 4 // kv, 1) if packed else mask
    got, weights = slot_attention(
        nn.Identity(), query, key, value, given, softcap=softcap, s_aux=sinks, sliding_window=5
    )
    assert weights is None
    assert got.shape == (1, 3, 4, 8)
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_layer_with_groups_of_its_own_takes_a_mask_packed_for_others():
    query, key, value, mask = tensors(kv=2)
    got, _ = slot_attention(nn.Identity(), query, key, value, mask.repeat(1, 1, 4, 1))
    assert torch.allclose(got, by_hand(query, key, value, mask), atol=1e-5)


def test_what_it_does_not_know_is_refused():
    query, key, value, mask = tensors()
    with pytest.raises(UnsupportedModel, match="Identity passes position_bias"):
        slot_attention(nn.Identity(), query, key, value, mask, position_bias=torch.zeros(1))
    with pytest.raises(UnsupportedModel, match="no mask"):
        slot_attention(nn.Identity(), query, key, value, None)
    with pytest.raises(UnsupportedModel, match="drops"):
        slot_attention(nn.Identity(), query, key, value, mask, dropout=0.1)
    slot_attention(nn.Identity(), query, key, value, mask, unknown=None, position_ids=1)


def config(**settings):
    return LlamaConfig(num_attention_heads=4, num_key_value_heads=4, **settings)


def masks_of(builder, held, where, ancestors):
    """Those of the last rows of a round."""
    return builder.build(held, where, ancestors, where[0, -len(ancestors) :])


def visible(mask):
    return (mask[0, 0] == 0).tolist()


# slots 0, 3, 1 hold positions 0, 1, 2; slot 2 is free; two branches of the root at 4, 5, 6
HELD = torch.tensor([0, 2, -1, 1, -1, -1, -1, -1])
WHERE = torch.tensor([[3, 4, 4], [4, 5, 6]])  # positions and slots
ANCESTORS = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).bool()


def test_a_row_sees_what_is_committed_and_its_ancestors():
    mask = masks_of(MaskBuilder(config(), torch.float32), HELD, WHERE, ANCESTORS)
    assert visible(mask) == [
        [True, True, False, True, True, False, False, False],
        [True, True, False, True, True, True, False, False],
        [True, True, False, True, True, False, True, False],
    ]


def test_a_window_counts_positions_not_slots():
    windowed = config()
    windowed.sliding_window = 3
    mask = masks_of(MaskBuilder(windowed, torch.float32), HELD, WHERE, ANCESTORS)
    assert visible(mask) == [
        [False, True, False, True, True, False, False, False],
        [False, True, False, False, True, True, False, False],
        [False, True, False, False, True, False, True, False],
    ]


def test_chunks_count_positions_too():
    chunked = config()
    chunked.attention_chunk_size = 2
    mask = masks_of(MaskBuilder(chunked, torch.float32), HELD, WHERE, ANCESTORS)
    assert visible(mask)[0] == [False, True, False, False, True, False, False, False]
    assert visible(mask)[1] == [False, False, False, False, False, True, False, False]


def test_padded_rows_see_what_the_first_row_sees_and_are_seen_by_nobody():
    cache = SlotCache(1, 8)
    given = Inputs(torch.tensor([9, 8, 7]), WHERE, ANCESTORS, HELD, cache, 8).padded(4)
    assert given.tokens.tolist() == [9, 8, 7, 9]
    assert given.where[:, 3].tolist() == [3, 7]  # the first row's position, the last slot
    mask = masks_of(MaskBuilder(config(), torch.bfloat16), HELD, given.where, given.ancestors)
    assert mask.dtype == torch.bfloat16
    rows = visible(mask)
    assert rows[3] == rows[0]
    assert not any(row[7] for row in rows)


def test_padding_is_like_the_first_row_of_this_forward_not_of_the_round():
    cache = SlotCache(1, 8)
    where = torch.tensor([[3, 4, 4, 5], [4, 5, 6, 2]])
    seen = torch.tensor([[1, 1, 0, 1]]).bool()
    given = Inputs(torch.tensor([9]), where, seen, HELD, cache, 8).padded(2)
    assert given.where.tolist() == [[3, 4, 4, 5, 5], [4, 5, 6, 2, 7]]
    assert given.ancestors.tolist() == [[True, True, False, True, False]] * 2


def test_one_mask_a_kind_of_layer():
    mixed = config()
    mixed.layer_types = ["full_attention", "sliding_attention"]
    mixed.sliding_window = 3
    masks = masks_of(MaskBuilder(mixed, torch.float32), HELD, WHERE, ANCESTORS)
    assert set(masks) == {"full_attention", "sliding_attention"}
    assert visible(masks["full_attention"]) != visible(masks["sliding_attention"])
    mixed.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(UnsupportedModel, match="linear_attention layers"):
        MaskBuilder(mixed, torch.float32)


def test_grouped_queries_are_packed_in_narrow_forwards():
    grouped = LlamaConfig(num_attention_heads=4, num_key_value_heads=2)
    builder = MaskBuilder(grouped, torch.float32)
    mask = masks_of(builder, HELD, WHERE, ANCESTORS)
    assert mask.shape == (1, 1, 6, 8)
    assert torch.equal(mask[0, 0, :3], mask[0, 0, 3:])
    wide = PACKED_WIDTH + 1
    held = torch.full((128,), -1)
    causal = torch.ones(wide, wide).tril().bool()
    order = torch.arange(wide)
    mask = masks_of(builder, held, torch.stack([order, order]), causal)
    assert mask.shape == (1, 1, wide, 128)


def test_packing_changes_nothing():
    query, key, value, mask = tensors(heads=4, kv=2, width=5)
    packed, _ = slot_attention(nn.Identity(), query, key, value, mask.repeat(1, 1, 2, 1))
    plain, _ = slot_attention(nn.Identity(), query, key, value, mask)
    assert torch.allclose(packed, plain, atol=1e-6)
    fused = F.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), attn_mask=mask
    )
    assert torch.allclose(plain, fused.transpose(1, 2), atol=1e-6)


def test_a_row_sees_nodes_of_earlier_forwards_of_its_round():
    # node 3 hangs below node 1, which was computed before; a window of 2 is counted in positions
    where = torch.tensor([[3, 4, 4, 5], [4, 5, 6, 7]])
    ancestors = torch.tensor([[1, 1, 0, 1]]).bool()
    mask = masks_of(MaskBuilder(config(), torch.float32), HELD, where, ancestors)
    assert visible(mask) == [[True, True, False, True, True, True, False, True]]
    windowed = config()
    windowed.sliding_window = 2
    mask = masks_of(MaskBuilder(windowed, torch.float32), HELD, where, ancestors)
    assert visible(mask) == [[False, False, False, False, False, True, False, True]]
