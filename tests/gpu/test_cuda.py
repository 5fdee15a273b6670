"""What only a GPU can show. Everything here is skipped without one."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.drafters.tree import TreeDrafter
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
