"""Top-p, penalties and ends of texts: the same for every method."""

from typing import Any

import pytest
import torch

from outpace.bench import Bench, BenchPrompt, Models, Writing, make_method, make_record
from outpace.bench.figures import figures
from outpace.models.tiny import EOS

OURS = ("plain", "draft", "ngram@4", "prompt-lookup", "tree:fixed(depth=3, branch=2)", "suffix")


def bench(models: Models, prompts: list[BenchPrompt], names: tuple[str, ...], **how: Any) -> Bench:
    methods = [make_method(name, models, 4) for name in names]
    return Bench(models, methods, prompts, Writing(**{"max_new_tokens": 24, **how}), warmup=0)


def texts(models: Models, prompts: list[BenchPrompt], name: str, **how: Any) -> list[list[int]]:
    done = bench(models, prompts, ("hf", name) if name != "hf" else ("hf",), **how)
    (method,) = [one for one in done.methods if one.name == name]
    found = []
    for prompt in prompts:
        with method.ready():
            found.append(method.write(prompt, done.writing).tokens)
    return found


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_a_penalty_is_that_of_transformers(
    models: Models, prompts: list[BenchPrompt], name: str, penalty: float
) -> None:
    theirs = texts(models, prompts, "hf", repetition_penalty=penalty)
    assert texts(models, prompts, name, repetition_penalty=penalty) == theirs
    assert theirs != texts(models, prompts, "hf")  # the negative control: it changes the texts


@pytest.mark.assisted
def test_assisted_generation_heeds_it_too(models: Models, prompts: list[BenchPrompt]) -> None:
    theirs = texts(models, prompts, "hf", repetition_penalty=1.3)
    assert texts(models, prompts, "hf-assisted", repetition_penalty=1.3) == theirs


@pytest.mark.parametrize("how", [{"top_p": 0.8}, {"top_k": 5}, {"top_k": 9, "top_p": 0.7}])
def test_sampled_texts_are_one(
    models: Models, prompts: list[BenchPrompt], how: dict[str, Any]
) -> None:
    how = {"temperature": 1.5, "seed": 4, **how}
    plain = texts(models, prompts, "plain", **how)
    for name in OURS[1:]:
        assert texts(models, prompts, name, **how) == plain, name
    free = texts(models, prompts, "plain", temperature=1.5, seed=4)
    assert plain != free  # the negative control: without a limit they are others
    for name in ("hf", "plain"):
        assert texts(models, prompts, name, **how) != texts(
            models, prompts, name, **{**how, "seed": 5}
        )


def test_a_limit_of_one_token_is_greedy(models: Models, prompts: list[BenchPrompt]) -> None:
    greedy = texts(models, prompts, "hf")
    for name in ("hf", "plain", "draft"):
        assert texts(models, prompts, name, temperature=1.5, top_k=1) == greedy
        assert texts(models, prompts, name, temperature=1.5, top_p=1e-6) == greedy


@pytest.fixture
def ending(models: Models, prompts: list[BenchPrompt]) -> Models:
    """A pair whose texts end by themselves: the end is scored like a token they write."""
    written = texts(models, prompts, "hf")
    token = next(t for t in written[0][6:] if t not in written[0][:6])
    for model in (models.target, models.drafter):
        assert model is not None
        head = model.model.get_output_embeddings().weight
        with torch.no_grad():
            head[EOS] = head[token] * 1.01
    return models


@pytest.mark.parametrize("name", OURS)
def test_texts_end_where_those_of_transformers_do(
    ending: Models, prompts: list[BenchPrompt], name: str
) -> None:
    theirs = texts(ending, prompts, "hf", ignore_eos=False)
    ours = texts(ending, prompts, name, ignore_eos=False)
    assert ours == theirs
    assert len(theirs[0]) < 24
    assert [EOS in text[:-1] for text in theirs] == [False] * 3
    assert theirs[0][-1] == EOS
    whole = texts(ending, prompts, name, ignore_eos=True)
    assert [len(text) for text in whole] == [24] * 3
    assert whole[0][: len(theirs[0])] == theirs[0]


