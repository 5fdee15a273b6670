"""The tree drafter: exact under every verifier, one forward a level."""

import itertools

import pytest
import torch

import architectures
from outpace import Decoder
from outpace.drafters.shape import Shape
from outpace.drafters.shape_names import SHAPES, parse_shape
from outpace.drafters.tree import TreeDrafter, _Growth
from outpace.errors import InvalidArgument
from outpace.lengths.fixed import FixedLength
from outpace.models import wrap
from outpace.models.attention import use_slot_attention
from outpace.models.tiny import tiny_model
from outpace.testing import check_drafter

STACKS = [
    "fixed",
    "fixed(depth=3, branch=3, nodes=20)",
    "pruned(tau=0.05)",
    "fixed + adaptive_breadth",
    "dynamic_depth(base=2, most=5)",
    "fixed + history(window=3)",
    "pruned + adaptive_breadth + dynamic_depth + history(window=2)",
    "best_first(nodes=24, depth=5, width=4)",
    "best_first(nodes=24, width=4) + pruned(tau=0.02, depth=5) + history(window=2)",
    "sequoia(nodes=15, depth=4)",
]
SETTINGS = [
    {},
    {"temperature": 0.9, "seed": 3},
    {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.2, "seed": 4},
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
]


@pytest.fixture(scope="module")
def pair():
    model = architectures.build("llama")
    small = architectures.blurred(model)
    use_slot_attention(small)
    return wrap(model), wrap(small)


@pytest.mark.parametrize("shape", STACKS)
@pytest.mark.parametrize("verifier", ["coupled", "rejection", "sequoia"])
def test_the_text_is_plain_decodings(pair, shape, verifier):
    target, small = pair
    drafter = TreeDrafter(small, shape)
    decoder = Decoder.from_pretrained(
        target, drafter=drafter, verifier=verifier, draft_length=FixedLength(8, 40)
    )
    accepted = 0
    for prompt, settings in itertools.product(([5], [*range(20, 40), 20, 21]), SETTINGS):
        request = {"max_new_tokens": 40, "ignore_eos": True, **settings}
        out = decoder.generate(prompt, **request)
        if verifier == "coupled" or "temperature" not in settings:
            assert out.tokens == Decoder(target).generate(prompt, **request).tokens
        assert len(out.tokens) == 40
        accepted += out.stats.accepted
    assert accepted > 0


@pytest.mark.parametrize("shape", STACKS)
def test_the_contract(shape):
    check_drafter(lambda: TreeDrafter(tiny_model(seed=1), shape), new_tokens=24)


@pytest.mark.parametrize("shape", STACKS)
@pytest.mark.parametrize("settings", SETTINGS[:2])
def test_no_more_drafter_forwards_than_levels_and_one_of_the_target(pair, shape, settings):
    target, small = pair
    drafter = TreeDrafter(small, shape)
    decoder = Decoder(target, drafter)
    session = decoder.session()
    counts = []
    before = (0, 0)
    for turn in decoder.stream(
        range(20), max_new_tokens=60, ignore_eos=True, session=session, **settings
    ):
        now = (drafter.forwards, session.forwards)
        if turn.index and turn.drafted:
            counts.append((turn.tree.deepest(), now[0] - before[0], now[1] - before[1]))
        before = now
    for deepest, drafts, checks in counts:
        assert checks == 1
        # best first may look one level further down than what it keeps
        assert deepest <= drafts <= deepest + ("best_first" in shape)
    # what is planned for a tiny pair may have one level only
    assert any(deepest > 1 for deepest, *_ in counts) or "sequoia" in shape


def test_one_drafter_forward_a_level_and_one_of_the_target(pair):
    target, small = pair
    drafter = TreeDrafter(small, "fixed(depth=3, branch=2)")
    decoder = Decoder(target, drafter, lengths=FixedLength(3, 14))
    session = decoder.session()
    stream = decoder.stream(range(20), max_new_tokens=60, ignore_eos=True, session=session)
    rounds = []
    before = (0, 0)
    for turn in stream:
        now = (drafter.forwards, session.forwards)
        if turn.index:
            rounds.append((turn, now[0] - before[0], now[1] - before[1]))
        before = now
    for turn, drafts, checks in rounds[:-2]:
        assert turn.drafted == 14
        assert (drafts, checks) == (3, 1)
    assert {turn.tree.deepest() for turn, *_ in rounds[:-2]} == {3}


def test_a_tree_accepts_more_than_a_chain_as_deep(pair):
    target, small = pair
    rates = {}
    for shape in ("fixed(depth=4, branch=1)", "fixed(depth=4, branch=2)"):
        decoder = Decoder(target, TreeDrafter(small, shape), lengths=FixedLength(4, 63))
        out = decoder.generate(
            range(20), max_new_tokens=150, ignore_eos=True, temperature=1.0, seed=1
        )
        rates[shape] = out.stats.mean_acceptance_length
    chain, tree = rates.values()
    assert tree > chain


