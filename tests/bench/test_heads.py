"""Attention heads: what is measured of them, their classes, and what to keep for them."""

import json
import math
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import architectures
from outpace.bench.heads import CLASSES, FIRST, SINKS, WINDOWS, Analysis, Head, classify, importance
from outpace.bench.heads.classes import budget
from outpace.bench.heads.head import MEASURES, head_of, row_sums
from outpace.bench.heads.maps import files, pictures
from outpace.bench.pieces import Document
from outpace.cache import Session
from outpace.cache.budgets import HeadBudgets
from outpace.errors import InvalidArgument, ModelError, PromptError
from outpace.models import wrap
from outpace.models.observing import observed
from outpace.models.tiny import byte_tokenizer, tiny_model

LENGTH = 400
TEXT = "".join(chr(97 + (7 * n * n + n // 5) % 26) for n in range(LENGTH))


def analyse(model, *texts, **how):
    sources = {"mine": [Document(f"text {n}", text) for n, text in enumerate(texts)]}
    return Analysis(model, sources, **how).run()


def by_hand(weights):
    """The measures of whole causal weights ``[H, T, T]``, row by row and word for word."""
    heads = []
    for one in weights.double().tolist():
        rows = []
        for place in range(FIRST, len(one)):
            law = one[place][: place + 1]
            aside = max(0.0, 1 - sum(law))
            outcomes = [*law, aside] if aside > 1e-4 else law
            entropy = -sum(p * math.log(p) for p in outcomes if p > 0)
            some = sum(p > 0 for p in outcomes)
            windows = [sum(law[-width:]) for width in WINDOWS]
            far = sum(law[SINKS : place + 1 - WINDOWS[-1]])
            reach = sum(p * (place - key) for key, p in enumerate(law)) / sum(law) / place
            rows.append(
                [
                    entropy,
                    entropy / math.log(some) if some > 1 else 0.0,
                    max(law),
                    law[0],
                    sum(law[:SINKS]),
                    aside,
                    far,
                    reach,
                    *windows,
                ]
            )
        heads.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
    return heads


def flat(head):
    return [
        head.entropy,
        head.relative_entropy,
        head.maximum,
        head.first,
        head.sinks,
        head.aside,
        head.far,
        head.distance,
        *head.windows,
    ]


def measured(weights, chunk=64):
    """The heads of whole weights ``[H, T, T]``, read in chunks of rows as a model's are."""
    total, length = 0, weights.shape[1]
    for start in range(0, length, chunk):
        end = min(length, start + chunk)
        slots = torch.nn.functional.pad(weights[:, start:end, :end], (0, 5))  # of nobody
        if end > FIRST:
            total = total + row_sums(slots, start)
    return [head_of(sums, length - FIRST) for sums in total]


def law(scores):
    """Causal attention weights of scores ``[H, T, T]``."""
    future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(future, -torch.inf), -1)


def scores(seed=0, heads=3, length=LENGTH):
    return 3 * torch.randn(heads, length, length, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 64, 130, 261, LENGTH])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_sums_over_chunks_are_the_measures_of_the_whole(chunk, share):
    weights = law(scores()) * share  # less than 1 where the model has a sink score
    for found, expected in zip(measured(weights, chunk), by_hand(weights), strict=True):
        assert flat(found) == pytest.approx(expected, abs=1e-5)
        assert found.sinks + found.windows[-1] + found.far + found.aside == pytest.approx(1)
        assert found.recent + found.local == pytest.approx(found.windows[-1])
    shifted = by_hand(weights.roll(1, -1))  # a window that begins a token too late is noticed
    assert flat(measured(weights, chunk)[0]) != pytest.approx(shifted[0], abs=1e-5)


def test_known_laws():
    even = measured(law(torch.zeros(1, LENGTH, LENGTH)))[0]
    assert even.relative_entropy == pytest.approx(1)
    assert even.distance == pytest.approx(0.5, abs=0.01)
    assert 2 * even.windows[0] == pytest.approx(even.windows[2] / 4)
    own = measured(torch.eye(LENGTH)[None])[0]
    assert flat(own) == [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    first = torch.zeros(1, LENGTH, LENGTH)
    first[:, :, 0] = 1
    assert flat(measured(first)[0]) == [0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0]


# Patterns in which each class is unambiguous: what share of each row lies where.


def pattern(*, first=0.0, sinks=0.0, near=0.0, one_far=0.0, even=0.0):
    """Weights ``[1, T, T]``; the far token is another one in every row."""
    weights = torch.zeros(LENGTH, LENGTH)
    rows = torch.arange(LENGTH)
    weights[:, 0] += first
    weights[:, :SINKS] += sinks / SINKS
    for back in range(16):
        weights[rows[FIRST:], rows[FIRST:] - back] += near / 16
    places = SINKS + (rows * 13) % (rows - WINDOWS[-1] - SINKS).clamp(min=1)
    weights[rows[FIRST:], places[FIRST:]] += one_far
    weights += even * law(torch.zeros(1, LENGTH, LENGTH))[0]
    return weights[None]


PATTERNS = {
    "dead": pattern(first=0.98, near=0.02),
    "positional sink": pattern(sinks=0.5, near=0.5),
    "positional": pattern(sinks=0.05, near=0.95),
    "mixed sink": pattern(sinks=0.5, even=0.5),
    "gathering": pattern(near=0.2, one_far=0.8),
    "mixed": pattern(near=0.3, even=0.7),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name):
    assert classify(measured(PATTERNS[name])[0]) == name


def test_what_a_class_hangs_on():
    def of(**shares):
        return classify(measured(pattern(**shares))[0])

    assert of(first=0.9, near=0.1) == "positional sink"  # not all of it
    assert of(sinks=0.2, near=0.8) == "positional"
    assert of(sinks=0.5, one_far=0.5) == "mixed sink"
    assert of(near=0.8, one_far=0.2) == "mixed"
    assert of(even=1.0) == "mixed"  # far, but not sharp
    aside = measured(pattern(near=0.02))[0]  # what the model's own sink score takes anchors, too
    assert (aside.aside, classify(aside)) == (pytest.approx(0.98), "dead")


def test_importance_is_what_sinks_and_the_widest_window_miss():
    heads = {name: measured(one)[0] for name, one in PATTERNS.items()}
    assert importance(heads["gathering"]) == pytest.approx(0.8)
    for name in ("dead", "positional sink", "positional"):
        assert importance(heads[name]) == pytest.approx(0, abs=1e-6)


def test_a_head_without_its_far_past_differs_by_no_more_than_its_importance_allows():
    weights, values = law(scores(heads=1))[0], torch.randn(LENGTH, 8)
    for row in range(FIRST, LENGTH):
        kept = weights[row].clone()
        far = kept[SINKS : row + 1 - WINDOWS[-1]].sum()
        kept[SINKS : row + 1 - WINDOWS[-1]] = 0
        moved = (weights[row] @ values - kept / kept.sum() @ values).norm()
        assert moved <= 2 * far * values.norm(dim=-1).max()


def head(windows, sinks=0.0, far=0.0):
    return Head(0, 0, 0, 0, sinks, 0, windows, far, 0)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ([head((0.96, 0.97, 0.98, 0.99))], ("window", 8)),
        ([head((0.3, 0.5, 0.96, 0.99))], ("window", 64)),
        ([head((0.5, 0.5, 0.5, 0.5), sinks=0.5)], ("sink+window", 8)),
        ([head((0.1, 0.6, 0.6, 0.6), sinks=0.38)], ("sink+window", 24)),
        ([head((0.1, 0.1, 0.1, 0.5), far=0.5)], ("full", None)),
        # the one that needs most decides
        ([head((1.0, 1.0, 1.0, 1.0)), head((0.3, 0.5, 0.5, 0.96))], ("window", 256)),
    ],
)
def test_what_is_suggested(heads, expected):
    found = budget(heads)
    assert (found.kind, found.window) == expected


