"""Bitwise runs: a draft does not change the last bits of a score, so no near tie falls anew."""

import pytest
import torch

from outpace import Decoder
from outpace.decoder import BITWISE
from outpace.drafters.model import ModelDrafter
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree

LENGTHS = (2, 3, 4, 8, 15)
PROMPT = list(range(30))


def rows(model, tokens, length):
    """Logits after every token from the prompt on, by chains that are always accepted."""
    session = Decoder(model).session()
    session.prefill(tokens[: len(PROMPT)], room=256)
    found = []
    for begin in range(len(PROMPT), len(tokens), length):
        part = tokens[begin : begin + length]
        tree = TokenTree.chain(part[0], part[1:])
        found.append(session.forward(tree))
        session.commit(tree, list(range(1, len(part))))
    return torch.cat(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_equal_bit_for_bit(dtype):
    model = tiny_model(dtype=dtype)
    written = Decoder(model).generate(PROMPT, max_new_tokens=60, ignore_eos=True).tokens
    tokens = [*PROMPT, *written]
    loose = [rows(model, tokens, length) for length in (1, *LENGTHS)]
    model.use_runtime("eager", bitwise=BITWISE)
    strict = [rows(model, tokens, length) for length in (1, *LENGTHS)]
    assert all(torch.equal(strict[0], other) for other in strict[1:])
    if dtype == torch.float32:  # the negative control: at the least width that fits they are not
        assert not all(torch.equal(loose[0], other) for other in loose[1:])


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.9}])
def test_the_text_in_low_precision_is_the_same(settings):
    request = {"max_new_tokens": 120, "ignore_eos": True, **settings}
    plain = Decoder.from_pretrained(tiny_model(dtype=torch.bfloat16), drafter="none", bitwise=True)
    assert plain.target.bitwise == BITWISE
    for drafter in (ModelDrafter(tiny_model(dtype=torch.bfloat16, seed=1)), "ngram"):
        target = tiny_model(dtype=torch.bfloat16)
        decoder = Decoder.from_pretrained(target, drafter=drafter, draft_length=40, bitwise=True)
        for start in range(6):
            prompt = [*range(start, start + 12), *range(start, start + 7)]
            out = decoder.generate(prompt, **request)
            assert out.tokens == plain.generate(prompt, **request).tokens
            assert out.stats.drafted <= (BITWISE - 1) * out.stats.rounds


def test_trees_are_refused():
    with pytest.raises(InvalidArgument, match="a bitwise run takes chains only, SuffixDrafter"):
        Decoder.from_pretrained(tiny_model(), drafter="suffix", bitwise=True)
