import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from outpace import Decoder
from outpace.bench import (
    Bench,
    BenchPrompt,
    Measured,
    Models,
    Writing,
    check_methods,
    environment,
    fit_prompts,
    make_method,
    make_record,
)
from outpace.bench.loop import Loop
from outpace.bench.methods import Method
from outpace.bench.report import is_wrong, markdown, verdict
from outpace.compose import make_drafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.ngram import NgramDrafter
from outpace.drafters.retokenized import RetokenizedDrafter
from outpace.errors import InvalidArgument, PromptError, UnknownName, UnsupportedModel
from outpace.lengths.fixed import FixedLength
from outpace.models import load
from outpace.models.tiny import tiny_model
from outpace.sampling import Sampler
from outpace.types import Budget, TokenTree, Verdict
from outpace.verifiers.coupled import CoupledVerifier

METHODS = ("hf", "hf-assisted", "hf-prompt-lookup", "plain", "draft", "prompt-lookup", "ngram")
CONFIG: dict[str, Any] = {
    "target": "tiny",
    "drafter": "blurred",
    "prompts": ["own"],
    "max_new_tokens": 24,
    "repeats": 2,
    "temperature": 0.0,
    "dtype": "float32",
    "draft_length": "4",
    "command": "outpace bench",
}


def made(
    models: Models, prompts: list[BenchPrompt], names: tuple[str, ...] = METHODS, **settings: Any
) -> Bench:
    writing = Writing(24, settings.pop("temperature", 0.0), settings.pop("seed", 0))
    methods = [make_method(name, models, 4) for name in names]
    return Bench(models, methods, prompts, writing, **{"repeats": 2, **settings})


def record_of(bench: Bench, done: Measured) -> dict[str, Any]:
    return make_record(done, CONFIG, environment())


def kinds(record: dict[str, Any]) -> list[str]:
    return [warning["kind"] for warning in record["warnings"]]


@pytest.mark.assisted
def test_all_methods_write_the_same_text(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts)
    done = bench.run()
    record = record_of(bench, done)
    assert [result["identical"] for result in record["results"]] == [None, *[True] * 6]
    assert not done.interrupted
    assert done.judged
    assert "BUGS" not in markdown(record)


@pytest.mark.assisted
def test_sampled_texts_are_compared_with_plain(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts, temperature=0.9)
    record = record_of(bench, bench.run())
    same = {result["method"]: result["identical"] for result in record["results"]}
    assert same == {
        "hf": None,
        "hf-assisted": None,
        "hf-prompt-lookup": None,
        "plain": None,
        "draft": True,
        "prompt-lookup": True,
        "ngram": True,
    }
    texts = [tuple(bench.run().samples["plain"][n, 0].tokens) for n in range(2)]
    assert texts[0] != texts[1]  # every prompt has a seed of its own


class Wrong(CoupledVerifier):
    """Takes the second best token once in a while."""

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        if len(sampler.context) % 7 == 0:
            logits = logits.clone()
            logits[0, logits[0].argmax()] = -1e4
        return super().verify(tree, logits, sampler)


def test_a_wrong_text_is_called_a_bug(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts, ("hf", "draft"))
    loop = bench.methods[1]
    assert isinstance(loop, Loop)
    loop.decoder.verifier = Wrong()
    done = bench.run()
    record = record_of(bench, done)
    result = record["results"][1]
    assert result["identical"] is False
    assert result["first_difference"]["kind"] == "bug"
    assert result["first_difference"]["distance"] > 2 * result["first_difference"]["deviation"]
    assert "text" in kinds(record)
    assert is_wrong(record)
    assert "BUGS" in markdown(record)


@pytest.mark.parametrize(
    "policy",
    [
        ("with streaming(4, 12, every=4)", "bug"),
        ("with fixed_key_norm(16, every=4)", "approximate"),
    ],
)
def test_a_wrong_text_of_a_target_that_forgets(
    policy: tuple[str, str], models: Models, prompts: list[BenchPrompt]
) -> None:
    kept, kind = policy
    bench = made(models, prompts, ("hf", f"plain {kept}", f"draft {kept}"), repeats=1)
    loop = bench.methods[2]
    assert isinstance(loop, Loop)
    loop.decoder.verifier = Wrong()
    done = bench.run()
    assert not done.differences[f"plain {kept}"]
    # keys that differ in their last bits may lead a policy elsewhere: nobody can say what is right
    assert {one.kind for one in done.differences[loop.name]} == {kind}


class Tipped(CoupledVerifier):
    """Sees every second score a little higher, as another order of sums may."""

    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        logits = logits.float()
        logits[:, 1::2] += 2**-10
        return super().verify(tree, logits, sampler)


