"""Bytes by arithmetic, against the storages of loaded models and of texts that are written."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from outpace.cache import Session
from outpace.cache.policies import make_policy
from outpace.errors import InvalidArgument, UnsupportedModel
from outpace.memory import (
    activations,
    draft_model,
    drafter_slots,
    needs,
    parse_size,
    size_text,
    target_slots,
)
from outpace.models import LanguageModel, load
from outpace.models.outline import Outline
from outpace.models.tiny import tiny_model
from outpace.presets import PRESETS, preset_recipe
from outpace.recipe import Recipe

ZOO = "zoo:target"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("models") / "target"
    model = tiny_model(layers=3, context_length=4096)
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(place)
    model.tokenizer.save_pretrained(place)  # type: ignore[union-attr]
    return str(place)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tied embeddings, biases, and matrices the other way round."""
    place = tmp_path_factory.mktemp("models") / "gpt2"
    config = GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=256)
    GPT2LMHeadModel(config).save_pretrained(place)
    return str(place)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4", "bnb-int8", "nf4"])
@pytest.mark.parametrize("name", [ZOO, "zoo:large", "gpt2"])
def test_weights(gpt2: str, name: str, dtype: str) -> None:
    if dtype in {"bnb-int8", "nf4"}:
        pytest.importorskip("bitsandbytes")
    place = gpt2 if name == "gpt2" else name
    model = load(place, dtype=dtype, device="cpu")
    if dtype == "bnb-int8":  # it has its layout after the first forward
        model.stock_logits(torch.zeros(1, 2, dtype=torch.int64))
    outline = Outline.of(place)
    assert outline.weight_bytes(dtype, "cpu") == model.weight_bytes
    assert outline.parameters == model.parameters
    assert outline.context_length == model.context_length
    assert outline.vocabulary == model.vocabulary


def test_what_is_left_wide_is_seen(folder: str) -> None:
    """The negative control: embeddings and head stay in bfloat16."""
    outline = Outline.of(folder)
    assert outline.weight_bytes("int8", "cpu") > outline.parameters
    assert outline.whole > 2 * 257 * 32


def test_loading_a_low_precision_takes_more_than_it_leaves() -> None:
    outline = Outline.of(ZOO)
    wide, packed = (outline.weight_bytes(dtype, "cpu") for dtype in ("bfloat16", "int8"))
    matrices = sum(outputs * inputs for outputs, inputs in outline.matrices)
    assert outline.loading_bytes("bfloat16", "cpu") == wide
    assert outline.loading_bytes("int8", "cpu") == wide + packed - (wide - 2 * matrices)
    recipe = preset_recipe("least-memory", ZOO, "zoo:small", device="cpu")
    found = needs(recipe, 128, 128, target=outline)
    assert found.loading == found.most > found.total


POLICIES = (None, "streaming(sinks=4, recent=252)", "streaming(sinks=4, recent=60)", "recent(90)")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("tokens", "new"), [(8, 8), (40, 30), (100, 300), (700, 100)])
def test_keys_and_values(folder: str, policy: str | None, tokens: int, new: int) -> None:
    recipe = Recipe(
        folder,
        folder,
        draft_length=3,
        dtype="float32",
        device="cpu",
        cache_policy=policy,
        drafter_cache_policy=policy,
    )
    decoder = recipe.decoder()
    prompt = [token % 250 for token in range(tokens)]
    stats = decoder.generate(prompt, max_new_tokens=new, ignore_eos=True).stats
    found = needs(recipe, tokens, new)
    assert found.kv == stats.kv_bytes - decoder.drafter.kv_bytes
    assert found.drafter_kv == decoder.drafter.kv_bytes
    assert found.weights == found.drafter_weights == decoder.target.weight_bytes
    assert found.total == 2 * found.weights + stats.kv_bytes + found.activations


def test_slots() -> None:
    policy = make_policy("streaming(sinks=4, recent=252)")
    assert target_slots(1, 1) == 128
    assert target_slots(1000, 1000) == 4096
    assert target_slots(10_000, 100_000, policy) == 256 + 32 + 64 + 1
    assert drafter_slots(1000, 1) == 2048
    session = Session(tiny_model(), policy)
    session.prefill([1] * 500, room=500)
    assert session.nbytes == (256 + 32 + 64 + 1) * 2 * 2 * 2 * 8 * 4


def test_long_texts_cost_nothing_more() -> None:
    """What the preset for long texts is for, and the negative control."""
    outline = Outline.of(ZOO)

    def kv(name: str, tokens: int) -> int:
        recipe = preset_recipe(name, ZOO, "none", device="cpu")
        return needs(recipe, 128, tokens, target=outline).kv

    assert kv("long", 2000) == kv("long", 100_000)
    assert kv("short", 2000) < kv("short", 100_000)
    assert kv("least-memory", 2000) < kv("balanced", 2000) < kv("long", 2000) < kv("short", 2000)


def test_draft_models() -> None:
    for name in ("prompt-lookup", "none", "auto", "early-exit(layers=1)", "suffix"):
        assert draft_model(name) is None
    assert draft_model("zoo:small") == draft_model("cascade:zoo:small") == "zoo:small"


class Live(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, those that were there before left out."""

    def __init__(self, before: set[int]) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known = before

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, torch.Tensor):
                self._see(one.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.mark.parametrize(("name", "tokens"), [("zoo:target", 512), ("zoo:large", 128)])
def test_activations_are_about_those_of_a_prefill(name: str, tokens: int) -> None:
    model = load(name, dtype="float32", device="cpu")
    session = Session(model)
    session.reserve(target_slots(tokens, 1))
    session.prefill([1] * tokens)  # keys and values are there from now on
    session.clear()
    held = {one.untyped_storage()._cdata for one in _tensors(model, session)}
    with Live(held) as live:
        session.prefill([2] * tokens)
    estimate = activations(Outline.of(name), "float32", tokens, 0, None, target_slots(tokens, 1))
    assert 0.5 < live.most / estimate < 1.5, live.most


def _tensors(model: LanguageModel, session: Session) -> list[torch.Tensor]:
    keys, values = session._cache.tensors
    return [*model.model.parameters(), *model.model.buffers(), *keys, *values]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4_000_000_000),
        ("4 GiB", 4 * 2**30),
        ("300MB", 300_000_000),
        ("1.5gb", 1_500_000_000),
        ("2048", 2048),
        ("512kib", 2**19),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GB", "4XB", "-4GB", "0", "0.0001", "4GB or so", "nan", "1e3"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"give a number and a unit, as in 4GB"):
        parse_size(text)


def test_size_text() -> None:
    assert [size_text(one) for one in (999, 1500, 3.2e8, 5.55e9)] == [
        "999 B",
        "1.50 kB",
        "320.00 MB",
        "5.55 GB",
    ]


def test_a_checkpoint_that_is_quantised(folder: str, tmp_path: Path) -> None:
    import json
    import shutil

    place = tmp_path / "stored"
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="only its files say how large it is"):
        Outline.of(place)


def test_all_presets_have_needs() -> None:
    outline = Outline.of(ZOO)
    for name in PRESETS:
        recipe = preset_recipe(name, ZOO, "suffix", device="cpu")
        assert needs(recipe, 10, 10, target=outline).drafter_weights == 0
