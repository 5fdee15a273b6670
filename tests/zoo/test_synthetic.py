from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from transformers import AutoModelForCausalLM

from outpace import Decoder
from outpace.errors import InvalidArgument, UnknownName
from outpace.models import LanguageModel
from outpace.zoo.synthetic import (
    PAIRS,
    SHAPES,
    SyntheticShape,
    corrupted,
    successors,
    synthetic_pair,
)

FAMILIES = ["tiny", "tiny-llama"]
PROMPT = [3, 5, 7]
VOCABULARY = SHAPES["tiny"].vocabulary


@pytest.fixture(scope="module", params=FAMILIES)
def both(request: pytest.FixtureRequest) -> tuple[LanguageModel, LanguageModel]:
    return synthetic_pair(request.param, dtype="float32", device="cpu")


def text(follows: Tensor, count: int, last: int = PROMPT[-1]) -> list[int]:
    """The tokens that follow ``last``."""
    tokens = [last]
    for _ in range(count):
        tokens.append(int(follows[tokens[-1]]))
    return tokens[1:]


def forwards(count: int, length: int, acceptance: float = 0.75, *, in_prefill: bool) -> int:
    """How many forwards of the target the permutations say there are for ``count`` tokens."""
    follows, drafts = successors(VOCABULARY), corrupted(successors(VOCABULARY), acceptance)
    tokens = [PROMPT[-1], *text(follows, count)]
    done = 0 if in_prefill else 1
    rounds = 0
    while done < count:
        rounds += 1
        kept = 0
        for token in tokens[done : done + min(length, count - done - 1)]:
            if follows[token] != drafts[token]:
                break
            kept += 1
        done += kept + 1
    return rounds


def agreement(model: LanguageModel, follows: Tensor, tokens: list[int]) -> float:
    """The share of tokens after which a model's greedy choice is as the permutation says."""
    ids = torch.tensor([tokens])
    choices = model.stock_logits(ids)[0].argmax(-1)
    return float((choices == follows[ids[0]]).float().mean())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_follow_their_permutations(shape: str, seed: int, dtype: str) -> None:
    target, drafter = synthetic_pair(shape, dtype=dtype, device="cpu", seed=seed)
    follows = successors(VOCABULARY, seed)
    tokens = [*PROMPT, *text(follows, 512)]
    assert agreement(target, follows, tokens) == 1
    assert agreement(drafter, corrupted(follows, 0.75, seed), tokens) == 1
    assert abs(agreement(drafter, follows, tokens) - 0.75) < 0.05


def test_another_acceptance_is_not_taken_for_it() -> None:
    _, drafter = synthetic_pair("tiny", 0.3, device="cpu")
    follows = successors(VOCABULARY)
    measured = agreement(drafter, follows, text(follows, 512))
    assert abs(measured - 0.3) < 0.05
    assert abs(measured - 0.75) > 0.05


@pytest.mark.parametrize("length", [1, 5])
def test_the_loop_accepts_what_the_permutations_say(
    both: tuple[LanguageModel, LanguageModel], length: int
) -> None:
    target, drafter = both
    decoder = Decoder.from_pretrained(target, drafter=drafter, draft_length=length)
    output = decoder.generate(PROMPT, max_new_tokens=96)
    assert output.tokens == text(successors(VOCABULARY), 96)
    assert output.stats.rounds == forwards(96, length, in_prefill=False)
    assert output.stats.rounds != forwards(96, length, 0.3, in_prefill=False)


def test_assisted_generation_accepts_the_same(
    both: tuple[LanguageModel, LanguageModel], counted: Callable[[Any], list[int]]
) -> None:
    widths = counted(both[0].model)
    with both[0].stock() as target, both[1].stock() as drafter:
        config: Any = drafter.generation_config
        config.num_assistant_tokens = 5
        config.num_assistant_tokens_schedule = "constant"
        config.assistant_confidence_threshold = 0
        ids = torch.tensor([PROMPT])
        written: Any = target.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=64,
            do_sample=False,
            pad_token_id=0,
            assistant_model=drafter,
        )
    assert written[0, len(PROMPT) :].tolist() == text(successors(VOCABULARY), 64)
    assert len(widths) == forwards(64, 5, in_prefill=True)
    assert len(widths) != forwards(64, 5, 0.3, in_prefill=True)


@pytest.fixture
def counted() -> Iterator[Callable[[Any], list[int]]]:
    hooks: list[RemovableHandle] = []

    def on(model: Any) -> list[int]:
        widths: list[int] = []

        def note(_model: Any, _args: Any, kwargs: dict[str, Any], _out: Any) -> None:
            widths.append(kwargs["input_ids"].shape[1])

        hooks.append(model.register_forward_hook(note, with_kwargs=True))
        return widths

    yield on
    for hook in hooks:
        hook.remove()


def test_a_text_comes_back_only_after_the_whole_vocabulary() -> None:
    follows = successors(VOCABULARY, 3)
    assert len(set(text(follows, VOCABULARY))) == VOCABULARY
    swapped = follows.clone()
    swapped[[0, 1]] = follows[[1, 0]]  # two cycles
    assert len(set(text(swapped, VOCABULARY))) < VOCABULARY


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.75, 1.0])
def test_so_many_tokens_are_corrupted(acceptance: float) -> None:
    follows = successors(VOCABULARY)
    other = corrupted(follows, acceptance)
    assert sorted(other.tolist()) == list(range(VOCABULARY))
    assert int((other == follows).sum()) == VOCABULARY - round((1 - acceptance) * VOCABULARY)


def test_weights_are_made_in_their_dtype_and_from_the_seed() -> None:
    target, _ = synthetic_pair("tiny", dtype="bfloat16", device="cpu")
    assert {weight.dtype for weight in target.model.parameters()} == {torch.bfloat16}
    same, other = (synthetic_pair("tiny", device="cpu", seed=seed)[0] for seed in (0, 1))
    assert target.fingerprint == same.fingerprint != other.fingerprint


def test_sizes_are_those_of_the_architectures() -> None:
    for name, millions in [("pythia-70m", 70.4), ("pythia-160m", 162.3), ("pythia-2.8b", 2775.2)]:
        shape = SHAPES[name]
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shape.config())
        assert model.num_parameters() / 1e6 == pytest.approx(millions, abs=0.1)
    for target, drafter in PAIRS.items():
        assert SHAPES[target].vocabulary == SHAPES[drafter].vocabulary


def test_what_cannot_be_made() -> None:
    for acceptance in (-0.1, 1.5, float("nan"), True):
        with pytest.raises(InvalidArgument, match="give 0 to 1"):
            synthetic_pair("tiny", acceptance, device="cpu")
    with pytest.raises(UnknownName, match="choose one of pythia-160m"):
        synthetic_pair("pythia-12b", device="cpu")
    with pytest.raises(UnknownName, match="choose one of float32"):
        synthetic_pair("tiny", dtype="int8", device="cpu")
    with pytest.raises(InvalidArgument, match="give numbers that divide"):
        SyntheticShape(2, 64, 128, 5)
    with pytest.raises(InvalidArgument, match="too much alike, give 87"):
        SyntheticShape(2, 64, 128, 4)
