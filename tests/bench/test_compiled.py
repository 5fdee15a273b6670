from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._inductor.config as inductor

from outpace.bench import Bench, BenchPrompt, Models, Writing, compiled
from outpace.bench.compiled import Compiled
from outpace.bench.plan import check_methods, make_method
from outpace.errors import InvalidArgument, UnsupportedModel
from outpace.models.tiny import tiny_model

WRITING = Writing(max_new_tokens=12)
Forward = Callable[..., Any]


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Have torch.compile do nothing but note what it was asked for."""
    asked: list[dict[str, Any]] = []

    def leave(forward: Forward, **settings: Any) -> Forward:
        asked.append(settings)
        return forward

    monkeypatch.setattr(torch, "compile", leave)
    return asked


def written(method: Any, prompt: BenchPrompt) -> Any:
    with method.ready():
        return method.write(prompt, WRITING)


def test_texts_are_those_of_generate(
    models: Models, prompts: list[BenchPrompt], uncompiled: list[dict[str, Any]]
) -> None:
    ours, theirs = (make_method(name, models, 5) for name in ("hf-compiled", "hf"))
    steps = list(ours.prepare(prompts, WRITING))
    assert len(steps) == 1
    assert steps[0].startswith("compiled in")
    for prompt in prompts:
        sample, other = written(ours, prompt), written(theirs, prompt)
        assert sample.tokens == other.tokens
        assert (sample.forwards, sample.emitted) == (other.forwards, other.emitted) == (11, 11)
        assert (sample.drafted, sample.accepted) == (0, 0)
        with ours.ready():
            tokens, rows = ours.rows(prompt, WRITING)
        assert [int(row.argmax()) for row in rows] == tokens == other.tokens
    assert len(uncompiled) == 1
    assert uncompiled[0]["fullgraph"]
    assert uncompiled[0]["dynamic"] is False
    assert uncompiled[0]["options"].items() >= compiled.CPU_OPTIONS.items()
    assert ours.settings["compiler"] == compiled.CPU_OPTIONS


def test_one_cache_holds_every_text(
    models: Models, prompts: list[BenchPrompt], uncompiled: list[dict[str, Any]]
) -> None:
    method = Compiled("hf-compiled", models)
    list(method.prepare(prompts, WRITING))
    longest = max(len(prompt.text) for prompt in prompts) + WRITING.max_new_tokens
    assert longest <= method.settings["slots"] < longest + compiled.ROUNDED
    samples = [written(method, prompt) for prompt in prompts]
    caches = {sample.kv_bytes for sample in samples}
    # 2 layers, keys and values, 2 heads of 8 numbers, 4 bytes
    assert caches == {2 * 2 * 2 * 8 * 4 * method.settings["slots"]}

    shortest = min(prompts, key=lambda prompt: len(prompt.text))
    unprepared = Compiled("hf-compiled", models)
    written(unprepared, shortest)
    small = unprepared.settings["slots"]
    assert small < method.settings["slots"]
    longer = BenchPrompt("own", "long", shortest.text * 3)
    assert (
        written(unprepared, longer).tokens == written(make_method("hf", models, 5), longer).tokens
    )
    assert unprepared.settings["slots"] > small


def test_weights_are_frozen_while_it_runs_alone(
    models: Models, prompts: list[BenchPrompt], uncompiled: list[dict[str, Any]]
) -> None:
    method = Compiled("hf-compiled", models)
    model = models.target.model
    assert not inductor.freezing
    with method.ready():
        assert inductor.freezing
        assert "_compiled_call" in model.__dict__
        with method.ready():  # what was there before is there again
            pass
        assert "_compiled_call" in model.__dict__
    assert not inductor.freezing
    assert "_compiled_call" not in model.__dict__
    assert "_last_compile_config" not in model.__dict__


def test_it_is_prepared_before_the_warm_up(
    models: Models, prompts: list[BenchPrompt], uncompiled: list[dict[str, Any]]
) -> None:
    methods = [make_method(name, models, 5) for name in ("hf", "hf-compiled")]
    bench = Bench(models, methods, prompts, WRITING)
    noted: list[str] = []
    total = bench.steps

    def notify(what: str, *, more: int = 0) -> None:
        nonlocal total
        total += more
        noted.append(what)

    done = bench.run(notify)
    assert len(noted) == total
    assert noted[2].startswith("preparing: hf-compiled: compiled in")
    assert noted[3] == "warm-up: hf-compiled"
    assert done.differences["hf-compiled"] == []


def test_no_compiler(models: Models) -> None:
    refused = pytest.raises(
        InvalidArgument, match="needs a C\\+\\+ compiler on a CPU and finds none"
    )
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}), refused:
        make_method("hf-compiled", models, 5)


def test_names_and_lengths() -> None:
    assert check_methods(["hf-compiled"]) == ["hf", "hf-compiled"]
    with pytest.raises(InvalidArgument, match="takes no draft length"):
        check_methods(["hf-compiled@3"])
    with pytest.raises(InvalidArgument, match="takes no settings"):
        check_methods(["hf-compiled(mode=3)"])


def test_a_model_the_compiler_does_not_take(
    models: Models, prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch._dynamo.exc.Unsupported("graph break\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda forward, **_: fail)
    method = make_method("hf-compiled", models, 5)
    with pytest.raises(UnsupportedModel, match="cannot be compiled \\(graph break\\): leave"):
        list(method.prepare(prompts, WRITING))
    assert "_compiled_call" not in models.target.model.__dict__


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch, fresh_compiler: None) -> None:
    """Have graphs made and guarded as always, and run as they are."""
    compile_ = torch.compile

    def trace(forward: Forward, **settings: Any) -> Forward:
        guards = {"guard_filter_fn": settings["options"]["guard_filter_fn"]}
        made: Forward = compile_(
            forward,
            fullgraph=settings["fullgraph"],
            dynamic=settings["dynamic"],
            backend="eager",
            options=guards,
        )
        return made

    monkeypatch.setattr(torch, "compile", trace)


@pytest.mark.usefixtures("traced")
def test_one_graph_for_all_texts(prompts: list[BenchPrompt]) -> None:
    """Other methods in between change nothing; a cache of another size needs one more.

    Few guards are kept: another model of the same sizes must still get a graph of its own.
    """
    models, others = (Models(tiny_model(seed=seed, layers=1), None) for seed in (0, 1))
    method, hf, plain = (make_method(name, models, 5) for name in ("hf-compiled", "hf", "plain"))
    list(method.prepare(prompts, WRITING))
    for prompt in prompts:
        tokens = written(method, prompt).tokens
        assert tokens == written(hf, prompt).tokens == written(plain, prompt).tokens
    assert method.settings["graphs"] == 1
    other, hf = (make_method(name, others, 5) for name in ("hf-compiled", "hf"))
    list(other.prepare(prompts, WRITING))
    assert written(other, prompts[0]).tokens == written(hf, prompts[0]).tokens
    assert other.settings["graphs"] == 1
    written(method, BenchPrompt("own", "long", prompts[0].text * 2))
    assert method.settings["graphs"] == 2


@pytest.mark.usefixtures("fresh_compiler")
def test_really_compiled(prompts: list[BenchPrompt], monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        compiled._check_compiler("hf-compiled")
    except InvalidArgument:
        pytest.skip("no C++ compiler")
    # choosing among matrix products, and the wrapper in C++, take most of the time
    monkeypatch.setattr(compiled, "CPU_OPTIONS", {"freezing": True})
    models = Models(tiny_model(layers=1), None)
    method, hf = (make_method(name, models, 5) for name in ("hf-compiled", "hf"))
    list(method.prepare(prompts[1:], WRITING))
    for prompt in prompts[1:]:
        assert written(method, prompt).tokens == written(hf, prompt).tokens
    assert method.settings["graphs"] == 1
