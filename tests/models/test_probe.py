"""Which models are taken, and how the others are refused."""

import pytest
import torch
import transformers as hf

import architectures
from outpace.errors import UnsupportedModel
from outpace.models import wrap
from outpace.models.attention import NAME

SMALL = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}

REFUSED = {
    "bloom": lambda: hf.BloomConfig(vocab_size=60, hidden_size=32, n_head=4, n_layer=2),
    "mpt": lambda: hf.MptConfig(vocab_size=60, d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    "falcon": lambda: hf.FalconConfig(**SMALL, alibi=True, new_decoder_architecture=False),
    "gpt_neo": lambda: hf.GPTNeoConfig(
        vocab_size=60,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
    ),
    "rwkv": lambda: hf.RwkvConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2),
    "mamba": lambda: hf.MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2),
    "qwen3_next": lambda: hf.Qwen3NextConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
}


def build(config):
    torch.manual_seed(0)
    config.initializer_range = 0.3
    return hf.AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", list(architectures.CONFIGS))
def test_supported_families_pass_and_keep_their_attention(name):
    model = architectures.build(name)
    before = model.config._attn_implementation
    wrapped = wrap(model, name=name)
    assert model.config._attn_implementation == before != NAME
    assert wrapped.vocabulary == architectures.VOCABULARY
    assert wrapped.context_length == architectures.CONTEXT
    assert wrapped.eos_ids == {2}


@pytest.mark.parametrize("name", list(REFUSED))
@pytest.mark.filterwarnings("ignore")  # some of these warn about kernels that are not installed
def test_others_are_refused_by_name_with_the_reason(name):
    with pytest.raises(UnsupportedModel) as refusal:
        wrap(build(REFUSED[name]()), name="some/model")
    message = str(refusal.value)
    assert "\n" not in message
    assert "some/model" in message or name.split("_")[0] in message.lower()
    assert len(message) > 40


def test_an_encoder_decoder_is_refused():
    config = hf.T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4)
    with pytest.raises(UnsupportedModel, match="encoder-decoder"):
        wrap(hf.T5ForConditionalGeneration(config).eval(), name="t5")


def test_a_wrong_mask_is_caught_by_the_probe(monkeypatch):
    from outpace.models.mask import MaskBuilder

    original = MaskBuilder.build

    def everything(self, held, where, ancestors, rows):
        return original(self, held, where, torch.ones_like(ancestors), rows)

    monkeypatch.setattr(MaskBuilder, "build", everything)
    with pytest.raises(UnsupportedModel, match="standard deviations"):
        wrap(architectures.build("llama"))


def test_positions_by_slot_are_caught_by_the_probe(monkeypatch):
    from outpace.models import LanguageModel

    original = LanguageModel.forward

    def by_slot(self, tokens, where, *rest, **kwargs):
        return original(self, tokens, where[[1, 1]], *rest, **kwargs)

    monkeypatch.setattr(LanguageModel, "forward", by_slot)
    with pytest.raises(UnsupportedModel, match="standard deviations"):
        wrap(architectures.build("llama"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "gpt_oss"])
def test_low_precision_passes(name, dtype):
    wrap(architectures.build(name).to(dtype))


def test_length_dependent_rope_limits_the_context():
    config = architectures.CONFIGS["phi3"]()
    config.rope_parameters = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 64,
    }
    config.original_max_position_embeddings = 64
    assert wrap(build(config)).context_length == 64
