import math
from dataclasses import dataclass
from typing import Any

import pytest

from outpace.bench.figures import diversity, figures
from outpace.bench.measured import Asked, Facts, Measured, text_hash
from outpace.bench.metrics import Interval, bootstrap, pace_ratio, quantile, speedup
from outpace.bench.record import make_record
from outpace.bench.sample import Gaps, Sample, depths
from outpace.types import TokenTree, Verdict


def sample(tokens: list[int], seconds: float, **more: Any) -> Sample:
    given = {"first": 1, "forwards": 4, "emitted": 8, "drafted": 10, "accepted": 5, "kv_bytes": 7}
    return Sample(tokens, seconds, **{"ttft": 0.1, **given, **more})


def measured(**texts: dict[tuple[int, int], Sample]) -> Measured:
    asked = Asked([("pg19", "a"), ("songs", "b")], "0" * 64)
    done = Measured(asked=asked, samples={name: dict(own) for name, own in texts.items()})
    done.methods = {name: Facts(name, reference="hf") for name in texts}
    return done


@dataclass
class Turned:
    """As much of a round as depths look at."""

    tree: TokenTree
    verdict: Verdict
    kinds: list[str]


def turn(parents: list[int], path: list[int], kinds: str) -> Any:
    tree = TokenTree.of(list(range(len(parents))), parents)
    names = {"a": "accepted", "r": "recovered", "b": "bonus", "p": "plain"}
    return Turned(tree, Verdict(path, [], []), [names[letter] for letter in kinds])


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 11)]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 5, 9, 10, 10]
    assert quantile([3.0], 0.5) == 3.0


def test_gaps_are_between_emissions() -> None:
    assert Gaps.of([0.0, 1.0, 3.0, 3.5]) == Gaps(1.0, 2.0, 2.0)
    assert Gaps.of([5.0]) is None
    assert Gaps.of([]) is None


def test_depths_of_chains() -> None:
    chain = [-1, 0, 1, 2]
    assert depths([turn([-1], [], "p")]) == ([], [])
    assert depths([turn(chain, [], "r")]) == ([1], [0])
    assert depths([turn(chain, [1, 2], "aar")]) == ([1, 1, 1], [1, 1, 0])
    assert depths([turn(chain, [1, 2, 3], "aaab")]) == ([1, 1, 1], [1, 1, 1])
    several = [turn(chain, [1, 2], "aar"), turn([-1, 0], [1], "ab"), turn([-1], [], "p")]
    assert depths(several) == ([2, 1, 1], [2, 1, 0])


def test_depths_of_trees() -> None:
    #     0 → 1 → 3, 4    and    0 → 2
    tree = [-1, 0, 0, 1, 1]
    assert depths([turn(tree, [1, 4], "aab")]) == ([1, 1], [1, 1])
    assert depths([turn(tree, [1], "ar")]) == ([1, 1], [1, 0])
    assert depths([turn(tree, [2], "ab")]) == ([1], [1])  # nothing was tried below node 2


def test_depths_end_with_the_text() -> None:
    chain = [-1, 0, 1, 2]
    assert depths([turn(chain, [1, 2, 3], "a")]) == ([1], [1])
    assert depths([turn(chain, [1, 2], "aa")]) == ([1, 1], [1, 1])  # what was next is past the end


def test_a_single_unit_is_drawn_by_its_values() -> None:
    mean = bootstrap([[1.0, 2.0, 3.0]], lambda values: sum(values) / len(values))
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low < mean.value < mean.high
    assert bootstrap([[2.0]], sum) == Interval(2.0, None, None)
    # the negative control: values of one unit among several are never torn apart
    pairs = bootstrap([[0.0, 4.0], [0.0, 4.0]], lambda values: sum(values) / len(values))
    assert (pairs.low, pairs.high) == (2.0, 2.0)


def test_a_shorter_text_does_not_flatter_the_pace() -> None:
    base = [[(10.0, 100)], [(10.0, 100)]]
    half = [[(5.0, 50)], [(5.0, 50)]]
    assert pace_ratio(base, half).value == 1.0
    seconds = [[[pair[0] for pair in unit] for unit in units] for units in (base, half)]
    assert speedup(*seconds).value == 2.0  # the control: by the text it does
    uneven = pace_ratio([[(10.0, 100)], [(2.0, 10)]], [[(5.0, 100)], [(1.0, 20)]])
    assert uneven.value == pytest.approx((12 / 110) / (6 / 120))


def test_perplexity_is_over_all_new_tokens() -> None:
    texts = {(0, 0): sample([1, 2], 1.0), (1, 0): sample([3] * 6, 1.0)}
    done = measured(hf=texts)
    for key, nats in zip(texts, (2.0, 1.0), strict=True):
        done.surprise[key[0], text_hash(texts[key].tokens)] = nats
    assert figures(done, "hf", list(texts))["ppl"] == pytest.approx(math.exp(3 / 8))
    done.surprise.popitem()
    assert figures(done, "hf", list(texts))["ppl"] is None  # rather none than one of a part


