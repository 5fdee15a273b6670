import math
from pathlib import Path

import numpy as np
import pytest
import torch

from outpace.bench import quality
from outpace.bench.divergence import Laws, Quality, divergences, examine
from outpace.errors import InvalidArgument
from outpace.models import LanguageModel
from outpace.models.precision import quantized
from outpace.models.tiny import tiny_model

VOCABULARY = 257
DRAWN = torch.randint(0, 256, (160,), generator=torch.Generator().manual_seed(3)).tolist()
TEXTS = [DRAWN[:70], DRAWN[70:72], DRAWN[72:]]
SCORED = [69, 1, 87]


def off(amount: float = 0.05) -> LanguageModel:
    """The tiny model with some noise."""
    model, noise = tiny_model(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.add_(amount * torch.randn(weight.shape, generator=noise))
    return model


def directly(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """log p [T - 1, V] in double precision, from one forward of the stock model."""
    rows = model.stock_logits(torch.tensor([ids]))[0, :-1]
    return torch.log_softmax(rows.double(), dim=-1)


def kept(model: LanguageModel, path: Path) -> Laws:
    laws = Laws(path / "laws.npy")
    examine(model, TEXTS, keep=laws)
    return laws


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_a_model_is_at_no_distance_from_itself(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "CHUNK", chunk)
    model = tiny_model()
    found = examine(model, TEXTS, reference=kept(model, tmp_path))
    assert found.kl == [0.0, 0.0, 0.0]
    assert (found.p99, found.largest) == (0.0, 0.0)
    assert found.agreeing == found.tokens == SCORED
    assert found.mean_kl is not None
    assert (found.mean_kl.value, found.mean_kl.high) == (0.0, 0.0)
    assert found.agreement is not None
    assert found.agreement.value == 1.0
    other = examine(off(), TEXTS, reference=kept(model, tmp_path))
    assert all(one > 0.01 for one in other.kl)
    assert other.agreement is not None
    assert other.agreement.value < 1.0


@pytest.mark.parametrize("chunk", [5, 512])
def test_it_is_what_one_forward_says_in_double_precision(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, model = tiny_model(), off()
    laws = kept(reference, tmp_path)
    monkeypatch.setattr(quality, "CHUNK", chunk)
    found = examine(model, TEXTS, reference=laws)
    p = [directly(reference, ids) for ids in TEXTS]
    q = [directly(model, ids) for ids in TEXTS]
    each = [(a.exp() * (a - b)).sum(-1) for a, b in zip(p, q, strict=True)]
    nats = [
        -float(law.gather(1, torch.tensor(ids[1:])[:, None]).sum())
        for law, ids in zip(q, TEXTS, strict=True)
    ]
    agreeing = [int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in zip(p, q, strict=True)]
    assert found.kl == pytest.approx([float(one.sum()) for one in each], rel=1e-4)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.agreeing == agreeing
    assert found.tokens == SCORED
    ordered = torch.cat(each).sort().values
    assert found.largest == pytest.approx(float(ordered[-1]), rel=1e-3)
    # the least that 99 % of all do not pass
    assert found.p99 == pytest.approx(float(ordered[math.ceil(0.99 * len(ordered)) - 1]), rel=1e-3)
    # the other way round is another figure: what the tolerance can tell apart
    back = [float((b.exp() * (b - a)).sum()) for a, b in zip(p, q, strict=True)]
    assert found.kl != pytest.approx(back, rel=1e-2)


def test_means_are_over_tokens_and_intervals_over_texts(tmp_path: Path) -> None:
    found = examine(off(), TEXTS, reference=kept(tiny_model(), tmp_path))
    mean, share = found.mean_kl, found.agreement
    assert mean is not None
    assert share is not None
    assert mean.value == pytest.approx(sum(found.kl) / sum(SCORED))
    assert share.value == pytest.approx(sum(found.agreeing) / sum(SCORED))
    assert found.ppl.value == pytest.approx(math.exp(sum(found.nats) / sum(SCORED)))
    for one in (mean, share, found.ppl):
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.low < one.high
    texts = [kl / count for kl, count in zip(found.kl, found.tokens, strict=True)]
    assert min(texts) <= (mean.low or 0.0)
    assert (mean.high or 0.0) <= max(texts)


def test_one_text_has_no_interval_and_no_reference_no_distance() -> None:
    found = examine(tiny_model(), TEXTS[:1])
    assert found.ppl.low is None
    assert found.ppl.value == pytest.approx(math.exp(found.nats[0] / 69))
    assert (found.mean_kl, found.agreement, found.p99, found.largest) == (None,) * 4


def test_a_model_that_knows_nothing() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.get_output_embeddings().weight.zero_()
    assert examine(model, TEXTS).ppl.value == pytest.approx(VOCABULARY, rel=1e-6)


def test_a_perplexity_past_all_numbers_is_a_number() -> None:
    assert Quality(nats=[1e6], tokens=[2]).ppl.value == math.exp(700.0)


def test_tokens_that_cannot_come_take_no_part() -> None:
    logits = torch.tensor([[1.0, 2.0, -math.inf, 0.5], [-math.inf, 0.0, -math.inf, -math.inf]])
    p = torch.log_softmax(logits, -1)
    q = torch.log_softmax(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), -1)
    assert divergences(p, p).tolist() == [0.0, 0.0]
    found = divergences(p, q)
    weights = torch.softmax(torch.tensor([1.0, 2.0, 0.5]).double(), 0)
    wanted = float((weights * (weights.log() + math.log(4))).sum())
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([wanted, math.log(4)], rel=1e-6)
    # what the reference can say and the model cannot is as far as can be
    assert divergences(q, p).tolist() == [math.inf, math.inf]


def test_models_that_rule_tokens_out(tmp_path: Path) -> None:
    class Ruling(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            return torch.cat([out[..., :-1], torch.full_like(out[..., :1], -math.inf)], -1)

    ruling = tiny_model()
    head = Ruling(32, VOCABULARY, bias=False)
    head.weight = ruling.model.get_output_embeddings().weight
    ruling.model.set_output_embeddings(head)
    laws = kept(ruling, tmp_path)
    assert np.isneginf(laws.read()[:, -1]).all()
    assert examine(ruling, TEXTS, reference=laws).kl == [0.0, 0.0, 0.0]
    found = examine(tiny_model(), TEXTS, reference=laws)
    assert all(0 < one < math.inf for one in found.kl)
    back = examine(ruling, TEXTS, reference=kept(tiny_model(), tmp_path))
    assert back.kl == [math.inf] * 3
    assert back.largest == math.inf


def test_logits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.get_output_embeddings().weight[3] = math.nan
    for settings in ({}, {"keep": Laws(tmp_path / "k.npy")}):
        with pytest.raises(InvalidArgument) as refusal:
            examine(model, TEXTS, **settings)
        assert str(refusal.value) == (
            "a tiny random model in float32: its logits are no numbers: its values do not fit "
            "this dtype, give bfloat16 or float32"
        )


def test_laws_of_other_texts_or_another_vocabulary_are_refused(tmp_path: Path) -> None:
    laws = kept(tiny_model(), tmp_path)
    with pytest.raises(InvalidArgument) as refusal:
        examine(tiny_model(), TEXTS[:2], reference=laws)
    assert str(refusal.value) == (
        "a tiny random model has 257 tokens and 70 places, the reference 257 and 157: compare "
        "precisions of one model"
    )
    laws.make(157, 101)
    with pytest.raises(InvalidArgument, match="157 places, the reference 101 and 157: compare"):
        examine(tiny_model(), TEXTS, reference=laws)


def test_the_file_is_the_laws_in_single_precision(tmp_path: Path) -> None:
    model = tiny_model()
    values = kept(model, tmp_path).read()
    assert (values.dtype, values.shape) == (np.float32, (157, VOCABULARY))
    wanted = torch.cat([directly(model, ids) for ids in TEXTS])
    assert float((torch.from_numpy(values.copy()) - wanted).abs().max()) < 1e-4


def test_a_quantised_copy_is_near(tmp_path: Path) -> None:
    model = tiny_model(dtype=torch.bfloat16)
    found = examine(quantized(model, "int8"), TEXTS, reference=kept(model, tmp_path))
    assert found.mean_kl is not None
    assert 0 < found.mean_kl.value < 0.05
    assert found.agreement is not None
    assert found.agreement.value > 0.8