def test_a_key_value_head_has_the_share_of_its_most_important_query_head():
    found = analyse(tiny_model(), TEXT, TEXT[::-1])
    values = [[importance(one) for one in layer] for layer in found.layers]
    shares = [[one.share for one in layer] for layer in found.budgets.layers]
    assert shares == [[0.5 + 0.5 * max(layer[:2]), 0.5 + 0.5 * max(layer[2:])] for layer in values]
    assert values[0] == found.record()["importance"][0]
    assert all(0.5 < share < 1 for layer in shares for share in layer)


def test_a_model_is_measured_as_its_own_eager_attention():
    model = tiny_model()
    found = analyse(model, TEXT, chunk=50)
    ids = torch.tensor([model.tokenizer(TEXT)["input_ids"]])
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model.model(ids, output_attentions=True, use_cache=False).attentions
    for heads, weights in zip(found.layers, layers, strict=True):
        for one, expected in zip(heads, by_hand(weights[0]), strict=True):
            assert flat(one) == pytest.approx(expected, abs=1e-4)


def test_the_chunk_changes_nothing_and_rows_weigh_alike():
    model = tiny_model()
    one, other = (analyse(model, TEXT, TEXT[:300], chunk=chunk) for chunk in (400, 37))
    assert [text.rows for text in one.texts] == [140, 40]
    first, second = (analyse(model, text) for text in (TEXT, TEXT[:300]))
    for layer in range(2):
        for place in range(4):
            together = flat(one.layers[layer][place])
            assert together == pytest.approx(flat(other.layers[layer][place]), abs=1e-5)
            weighed = [
                (140 * a + 40 * b) / 180
                for a, b in zip(
                    flat(first.layers[layer][place]), flat(second.layers[layer][place]), strict=True
                )
            ]
            assert together == pytest.approx(weighed, abs=1e-6)


