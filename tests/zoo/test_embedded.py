import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import outpace
from outpace import Decoder, zoo
from outpace.drafters.cascade import CascadeDrafter
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.drafters.tree import TreeDrafter
from outpace.errors import ModelNotFound, UnknownName
from outpace.models import load
from outpace.models.tiny import tiny_model

NAMES = ("target", *zoo.SIZES)
PROMPT = "It was late in the autumn when the old captain came back to the village, and"


@pytest.mark.parametrize("name", NAMES)
def test_plain_transformers_can_read_them(name: str) -> None:
    folder = zoo.folder(f"zoo:{name}")
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.config.max_position_embeddings == 2048
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert len(tokenizer) == model.config.vocab_size == 4096
    for text in (PROMPT, "def f(x):\n    return  x\t+ 1\n", "naïve – 東京 🙂\r\n"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    ids = tokenizer(PROMPT, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert out.shape[1] > ids["input_ids"].shape[1]


def test_they_share_a_tokenizer_and_fit_in_forty_megabytes() -> None:
    folders = [zoo.folder(f"zoo:{name}") for name in NAMES]
    assert len({(folder / "tokenizer.json").read_bytes() for folder in folders}) == 1
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    assert size <= 40_000_000


def test_folders() -> None:
    assert zoo.target_dir() == zoo.folder("zoo:target")
    assert zoo.drafter_dir() == zoo.drafter_dir("medium") == zoo.folder("zoo:medium")
    assert {zoo.drafter_dir(size).name for size in zoo.SIZES} == set(zoo.SIZES)
    assert outpace.zoo is zoo
    with pytest.raises(UnknownName, match="no embedded drafter 'huge': choose one of small"):
        zoo.drafter_dir("huge")
    with pytest.raises(UnknownName, match="no embedded model 'zoo:huge': choose one of zoo:target"):
        zoo.folder("zoo:huge")


def test_missing_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "_HERE", tmp_path)
    with pytest.raises(ModelNotFound, match="install Outpace again"):
        zoo.target_dir()


def test_the_pair_is_the_default() -> None:
    decoder = Decoder.from_pretrained()
    assert decoder.target.name == "zoo:target"
    assert isinstance(decoder.drafter, CascadeDrafter)
    assert [model.name for model in decoder.drafter.models] == [zoo.partner("zoo:target")]
    same = Decoder.from_pretrained(zoo.target_dir())
    assert isinstance(same.drafter, CascadeDrafter)
    for asked in ({"draft_length": 3}, {"bitwise": True}, {"verifier": "rejection"}):
        alone = Decoder.from_pretrained(runtime="eager", **asked)
        assert isinstance(alone.drafter, ModelDrafter)
        assert alone.drafter.model.name == zoo.partner("zoo:target")
    assert isinstance(Decoder.from_pretrained(tree="fixed(depth=2)").drafter, TreeDrafter)
    other = Decoder.from_pretrained(tiny_model())
    assert isinstance(other.drafter, PromptLookupDrafter)
    loaded = Decoder.from_pretrained(decoder.target)
    assert isinstance(loaded.drafter, CascadeDrafter)
    alone = Decoder.from_pretrained(decoder.target, drafter=None)
    assert not isinstance(alone.drafter, ModelDrafter)


@pytest.mark.parametrize("size", zoo.SIZES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_same_text_in_fewer_forwards(size: str, temperature: float) -> None:
    target = load("zoo:target", dtype="float32", device="cpu")
    settings: Any = {"max_new_tokens": 100, "temperature": temperature, "ignore_eos": True}
    drafting = Decoder.from_pretrained(target, drafter=f"zoo:{size}", draft_length=4, device="cpu")
    drafted = drafting.generate(PROMPT, **settings)
    plain = Decoder.from_pretrained(target, drafter="none").generate(PROMPT, **settings)
    assert drafted.tokens == plain.tokens
    assert drafted.stats.mean_acceptance_length > 1.4
    if not temperature:
        with target.stock() as stock:
            ids = torch.tensor([target.tokenizer(PROMPT)["input_ids"]])  # type: ignore[misc]
            model: Any = stock
            out = model.generate(ids, max_new_tokens=100, min_new_tokens=100, do_sample=False)
        eos = target.eos_ids
        if not eos & set(out[0].tolist()):
            assert out[0, ids.shape[1] :].tolist() == plain.tokens


def test_all_positions_were_learnt() -> None:
    """Text at the end of the context of 2048 is guessed no worse than at its beginning."""
    target = load("zoo:target", dtype="float32", device="cpu")
    tokenizer: Any = target.tokenizer
    source = Path(inspect.getsourcefile(Decoder) or "").read_text() * 2
    ids = torch.tensor([tokenizer(source)["input_ids"][:2048]])
    logits = target.stock_logits(ids[:, :-1])[0]
    nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    assert nats[1536:].mean() < 1.25 * nats[256:1024].mean()
