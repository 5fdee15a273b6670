from typing import Any

import pytest
import torch
from transformers import GenerationConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from outpace.bench import BenchPrompt, Models, Writing, baselines
from outpace.bench.afterwards import _SLACK
from outpace.bench.baselines import Assisted, HuggingFace, TunedAssisted, tuning_steps
from outpace.bench.plan import make_method, that_run
from outpace.errors import InvalidArgument
from outpace.models.attention import NAME

WRITING = Writing(max_new_tokens=40)


def drafted(models: Models, prompt: BenchPrompt, length: int) -> Any:
    method = Assisted("hf-assisted", models, length)
    with method.ready():
        return method.write(prompt, WRITING)


@pytest.mark.assisted
def test_the_draft_length_is_what_was_asked_for(models: Models, prompts: list[BenchPrompt]) -> None:
    for length in (2, 3, 7):
        sample = drafted(models, prompts[0], length)
        rounds = sample.forwards
        # every round drafts all of its tokens, but for those near the end of the text
        assert sample.drafted > length * (rounds - length) > 0
        assert sample.drafted <= length * rounds
        assert sample.drafter_forwards == sample.drafted


@pytest.mark.assisted
def test_a_threshold_would_cut_drafts_short(models: Models, prompts: list[BenchPrompt]) -> None:
    """What the baseline must not be: where a threshold ends drafts, K makes no difference."""
    counts = []
    for length in (3, 7):
        method = Assisted("hf-assisted", models, length)
        method._threshold = 0.99
        with method.ready():
            counts.append(method.write(prompts[0], WRITING).drafted)
    assert counts[0] == counts[1]
    assert drafted(models, prompts[0], 3).drafted < drafted(models, prompts[0], 7).drafted


@pytest.mark.assisted
def test_settings_do_not_stay_behind(models: Models, prompts: list[BenchPrompt]) -> None:
    assert models.drafter is not None
    before = [model.model.generation_config for model in (models.target, models.drafter)]
    kept = [config.to_dict() for config in before if isinstance(config, GenerationConfig)]
    attention = models.target.model.config._attn_implementation
    method = Assisted("hf-assisted", models, 7)

    def stopped() -> None:
        with method.ready():
            method.write(prompts[0], WRITING)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    after = [model.model.generation_config for model in (models.target, models.drafter)]
    assert [id(config) for config in after] == [id(config) for config in before]
    assert [config.to_dict() for config in after if config is not None] == kept
    assert models.target.model.config._attn_implementation == attention


@pytest.mark.assisted
def test_counts_add_up(models: Models, prompts: list[BenchPrompt]) -> None:
    for name in ("hf", "hf-assisted", "hf-prompt-lookup", "plain", "draft", "prompt-lookup"):
        method = make_method(name, models, 4)
        with method.ready():
            sample = method.write(prompts[0], WRITING)
        assert len(sample.tokens) == 40
        assert 0 <= sample.accepted <= sample.drafted
        assert sample.emitted == sample.accepted + sample.forwards
        assert 0 < sample.first <= 1 + 4
        assert 0 < sample.ttft < sample.seconds
        assert sample.kv_bytes > 0
        assert (sample.drafted == 0) == (name in {"hf", "plain"})


@pytest.mark.assisted
def test_accepted_tokens_are_those_of_the_loop(models: Models, prompts: list[BenchPrompt]) -> None:
    """Both draft the same tokens: what is accepted can differ in the first and last rounds only."""
    rates = []
    for name in ("hf-assisted@4", "draft@4"):
        method = make_method(name, models, 5)
        with method.ready():
            samples = [method.write(one, Writing(max_new_tokens=200)) for one in prompts]
        drafted, forwards = (sum(getattr(s, n) for s in samples) for n in ("drafted", "forwards"))
        rates.append(
            (sum(s.accepted for s in samples) / drafted, sum(s.emitted for s in samples) / forwards)
        )
    assert rates[0] == pytest.approx(rates[1], rel=0.15)


def test_draft_forwards_are_counted_for_each_text(
    models: Models, prompts: list[BenchPrompt]
) -> None:
    method = make_method("draft", models, 4)
    counts = set()
    for _ in range(3):
        with method.ready():
            sample = method.write(prompts[0], WRITING)
        counts.add((sample.drafter_forwards, sample.drafted))
    assert len(counts) == 1
    forwards, drafts = counts.pop()
    assert forwards == drafts + 1  # and one to read the prompt


@pytest.mark.assisted
def test_transformers_runs_its_own_attention(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the loop's attention")

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, NAME, refuse)
    for name in ("hf", "hf-assisted"):
        method = make_method(name, models, 4)
        with method.ready():
            assert len(method.write(prompts[0], WRITING).tokens) == 40
        assert method.settings["attention"] != NAME
    plain = make_method("plain", models, 4)
    with pytest.raises(AssertionError, match="the loop's attention"), plain.ready():
        plain.write(prompts[0], WRITING)


