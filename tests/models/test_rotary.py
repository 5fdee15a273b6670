"""Keys turned from one position to another are those the model makes there."""

import functools

import pytest
import torch
import transformers as hf

import architectures
from outpace.errors import UnsupportedModel
from outpace.models import rotary, wrap
from outpace.models.rotary import rotation_of
from outpace.models.runtime import EagerRuntime, Inputs

LENGTH = 24
START = 240
CHUNK = 40  # of Llama 4; its text goes on by whole chunks, as chunks do not move
COMMON, NO_GROUPS = architectures._COMMON, architectures._NO_GROUPS
SMALL = {"vocab_size": architectures.VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}


def scaled(kind, **settings):
    rope = {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0, **settings}
    return lambda: hf.LlamaConfig(**COMMON, rope_parameters=rope)


def llama4():
    config = COMMON | {"num_hidden_layers": 4}
    return hf.Llama4TextConfig(
        **config,
        intermediate_size_mlp=64,
        num_local_experts=2,
        no_rope_layers=[1, 1, 1, 0],
        attention_chunk_size=CHUNK,
    )


OTHERS = {
    "gpt_neox, all turned": lambda: hf.GPTNeoXConfig(**NO_GROUPS, rotary_pct=1.0),
    "phi": lambda: hf.PhiConfig(**NO_GROUPS),
    "cohere": lambda: hf.CohereConfig(**NO_GROUPS),
    "glm": lambda: hf.GlmConfig(**COMMON),
    "gptj": lambda: hf.GPTJConfig(
        **SMALL, n_positions=512, rotary_dim=4, bos_token_id=1, eos_token_id=2
    ),
    "nanochat": lambda: hf.NanoChatConfig(**COMMON),
    "smollm3": lambda: hf.SmolLM3Config(
        **COMMON | {"num_hidden_layers": 4}, no_rope_layers=[1, 1, 1, 0]
    ),
    "llama4": llama4,
    "linear": scaled("linear"),
    "llama3": scaled(
        "llama3", low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=128
    ),
    "yarn": scaled("yarn", original_max_position_embeddings=128),
}
TURNED = [name for name in architectures.CONFIGS if name != "gpt2"] + list(OTHERS)
NEAR = ["llama", "gpt_neox", "cohere", "gemma3", "gpt_oss"]


def fresh(name):
    if name in architectures.CONFIGS:
        return architectures.build(name)
    torch.manual_seed(0)
    config = OTHERS[name]()
    config.initializer_range = 0.3
    return hf.AutoModelForCausalLM.from_config(config).eval()


@functools.cache
def model_of(name, dtype=torch.float32):
    return wrap(fresh(name).to(dtype), name=name)