@pytest.mark.parametrize("kept", ["", " with streaming(4, 12, every=4)"])
def test_a_near_tie_is_called_one(
    kept: str, in_dtype: Callable[[torch.dtype], Models], prompts: list[BenchPrompt]
) -> None:
    models = in_dtype(torch.bfloat16)
    with torch.no_grad():  # two tokens whose true scores hardly differ
        head = models.target.model.get_output_embeddings().weight
        head[1::2] = head[0:-1:2] * (1 + 2**-8)
    bench = made(models, prompts * 3, ("hf", f"plain{kept}", f"draft{kept}"), repeats=1)
    if kept:  # the last bits of our own loop do not depend on what is drafted here
        loop = bench.methods[2]
        assert isinstance(loop, Loop)
        loop.decoder.verifier = Tipped()
    done = bench.run()
    found = [one for several in done.differences.values() for one in several]
    assert found, "this model has no near ties: choose another"
    assert {one.kind for one in found} == {"numerical"}


def test_methods_take_turns_on_every_prompt(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts, ("hf", "plain", "ngram"), warmup=1)
    told: list[str] = []
    bench.run(lambda what, more=0: told.append(what))
    assert len(told) == bench.steps
    measured = [line for line in told if line.startswith("own")]
    assert len(measured) == 2 * len(prompts) * 3
    for start in range(0, len(measured), 3):
        group = measured[start : start + 3]
        assert len({line.partition(":")[0] for line in group}) == 1
        assert len(set(group)) == 3
    orders = {
        tuple(line.partition(": ")[2] for line in measured[i : i + 3]) for i in range(0, 18, 3)
    }
    assert len(orders) > 1  # nobody is always first


def test_nothing_is_learnt_from_an_earlier_run(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts, ("hf", "ngram"), repeats=3)
    method = bench.methods[1]
    assert isinstance(method, Loop)
    assert isinstance(method.decoder.drafter, NgramDrafter)
    method.decoder.drafter.keep = True
    samples = bench.run().samples["ngram"]
    for number in range(len(prompts)):
        assert len({samples[number, repeat].accepted for repeat in range(3)}) == 1
    method.decoder.drafter.reset()
    with models.target.attached():  # without a reset the second time is a recital
        counts = [method.write(prompts[0], bench.writing).accepted for _ in range(2)]
    assert counts[1] > counts[0]


def interrupt(
    bench: Bench,
    name: str,
    at: int,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None = None,
) -> None:
    """Press Ctrl-C, or fail, when a method writes for the ``at``-th time."""
    method = next(method for method in bench.methods if method.name == name)
    own, calls = method.write, [0]

    def write(prompt: BenchPrompt, writing: Writing) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error or KeyboardInterrupt
        return own(prompt, writing)

    monkeypatch.setattr(method, "write", write)


def test_an_interrupt_keeps_what_is_whole(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "plain", "draft"))
    interrupt(bench, "plain", 2 + 4, monkeypatch)  # warm-up, memory, then the fourth text
    done = bench.run()
    assert done.interrupted
    assert done.keys == [(0, 0), (1, 0), (2, 0)]
    more = {name: sorted(set(samples) - set(done.keys)) for name, samples in done.samples.items()}
    assert more["plain"] == []
    assert all(len(keys) <= 1 for keys in more.values())  # written, but not by all
    record = record_of(bench, done)
    assert record["interrupted"]
    assert record["warnings"][0] == {
        "kind": "incomplete",
        "text": "3 of 6 texts a method are done: interrupted",
    }
    assert record["prompts"]["count"] == 3


def test_an_interrupt_before_anything_is_whole(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "plain"))
    interrupt(bench, "plain", 3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        bench.run()


def test_an_error_keeps_what_is_whole(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "plain"))
    interrupt(bench, "plain", 2 + 3, monkeypatch, RuntimeError("no memory"))
    done = bench.run()
    assert done.failed == "RuntimeError: no memory"
    assert done.keys == [(0, 0), (1, 0)]
    text = record_of(bench, done)["warnings"][0]["text"]
    assert text == "2 of 6 texts a method are done: failed (RuntimeError: no memory)"


def test_an_error_while_comparing_keeps_all(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "draft"))
    loop = bench.methods[1]
    assert isinstance(loop, Loop)
    loop.decoder.verifier = Wrong()

    def upset(*_: object) -> None:
        raise RuntimeError("no memory for the wider copy")

    monkeypatch.setattr("outpace.bench.differences.Judge.judge", upset)
    done = bench.run()
    assert len(done.keys) == 6
    record = record_of(bench, done)
    assert record["warnings"][0]["text"].startswith("not all differences of the texts were looked")
    assert is_wrong(record)