@pytest.mark.assisted
def test_the_first_token_is_timed_when_it_comes(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks once a forward of the target: the first token costs one."""
    ticks = [0.0]

    def count(*_: object) -> None:
        ticks[0] += 1.0

    models.target.model.register_forward_hook(count)
    monkeypatch.setattr("time.perf_counter", lambda: ticks[0])
    for name, first in (("hf", 1), ("hf-assisted", 1), ("plain", 1), ("draft", 1)):
        method = make_method(name, models, 4)
        with method.ready():
            sample = method.write(prompts[0], WRITING)
        assert sample.ttft == first
        forwards = sample.forwards + (name != "hf-assisted")
        assert sample.seconds == forwards
        assert sample.tpot == (forwards - 1) / (40 - sample.first)


@pytest.mark.assisted
def test_texts_too_short_to_draft_for(models: Models, prompts: list[BenchPrompt]) -> None:
    for name in ("hf", "hf-assisted", "plain", "draft"):
        method = make_method(name, models, 4)
        with method.ready():
            sample = method.write(prompts[0], Writing(max_new_tokens=1))
        assert len(sample.tokens) == 1
        assert sample.tpot is None
        assert sample.drafted == 0


@pytest.mark.assisted
def test_lengths_that_cannot_be(models: Models) -> None:
    for name in ("hf-assisted@0", "hf-prompt-lookup@0", "hf-assisted@64", "draft@0"):
        with pytest.raises(InvalidArgument, match="draft length"):
            make_method(name, models, 5)
    with pytest.raises(InvalidArgument, match="takes a number of draft tokens"):
        make_method("hf-assisted@\u00b2", models, 5)


@pytest.mark.assisted
def test_models_transformers_cannot_pair(models: Models) -> None:
    assert models.drafter is not None
    models.drafter.config.vocab_size += 64  # padded rows, which the loop allows
    with pytest.raises(InvalidArgument, match="refuses output layers of 257 and 321 rows"):
        make_method("hf-assisted", models, 5)
    assert make_method("draft", models, 5)


@pytest.mark.assisted
def test_the_end_of_text_is_ignored(models: Models, prompts: list[BenchPrompt]) -> None:
    method = HuggingFace("hf", models)
    with method.ready():
        tokens = method.write(prompts[0], WRITING).tokens
    config: Any = models.target.model.generation_config
    config.eos_token_id = tokens[3]
    models.target.config.eos_token_id = tokens[3]
    ids = [models.target.tokenizer(prompts[0].text)["input_ids"]]  # type: ignore[misc]
    with models.target.stock() as stock:
        given: Any = torch.tensor(ids)
        ended: Any = stock.generate(given, max_new_tokens=40, do_sample=False)  # type: ignore[operator]
    assert ended.shape[1] < len(ids[0]) + 40  # left alone, the text ends there
    for name in ("hf", "hf-assisted", "hf-prompt-lookup", "plain", "draft"):
        method_ = make_method(name, models, 4)
        with method_.ready():
            assert method_.write(prompts[0], WRITING).tokens == tokens


@pytest.mark.assisted
def test_the_logits_of_a_text_choose_its_tokens(models: Models, prompts: list[BenchPrompt]) -> None:
    for name in ("hf", "hf-assisted", "plain", "draft", "ngram"):
        method = make_method(name, models, 4)
        with method.ready():
            tokens, rows = method.rows(prompts[0], WRITING)
            assert tokens == method.write(prompts[0], WRITING).tokens
        assert [int(row.argmax()) for row in rows] == tokens


@pytest.mark.assisted
@pytest.mark.parametrize("name", ["hf", "hf-assisted", "hf-prompt-lookup"])
def test_a_shorter_text_is_the_beginning_of_a_longer_one(
    models: Models, prompts: list[BenchPrompt], name: str
) -> None:
    method = make_method(name, models, 4)
    assert method.begins_alike
    with method.ready():
        tokens, rows = method.rows(prompts[0], Writing(60))
        beginning, first = method.rows(prompts[0], Writing(10 + 1 + _SLACK))
    assert beginning[:11] == tokens[:11]
    assert all(torch.equal(one, other) for one, other in zip(first[:11], rows[:11], strict=True))


@pytest.mark.assisted
def test_tuning_tries_all_and_keeps_the_best(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = TunedAssisted("hf-assisted-tuned", models)

    def timed(prompt: BenchPrompt, writing: Writing) -> Any:
        best = (method._length, method._threshold) == (6, 0.4)
        return type("Timed", (), {"seconds": 1.0 if best else 2.0})

    monkeypatch.setattr(method, "write", timed)
    steps = list(method.tune(prompts, WRITING))
    assert len(steps) == tuning_steps(len(prompts)) == 72 + 15
    found = {"draft_length": 6, "confidence_threshold": 0.4, "settings_tried": 36}
    assert method.settings.items() >= found.items()


def test_a_draft_model_is_needed(models: Models) -> None:
    alone = Models(models.target, None)
    for name in ("hf-assisted", "hf-assisted-tuned", "draft"):
        with pytest.raises(InvalidArgument, match="needs a draft model: give --drafter"):
            make_method(name, alone, 5)


def test_versions_that_keep_what_was_rejected_are_refused(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines.transformers, "__version__", "5.15.1")
    with pytest.raises(InvalidArgument, match="does not roll back its draft model's cache"):
        make_method("hf-assisted", models, 5)
    names, why = that_run(("hf", "hf-assisted", "hf-assisted@3", "draft"), models)
    assert names == ["hf", "draft"]
    assert why is not None
    assert why.startswith("left out hf-assisted, hf-assisted@3: transformers 5.15.1 does not")
