"""Ends of a text: exact at any place inside an accepted run."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument, PromptError
from outpace.models.tiny import byte_tokenizer, tiny_model
from outpace.stopping import Stopping, TextStream


def stopping(text_prompt="", stop=(), eos=(), limit=100, room=None) -> Stopping:
    tokenizer = byte_tokenizer()
    prompt = tokenizer(text_prompt)["input_ids"]
    return Stopping(frozenset(eos), tuple(stop), limit, room, TextStream(tokenizer, prompt))


def feed(ends: Stopping, text: str):
    """Push the bytes of ``text`` until the end; return pieces, reason and tokens taken."""
    pieces, end, taken = [], None, 0
    for token in byte_tokenizer()(text)["input_ids"]:
        piece, end = ends.take(token)
        pieces.append(piece)
        taken += 1
        if end:
            break
    return pieces, end, taken


def test_characters_of_several_tokens_come_whole():
    pieces, end, _ = feed(stopping("a"), "é→🎉b")
    assert pieces == ["", "é", "", "", "→", "", "", "", "🎉", "b"]
    assert end is None


def test_an_unfinished_character_is_shown_at_the_end():
    pieces, end, _ = feed(stopping(limit=3), "a🎉")
    assert (end, "".join(pieces)) == ("length", "a\N{REPLACEMENT CHARACTER}")
    assert pieces[0] == "a"


@pytest.mark.parametrize("before", ["", "a", "日本語の文章", "🎉🎉🎉", "é" * 40, "\x00\x01"])
@pytest.mark.parametrize("after", ["日本", "🎉b", " word", "  two", "é\n"])
def test_text_is_what_decoding_both_together_adds(before, after):
    tokenizer = byte_tokenizer()
    prompt, tokens = tokenizer(before)["input_ids"], tokenizer(after)["input_ids"]
    stream = TextStream(tokenizer, prompt)
    shown = "".join(stream.push(token) for token in tokens) + stream.flush()
    assert shown == tokenizer.decode([*prompt, *tokens])[len(before) :]


def test_a_long_text_of_long_characters_comes_whole():
    tokenizer, text = byte_tokenizer(), "日本語の🎉文章 und Wörter. " * 30
    stream = TextStream(tokenizer, tokenizer("日本")["input_ids"])
    shown = "".join(stream.push(token) for token in tokenizer(text)["input_ids"]) + stream.flush()
    assert shown == text


def test_a_tokenizer_that_drops_the_first_space():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "\u2581the": 1, "\u2581dog": 2, "s": 3, "\u2581": 4, "\u2581ran": 5}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert tokenizer.decode([1, 2]) == "the dog"
    for prompt in ([1], [1, 2], [1, 2, 3] * 10):
        stream = TextStream(tokenizer, prompt)
        assert [stream.push(token) for token in (2, 3, 5)] == [" dog", "s", " ran"]


def test_bytes_that_are_no_text_do_not_hold_it_back_forever():
    ends = stopping(limit=1000)
    lone = byte_tokenizer()("é")["input_ids"][1]  # a continuation byte
    shown = "".join(ends.take(lone)[0] for _ in range(200))
    assert shown.count("\N{REPLACEMENT CHARACTER}") > 100


@pytest.mark.parametrize(
    ("stop", "text", "shown", "taken"),
    [
        (["dog"], "the dog runs", "the ", 7),
        (["dog", "the"], "the dog", "", 3),
        (["ogo"], "gogogo", "g", 4),
        (["aab"], "aaab", "a", 4),
        (["é"], "caféx", "caf", 5),
        (["xyz"], "xyxyxyz", "xyxy", 7),
        (["b", "ab"], "ab", "", 2),
    ],
)
def test_stop_strings(stop, text, shown, taken):
    pieces, end, used = feed(stopping(stop=stop), text)
    assert ("".join(pieces), end, used) == (shown, "stop", taken)


def test_what_may_become_a_stop_string_is_held_back_and_then_shown():
    ends = stopping(stop=["dog"])
    pieces, end, _ = feed(ends, "do dot")
    assert "".join(pieces) == "do dot"
    assert pieces[:3] == ["", "", "do "]
    assert end is None
    last = stopping(stop=["dog"], limit=2)
    assert feed(last, "do")[0] == ["", "do"]


def test_the_reasons_in_order():
    assert feed(stopping(eos=[byte_tokenizer()("x")["input_ids"][0]], limit=2), "ax")[1] == "eos"
    assert feed(stopping(limit=2), "ab")[1] == "length"
    assert feed(stopping(limit=9, room=2), "ab")[1] == "context"
    assert feed(stopping(limit=2, room=2), "ab")[1] == "length"
    ends = stopping(limit=9, room=4)
    assert ends.remaining == 4
    ends.take(65)
    assert ends.remaining == 3


# --- in the loop: the model drafts for itself, so every run of five is accepted -------------------


@pytest.fixture(scope="module")
def target():
    return tiny_model(seed=3)


@pytest.fixture(scope="module")
def decoders(target):
    return Decoder(target), Decoder(target, ModelDrafter(target))


PROMPT = list(b"a story of the sea")


def test_eos_at_every_place_of_an_accepted_run(target, decoders):
    plain, fast = decoders
    free = plain.generate(PROMPT, max_new_tokens=40, temperature=1.0, ignore_eos=True)
    assert fast.generate(PROMPT, max_new_tokens=40, temperature=1.0, ignore_eos=True).tokens == (
        free.tokens
    )
    config = target.model.generation_config
    before = config.eos_token_id
    try:
        for place in range(1, 20):
            # two ends, the one with the larger id first met: order in the list must not matter
            config.eos_token_id = sorted({free.tokens[place], free.tokens[place + 7]})
            first = min(free.tokens.index(token) for token in config.eos_token_id)
            for decoder in decoders:
                out = decoder.generate(PROMPT, max_new_tokens=40, temperature=1.0)
                assert out.tokens == free.tokens[: first + 1]
                assert out.stats.end == "eos"
    finally:
        config.eos_token_id = before


def test_every_number_of_tokens(decoders):
    plain, fast = decoders
    whole = plain.generate(PROMPT, max_new_tokens=25, ignore_eos=True)
    for count in range(1, 26):
        out = fast.generate(PROMPT, max_new_tokens=count, ignore_eos=True)
        assert out.tokens == whole.tokens[:count]
        assert out.stats.end == "length"
        assert out.stats.new_tokens == count


def test_stop_strings_at_every_place_of_an_accepted_run(decoders):
    plain = decoders[0]
    request = {"max_new_tokens": 60, "ignore_eos": True, "temperature": 0.7}
    text = plain.generate(PROMPT, **request).text
    tried = 0
    for place in range(1, 30):
        stop = text[place : place + 2]
        if len(stop) < 2 or "\N{REPLACEMENT CHARACTER}" in text[: place + 3]:
            continue
        tried += 1
        outs = [decoder.generate(PROMPT, stop=["never", stop], **request) for decoder in decoders]
        assert outs[0].tokens == outs[1].tokens
        assert outs[0].text == outs[1].text == text[: text.index(stop)]
        assert outs[1].stats.end == "stop"
    first = plain.generate(PROMPT, **request)
    assert first.text.startswith(text[:5])
    assert tried or "\N{REPLACEMENT CHARACTER}" in text


def test_a_special_token_as_a_stop_string(target, decoders):
    request = {"max_new_tokens": 400, "ignore_eos": True, "temperature": 3.0}
    free = decoders[0].generate(PROMPT, **request)
    place = free.tokens.index(256)  # the tokenizer's end token
    for decoder in decoders:
        out = decoder.generate(PROMPT, stop="<end>", **request)
        assert out.tokens == free.tokens[: place + 1]
        assert out.stats.end == "stop"


def test_the_context_fills_up_to_its_last_place():
    small = tiny_model(seed=3, context_length=64)
    for decoder in (
        Decoder(small),
        Decoder(small, ModelDrafter(small)),
        Decoder(small, PromptLookupDrafter()),
    ):
        out = decoder.generate(PROMPT, max_new_tokens=500, ignore_eos=True)
        assert len(PROMPT) + len(out.tokens) == 64
        assert out.stats.end == "context"
        one = decoder.generate(range(63), max_new_tokens=5, ignore_eos=True)
        assert len(one.tokens) == 1


def test_stop_accepts_one_string(decoders):
    out = decoders[1].generate(PROMPT, max_new_tokens=30, stop="\x00never")
    assert out.stats.end in {"length", "eos"}


def test_text_left_for_later_is_the_text_of_every_token():
    tokenizer = byte_tokenizer()
    tokens = tokenizer("ein é→🎉 b")["input_ids"]
    one, other = TextStream(tokenizer, []), TextStream(tokenizer, [])
    wanted = [one.push(token) for token in tokens[:-1]]
    wanted.append(one.push(tokens[-1]) + one.flush())
    first = other.later(tokens[:3], last=False)
    rest = other.later(tokens[3:], last=True)
    assert (len(first), len(rest)) == (3, len(tokens) - 3)
    forked = other.fork()
    assert list(rest) == wanted[3:]  # looked at out of turn, and twice
    assert [*first, *rest] == wanted
    assert first[-1] == wanted[2]
    assert list(first[1:]) == wanted[1:3]
    assert forked.shown(len(tokens)) == wanted


def test_nobody_works_out_text_that_nobody_looks_at(monkeypatch):
    stream = TextStream(byte_tokenizer(), [])
    ends = Stopping(frozenset(), (), 9, None, stream)
    pushed = []
    monkeypatch.setattr(TextStream, "push", lambda self, token: pushed.append(token) or "x")
    pieces, end = ends.cut([65, 66, 67])
    assert (len(pieces), end, pushed) == (3, None, [])
    assert list(pieces) == ["x", "x", "x"]
    stopping_at = Stopping(frozenset(), ("stop",), 9, None, stream)
    stopping_at.cut([68])
    assert pushed == [65, 66, 67, 68]  # a stop string has to be looked for at once


def test_text_is_the_pieces_of_the_stream(decoders):
    stream = decoders[1].stream(PROMPT, max_new_tokens=50, temperature=1.0)
    pieces = [piece for turn in stream for piece in turn.pieces]
    assert "".join(pieces) == stream.output.text
    with pytest.raises(StopIteration):
        next(stream)


def test_bad_requests(target, decoders):
    decoder = decoders[0]
    cases = [
        ("", {}, PromptError, "the prompt is empty"),
        ([], {}, PromptError, "the prompt is empty"),
        ([1, 999], {}, PromptError, "token id 999"),
        (list(range(200)) * 3, {}, PromptError, "600 tokens, a tiny random model takes 512"),
        ([1], {"max_new_tokens": 0}, InvalidArgument, "0 new tokens"),
        ([1], {"max_new_tokens": -3}, InvalidArgument, "-3 new tokens"),
        ([1], {"stop": [""]}, InvalidArgument, "empty stop string"),
        ([1], {"temperature": -0.5}, InvalidArgument, "temperature -0.5"),
        ([1], {"session": Decoder(tiny_model()).session()}, InvalidArgument, "another model"),
        ([1], {"bad_words": [[]]}, InvalidArgument, "bad words"),
        ([1], {"bad_words": None}, InvalidArgument, "bad words None"),
        ([1], {"bad_words": [5]}, InvalidArgument, "bad word 5"),
        ([1], {"bad_words": [["a"]]}, InvalidArgument, r"bad word \['a'\]"),
        ([1], {"bad_words": [[9999]]}, InvalidArgument, r"token ids 0 to 256"),
        ([1], {"bad_words": [[-1]]}, InvalidArgument, r"bad word \[-1\]"),
        (None, {}, PromptError, "type NoneType: give a text or a list"),
        (b"bytes", {}, PromptError, "type bytes"),
        (["words"], {}, PromptError, "type list"),
        ([[1, 2], [3, 4]], {}, PromptError, "type list"),
        (torch.ones(2, 3).long(), {}, PromptError, "type Tensor"),
        (7, {}, PromptError, "type int"),
        ([1], {"max_new_tokens": 1.5}, InvalidArgument, "1.5 new tokens"),
        ([1], {"max_new_tokens": None}, InvalidArgument, "None new tokens"),
        ([1], {"temperature": "0.5"}, InvalidArgument, "temperature '0.5': give a number"),
        ([1], {"temperature": None}, InvalidArgument, "temperature None"),
        ([1], {"top_k": 2.5}, InvalidArgument, "top k 2.5: give a whole number"),
        ([1], {"seed": True}, InvalidArgument, "seed True"),
        ([1], {"stop": 5}, InvalidArgument, "stop 5: give a string"),
        ([1], {"stop": [5]}, InvalidArgument, r"stop \[5\]"),
    ]
    for prompt, settings, error, words in cases:
        with pytest.raises(error, match=words):
            decoder.stream(prompt, **settings)
    with pytest.raises(TypeError, match="temprature"):
        decoder.generate([1], temprature=1.0)
    bare = tiny_model()
    bare.tokenizer = None
    for settings, words in (
        ({"stop": "x"}, "need a tokenizer"),
        ({"bad_words": ["x"]}, "bad word"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            Decoder(bare).generate([1], **settings)
    with pytest.raises(PromptError, match="no tokenizer"):
        Decoder(bare).generate("text")
    assert Decoder(bare).generate([1], max_new_tokens=3).text == ""
