"""What the configuration of a checkpoint says of its precision."""

from enum import StrEnum
from types import SimpleNamespace

import pytest
from transformers import AwqConfig, BitsAndBytesConfig, GPTQConfig, LlamaConfig

from outpace.models.stored import MIXING, stored_precision


class Method(StrEnum):
    """As transformers' own names of methods."""

    OURS = "ours"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, None),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4 bits"),
        ({"quant_method": "awq", "bits": 3}, "awq 3 bits"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": Method.OURS, "bits": 8}, "ours 8 bits"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4 bits"),
        (
            {
                "quant_method": "bitsandbytes",
                "load_in_8bit": False,
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
            },
            "bitsandbytes nf4",
        ),
    ],
)
def test_a_dictionary_as_it_stands_in_the_file(given, said):
    assert stored_precision(SimpleNamespace(quantization_config=given)) == said


def test_a_configuration_without_any():
    assert stored_precision(SimpleNamespace()) is None
    assert stored_precision(LlamaConfig()) is None


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: GPTQConfig(bits=4), "gptq 4 bits"),
        (lambda: AwqConfig(bits=4), "awq 4 bits"),
        (lambda: BitsAndBytesConfig(load_in_8bit=True), MIXING),
        (
            lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
            "bitsandbytes nf4",
        ),
        (
            lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
            "bitsandbytes fp4",
        ),
    ],
)
def test_the_configurations_of_transformers(made, said):
    config = LlamaConfig()
    config.quantization_config = made()
    assert stored_precision(config) == said
    config.quantization_config = config.quantization_config.to_dict()  # as it is read from a file
    assert stored_precision(config) == said
