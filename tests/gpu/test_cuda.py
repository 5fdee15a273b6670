"""What only a GPU can show. Everything here is skipped without one."""

import copy

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.drafters.quantized_self import QuantizedSelfDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.models import load
from outpace.models.bitsandbytes_linear import KINDS
from outpace.models.outline import Outline
from outpace.models.precision import quantized
from outpace.models.tiny import tiny_model
from outpace.noise import Noise, Stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")


def test_the_noise_is_the_cpus():
    cpu = Noise(3).gumbel(range(50), 5000, torch.device("cpu"), Stream.COUPLED)
    gpu = Noise(3).gumbel(range(50), 5000, torch.device("cuda"), Stream.COUPLED).cpu()
    assert torch.allclose(cpu, gpu, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.8, "top_p": 0.9},
        {"temperature": 0.8, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3},
    ],
)
def test_every_drafter_writes_plain_text_on_the_gpu(settings):
    target = tiny_model(device="cuda")
    request = {"max_new_tokens": 100, "ignore_eos": True, **settings}
    wanted = Decoder(target).generate(range(20), **request)
    trees = [
        TreeDrafter(tiny_model(device="cuda", seed=seed), shape)
        for seed in (0, 1)
        for shape in ("fixed", "pruned + adaptive_breadth", "best_first", "sequoia")
    ]
    for drafter in (ModelDrafter(tiny_model(device="cuda")), *trees, "ngram", "prompt-lookup"):
        out = Decoder.from_pretrained(target, drafter=drafter).generate(range(20), **request)
        assert out.tokens == wanted.tokens


def test_beams_find_the_same_texts_on_the_gpu():
    settings = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 60, "ignore_eos": True}
    found = [
        Decoder(tiny_model(device=device)).beam_search(range(20), **settings)
        for device in ("cpu", "cuda")
    ]
    cpu, gpu = ([one.tokens for one in output.hypotheses] for output in found)
    assert cpu == gpu


@pytest.mark.filterwarnings("ignore")  # of the packages' own imports
@pytest.mark.parametrize("precision", ["int8", "int4", "fp8", "bnb-int8", "nf4"])
def test_a_copy_drafts_for_its_own_target(precision):
    pytest.importorskip("bitsandbytes" if precision in KINDS else "torchao.quantization")
    if precision == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the chip has no products in fp8")
    target = load("zoo:target", device="cuda")
    copied = quantized(target, precision)
    assert 0 < copied.packed_bytes < target.weight_bytes
    # what `outpace memory` says without loading anything
    said = Outline.of("zoo:target").weight_bytes(precision)
    assert copied.weight_bytes == pytest.approx(said, rel=0.01)
    ids = torch.arange(9, device="cuda")[None]
    wanted, got = target.stock_logits(ids), copied.stock_logits(ids)
    off = {"int8": 0.1, "bnb-int8": 0.1, "fp8": 0.2}.get(precision, 0.3)  # of four bits
    assert (got - wanted).norm() < off * wanted.norm()
    with copied.stock() as stock:  # differences are judged on such a copy
        assert copy.deepcopy(stock).to(torch.float32)(ids).logits.dtype == torch.float32
    drafter = QuantizedSelfDrafter(precision)
    out = Decoder(target, drafter).generate(range(20), max_new_tokens=60, ignore_eos=True)
    assert out.stats.acceptance_rate > 0.5
