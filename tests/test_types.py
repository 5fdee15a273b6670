"""Trees and contexts."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from outpace.transfer import at_hand, sent
from outpace.types import Budget, Context, TokenTree


@st.composite
def parents(draw):
    count = draw(st.integers(1, 40))
    return [-1] + [draw(st.integers(0, node - 1)) for node in range(1, count)]


@given(parents())
def test_ancestors_and_depths(up):
    tree = TokenTree(torch.zeros(len(up), dtype=torch.int64), torch.tensor(up))
    reach, depths = tree.ancestors(), tree.depths().tolist()
    for node in range(len(up)):
        chain, at = {node}, node
        while at:
            at = up[at]
            chain.add(at)
        assert set(torch.nonzero(reach[node]).flatten().tolist()) == chain
        assert depths[node] == len(chain) - 1


@given(parents())
def test_what_the_host_knows_is_what_the_tensors_say(up):
    known = TokenTree.of([7] * len(up), up)
    apart = TokenTree(known.tokens, known.parents)
    assert torch.equal(known.ancestors(), apart.ancestors())
    assert torch.equal(known.depths(), apart.depths())
    assert known.deepest() == apart.deepest()


def test_a_budget_that_is_shallow_enough_is_kept():
    budget = Budget(9, 4, 0.5)
    assert budget.clip(4) is budget
    assert budget.clip(2) == Budget(9, 2, 0.5)
    assert budget.clip(-1) == Budget(0, 0, 0.5)


def test_numbers_that_lie_on_the_host_are_no_wait():
    assert at_hand(sent([3, 4], torch.device("cpu"))) == [3, 4]
    assert at_hand(torch.empty(2, device="meta")) is None
    assert sent([], torch.device("cpu")).dtype == torch.int64


def test_chains():
    chain = TokenTree.chain(5, [6, 7])
    assert chain.lists() == ([5, 6, 7], [-1, 0, 1])
    assert chain.is_chain
    assert chain.depths().tolist() == [0, 1, 2]
    same = TokenTree(chain.tokens, chain.parents)
    assert torch.equal(same.ancestors(), chain.ancestors())
    tensors = TokenTree.chain(5, torch.tensor([6, 7]))
    assert tensors.lists() == chain.lists()
    assert tensors.lists_with(torch.tensor([1, 2, 3]))[2] == [1, 2, 3]
    fresh = TokenTree.chain(5, torch.tensor([6, 7]))
    assert fresh.lists_with(torch.tensor([1, 2, 3])) == ([5, 6, 7], [-1, 0, 1], [1, 2, 3])
    assert len(TokenTree.chain(5)) == 1


def test_context_ids():
    context = Context([1, 2, 3])
    assert context.ids().tolist() == [[1, 2, 3]]
    assert context.ids([9, torch.tensor(8)]).tolist() == [[1, 2, 3, 9, 8]]
    context.extend([4, 5])
    assert context.ids([7]).tolist() == [[1, 2, 3, 4, 5, 7]]
    assert context.output == [4, 5]
    context.extend(range(600))
    assert context.ids([1]).shape == (1, 606)
    assert context.ids()[0, :5].tolist() == [1, 2, 3, 4, 5]
    assert len(context) == 605
