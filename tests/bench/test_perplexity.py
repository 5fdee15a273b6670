import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import architectures
from outpace.bench import quality
from outpace.bench.perplexity import Perplexity, Score, Scoring, perplexity
from outpace.bench.pieces import Document
from outpace.bench.windows import Reading, reading, windows
from outpace.errors import InvalidArgument, ModelError, PromptError, UnknownName
from outpace.models import wrap
from outpace.models.tiny import EOS, byte_tokenizer, tiny_model

TEXT = "the cat and the dog sat by the sea, and the cat said: naïve dogs do not read. " * 2
SHORT = "a dog"


@torch.no_grad()
def directly(ids: list[int], window: int, stride: int) -> float:
    """The nats of all tokens but the first, each from a forward of its own in double precision."""
    model: Any = tiny_model(dtype=torch.float64).model
    model.set_attn_implementation("eager")
    count, total = len(ids) - 1, 0.0
    for place in range(count):
        moves = max(0, -(-(place + 1 - window) // stride))
        end = min(count, window + moves * stride)
        begin = max(0, end - window)
        rows = model(input_ids=torch.tensor([ids[begin : place + 1]]), use_cache=False).logits[0]
        total -= float(torch.log_softmax(rows[-1].double(), dim=-1)[ids[place + 1]])
    return total


def tokens(text: str) -> list[int]:
    return list(byte_tokenizer()(text)["input_ids"])


@pytest.mark.parametrize("chunk", [5, 512])
@pytest.mark.parametrize(
    ("window", "stride"), [(2, 1), (16, 16), (16, 5), (33, 32), (100, 50), (158, 3), (512, 256)]
)
def test_it_is_what_single_forwards_say(
    window: int, stride: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "CHUNK", chunk)
    found = perplexity(tiny_model(), [TEXT], window=window, stride=stride)
    ids = tokens(TEXT)
    assert found.tokens == len(ids) - 1
    assert found.nats == pytest.approx(directly(ids, window, stride), rel=1e-5)
    assert found.ppl == math.exp(found.nats / found.tokens)


def test_another_context_shows() -> None:
    """The negative control of the tolerance."""
    model, ids = tiny_model(), tokens(TEXT)
    for window, stride in ((33, 31), (33, 33), (32, 32), (34, 32)):
        other = perplexity(model, [TEXT], window=window, stride=stride).nats
        assert abs(other / directly(ids, 33, 32) - 1) > 1e-4


@given(st.integers(0, 200), st.integers(2, 80), st.data())
def test_every_token_is_scored_once(count: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    scored: Counter[int] = Counter()
    for number, (begin, first, end) in enumerate(windows(count, window, stride)):
        assert 0 <= begin <= first <= end <= count
        assert end - begin <= window
        if number:
            assert end - begin == window  # as much context as there is room for
            assert end - first <= stride
            assert first - begin >= window - stride
        scored.update(range(first, end))
    assert scored == Counter(range(count))


def test_bos() -> None:
    model, ids = tiny_model(), tokens(TEXT)
    without = perplexity(model, [TEXT], window=32, stride=8)
    assert without.reading.bos is None  # as the tokenizer does
    assert without.nats == perplexity(model, [TEXT], window=32, stride=8, bos=False).nats
    front = perplexity(model, [TEXT], window=32, stride=8, bos=True)
    assert front.reading.bos == EOS  # there is no BOS
    assert front.tokens == without.tokens + 1 == len(ids)
    assert front.nats == pytest.approx(directly([EOS, *ids], 32, 8), rel=1e-5)
    tokenizer: Any = model.tokenizer
    tokenizer.bos_token = "a"
    bos = tokenizer.convert_tokens_to_ids("a")
    front = perplexity(model, [TEXT], window=32, stride=8, bos=True)
    assert front.nats == pytest.approx(directly([bos, *ids], 32, 8), rel=1e-5)


def test_bos_as_the_tokenizer_does() -> None:
    from tokenizers import processors

    model = tiny_model()
    tokenizer: Any = model.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<end> $A", special_tokens=[("<end>", EOS)]
    )
    assert reading(model).bos == EOS
    assert perplexity(model, [SHORT]).nats == perplexity(model, [SHORT], bos=True).nats
    assert perplexity(model, [SHORT], bos=False).tokens == len(SHORT) - 1


def test_documents_begin_anew() -> None:
    model = tiny_model()
    one, other = (perplexity(model, [text], window=32) for text in (TEXT, SHORT))
    both = perplexity(model, [Document("long", TEXT), SHORT], window=32)
    assert both.nats == pytest.approx(one.nats + other.nats, rel=1e-12)
    assert both.tokens == one.tokens + other.tokens
    assert (both.words, both.bytes) == (one.words + other.words, one.bytes + other.bytes)
    assert [score.name for score in both.documents] == ["long", "text 2"]
    joined = perplexity(model, [TEXT + SHORT], window=32)
    assert joined.tokens == both.tokens + 1
    assert abs(joined.nats - both.nats) > 1e-2


def test_words_and_bytes() -> None:
    found = perplexity(tiny_model(), ["a naïve\n dog\t", "é"])
    assert [one.words for one in found.documents] == [4, 1]  # what is after the tab is one too
    assert [one.bytes for one in found.documents] == [14, 2]
    assert found.word_perplexity == math.exp(found.nats / 5)
    assert found.byte_perplexity == math.exp(found.nats / 16)
    assert found.bits_per_byte == pytest.approx(math.log2(found.byte_perplexity))


def test_a_model_that_knows_nothing() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.model.get_output_embeddings().weight.zero_()
    found = perplexity(model, [TEXT, SHORT], window=10, bos=True)
    assert found.ppl == pytest.approx(257, rel=1e-6)
    assert found.interval.low == pytest.approx(257, rel=1e-6)


def test_the_interval() -> None:
    how = Reading("tokens", 8, 4, None)
    scores = [Score(str(i), 10.0 + i % 7, 5, 2, 9) for i in range(40)]
    interval = Perplexity(tuple(scores), how).interval
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.value < interval.high
    assert interval.value == Perplexity(tuple(scores), how).ppl
    assert Perplexity((scores[0],), how).interval.low is None
    silent = Score("nothing to score", 0.0, 0, 1, 1)
    assert Perplexity((scores[0], silent), how).interval.low is None


def test_a_limit() -> None:
    model, ids = tiny_model(), tokens(TEXT)
    for bos in (False, True):
        found = perplexity(model, [SHORT, TEXT, SHORT], window=16, bos=bos, limit=50)
        assert found.tokens == 50
        assert len(found.documents) == 2
        front = [EOS] if bos else []
        read = [*front, *ids][: 50 - found.documents[0].tokens + 1]
        assert found.documents[1].nats == pytest.approx(directly(read, 16, 8), rel=1e-5)
        assert found.documents[1].bytes == len(read) - len(front)
    assert perplexity(model, [SHORT], limit=50).tokens == len(SHORT) - 1


def test_windows_without_being_asked() -> None:
    how = reading(tiny_model(context_length=512))
    assert (how.window, how.stride, how.bos) == (512, 256, None)
    how = reading(tiny_model(context_length=9999))
    assert (how.window, how.stride) == (2048, 1024)
    how = reading(tiny_model(context_length=9999), convention="lm-eval")
    assert (how.window, how.stride, how.bos) == (9999, 9999, EOS)
    model = tiny_model()
    model.context_length = None
    assert reading(model).window == 1024


def test_beyond_the_context() -> None:
    model = tiny_model(context_length=64)
    found = perplexity(model, [TEXT], window=100)
    assert found.reading.note is not None
    assert "100 tokens is beyond the context of a tiny random model (64)" in found.reading.note
    assert found.nats == pytest.approx(directly(tokens(TEXT), 100, 50), rel=1e-5)
    assert perplexity(model, [TEXT], window=64).reading.note is None


def test_positions_that_are_learned() -> None:
    model = wrap(architectures.build("gpt2"), byte_tokenizer(), name="gpt2")
    limit = model.context_length
    assert limit is not None
    with pytest.raises(InvalidArgument, match=f"gpt2 has positions for {limit}: give a window"):
        perplexity(model, [SHORT], window=limit + 1)


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (torch.float16, "in float16: .* overflows: give dtype bfloat16 or float32"),
        (torch.bfloat16, "in bfloat16: .* give dtype float32"),
        (torch.float32, "in float32: .* check its weights"),
    ],
)
def test_logits_that_are_no_numbers(dtype: torch.dtype, said: str) -> None:
    model = tiny_model(dtype=dtype)
    with torch.no_grad():
        model.model.get_output_embeddings().weight.fill_(math.inf)
    with pytest.raises(ModelError, match=said):
        perplexity(model, [SHORT])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"window": 1}, InvalidArgument, "window of 1 tokens: give 2 or more"),
        ({"stride": 0}, InvalidArgument, "stride 0: give 1 or more"),
        ({"window": 8, "stride": 9}, InvalidArgument, "stride 9 is above the window of 8"),
        ({"stride": 513}, InvalidArgument, "stride 513 is above the window of 512"),
        ({"limit": 0}, InvalidArgument, "limit of 0 tokens: give 1 or more"),
        ({"convention": "word"}, UnknownName, "convention 'word': choose one of tokens, lm-eval"),
        ({"convention": "lm-eval", "stride": 4}, InvalidArgument, "stride 4 .* leave it out"),
        ({"convention": "lm-eval", "bos": False}, InvalidArgument, "leave --no-bos out"),
    ],
)
def test_nonsense(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        perplexity(tiny_model(), [TEXT], **given)


def test_nothing_to_score() -> None:
    model = tiny_model()
    for texts in ([], [""], ["a", "b"]):
        with pytest.raises(PromptError, match="no token to score"):
            perplexity(model, texts)
    assert perplexity(model, ["a"], bos=True).tokens == 1
    assert perplexity(model, ["a", SHORT]).documents[0].tokens == 0
    model.tokenizer = None
    with pytest.raises(PromptError, match=r"has no tokenizer .*tokenizer\.json"):
        perplexity(model, [TEXT])


def test_neither_bos_nor_eos() -> None:
    model = tiny_model()
    tokenizer: Any = model.tokenizer
    tokenizer.eos_token = None
    with pytest.raises(InvalidArgument, match="neither BOS nor EOS"):
        perplexity(model, [TEXT], bos=True)


def test_an_interrupt_keeps_whole_documents() -> None:
    scoring = Scoring(tiny_model(), [TEXT, SHORT, TEXT], window=32)
    told: list[str] = []

    def notify(what: str, *, more: int = 0) -> None:
        told.append(what)
        if what == "text 3":
            raise KeyboardInterrupt

    found = scoring.run(notify)
    assert found.interrupted
    assert [one.name for one in found.documents] == ["text 1", "text 2"]
    assert len(told) < scoring.steps
    scoring = Scoring(tiny_model(), [TEXT], window=32)
    told.clear()
    assert not scoring.run(lambda what, *, more=0: told.append(what)).interrupted
    assert len(told) == scoring.steps

    def at_once(what: str, *, more: int = 0) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scoring.run(at_once)


def test_a_record_is_json_even_where_a_figure_is_infinite() -> None:
    found = Perplexity((Score("a", 1e6, 4, 1, 9),), Reading("tokens", 8, 4, None))
    record = found.record()
    assert (record["ppl"], record["word_perplexity"]) == (None, None)
    assert record["nats"] == 1e6
    assert math.isinf(found.ppl)
