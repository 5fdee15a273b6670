"""Loading by name."""

import json

import pytest
import torch

from outpace.errors import InvalidArgument, ModelNotFound, UnknownName, UnsupportedModel
from outpace.models import load
from outpace.models.attention import NAME
from outpace.models.load import check_arithmetic, parameters_of, resolve_device, resolve_dtype
from outpace.models.tiny import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    model = tiny_model()
    model.model.set_attn_implementation("sdpa")
    model.model.save_pretrained(place)
    model.tokenizer.save_pretrained(place)
    return place


@pytest.mark.parametrize("dtype", ["float32", "fp32", "bf16", "float16", torch.bfloat16])
def test_a_folder(folder, dtype):
    model = load(folder, dtype=dtype, device="cpu")
    assert model.dtype == resolve_dtype(dtype)
    assert model.model.config._attn_implementation == NAME
    assert not model.model.training
    assert model.tokenizer("ab")["input_ids"] == list(tiny_model().tokenizer("ab")["input_ids"])
    assert model.parameters == tiny_model().parameters
    assert model.weight_bytes == model.parameters * model.dtype.itemsize
    assert model.eos_ids == {256}


def test_several_eos_ids_come_from_the_generation_config(folder, tmp_path):
    place = tmp_path / "several"
    model = tiny_model().model
    model.generation_config.eos_token_id = [7, 3]
    model.save_pretrained(place)
    assert load(place, dtype="float32").eos_ids == {3, 7}
    assert load(place, dtype="float32").tokenizer is None


def test_what_is_not_a_model_is_named(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    no_weights = tmp_path / "no_weights"
    no_weights.mkdir()
    (no_weights / "config.json").write_text((folder / "config.json").read_text())
    t5 = tmp_path / "t5"
    t5.mkdir()
    (t5 / "config.json").write_text(json.dumps({"model_type": "t5"}))
    cases = [
        (tmp_path / "missing", ModelNotFound, "no such folder"),
        ("./nowhere", ModelNotFound, "no such folder"),
        (empty, ModelNotFound, r"no config\.json"),
        (folder / "config.json", ModelNotFound, "is a file"),
        (broken, ModelNotFound, "configuration cannot be read"),
        (no_weights, ModelNotFound, "cannot be loaded"),
        (t5, UnsupportedModel, "encoder-decoder"),
        ("org/no-such-model", ModelNotFound, "HF_HUB_OFFLINE"),
    ]
    for name, error, words in cases:
        with pytest.raises(error, match=words) as refusal:
            load(name)
        assert str(name) in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_dtypes_and_devices():
    with pytest.raises(UnknownName, match="unknown dtype 'int3': choose one of float32"):
        resolve_dtype("int3")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("toaster", "cuda:99"):
        with pytest.raises(InvalidArgument, match=f"device '{name}' cannot be used here"):
            resolve_device(name)


def test_a_dtype_without_products_is_refused(folder, monkeypatch):
    real, place = torch.nn.functional.linear, torch.device("cpu")

    def lacking(rows, weight, bias=None):
        if rows.dtype == torch.float16:
            raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'. More\nand more")
        return real(rows, weight, bias)

    check_arithmetic(torch.float16, place)
    monkeypatch.setattr(torch.nn.functional, "linear", lacking)
    for dtype in (torch.float32, torch.bfloat16):
        check_arithmetic(dtype, place)
    said = (
        'dtype float16 on cpu: it cannot be multiplied there ("addmm_impl_cpu_" not implemented '
        "for 'Half'): give float32 or bfloat16"
    )
    for call in (
        lambda: check_arithmetic(torch.float16, place),
        lambda: load(folder, dtype="float16", device="cpu"),
        lambda: load("nowhere", dtype="fp16", device="cpu"),  # before anything is read
    ):
        with pytest.raises(InvalidArgument) as refusal:
            call()
        assert str(refusal.value) == said
    load(folder, dtype="bfloat16", device="cpu")


def test_parameters_are_counted_without_the_weights(folder, tmp_path):
    assert parameters_of(folder) == tiny_model().parameters
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert parameters_of(tmp_path) == parameters_of(str(folder))
    assert parameters_of("zoo:small") == load("zoo:small", device="cpu").parameters
    values = json.loads((folder / "config.json").read_text())
    values["num_hidden_layers"] += 1
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert parameters_of(tmp_path) > parameters_of(folder)
    with pytest.raises(ModelNotFound, match="no such folder"):
        parameters_of(tmp_path / "missing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelNotFound, match="the configuration cannot be read") as refusal:
        parameters_of(tmp_path)
    assert "\n" not in str(refusal.value)
