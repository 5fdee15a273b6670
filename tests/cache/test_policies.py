"""Cache policies alone: which places they keep, at which lengths, and how they are written."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outpace.cache.policies import CachePolicy, FullPolicy, Held, make_policy, parse_policy
from outpace.cache.policies.base import boundary
from outpace.cache.policies.composed import ComposedPolicy
from outpace.cache.policies.h2o import H2OPolicy
from outpace.cache.policies.key_norm import FixedKeyNormPolicy, KeyNormPolicy
from outpace.cache.policies.snapkv import SnapKVPolicy
from outpace.cache.policies.streaming import RecentPolicy, StreamingPolicy
from outpace.errors import InvalidArgument, OutpaceError, UnknownName
from outpace.registry import POLICIES

HEADS, WIDTH = 3, 4


def held(count, *, layer=0, length=None, indices=None, norms=None, attention=None, seed=0):
    """What a layer of 3 heads holds: keys of these norms ``[n, H]``, or random ones."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(count, HEADS, WIDTH, generator=generator)
    if norms is not None:
        keys = keys / keys.norm(dim=-1, keepdim=True) * norms[:, :, None]
    if indices is None:
        indices = torch.arange(count)[:, None].expand(-1, HEADS)
    return Held(layer, 4, tuple(range(HEADS)), length or count, indices, lambda: keys, attention)