def test_a_text_that_changes_from_time_to_time(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "plain"))
    method, calls = bench.methods[1], [0]
    own = method.write

    def write(prompt: BenchPrompt, writing: Writing) -> Any:
        calls[0] += 1
        sample = own(prompt, writing)
        if calls[0] == 2 + 4:  # in the second repeat
            sample.tokens[7] += 1
        return sample

    monkeypatch.setattr(method, "write", write)
    record = record_of(bench, bench.run())
    assert record["results"][1]["identical"] is False
    assert record["results"][1]["first_difference"]["kind"] == "unclear"
    assert is_wrong(record)


def test_texts_must_be_equally_long(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = made(models, prompts, ("hf", "plain"))
    method = bench.methods[1]
    own = method.write

    def short(prompt: BenchPrompt, writing: Writing) -> Any:
        sample = own(prompt, writing)
        del sample.tokens[-1]
        return sample

    monkeypatch.setattr(method, "write", short)
    with pytest.raises(UnsupportedModel, match="plain wrote 23 tokens after 0, not 24"):
        bench.run()


def test_an_approximate_method_is_called_one(models: Models, prompts: list[BenchPrompt]) -> None:
    bench = made(models, prompts, ("hf", "draft"))
    loop = bench.methods[1]
    assert isinstance(loop, Loop)
    loop.decoder.verifier = Wrong()
    loop.exact = loop.same_text = False
    record = record_of(bench, bench.run())
    assert record["results"][1]["exact"] is False
    assert record["results"][1]["first_difference"]["kind"] == "approximate"
    assert not is_wrong(record)
    assert "approximate" in verdict(record)


def test_draft_models_are_loaded_once(models: Models) -> None:
    names = ("zoo:small@2", "zoo:small@3")
    pair = Models(load("zoo:target", dtype="float32"), None)
    loops = [make_method(name, pair, 5) for name in names]
    drafters = [loop.decoder.drafter for loop in loops if isinstance(loop, Loop)]
    assert [isinstance(drafter, ModelDrafter) for drafter in drafters] == [True, True]
    assert drafters[0].model is drafters[1].model  # type: ignore[attr-defined]
    assert list(pair.others) == ["zoo:small in float32"]


def test_a_drafter_with_another_tokenizer(models: Models, tmp_path: Path) -> None:
    drafter = tiny_model(seed=1)
    drafter.model.save_pretrained(tmp_path)
    drafter.tokenizer.save_pretrained(tmp_path)  # type: ignore[union-attr]
    name = f"retokenized:{tmp_path}@2"
    assert check_methods([name]) == ["hf", name]
    method = make_method(name, models, 5)
    assert isinstance(method, Loop)
    assert isinstance(method.decoder.drafter, RetokenizedDrafter)
    assert method.settings == {"draft_length": 2}


@pytest.mark.assisted
def test_the_record(models: Models, prompts: list[BenchPrompt]) -> None:
    other = [*prompts, BenchPrompt("songs", "la", "la la la la la la la la")]
    bench = made(models, other, ("hf", "hf-assisted", "plain", "draft@2"))
    record = json.loads(json.dumps(record_of(bench, bench.run())))
    assert record["schema_version"] == 2
    assert {"versions", "cpu", "threads", "gpu", "git"} <= record["environment"].keys()
    assert len(record["prompts"]["sha256"]) == 64
    result = record["results"][3]
    assert result["method"] == "draft@2"
    assert result["settings"] == {"draft_length": 2}
    assert result["exact"] is True
    assert {
        "tokens_per_second",
        "speedup_vs_hf",
        "ttft_ms",
        "tpot_ms",
        "acceptance_rate",
        "mean_acceptance_length",
        "peak_memory_bytes",
        "memory_growth_bytes",
        "kv_bytes",
        "store_bytes",
        "identical",
        "first_difference",
        "repeated_8gram_share",
        "breakdown",
        "runs",
    } <= result.keys()
    speed = result["tokens_per_second"]
    assert len(speed["samples"]) == 8
    assert speed["mean"] == pytest.approx(sum(speed["samples"]) / 8)
    ratio = result["speedup_vs_hf"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert record["results"][0]["speedup_vs_hf"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    total = {
        name: sum(run["seconds"] for run in record["results"][place]["runs"])
        for name, place in (("hf", 0), ("draft", 3))
    }
    assert ratio["value"] == pytest.approx(total["hf"] / total["draft"])
    groups = {part["group"]: part["prompts"] for part in result["breakdown"]}
    assert groups.items() >= {"own": 3, "songs": 1}.items()
    runs = result["runs"]
    assert all(run["new_tokens"] == 24 for run in runs)
    emitted, drafting, verifying = (
        sum(run[name] for run in runs) for name in ("emitted", "drafting", "verifying")
    )
    forwards = sum(run["forwards"] for run in runs)
    assert result["mean_acceptance_length"] == pytest.approx(emitted / forwards)
    assert result["draft_share"] == pytest.approx(drafting / (drafting + verifying))
    assert verdict(record)


def test_texts_in_circles_are_told_apart(models: Models, prompts: list[BenchPrompt]) -> None:
    with torch.no_grad():  # a model that says one thing for ever
        models.target.model.get_output_embeddings().weight.zero_()
    bench = made(models, prompts, ("hf", "plain"))
    record = record_of(bench, bench.run())
    assert record["results"][0]["repeated_8gram_share"] > 0.9
    assert "repeating" in kinds(record)
    groups = [part["group"] for part in record["results"][0]["breakdown"]]
    assert groups == ["repeating"]


def test_prompts_fit_the_models(models: Models) -> None:
    long = BenchPrompt("own", "long", "a" * 600)
    passage = BenchPrompt("pg19", "book", "word " * 100, tokens=10)
    fitted, cut = fit_prompts([long, passage], models, 40)
    assert cut == 1
    assert fitted[0].text == "a" * (512 - 40)
    assert fitted[1].text == "word word "
    with pytest.raises(PromptError, match="fewer --max-new-tokens"):
        fit_prompts([long], models, 512)
    assert fit_prompts([long], models, 511)[0][0].text == "a"
    wide = BenchPrompt("own", "wide", "\u6771" * 300)  # three bytes, so three tokens, a character
    kept = fit_prompts([wide], models, 40)[0][0].text.strip("\ufffd")
    assert set(kept) == {"\u6771"}
    assert 140 < len(kept) <= (512 - 40) // 3
    models.target.tokenizer = None
    with pytest.raises(PromptError, match="has no tokenizer"):
        fit_prompts([long], models, 40)


def test_every_method_says_what_it_is(models: Models) -> None:
    method: Method = make_method("draft@7", models, 5)
    assert method.name == "draft@7"
    assert method.settings == {"draft_length": 7}
    assert make_method("hf-prompt-lookup", models, "adaptive").settings["draft_length"] == 5
    assert make_method("draft", models, "+7").settings == {"draft_length": 7}
    assert make_method("plain", models, 5).settings == {}
    assert make_method("recycling", models, 5).settings == {"budget": {"nodes": 63, "depth": 63}}
    assert make_method("recycling@3", models, 5).settings == {"draft_length": 3}


def test_what_time_decided_is_repeated_to_compare(
    models: Models, prompts: list[BenchPrompt]
) -> None:
    class Moody(NgramDrafter):
        repeats = False
        asked = 0

        def propose(self, context: Any, budget: Budget, drawing: Any) -> TokenTree:
            self.asked += 1  # never reset: another draft whenever it is asked
            return super().propose(context, Budget.chain(self.asked % 5), drawing)

    class Watching(CoupledVerifier):
        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
            self.seen.append(tree.lists()[0])
            return super().verify(tree, logits, sampler)

    loop, watching = Loop("ngram", models, 5), Watching()
    # a gate would go by the clock as well
    fixed = FixedLength(5)
    loop.decoder = Decoder(models.target, Moody(), verifier=watching, lengths=fixed)
    writing = Writing(24)
    tokens = loop.write(prompts[0], writing).tokens
    first, watching.seen = watching.seen, []
    assert loop.rows(prompts[0], writing)[0] == tokens
    assert watching.seen == first
    watching.seen = []
    loop.write(prompts[0], writing)
    assert watching.seen != first  # the negative control: it would have gone another way


def test_drafters_made_of_drafters_have_the_pairs_model(models: Models, tmp_path: Path) -> None:
    pair = Models(models.target, tiny_model(seed=1))
    for name in ("bandit", "cascade", "bandit(bonus=0.2)"):
        method = make_method(name, pair, 5)
        assert pair.drafter in method.decoder.drafter.models
        assert "model" in method.settings["sources"]
    with pytest.raises(UnknownName, match=r"after bandit\(bonus=0\.2\):"):
        make_drafter("bandit(bonus=0.2):nothing-of-that-name")
    with pytest.raises(InvalidArgument, match="bandit: bonus -1: give 0 or more"):
        make_method("bandit(bonus=-1)", pair, 5)
    with pytest.raises(InvalidArgument, match="a file to keep them has no use"):
        check_methods([f"suffix(keep={tmp_path}/mine)"])