@pytest.mark.parametrize("name", list(architectures.CONFIGS))
def test_every_family(name):
    model = wrap(architectures.build(name), name=name)

    class Numbers:
        """Text to ids of this vocabulary."""

        bos_token_id = eos_token_id = None

        def __call__(self, text, **_):
            return {"input_ids": [3 + ord(letter) % 98 for letter in text]}

    model.tokenizer = Numbers()
    found = analyse(model, TEXT)
    grouped = name not in {"gpt2", "gpt_neox"}
    assert set(map(len, found.layers)) == {4}
    assert set(found.kv_heads) == {2 if grouped else 4}
    for layer in found.layers:
        for one in layer:
            total = one.sinks + one.windows[-1] + one.far + one.aside
            assert total == pytest.approx(1, abs=1e-4)
    aside = max(one.aside for layer in found.layers for one in layer)
    assert (aside > 1e-3) == (name == "gpt_oss")
    if name in {"mistral", "phi3"}:  # a window of 16 in every layer
        assert all(one.windows[1] > 0.999 for layer in found.layers for one in layer)
    if name == "llama":
        assert all(one.far > 0.01 for layer in found.layers for one in layer)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that anything makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return made


def test_no_matrix_of_all_rows_is_ever_made():
    length, chunk, heads = 8192, 32, 4
    model = tiny_model(context_length=length)
    text = (TEXT * 21)[:length]
    with Largest() as largest:
        found = analyse(model, text, tokens=length, chunk=chunk)
    assert found.rows == length - FIRST
    assert largest.numel <= heads * chunk * (length + 64)  # weights of a chunk, unread slots too
    assert largest.numel < length * length / 60
    session = Session(model)
    ids = model.tokenizer(TEXT)["input_ids"]
    with Largest() as whole, observed(lambda layer, weights: None):
        session.append(ids)  # all rows at once: the count above would notice
    assert whole.numel >= heads * len(ids) ** 2 > heads * chunk * len(ids)


def test_texts_that_are_too_short_are_left_out():
    found = analyse(tiny_model(), TEXT, "short", TEXT[:FIRST], TEXT[: FIRST + 1])
    assert [text.rows for text in found.texts] == [140, 1]
    assert found.left_out == ("mine: 2 of 4 texts, too short",)
    assert [text.name for text in analyse(tiny_model(), *[TEXT] * 9, limit=3).texts] == [
        "text 0",
        "text 1",
        "text 2",
    ]
    with pytest.raises(PromptError, match="no text has more than 260 tokens"):
        analyse(tiny_model(), "short")