def test_figures_by_hand() -> None:
    slow = {(0, 0): sample([1] * 4, 4.0), (1, 0): sample([2] * 4, 2.0)}
    fast = {
        (0, 0): sample([1] * 4, 1.0, offered=[4, 2], kept=[2, 1], gaps=Gaps(0.1, 0.2, 0.3)),
        (1, 0): sample([2] * 4, 1.0, offered=[4], kept=[4], gaps=Gaps(0.3, 0.4, 0.5)),
    }
    found = figures(measured(hf=slow, draft=fast), "draft", [(0, 0), (1, 0)])
    assert found["speedup_vs_hf"]["value"] == found["time_vs_hf"]["value"] == 3.0
    assert found["tokens_per_second"]["mean"] == 4.0
    assert found["per_depth_acceptance"] == [6 / 8, 1 / 2]
    assert found["per_depth_tried"] == [8, 2]
    assert found["itl_ms"] == pytest.approx({"p50": 200.0, "p90": 300.0, "p99": 400.0})
    assert found["acceptance_rate"] == 0.5
    assert found["mean_acceptance_length"] == 2.0
    assert found["drafted_per_forward"] == 2.5
    assert found["new_tokens"] == 4
    assert found["ttft_ms"] == pytest.approx(100.0)
    assert found["tpot_ms"] == pytest.approx(1000 * 0.9 / 3)


def test_what_is_not_known_is_none() -> None:
    plain = {(0, 0): sample([1], 1.0, forwards=0, emitted=0, drafted=0, accepted=0)}
    found = figures(measured(hf=plain), "hf", [(0, 0)])
    for name in ("itl_ms", "tpot_ms", "acceptance_rate", "mean_acceptance_length", "draft_share"):
        assert found[name] is None, name
    assert found["per_depth_acceptance"] is None
    assert found["speedup_vs_hf"] == {"value": 1.0, "low": None, "high": None}


def test_the_time_of_waits_is_no_time_of_tokens() -> None:
    first = sample([1] * 5, 2.0, ttft=1.0, answers=[5])
    both = first.then(sample([2] * 5, 4.0, ttft=2.0, answers=[5]))
    assert (both.seconds, both.ttft, both.waits, both.first) == (6.0, 1.0, [2.0], 2)
    assert both.answers == [5, 5]
    assert both.tpot == pytest.approx((6.0 - 1.0 - 2.0) / 8)


def test_texts_count_once_for_diversity() -> None:
    own = {(0, 0): sample([1, 2], 1.0), (0, 1): sample([1, 2], 1.0), (1, 0): sample([3, 4], 1.0)}
    found = diversity(measured(hf=own), "hf", list(own))
    assert found["distinct_1"] == 1.0  # with the repeat it would be 4 of 6
    assert found["self_bleu"] == 0.0


def test_a_later_run_is_held_against_its_own_baseline() -> None:
    own = {(0, 0): sample([1] * 4, 4.0), (1, 0): sample([2] * 4, 4.0)}
    late = {(0, 0): sample([1] * 4, 2.0), (1, 0): sample([2] * 4, 2.0, run=2)}
    done = measured(hf=own, plain=late)
    keys = list(own)
    assert done.unpaired == 1
    assert figures(done, "plain", keys)["speedup_vs_hf"]["value"] == 2.0
    record = make_record(done, {}, {})
    assert "unpaired" in [one["kind"] for one in record["warnings"]]
    done.anchors["hf", (1, 0), 2] = sample([2] * 4, 8.0, run=2)
    assert done.unpaired == 0
    assert figures(done, "plain", keys)["speedup_vs_hf"]["value"] == 12 / 4
    assert figures(done, "hf", keys)["speedup_vs_hf"]["value"] == 1.0


def test_so_it_is_against_plain_decoding() -> None:
    own = {(0, 0): sample([1] * 4, 4.0), (1, 0): sample([2] * 4, 4.0)}
    today = {(0, 0): sample([1] * 4, 2.0), (1, 0): sample([2] * 4, 20.0, run=2)}
    done = measured(hf=own, plain=own, draft=today)
    done.anchors["hf", (1, 0), 2] = sample([2] * 4, 40.0, run=2)
    assert done.unpaired == 1
    done.anchors["plain", (1, 0), 2] = sample([2] * 4, 40.0, run=2)
    assert done.unpaired == 0
    found = figures(done, "draft", list(own))
    assert found["speedup_vs_plain"]["value"] == 44 / 22
    assert figures(measured(hf=own), "hf", list(own))["speedup_vs_plain"] is None


def test_texts_of_one_prompt_with_other_seeds_are_no_prompts_of_their_own() -> None:
    own = {(n, 0): sample([1] * 4, 4.0) for n in range(4)}
    fast = {(n, 0): sample([1] * 4, 4.0 / (1 + n)) for n in range(4)}
    done = measured(hf=own, plain=fast)
    done.asked.texts = [("pg19", "one"), ("pg19", "one"), ("pg19", "two"), ("pg19", "two")]
    narrow = figures(done, "plain", list(own))["speedup_vs_hf"]
    done.asked.texts = [("pg19", name) for name in "abcd"]
    wide = figures(done, "plain", list(own))["speedup_vs_hf"]
    assert narrow["value"] == wide["value"]
    assert (narrow["low"], narrow["high"]) == (8 / 6, 8 / (4 / 3 + 1))  # one text or the other
    done.asked.texts = [("pg19", "one")] * 4
    record = make_record(done, {}, {})
    assert record["prompts"]["count"] == 4
    assert record["prompts"]["different"] == 1
    assert "1 prompts are too few" in " ".join(one["text"] for one in record["warnings"])
