"""The tokenizer of the embedded models: byte-level byte-pair encoding, trained on the corpus."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import Tokens
from .shapes import CONTEXT, VOCABULARY

END = "<|endoftext|>"


def train(texts: Iterable[str], folder: Path) -> None:
    """Train on ``texts`` and write ``tokenizer.json`` and its configuration into ``folder``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def encode(tokenizer: Tokenizer, texts: Iterator[str] | list[str]) -> Tokens:
    """Return the tokens of all texts, each begun by the end-of-text token, in one array."""
    end = tokenizer.token_to_id(END)
    return np.concatenate(
        [np.array([end, *tokenizer.encode(text).ids], dtype=np.uint16) for text in texts]
    )