def shuffled(count, seed=0):
    """``[n, H]`` float32, every head the numbers 1 to n in an order of its own."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [torch.randperm(count, generator=generator) + 1.0 for _ in range(HEADS)], dim=1
    )


def best(scores, count):
    """The places of the largest scores of each head, ascending, the slow way."""
    columns = scores.T.tolist()
    return [
        sorted(sorted(range(len(one)), key=lambda n, one=one: -one[n])[:count]) for one in columns
    ]


def columns(kept):
    return kept.T.tolist()


# --- which places are kept ------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 30))
def test_streaming_keeps_the_first_and_the_last(sinks, recent, more):
    policy, size = StreamingPolicy(sinks, recent), sinks + recent
    assert policy.size == size
    for count in {max(1, size - more), size}:
        assert policy.kept(held(count)) is None
    if more:
        count = size + more
        wanted = [*range(sinks), *range(count - recent, count)]
        assert policy.kept(held(count)).tolist() == wanted


def test_recent_keeps_the_last_alone():
    assert RecentPolicy(3).kept(held(5)).tolist() == [2, 3, 4]
    assert StreamingPolicy(1, 3).kept(held(5)).tolist() == [0, 2, 3, 4]
    assert RecentPolicy(3).size == 3
    assert RecentPolicy(3) == RecentPolicy(3) != StreamingPolicy(0, 3)


def test_key_norm_keeps_a_share_of_small_norm():
    norms = shuffled(50)
    policy = KeyNormPolicy(keep_ratio=0.8, skip_layers=2)
    assert policy.kept(held(50, layer=0, norms=norms)) is None
    assert policy.kept(held(50, layer=1, norms=norms)) is None
    for layer in (2, 3):
        assert columns(policy.kept(held(50, layer=layer, norms=norms))) == best(-norms, 40)
    assert policy.kept(held(1, layer=2)) is None  # a share of one token is none: it stays
    assert policy.size is None


@pytest.mark.parametrize("keep", ["low", "high", "random"])
def test_fixed_key_norm_keeps_the_last_and_by_norm(keep):
    policy = FixedKeyNormPolicy(8, 0.25, keep)
    norms = shuffled(20)
    assert policy.kept(held(8, norms=norms[:8])) is None
    found = columns(policy.kept(held(20, norms=norms)))
    assert all(one[-2:] == [18, 19] and one == sorted(set(one)) and len(one) == 8 for one in found)
    sign = {"low": -1, "high": 1}.get(keep)
    if sign is not None:
        assert [one[:-2] for one in found] == best(sign * norms[:18], 6)
        assert [one[:-2] for one in found] != best(-sign * norms[:18], 6)


def test_random_is_the_same_again_and_another_elsewhere():
    policy = FixedKeyNormPolicy(8, keep="random")
    first = policy.kept(held(20, layer=1, length=40))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)  # of no one else's numbers, and not of the keys
        assert torch.equal(policy.kept(held(20, layer=1, length=40, seed=9)), first)
    assert not torch.equal(policy.kept(held(20, layer=2, length=40)), first)
    assert not torch.equal(policy.kept(held(20, layer=1, length=41)), first)
    assert len({tuple(one) for one in columns(first)}) > 1


@pytest.mark.parametrize(("share", "recent"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_protected_shares(share, recent):
    norms = shuffled(20)
    for policy in (FixedKeyNormPolicy(8, share), H2OPolicy(8, share)):
        kept = policy.kept(held(20, norms=norms, attention=-norms))
        older = 20 - recent
        wanted = best(-norms[:older], 8 - recent)
        assert columns(kept) == [[*one, *range(older, 20)] for one in wanted]


def test_h2o_keeps_what_was_looked_at_most():
    seen = shuffled(20)
    assert H2OPolicy(8).kept(held(8, attention=seen[:8])) is None
    found = columns(H2OPolicy(8).kept(held(20, attention=seen)))
    assert found == [[*one, 16, 17, 18, 19] for one in best(seen[:16], 4)]
    assert found != [[*one, 16, 17, 18, 19] for one in best(-seen[:16], 4)]


def smoothed(values, kernel):
    """Means over neighbours, those that are there."""
    around = kernel // 2
    parts = [values[max(0, n - around) : n + around + 1] for n in range(len(values))]
    return torch.stack([part.mean(dim=0) for part in parts])


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_snapkv_keeps_the_window_and_what_it_looks_at(kernel):
    policy = SnapKVPolicy(window=4, size=9, kernel=kernel)
    seen = shuffled(20, seed=2) ** 2
    assert policy.kept(held(9, attention=seen[:9])) is None
    found = columns(policy.kept(held(20, attention=seen)))
    assert found == [[*one, *range(16, 20)] for one in best(smoothed(seen[:16], kernel), 5)]


def test_smoothing_matters():
    seen = shuffled(20, seed=2) ** 2
    one, five = (SnapKVPolicy(4, 9, kernel).kept(held(20, attention=seen)) for kernel in (1, 5))
    assert not torch.equal(one, five)


def test_of_equal_scores_the_earlier():
    even, layer = torch.ones(10, HEADS), held(10)
    alike = Held(0, 4, layer.heads, 10, layer.indices, lambda: torch.ones(10, HEADS, WIDTH), even)
    for policy in (FixedKeyNormPolicy(4, 0.5), FixedKeyNormPolicy(4, 0.5, "high"), H2OPolicy(4)):
        assert columns(policy.kept(alike)) == [[0, 1, 8, 9]] * HEADS


def test_full_keeps_all():
    assert FullPolicy().due(10**6) is None
    assert FullPolicy().kept(held(10)) is None
    assert FullPolicy().size is None


# --- at which lengths -----------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(1, 500), st.integers(1, 90))
def test_boundaries(length, first, block):
    found = boundary(length, first, block)
    assert found == next(
        one for one in range(first, length + first + 2 * block, block) if one > length
    )


SIZED = [
    (StreamingPolicy(4, 60), 8),
    (StreamingPolicy(4, 60, every=5), 5),
    (RecentPolicy(512), 64),
    (RecentPolicy(7), 1),
    (FixedKeyNormPolicy(4096), 64),
    (FixedKeyNormPolicy(64, every=100), 100),
    (SnapKVPolicy(8, 64), 8),
    (SnapKVPolicy(8, 64, every=3), 3),
    (H2OPolicy(80), 10),
    (H2OPolicy(1), 1),
]


@pytest.mark.parametrize(("policy", "block"), SIZED, ids=str)
def test_sized_policies_forget_when_a_block_is_over(policy, block):
    assert policy.block == block
    first = policy.size + block
    assert [policy.due(n) for n in (0, first - 1, first)] == [first, first, first + block]
    assert policy.due(first + 5 * block) == first + 6 * block


def test_key_norm_forgets_at_its_intervals():
    policy = KeyNormPolicy(start_after=100, interval=30)
    assert policy.block == 30
    assert [policy.due(n) for n in (0, 99, 100, 129, 130)] == [100, 100, 130, 130, 160]


@pytest.mark.parametrize("policy", [one for one, _ in SIZED], ids=str)
def test_no_more_than_size_is_left(policy):
    count = policy.size + policy.block
    seen = shuffled(count)
    kept = policy.kept(held(count, attention=seen, norms=seen))
    assert kept.shape[0] == policy.size
    assert kept.shape in {(policy.size,), (policy.size, HEADS)}
    assert kept.dim() == (1 if policy.uniform else 2)
    places = kept if kept.dim() == 2 else kept[:, None]
    assert (places[1:] > places[:-1]).all()
    assert places.min() >= 0
    assert places.max() < count


@pytest.mark.parametrize(
    ("policy", "observes"),
    [
        (StreamingPolicy(), 0),
        (KeyNormPolicy(), 0),
        (FixedKeyNormPolicy(), 0),
        (SnapKVPolicy(window=17), 17),
        (H2OPolicy(), None),
    ],
    ids=str,
)
def test_what_is_observed(policy, observes):
    assert policy.observes == observes
    assert policy.groups(0, 5) == [range(5)]
    assert policy.check(2, 5) is None


# --- several at once ------------------------------------------------------------------------------

BOTH = ComposedPolicy((KeyNormPolicy(0.5, 0, 20, 20), FixedKeyNormPolicy(8, 0.5, "high", 6)))


def test_composed_forgets_at_the_boundaries_of_each():
    assert BOTH.size == 8
    assert BOTH.block == 20
    lengths, length = [], 0
    while length < 60:
        length = BOTH.due(length)
        lengths.append(length)
    assert lengths == [14, 20, 26, 32, 38, 40, 44, 50, 56, 60]
    assert not BOTH.uniform
    assert ComposedPolicy((StreamingPolicy(), RecentPolicy())).uniform
    assert not ComposedPolicy((StreamingPolicy(), H2OPolicy())).uniform
    assert ComposedPolicy((StreamingPolicy(), H2OPolicy())).observes is None
    assert ComposedPolicy((StreamingPolicy(), SnapKVPolicy(5, 9))).observes == 5
    assert ComposedPolicy((FullPolicy(), StreamingPolicy(1, 9))).due(0) == 11
    assert ComposedPolicy((FullPolicy(), FullPolicy())).due(0) is None


def test_composed_keeps_of_what_those_before_left():
    norms, both = (
        shuffled(16),
        ComposedPolicy((RecentPolicy(12, every=4), H2OPolicy(4, 0, every=4))),
    )
    given_ = held(16, norms=norms, attention=norms)
    assert both.due(15) == 16
    wanted = [[4 + place for place in one] for one in best(norms[4:], 4)]
    assert columns(both.kept(given_)) == wanted
    assert columns(H2OPolicy(4, 0).kept(given_)) != wanted  # what was gone may not come back
    swapped = ComposedPolicy((H2OPolicy(12, 0, every=4), RecentPolicy(4, every=12)))
    assert columns(swapped.kept(given_)) == [one[-4:] for one in best(norms, 12)]


def test_composed_reads_the_keys_and_indices_that_are_left():
    norms = shuffled(16)
    both = ComposedPolicy((RecentPolicy(12, every=4), FixedKeyNormPolicy(4, 0, "low", every=12)))
    found = columns(both.kept(held(16, norms=norms)))
    assert found == [[4 + place for place in one] for one in best(-norms[4:], 4)]


def test_composed_asks_only_those_that_are_due():
    class Never(FullPolicy):
        def kept(self, held):
            raise AssertionError("not at its boundary")

    both = ComposedPolicy((Never(), RecentPolicy(4, every=2)))
    assert both.kept(held(6)).tolist() == [2, 3, 4, 5]
    assert both.kept(held(7)) is None
    late = ComposedPolicy((RecentPolicy(4, every=2), RecentPolicy(4, every=4)))
    assert late.kept(held(8)).tolist() == [4, 5, 6, 7]  # the second has nothing left to forget


def test_composed_uniform_places_are_those_of_all_heads():
    both = ComposedPolicy((StreamingPolicy(2, 6, every=2), RecentPolicy(5, every=5)))
    assert both.kept(held(10)).tolist() == [5, 6, 7, 8, 9]
    three = ComposedPolicy((StreamingPolicy(2, 6, every=2), StreamingPolicy(1, 4, every=5)))
    assert three.kept(held(10)).tolist() == [0, 6, 7, 8, 9]


def test_composed_checks_and_asks_all_for_groups():
    class Two(FullPolicy):
        def groups(self, layer, heads):
            return [[0], list(range(1, heads))]

        def check(self, layers, heads):
            raise InvalidArgument("made for another model: make one for this")

    both = ComposedPolicy((StreamingPolicy(), Two()))
    assert both.groups(0, 3) == [[0], [1, 2]]
    with pytest.raises(InvalidArgument, match="another model"):
        both.check(2, 3)


# --- how they are written -------------------------------------------------------------------------

SMALL, SHARE = st.integers(0, 9), st.floats(0, 1)
SIZE = st.integers(1, 10**6)
SINGLE = st.one_of(
    st.just(FullPolicy()),
    st.builds(StreamingPolicy, SMALL, SIZE, SMALL),
    st.builds(RecentPolicy, SIZE, SMALL),
    st.builds(
        KeyNormPolicy, st.floats(0, 1, exclude_min=True, exclude_max=True), SMALL, SIZE, SIZE
    ),
    st.builds(FixedKeyNormPolicy, SIZE, SHARE, st.sampled_from(["low", "high", "random"]), SMALL),
    st.builds(
        SnapKVPolicy,
        st.integers(1, 9),
        st.integers(10, 10**6),
        SMALL.map(lambda n: 2 * n + 1),
        SMALL,
    ),
    st.builds(H2OPolicy, SIZE, SHARE, SMALL),
)
DRY = st.sampled_from(["streaming", "recent(9)", "key_norm(skip_layers=0)", "fixed_key_norm(8)"])


@settings(deadline=None)
@given(SINGLE)
def test_its_text_is_the_policy(policy):
    found = parse_policy(str(policy))
    assert found == policy
    assert type(found) is type(policy)
    assert policy.name == str(found) == str(policy)
    assert hash(found) == hash(policy)
    assert "\n" not in str(policy)


@settings(deadline=None)
@given(st.lists(DRY.map(parse_policy), min_size=2, max_size=4), st.booleans())
def test_the_text_of_several_is_they(parts, watching):
    parts = [*parts, H2OPolicy(9)] if watching else parts
    policy = ComposedPolicy(tuple(parts))
    found = parse_policy(str(policy))
    assert found == policy
    assert isinstance(found, ComposedPolicy)
    assert found == parse_policy("+".join(str(part) for part in parts))
    nested = ComposedPolicy([ComposedPolicy(parts[:1]), *parts[1:]])
    assert nested == found
    assert hash(nested) == hash(found)


def test_every_registered_policy_has_defaults_and_a_text():
    for name in POLICIES:
        if name == "head_aware":  # which needs a file
            continue
        policy = parse_policy(name)
        assert isinstance(policy, CachePolicy)
        assert str(policy).partition("(")[0] == name
        assert parse_policy(str(policy)) == policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("recent(512)", RecentPolicy(512)),
        ("streaming(4, 508)", StreamingPolicy(4, 508)),
        ("streaming(4, 28, every=8)", StreamingPolicy(4, 28, 8)),
        (" streaming ( recent = 10 , sinks = 2 ) ", StreamingPolicy(2, 10)),
        ("h2o(256)", H2OPolicy(256)),
        ("h2o(256, 0.25)", H2OPolicy(256, 0.25)),
        ("key_norm(0.9)", KeyNormPolicy(0.9)),
        ("fixed_key_norm(64, keep=high)", FixedKeyNormPolicy(64, keep="high")),
        ("fixed_key_norm(64, 1, 'random')", FixedKeyNormPolicy(64, 1, "random")),
        ("snapkv(16, 64, kernel=7)", SnapKVPolicy(16, 64, 7)),
        ("full", FullPolicy()),
        ("recent(9)+h2o(5)", ComposedPolicy((RecentPolicy(9), H2OPolicy(5)))),
        (" recent(9)  +  h2o ", ComposedPolicy((RecentPolicy(9), H2OPolicy()))),
    ],
)
def test_texts(text, policy):
    assert parse_policy(text) == policy
    assert make_policy(text) == (None if text == "full" else policy)


def test_made_of_a_text_a_policy_or_nothing():
    policy = StreamingPolicy(1, 2)
    assert make_policy(policy) is policy
    assert make_policy(None) is make_policy("full") is make_policy(FullPolicy()) is None
    with pytest.raises(InvalidArgument, match=r"cache policy 512: give one, or its text, as in"):
        make_policy(512)


# --- what is refused ------------------------------------------------------------------------------

WRONG = [
    ("streaming(sinks=-1)", "streaming: sinks -1: give 0 or more"),
    ("streaming(recent=0)", "streaming: recent 0: give 1 or more"),
    ("streaming(every=-2)", "streaming: every -2: give 0 (chosen for you) or more"),
    ("recent(0)", "recent: size 0: give 1 or more"),
    ("recent(5, every=-1)", "every -1: give 0 (chosen for you) or more"),
    ("key_norm(keep_ratio=0)", "key_norm: keep_ratio 0: give a number above 0 and below 1"),
    ("key_norm(1.0)", "key_norm: keep_ratio 1.0: give a number above 0 and below 1"),
    ("key_norm(skip_layers=-1)", "key_norm: skip_layers -1: give 0 or more"),
    ("key_norm(start_after=0)", "key_norm: start_after 0: give 1 or more"),
    ("key_norm(interval=0)", "key_norm: interval 0: give 1 or more"),
    ("fixed_key_norm(0)", "fixed_key_norm: size 0: give 1 or more"),
    ("fixed_key_norm(protected_recent=1.5)", "protected_recent 1.5: give a share, 0 to 1"),
    ("fixed_key_norm(keep=middle)", "fixed_key_norm: keep middle: give 'low' or 'high' or"),
    ("fixed_key_norm(every=-1)", "fixed_key_norm: every -1: give 0"),
    ("snapkv(window=0)", "snapkv: window 0: give 1 or more"),
    ("snapkv(window=8, size=8)", "snapkv: size 8 with a window of 8: give a larger size"),
    ("snapkv(kernel=4)", "snapkv: kernel 4: give an odd number, 1 or more"),
    ("snapkv(kernel=-1)", "snapkv: kernel -1: give an odd number, 1 or more"),
    ("snapkv(every=-1)", "snapkv: every -1: give 0 (chosen for you) or more"),
    ("h2o(0)", "h2o: size 0: give 1 or more"),
    ("h2o(recent=-0.1)", "h2o: recent -0.1: give a share, 0 to 1"),
    ("h2o(every=-1)", "h2o: every -1: give 0 (chosen for you) or more"),
    ("h2o + snapkv", "two of them add up attention in different ways: give one of them"),
    ("snapkv(4) + snapkv(5)", "two of them add up attention in different ways"),
    ("streaming(1.5)", "streaming: sinks 1.5: give a whole number"),
    ("streaming(True)", "streaming: sinks True: give a whole number"),
    ("streaming(1, 2, 3, 4)", "streaming takes 3 settings: leave '4' out"),
    ("streaming(4, sinks=5)", "streaming: sinks is given twice: give it once"),
    (
        "streaming(sinks=4, 508)",
        "cache policy 'streaming(sinks=4, 508)': give NAME(KEY=VALUE, ...)",
    ),
    ("full(1)", "full takes 0 settings: leave '1' out"),
    ("streaming(4", "cache policy 'streaming(4': give NAME(KEY=VALUE, ...), as in streaming("),
    ("", "cache policy '': give NAME(KEY=VALUE, ...)"),
    ("recent(9) +", "cache policy '': give NAME(KEY=VALUE, ...)"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_values_out_of_range_are_named_with_what_to_give(text, words):
    with pytest.raises(InvalidArgument, match=re.escape(words)) as caught:
        parse_policy(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("streming(4)", "unknown cache policy 'streming' (did you mean 'streaming'?): choose one"),
        ("lru", "unknown cache policy 'lru': choose one of fixed_key_norm, full, h2o"),
        ("recent(9) + h2", "unknown cache policy 'h2' (did you mean 'h2o'?)"),
    ],
)
def test_unknown_names_list_the_known_ones(text, words):
    with pytest.raises(UnknownName, match=re.escape(words)) as caught:
        parse_policy(text)
    assert "\n" not in str(caught.value)


def test_unknown_settings_list_the_known_ones():
    with pytest.raises(OutpaceError, match=r"unknown setting of h2o 'sizes' \(did you mean 'size'"):
        parse_policy("h2o(sizes=4)")


def test_constructors_check_words_and_numbers_too():
    with pytest.raises(InvalidArgument, match="keep 'middle': give 'low', 'high' or 'random'"):
        FixedKeyNormPolicy(keep="middle")
    with pytest.raises(InvalidArgument, match="recent nan: give a share"):
        H2OPolicy(recent=float("nan"))
    with pytest.raises(InvalidArgument, match="no policies"):
        ComposedPolicy(())
