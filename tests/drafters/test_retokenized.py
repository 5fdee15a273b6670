"""Drafts by way of text: another tokenizer, the same text."""

import pytest

from outpace import Decoder, zoo
from outpace.drafters.retokenized import TAIL, RetokenizedDrafter
from outpace.errors import InvalidArgument, VocabularyMismatch
from outpace.models import load
from outpace.models.tiny import tiny_model

PROMPT = "Once upon a time there was a little girl who had a red ball. One day she"


@pytest.fixture(scope="module")
def target():
    return load("zoo:target", dtype="float32", device="cpu")


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.8, "seed": 2}, {"repetition_penalty": 1.2}]
)
def test_a_model_with_another_tokenizer_drafts(target, stories, settings):
    drafter = RetokenizedDrafter(load(stories, dtype="float32", device="cpu"))
    out = Decoder(target, drafter).generate(PROMPT, max_new_tokens=120, ignore_eos=True, **settings)
    plain = Decoder(target).generate(PROMPT, max_new_tokens=120, ignore_eos=True, **settings)
    assert out.tokens == plain.tokens
    assert out.stats.drafted > 100


def test_with_ones_own_tokenizer_it_drafts_what_the_model_would(target):
    small = load(f"{zoo.PREFIX}large", dtype="float32", device="cpu")
    request = {"max_new_tokens": 100, "ignore_eos": True}
    got = Decoder(target, RetokenizedDrafter(small)).generate(PROMPT, **request)
    model = Decoder.from_pretrained(target, drafter=small).generate(PROMPT, **request)
    assert got.tokens == model.tokens
    assert got.stats.accepted > 0.8 * model.stats.accepted


def test_a_round_reads_the_end_of_the_text_alone(target, monkeypatch):
    drafter = RetokenizedDrafter(tiny_model())
    read = []
    ids = "outpace.drafters.retokenized._ids"
    plain = __import__("outpace.drafters.retokenized", fromlist=["_ids"])._ids

    def counted(tokenizer, text):
        read.append(len(text))
        return plain(tokenizer, text)

    stream = Decoder(target, drafter).stream(PROMPT, max_new_tokens=400, ignore_eos=True)
    next(stream)
    monkeypatch.setattr(ids, counted)
    rounds = sum(1 for _ in stream)
    assert max(read[len(read) // 2 :]) < 40 * TAIL  # characters: a window, not the whole text
    assert drafter.forwards < 8 * rounds


def test_a_context_that_is_full_drafts_nothing(target):
    drafter = RetokenizedDrafter(tiny_model(context_length=40))
    out = Decoder(target, drafter).generate(PROMPT, max_new_tokens=20, ignore_eos=True)
    assert out.stats.drafted == 0


def test_without_a_tokenizer_it_is_refused(target):
    bare = tiny_model()
    bare.tokenizer = None
    with pytest.raises(VocabularyMismatch, match="no tokenizer that can be read"):
        RetokenizedDrafter(bare)


@pytest.mark.parametrize("name", ["retokenized", "retokenized:"])
def test_it_needs_a_model(name):
    with pytest.raises(InvalidArgument, match="give retokenized:FOLDER"):
        Decoder.from_pretrained(tiny_model(), drafter=name)


def test_no_tree_beside_it():
    with pytest.raises(InvalidArgument, match="takes no tree of its own"):
        Decoder.from_pretrained(tiny_model(), drafter="retokenized:zoo:small", tree="fixed")


def test_by_name(target):
    decoder = Decoder.from_pretrained(target, drafter="retokenized:zoo:small")
    assert isinstance(decoder.drafter, RetokenizedDrafter)