def test_bos_is_read_where_the_tokenizer_puts_it():
    model = tiny_model()

    class WithBos:
        bos_token_id = eos_token_id = 256

        def __call__(self, text, add_special_tokens=True, **_):
            ids = byte_tokenizer()(text)["input_ids"]
            return {"input_ids": [256, *ids] if add_special_tokens else ids}

    model.tokenizer = WithBos()
    assert analyse(model, TEXT).texts[0].tokens == LENGTH + 1


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tokens": FIRST}, "260 tokens of a text: measuring begins after 260, give 261 or more"),
        ({"chunk": 0}, "a chunk of 0 rows: give 1 or more"),
        ({"limit": 0}, "a limit of 0 texts: give 1 or more"),
    ],
)
def test_values_are_checked(how, said):
    with pytest.raises(InvalidArgument, match=said):
        analyse(tiny_model(), TEXT, **how)


def test_models_that_cannot():
    with pytest.raises(InvalidArgument, match="a context of 128 tokens, measuring"):
        analyse(tiny_model(context_length=128), TEXT)
    bare = tiny_model()
    bare.tokenizer = None
    with pytest.raises(PromptError, match="no tokenizer"):
        analyse(bare, TEXT)
    broken = tiny_model()
    with torch.no_grad():
        broken.model.model.layers[1].self_attn.q_proj.weight.fill_(math.nan)
    with pytest.raises(ModelError, match=r"no numbers \(NaN\): check its weights"):
        analyse(broken, TEXT)
    learned = wrap(architectures.build("gpt2"), byte_tokenizer(), name="gpt2")
    with pytest.raises(InvalidArgument, match="positions for 512: give 512 or less"):
        analyse(learned, TEXT, tokens=600)
    assert "beyond the context" in (analyse(tiny_model(), TEXT, tokens=600).note or "")


def test_an_interrupt_keeps_the_texts_that_are_done():
    calls = []

    def notify(what, *, more=0):
        calls.append(what)
        if len(calls) == 6:
            raise KeyboardInterrupt

    sources = {"mine": [Document(name, TEXT) for name in "abc"]}
    found = Analysis(tiny_model(), sources).run(notify)
    assert found.interrupted
    assert [text.name for text in found.texts] == ["a"]
    assert found.layers == analyse(tiny_model(), TEXT).layers
    calls[:] = [""] * 5
    with pytest.raises(KeyboardInterrupt):
        Analysis(tiny_model(), sources).run(notify)


def test_a_record_is_read_back_as_budgets(tmp_path):
    found = analyse(tiny_model(), TEXT)
    path = tmp_path / "heads.json"
    path.write_text(json.dumps(found.record(), allow_nan=False))
    assert HeadBudgets.read(path) == found.budgets
    record = json.loads(path.read_text())
    assert set(record["measures"]) == set(MEASURES)
    assert record["kv_heads"] == [2, 2]
    assert record["heads"] == [4, 4]
    assert all(name in CLASSES for layer in record["classes"] for name in layer)


def test_pictures():
    found = analyse(tiny_model(layers=3), TEXT)
    drawn = pictures(found)
    assert set(drawn) == {name.replace(" ", "-") for name in MEASURES} - {"window-8", "aside"} | {
        "importance",
        "classes",
        "overview",
    }
    cells = drawn["sinks"].axes[0].collections[0].get_array()
    assert cells.tolist() == found.of_all(MEASURES["sinks"])
    kinds = drawn["classes"].axes[0].collections[0].get_array()
    assert kinds.tolist() == found.of_all(lambda one: CLASSES.index(classify(one)))
    made = files(found)
    assert len(made) == 2 * len(drawn)
    assert made["overview.png"].startswith(b"\x89PNG")
    assert re.match(r"<\?xml[^>]*>\s*<svg", made["overview.svg"])
    assert made == files(found)  # the same bytes again