def keys_at(model, start):
    """Keys ``[24, H_kv, D]`` a layer of one text whose first token is at ``start``."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(model.vocabulary, (LENGTH,), generator=generator)
    where = torch.stack([start + torch.arange(LENGTH), torch.arange(LENGTH)])
    seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    held = torch.full((LENGTH + 1,), -1)
    cache = model.new_cache(LENGTH + 1)
    with model.attached():
        EagerRuntime(model.step).run(
            Inputs(tokens, where, seen, held, cache, LENGTH + 1, last_only=True)
        )
    return [keys[:LENGTH].clone() for keys in cache.tensors[0]]


def error(ours, real):
    return float((ours.float() - real.float()).norm() / real.float().norm())


@pytest.mark.parametrize("name", TURNED)
def test_turned_keys_are_those_of_a_text_that_begins_elsewhere(name):
    model = model_of(name)
    rotation = rotation_of(model)
    old = keys_at(model, START)
    for delta in (40, -40, -200, 240) if name == "llama4" else (1, -1, 33, -200, 240):
        by = torch.full((LENGTH,), delta)
        for layer, real in enumerate(keys_at(model, START + delta)):
            ours = rotation.turn(layer, old[layer], by)
            assert error(ours, real) < 1e-4, (layer, delta)
            assert ours.dtype == real.dtype
            assert ours.shape == real.shape


@pytest.mark.parametrize("name", NEAR)
def test_heads_may_go_to_different_positions(name):
    model = model_of(name)
    rotation = rotation_of(model)
    old = keys_at(model, START)
    near, far = keys_at(model, START + 3), keys_at(model, START - 100)
    for layer, keys in enumerate(old):
        by = torch.full(keys.shape[:2], 3)
        by[:, 1] = -100
        by[5] = 0
        ours = rotation.turn(layer, keys, by)
        assert torch.equal(ours[5], keys[5])
        ours[5], near[layer][5] = 0, 0
        far[layer][5] = 0
        assert error(ours[:, 0], near[layer][:, 0]) < 1e-4
        assert error(ours[:, 1], far[layer][:, 1]) < 1e-4


@pytest.mark.parametrize("name", NEAR)
def test_a_wrong_distance_is_seen(name):
    model = model_of(name)
    rotation = rotation_of(model)
    real = keys_at(model, START + 33)
    ours = rotation.turn(0, keys_at(model, START)[0], torch.full((LENGTH,), 34))
    assert error(ours, real[0]) > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "cohere", "gemma2", "gemma3", "gpt_oss"])
def test_models_in_low_precision_are_taken(name, dtype):
    model = model_of(name, dtype)
    rotation = rotation_of(model)
    old, real = keys_at(model, START)[0], keys_at(model, START - 200)[0]
    ours = rotation.turn(0, old, torch.full((LENGTH,), -200))
    assert ours.dtype == dtype
    assert error(ours, real) < 1e-2


@pytest.mark.parametrize("name", ["smollm3", "llama4"])
def test_layers_without_positions_are_left_alone(name):
    rotation = rotation_of(model_of(name))
    keys = torch.randn(3, 2, 8)
    changed = [not torch.equal(rotation.turn(n, keys, torch.arange(3)), keys) for n in range(4)]
    assert changed == [True, True, True, False]


def test_the_kinds_of_layers_of_gemma_3_turn_at_their_own_pace():
    rotation = rotation_of(model_of("gemma3"))
    keys, by = torch.randn(3, 2, 8), torch.tensor([1, 10, 100])
    sliding, again, full = (rotation.turn(layer, keys, by) for layer in range(3))
    assert torch.equal(sliding, again)
    assert error(sliding, full) > 0.1


def test_only_the_first_dimensions_of_gpt_neox_turn():
    rotation = rotation_of(model_of("gpt_neox"))
    keys = torch.randn(3, 4, 8)
    turned = rotation.turn(0, keys, torch.tensor([1, 10, 100])) != keys
    assert turned.any(dim=0).any(dim=0).tolist() == [True] * 2 + [False] * 6


def test_learned_positions_cannot_be_turned():
    assert rotation_of(model_of("gpt2")) is None


def test_it_is_found_once(monkeypatch):
    model = wrap(architectures.build("llama"))
    first = rotation_of(model)
    monkeypatch.setattr(rotary, "_find", None)
    assert rotation_of(model) is first


def refused(model, *parts):
    with pytest.raises(UnsupportedModel) as refusal:
        rotation_of(model)
    message = str(refusal.value)
    assert "\n" not in message
    for part in (model.name, "keep their positions", *parts):
        assert part in message


def test_dynamic_scaling_is_refused():
    model = hf.AutoModelForCausalLM.from_config(scaled("dynamic")()).eval()
    refused(wrap(model, name="some/model"), "dynamic rotary scaling")


def test_longrope_is_refused():
    config = architectures.CONFIGS["phi3"]()
    config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 64,
    }
    config.original_max_position_embeddings = 64
    refused(wrap(hf.AutoModelForCausalLM.from_config(config).eval()), "longrope rotary scaling")


def test_dynamic_scaling_of_one_kind_of_layers_is_refused():
    model = wrap(architectures.build("gemma3"))
    model.config.rope_parameters["full_attention"]["rope_type"] = "dynamic"
    refused(model, "dynamic rotary scaling")


def test_latent_attention_turns_whole_keys_and_is_refused_with_compressed_ones():
    config = hf.DeepseekV3Config(
        **NO_GROUPS,
        num_key_value_heads=4,
        moe_intermediate_size=16,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=2,
        kv_lora_rank=12,
        q_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        first_k_dense_replace=1,
    )
    torch.manual_seed(0)
    model = wrap(hf.AutoModelForCausalLM.from_config(config).eval())
    old, real = keys_at(model, START), keys_at(model, START + 33)
    if old[0].shape[-1] == config.kv_lora_rank:
        refused(model, "layer 0", "values")  # from transformers 5.24 on the rotated part is there
        return
    rotation, by = rotation_of(model), torch.full((LENGTH,), 33)
    for layer, keys in enumerate(old):
        assert error(rotation.turn(layer, keys, by), real[layer]) < 1e-4


# Negative controls: what must not pass the check.


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pairs_of_another_kind_fail_the_check(monkeypatch, dtype):
    ways = rotary._ways

    def halves_alone(frequencies, width):
        return (way for way in ways(frequencies, width) if way.first.step is None)

    model = wrap(fresh("cohere").to(dtype))  # interleaved
    monkeypatch.setattr(rotary, "_ways", halves_alone)
    refused(model, "layer 0", "off by")


@pytest.mark.parametrize("share", [0.9, 1.01])
def test_other_frequencies_than_the_models_fail_the_check(monkeypatch, share):
    found = rotary._frequencies
    monkeypatch.setattr(rotary, "_frequencies", lambda model: [share * one for one in found(model)])
    refused(wrap(architectures.build("qwen3")), "layer 0", "off by")


def test_a_distance_off_by_one_fails_the_check(monkeypatch):
    run = rotary._same_tokens_twice

    def shifted(model):
        keys, values, by = run(model)
        return keys, values, by + 1

    monkeypatch.setattr(rotary, "_same_tokens_twice", shifted)
    refused(wrap(architectures.build("mistral")), "layer 0", "off by")


def test_one_pace_for_all_layers_of_gemma_3_fails_the_check(monkeypatch):
    found = rotary._frequencies
    monkeypatch.setattr(rotary, "_frequencies", lambda model: found(model)[:1])
    refused(wrap(architectures.build("gemma3")), "off by")


def test_a_rotation_nothing_is_known_of_is_not_taken_for_learned_positions(monkeypatch):
    monkeypatch.setattr(rotary, "_frequencies", lambda model: [])
    refused(wrap(architectures.build("llama")), "layer 0")


def test_a_thousand_turns_ruin_a_key_and_one_does_not():
    """Why a cache turns its keys once, by the whole distance."""
    config = hf.LlamaConfig(**COMMON | {"head_dim": 64})
    rotation = rotation_of(wrap(hf.AutoModelForCausalLM.from_config(config).eval()))
    generator = torch.Generator().manual_seed(2)
    keys = torch.randn(64, 2, 64, generator=generator)
    real = rotation.turn(0, keys, torch.full((64,), -1000))
    stored = keys.bfloat16()
    often, one_back = stored, torch.full((64,), -1)
    for _ in range(1000):
        often = rotation.turn(0, often, one_back)
    once = rotation.turn(0, stored, torch.full((64,), -1000))
    assert error(often, real) > 0.5
    assert error(once, real) < 5e-3
