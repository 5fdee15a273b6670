import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from outpace.zoo import corpus
from outpace.zoo.corpus import Chunks, Mixture
from outpace.zoo.shapes import DEEP, DRAFTERS, TARGET, Shape
from outpace.zoo.train import OVERLAP_WEIGHT, distance
from outpace.zoo.training import Phase, Plan, Training

TINY = Shape(layers=1, hidden=16, inner=32, heads=2, kv_heads=1, tied=True)
STREAM = np.arange(4000, dtype=np.uint16) % 50


def test_chunks_cover_the_stream_once_a_pass() -> None:
    chunks = Chunks(np.arange(1001, dtype=np.uint16), 10, seed=0)
    starts = [int(chunks[i][0]) for i in range(100)]
    assert sorted(starts) == list(range(0, 1000, 10))
    assert starts != sorted(starts)
    assert [int(chunks[i][0]) for i in range(100, 200)] != starts  # the next pass has another order
    assert list(chunks[7]) == list(Chunks(chunks.tokens, 10, seed=0)[7])  # no state is needed
    assert len(chunks[3]) == 11


def test_three_rows_in_ten_are_code() -> None:
    mixture = Mixture(np.zeros(2000, np.uint16), np.ones(2000, np.uint16), 10, seed=0)
    rows = mixture.rows(0, 100)
    assert rows.shape == (100, 11)
    assert rows[:, 0].sum() == 30
    whole = np.concatenate([mixture.rows(0, 7), mixture.rows(7, 93)])
    assert (whole == rows).all()


def test_the_standard_library_is_there() -> None:
    texts = list(corpus.sources())
    assert len(texts) > 200
    assert texts == list(corpus.sources())
    training, held = corpus.split(texts, 5)
    assert len(held) == 5
    assert not set(training) & set(held)


def test_shapes_have_the_sizes_they_are_called_by() -> None:
    sizes = {
        name: sum(p.numel() for p in LlamaForCausalLM(LlamaConfig(**shape.config())).parameters())
        for name, shape in {**DRAFTERS, "target": TARGET, "deep": DEEP}.items()
    }
    assert 12e6 <= sizes["target"] <= 14e6
    assert 0.25e6 <= sizes["small"] <= 0.35e6
    assert 0.9e6 <= sizes["medium"] <= 1.1e6
    assert 2.3e6 <= sizes["large"] <= 2.7e6
    assert abs(sizes["deep"] / sizes["large"] - 1) < 0.1


def test_the_schedule() -> None:
    plan = Plan(1000, (Phase(0.5, 4), Phase(0.35, 8), Phase(0.15, 16)), warm_up=0.1, decay=0.4)
    assert [plan.length(t) for t in (0, 499, 500, 849, 850, 1000)] == [4, 4, 8, 8, 16, 16]
    assert plan.rate(0) < 0.02
    assert plan.rate(50) == pytest.approx(0.5, abs=0.02)
    assert plan.rate(400) == 1
    assert plan.rate(800) == pytest.approx(0.5)
    assert plan.rate(1000) == 0


def test_the_distance_of_two_laws() -> None:
    law = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    entropy = -(law * law.log()).sum(-1).mean()
    assert float(distance(law, law.log() + 3.0)) == pytest.approx(float(entropy))
    flat = torch.zeros(2, 3)
    missed = (0.5 - 1 / 3 + 0.8 - 1 / 3) / 2  # what each law has above a third
    expected = float(torch.tensor(3.0).log()) + OVERLAP_WEIGHT * missed
    assert float(distance(law, flat)) == pytest.approx(expected)
    for seed in range(100):  # it is least at the law itself
        other = law.log() + 0.3 * torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
        assert distance(law, other) > distance(law, law.log())


def training(folder: Path, tokens: int = 2048) -> Training:
    torch.manual_seed(0)
    config = {**TINY.config(), "vocab_size": 50}
    model = LlamaForCausalLM(LlamaConfig(**config))
    mixture = {n: Mixture(STREAM, STREAM, n, seed=0) for n in (16, 32)}

    def losses(rows: Tensor) -> Mapping[str, Tensor]:
        logits = model(input_ids=rows[:, :-1]).logits
        return {"tiny": F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())}

    plan = Plan(tokens, (Phase(0.75, 16), Phase(0.25, 32)), batch=128, micro_batch=64)
    return Training(
        folder,
        {"tiny": model},
        plan,
        lambda first, count, length: torch.from_numpy(mixture[length].rows(first, count)),
        losses,
        lambda: {"held": 1.0},
    )


def weights(run: Training) -> Tensor:
    return torch.cat([p.detach().flatten() for p in run.models["tiny"].parameters()])


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    assert whole.run(lambda _: None)
    parts = 0
    while True:
        part = training(tmp_path / "parts")
        parts += 1
        if part.run(lambda _: None, seconds=0.0):
            break
    assert parts == 16  # a step at a time
    assert torch.equal(weights(whole), weights(part))
    fresh = training(tmp_path / "fresh", tokens=1024)
    fresh.run(lambda _: None)
    assert not torch.equal(weights(whole), weights(fresh))


def test_it_learns_and_keeps_a_curve(tmp_path: Path) -> None:
    lines: list[str] = []
    training(tmp_path, tokens=8192).run(lines.append)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["tokens"] == 8192
    assert curve[-1]["tiny"] < 0.7 * curve[0]["tiny"]
    assert curve[-1]["held"] == 1.0
    assert {"step", "seconds", "length"} <= curve[0].keys()
    assert len(lines) == len(curve)


def test_an_interrupt_saves(tmp_path: Path) -> None:
    run = training(tmp_path)

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(stop)
    again = training(tmp_path)
    assert again.step == run.step == 10
    assert torch.equal(weights(again), weights(run))