def test_a_chain_shaped_tree_drafts_what_the_chain_drafter_drafts(pair):
    from outpace.drafters.model import ModelDrafter

    target, small = pair
    for temperature in (0.0, 0.9):
        chains = [
            [
                turn.tree.lists()[0]
                for turn in Decoder(target, drafter, lengths=FixedLength(4)).stream(
                    range(20), max_new_tokens=60, ignore_eos=True, temperature=temperature
                )
            ]
            for drafter in (ModelDrafter(small), TreeDrafter(small, "fixed(depth=4, branch=1)"))
        ]
        assert chains[0] == chains[1]


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_no_child_loses_its_parent_at_a_tie(scale):
    model = tiny_model()
    with torch.no_grad():  # every token is as good as any other; or one is sure, and so its child
        model.model.get_output_embeddings().weight.mul_(scale)
    drafter = TreeDrafter(model, "best_first(nodes=4, depth=4, width=3)")
    decoder = Decoder(tiny_model(), drafter)
    seen = []
    for turn in decoder.stream(range(20), max_new_tokens=10, ignore_eos=True):
        tokens, parents = turn.tree.lists()
        assert all(parent < node for node, parent in enumerate(parents))
        assert len(tokens) <= 5
        seen.append(turn.tree.scores)
    if scale:
        assert [0.0] * 5 in seen  # a tie of parents and children it was


def test_the_tie_that_goes_to_the_child_is_noticed():
    grown = _Growth(0, torch.device("cpu"), [-1, 0, 1, 1], [0.0, 0.0, 0.0, -1.0], [[]] * 4, [0] * 4)
    assert grown.best(1) == [0, 1]
    order = sorted(range(1, 4), key=lambda node: (-grown.scores[node], -node))
    assert order[0] == 2  # the mistake: its parent is not kept


def test_a_whole_level_may_be_banned(pair):
    target, small = pair
    decoder = Decoder(target, TreeDrafter(small, "fixed(depth=2, branch=3)"))
    only = [[token] for token in range(target.vocabulary) if token not in {7, 9}]
    out = decoder.generate(range(20), max_new_tokens=12, bad_words=only, ignore_eos=True)
    assert set(out.tokens) <= {7, 9}
    assert (
        out.tokens
        == Decoder(target)
        .generate(range(20), max_new_tokens=12, bad_words=only, ignore_eos=True)
        .tokens
    )


def test_a_reset_and_a_new_text_begin_with_the_shape_as_given(pair):
    target, small = pair
    drafter = TreeDrafter(small, "fixed(depth=3, branch=1) + history(window=1, target=1, band=0)")
    decoder, session = Decoder(target, drafter), None
    session = decoder.session()

    def depth():
        return drafter._steering.shape_for("deterministic").depth

    text = list(range(20))
    text += decoder.generate(text, max_new_tokens=40, ignore_eos=True, session=session).tokens
    assert depth() == 1
    drafter.reset()
    assert depth() == 3
    decoder.generate(text, max_new_tokens=40, ignore_eos=True, session=session)
    assert depth() == 1
    decoder.generate([5], max_new_tokens=1)
    assert depth() == 3


def test_shapes_as_text():
    shape = parse_shape("pruned(depth=6, branch=2, tau=0.1) + adaptive_breadth(high=0.8)")
    assert (shape.depth, shape.tau, shape.breadth.high) == (6, 0.1, 0.8)
    assert set(SHAPES) >= {"fixed", "pruned", "adaptive_breadth", "dynamic_depth", "history"}
    assert parse_shape("fixed").depth == 4


def test_the_later_part_wins_where_it_was_given_something():
    shape = parse_shape("fixed(depth=4, branch=2, nodes=15) + pruned(tau=0.1)")
    assert (shape.depth, shape.branch, shape.nodes, shape.tau) == (4, 2, 15, 0.1)
    shape = parse_shape("fixed(depth=4) + pruned(depth=6) + dynamic_depth(base=3, most=7)")
    assert (shape.depth, shape.tau, shape.deepening.base) == (7, 0.03, 3)


@pytest.mark.parametrize("values", [{"depth": 2.5}, {"branch": True}, {"tau": "a"}, {"keep": 0}])
def test_values_of_another_kind_are_refused(values):
    with pytest.raises(InvalidArgument, match="give"):
        Shape(**values)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pruned(tau=1.5)", "tau 1.5: give a number 0 to 1"),
        ("pruned(tau=-0.1)", "tau -0.1"),
        ("fixed(branch=0)", "branch 0: give 1 or more"),
        ("fixed(depth=0)", "depth 0"),
        ("fixed(depth=8, nodes=4)", "4 nodes for a depth of 8"),
        ("best_first(nodes=3, depth=6)", "3 nodes for a depth of 6"),
        ("fixed(nodes=900)", "nodes 900: give 63 or fewer"),
        ("best_first(nodes=900)", "nodes 900: give 63 or fewer"),
        ("best_first(width=3000)", "width 3000: give 63 or fewer"),
        ("dynamic_depth(most=64)", "most 64: give 63 or fewer"),
        ("fixed(depth=4, depth=5)", "depth is given twice"),
        ("adaptive_breadth(most=64)", "most 64: give 63 or fewer"),
        ("fixed\0", "give NAME"),
        ("fixed(depth={[]})", "give a whole number"),
        ("sequoia + history", "sequoia plans the whole tree"),
        ("prune", "did you mean 'pruned'"),
        ("fixed(depht=3)", "unknown setting of fixed 'depht'"),
        ("fixed(depth=2.5)", "depth 2.5: give a whole number"),
        ("fixed(depth=True)", "give a whole number"),
        ("fixed(3)", "give NAME"),
        ("fixed(", "give NAME"),
        ("", "give NAME"),
        ("adaptive_breadth(high=0.2, low=0.6)", "low 0.6 above high 0.2"),
        ("__import__('os')", "unknown tree shape|give NAME"),
    ],
)
def test_nonsense_is_refused_in_a_line(text, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_shape(text)
    assert "\n" not in str(caught.value)