def test_an_end_in_a_conversation(ending: Models) -> None:
    talk = BenchPrompt("own", "talk", "the cat and the dog and the cat and", turns=("\nand\n",))
    found = {}
    for name in ("hf", *OURS):
        method = make_method(name, ending, 4)
        with method.ready():
            found[name] = method.write(talk, Writing(24, ignore_eos=False))
    assert {tuple(one.tokens) for one in found.values()} == {tuple(found["hf"].tokens)}
    assert {tuple(one.answers) for one in found.values()} == {tuple(found["hf"].answers)}
    assert found["hf"].answers[0] < 24
    assert sum(found["hf"].answers) == len(found["hf"].tokens)


@pytest.mark.assisted
def test_lengths_differ_and_speeds_are_by_the_token(
    ending: Models, prompts: list[BenchPrompt]
) -> None:
    how = {"ignore_eos": False, "temperature": 1.0, "top_p": 0.9}
    ready = bench(ending, prompts, ("hf", "plain", "draft"), **how)
    done = ready.run()
    assert done.failed is None
    lengths = {
        name: [len(sample.tokens) for sample in own.values()] for name, own in done.samples.items()
    }
    assert lengths["plain"] == lengths["draft"]
    assert min(lengths["plain"]) < 24
    found = {name: figures(done, name, done.keys) for name in done.usable}
    assert found["plain"]["new_tokens"] == sum(lengths["plain"]) / 3
    seconds = {
        name: sum(sample.seconds for sample in own.values()) for name, own in done.samples.items()
    }
    for name in ("plain", "draft"):
        by_text = seconds["hf"] / seconds[name]
        tokens = sum(lengths[name]) / sum(lengths["hf"])
        assert found[name]["time_vs_hf"]["value"] == pytest.approx(by_text)
        assert found[name]["speedup_vs_hf"]["value"] == pytest.approx(by_text * tokens)
    record = make_record(done, {}, {})
    assert [one["identical"] for one in record["results"]] == [None, None, True]


def test_a_text_that_ends_too_soon_is_refused_where_ends_are_ignored(
    ending: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of ``ignore_eos``: texts of other lengths cannot be compared."""
    ready = bench(ending, prompts, ("hf", "plain"))
    method, own = ready.methods[1], ready.methods[1].write

    def write(prompt: BenchPrompt, writing: Writing) -> Any:
        sample = own(prompt, writing)
        del sample.tokens[-1]
        return sample

    monkeypatch.setattr(method, "write", write)
    with pytest.raises(Exception, match="wrote 23 tokens after 0, not 24"):
        ready.run()


class Full(RuntimeError):
    """What a device says when it is full."""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        Full("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("at", [1, 4])
def test_no_memory_for_one_is_a_result(
    models: Models,
    prompts: list[BenchPrompt],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    at: int,
) -> None:
    ready = bench(models, prompts, ("hf", "ngram@4", "draft"))
    own, calls = ready.methods[1].write, [0]

    def write(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error
        return own(*given)

    monkeypatch.setattr(ready.methods[1], "write", write)
    done = ready.run()
    assert done.failed is None
    assert calls[0] == at  # not tried again
    assert list(done.unusable) == ["ngram@4"]
    assert done.usable == ["hf", "draft"]
    assert len(done.keys) == 3
    record = make_record(done, {}, {})
    assert [one["method"] for one in record["results"]] == ["hf", "draft"]
    assert record["unusable"][0]["why"].startswith("out of memory")
    assert "unusable" in [one["kind"] for one in record["warnings"]]


def test_no_memory_for_the_baseline_is_an_error(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    ready = bench(models, prompts, ("hf", "plain"))
    monkeypatch.setattr(ready.methods[0], "write", write)
    with pytest.raises(torch.OutOfMemoryError):
        ready.run()


def test_seeds_are_of_prompt_and_sample() -> None:
    one = BenchPrompt("own", "a", "text")
    more = [BenchPrompt("own", "a", "text", seed=number) for number in range(4)]
    writing = Writing(seed=7)
    assert len({writing.seed_for(prompt) for prompt in more}) == 4
    assert writing.seed_for(one) == writing.seed_for(more[0])
    assert writing.seed_for(one) != Writing(seed=8).seed_for(one)
    assert writing.seed_for(one) != writing.seed_for(BenchPrompt("own", "a", "other"))
