"""Slots and sessions: bookkeeping."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outpace.cache import Session, Slots
from outpace.cache.slots import bucket
from outpace.models.runtime import WIDTHS, width_for
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 300)), max_size=30))
def test_no_slot_is_held_twice_and_none_is_lost(steps):
    slots = Slots()
    for take, keep, back in steps:
        taken = slots.take(take)
        assert len(set(taken)) == take
        assert not set(taken) & set(slots.slots)
        kept, freed = taken[:keep], taken[keep:]
        start = len(slots)
        slots.commit(kept, range(start, start + len(kept)))
        slots.free(freed)
        gone = slots.rollback(max(0, len(slots) - back))
        assert not set(gone) & set(slots.slots)
        assert len(set(slots.slots)) == len(slots) == len(slots.positions)
        assert all(slot < slots.top for slot in slots.slots)
        # every slot below the top is held or free
        assert set(slots.take(slots.top - len(slots))) | set(slots.slots) == set(range(slots.top))
        slots.free(set(range(slots.top)) - set(slots.slots))


def test_a_chain_uses_its_slots_again():
    slots = Slots()
    slots.commit(slots.take(10), range(10))
    for length in range(10, 60):
        taken = slots.take(6)
        slots.commit(taken[:1], [length])
        slots.free(taken[1:])
    assert slots.top == 65
    slots.rollback(0)
    assert slots.top == 0


def test_buckets_and_widths():
    assert [bucket(n) for n in (1, 128, 129, 5000)] == [128, 128, 256, 8192]
    assert bucket(10**6) % 128 == 0
    assert bucket(10**6) >= 10**6
    assert [width_for(n) for n in (1, 3, 6, 64, 65, 2048)] == [1, 4, 8, 64, 128, 2048]
    with pytest.raises(AssertionError, match="2049"):
        width_for(WIDTHS[-1] + 1)


def test_kv_bytes_are_those_of_the_storages():
    model = tiny_model()
    session = Session(model)
    assert session.nbytes == 0
    session.prefill([1, 2, 3])
    # 2 layers × (keys, values) × 2 heads × 128 slots × 8 wide × 4 bytes
    assert session.nbytes == 2 * 2 * 2 * 128 * 8 * 4
    session.prefill(list(range(200)))
    assert session.nbytes == 2 * 2 * 2 * 256 * 8 * 4


def test_growing_keeps_what_is_there():
    model = tiny_model()
    session = Session(model)
    session.prefill(list(range(100)))
    session.reserve(1000)
    logits = session.append([5])
    own = model.stock_logits(torch.tensor([[*range(100), 5]]))[0, -1]
    assert torch.allclose(logits, own, atol=1e-4)


def test_padded_rows_leave_no_trace():
    model = tiny_model()
    session = Session(model)
    session.prefill([1, 2, 3])
    tree = TokenTree.chain(4, [5, 6, 7, 8])  # 5 rows run as 8
    session.forward(tree)
    session.commit(tree, [1, 2])
    layer = session._cache.layers[0]
    used = sorted(session._slots.slots)
    assert used == [0, 1, 2, 3, 4, 5]
    assert layer.keys[8:63].abs().sum() == 0  # past the rows nothing was written
    assert layer.keys[63].abs().sum() > 0  # the slot that takes padded rows
    assert layer.keys[64:].abs().sum() == 0


def test_a_round_that_never_ended_gives_its_slots_back():
    model = tiny_model()
    for leave in (lambda s: s.abandon(), lambda s: s.clear(), lambda s: s.rollback(10)):
        session = Session(model)
        session.prefill(list(range(80)))
        session.forward(TokenTree.chain(1, [2, 3, 4]))
        leave(session)
        session.prefill([*range(40), 9])
        slots = session._slots
        assert len(set(slots.slots)) == len(slots) == 41
        taken = slots.take(60)
        assert len({*taken, *slots.slots}) == 101


def test_match_prefill_and_clear():
    session = Session(tiny_model())
    session.prefill([1, 2, 3, 4])
    assert session.match([1, 2, 9]) == 2
    assert session.match([]) == 0
    session.prefill([1, 2, 3, 4])
    assert session.forwards == 2
    assert len(session) == 4
    session.clear()
    assert len(session) == len(session.tokens) == 0


def test_logits_may_be_written_to_and_the_model_still_learns():
    model = tiny_model()
    session = Session(model)
    session.prefill([1, 2, 3])[0] = 0.0  # as processors do
    session.forward(TokenTree.chain(4, torch.tensor([5])))[0, 0] = 0.0
    session.abandon()
    with model.stock() as stock:
        stock(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()
    assert all(p.grad is not None for p in model.model.parameters())


def test_a_session_begun_in_inference_mode_goes_on_outside():
    model = tiny_model()
    with torch.inference_mode():
        session = Session(model)
        session.prefill(list(range(1, 100)), room=100)
    inside = session.append([7])
    session.rollback(99)
    assert torch.equal(session.append([7]), inside)
    whole = Session(model)
    with torch.inference_mode():
        again = whole.prefill([*range(1, 100), 7])
    assert torch.allclose(again, inside, atol=1e-4)


def test_levels_of_a_tree_are_what_one_forward_over_it_gives():
    model = tiny_model()
    tokens, parents = [9, 4, 5, 6, 7, 8, 3], [-1, 0, 0, 1, 1, 2, 5]
    tree = TokenTree(torch.tensor(tokens), torch.tensor(parents))
    whole, levels = Session(model), Session(model)
    for session in (whole, levels):
        session.prefill([1, 2, 3])
    wanted = whole.forward(tree)
    levels.append([9])
    found = []
    for depth, nodes in ((1, [1, 2]), (2, [3, 4, 5]), (3, [6])):
        above = [parents[node] - 1 for node in nodes]
        found.append(levels.branch(torch.tensor([tokens[n] for n in nodes]), above, depth))
    assert torch.allclose(torch.cat(found), wanted[1:], atol=1e-4)
    assert levels.forwards == 5
    levels.keep([0, 3], [4, 7])  # nodes 1 and 4 of the tree
    whole.commit(tree, [1, 4])
    assert levels.tokens == whole.tokens == [1, 2, 3, 9, 4, 7]
    assert torch.allclose(levels.append([2]), whole.append([2]), atol=1e-4)
    wrong = Session(model)  # a level put beside the one it hangs below
    wrong.prefill([1, 2, 3, 9])
    wrong.branch(torch.tensor([4, 5]), [-1, -1], 1)
    assert not torch.allclose(wrong.branch(torch.tensor([6]), [0], 1), wanted[3:4], atol=1e-4)
