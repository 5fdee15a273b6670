"""Several turns in one text: each answer is read once, by everybody."""

from typing import Any

import pytest

from outpace.bench import Bench, BenchPrompt, Models, Writing, make_method
from outpace.bench.baselines import Watch
from outpace.bench.measured import context_of
from outpace.bench.methods import Method
from outpace.bench.sample import Sample
from outpace.models import LanguageModel

NEW = 16
TALK = BenchPrompt(
    "own",
    "talk",
    "the cat and the dog and the cat\n\n",
    turns=("\n\nand the dog?\n\n", "\n\nso\n\n"),
)
ALONE = BenchPrompt("own", "text", "once upon a time there was")
METHODS = ("plain", "draft", "ngram@4", "tree:fixed(depth=3, branch=2)", "suffix", "prompt-lookup")


def write(name: str, models: Models, prompt: BenchPrompt = TALK, **more: Any) -> Sample:
    method = make_method(name, models, 4)
    with method.ready():
        return method.write(prompt, Writing(NEW, **more))


def ids(models: Models, text: str, *, first: bool = False) -> list[int]:
    tokenizer: Any = models.target.tokenizer
    return list(tokenizer(text, add_special_tokens=first)["input_ids"])


def by_hand(models: Models, prompt: BenchPrompt) -> list[int]:
    """Every answer from nothing: plain decoding of all that was said so far."""
    from outpace import Decoder

    history: list[int] = []
    answers: list[int] = []
    for text in (prompt.text, *prompt.turns):
        history += ids(models, text, first=not history)
        with models.target.attached():
            new = Decoder(models.target).generate(history, max_new_tokens=NEW, ignore_eos=True)
        answers += new.tokens
        history += new.tokens
    return answers


@pytest.mark.parametrize("name", ["hf", *METHODS])
def test_all_write_the_same_answers(models: Models, name: str) -> None:
    sample = write(name, models)
    assert sample.tokens == by_hand(models, TALK)
    assert sample.answers == [NEW] * 3
    assert len(sample.waits) == 2
    assert sample.ttft + sum(sample.waits) < sample.seconds


@pytest.mark.assisted
@pytest.mark.parametrize("name", ["hf-assisted", "hf-assisted@7", "hf-prompt-lookup"])
def test_so_do_those_of_transformers(models: Models, name: str) -> None:
    sample = write(name, models)
    assert sample.tokens == by_hand(models, TALK)
    assert sample.answers == [NEW] * 3


def test_answers_go_on_with_what_was_said(models: Models) -> None:
    """The negative control: without the turns before, it answers something else."""
    answers = by_hand(models, TALK)
    apart = [
        token
        for text in (TALK.text, *TALK.turns)
        for token in write("plain", models, BenchPrompt("own", "x", text)).tokens
    ]
    assert answers[:NEW] == apart[:NEW]
    assert answers != apart


def read(model: LanguageModel, method: Method, prompt: BenchPrompt) -> list[int]:
    """Return the widths of all forwards of a model."""
    with method.ready(), Watch.on(model.model) as watch:
        method.write(prompt, Writing(NEW))
    return watch.widths


@pytest.mark.parametrize("name", ["hf", "plain"])
def test_a_later_answer_reads_only_what_is_new(models: Models, name: str) -> None:
    widths = read(models.target, make_method(name, models, 4), TALK)
    said = [len(ids(models, text)) for text in (TALK.text, *TALK.turns)]
    # the last token of each answer is read with the turn after it
    prefills = [said[0], *(count + 1 for count in said[1:])]
    wide = [width for width in widths if width > 1]
    assert len(widths) == 3 * NEW
    assert len(wide) == 3
    if name == "hf":
        assert wide == prefills
    else:  # a prefill of ours is padded to a power of two
        assert wide == [1 << (count - 1).bit_length() for count in prefills]
    # the negative control: all that was said before is more
    assert wide[1] < said[0] + NEW + said[1]


@pytest.mark.assisted
@pytest.mark.parametrize("name", ["hf-assisted", "hf-prompt-lookup"])
def test_drafts_of_transformers_read_all_again(models: Models, name: str) -> None:
    """Their cache is not held between answers: what is read is counted as a prefill each."""
    method = make_method(name, models, 4)
    with method.ready():
        sample = method.write(TALK, Writing(NEW))
        assert method.rows(TALK, Writing(NEW))[0] == sample.tokens
    assert sample.emitted + sample.first >= 3 * NEW
    assert 0 <= sample.accepted <= sample.drafted <= 4 * sample.forwards + 4 * 3


@pytest.mark.parametrize("name", ["draft", "ngram@4"])
def test_drafts_do_not_make_it_read_again(models: Models, name: str) -> None:
    method = make_method(name, models, 4)
    assert sum(read(models.target, method, TALK)) <= sum(
        len(ids(models, text)) + 1 + 5 * NEW for text in (TALK.text, *TALK.turns)
    )
    if name == "draft":
        assert models.drafter is not None
        widths = read(models.drafter, method, TALK)
        assert len(widths) > 3
        assert max(widths) <= 64
        # two turns of 16 and 6 tokens with what was accepted before, padded to powers of two
        assert sorted(widths)[-3:] == [32, 32, 64] or sum(w > 32 for w in widths) <= 1


def test_counts_of_both_answers_add_up(models: Models) -> None:
    for name in ("hf", "plain"):
        sample = write(name, models)
        assert (sample.forwards, sample.emitted) == (3 * (NEW - 1), 3 * (NEW - 1)), name
        assert (sample.first, sample.drafted, sample.accepted) == (3, 0, 0), name
    drafted = write("draft", models)
    assert drafted.emitted == drafted.accepted + drafted.forwards
    assert sum(drafted.kept) == drafted.accepted
    assert sum(drafted.offered) >= sum(drafted.kept)


@pytest.mark.assisted
def test_a_bench_of_conversations_and_texts(models: Models) -> None:
    names = ("hf", "hf-assisted", "plain", "draft", "ngram@4")
    methods = [make_method(name, models, 4) for name in names]
    done = Bench(models, methods, [TALK, ALONE], Writing(NEW), repeats=2).run()
    assert not done.failed
    assert all(not found for found in done.differences.values())
    assert {len(one.tokens) for one in done.samples["hf"].values()} == {NEW, 3 * NEW}
    assert done.weighed


@pytest.mark.parametrize("place", range(2 * NEW + NEW))
def test_the_context_of_every_place(models: Models, place: int) -> None:
    tokens = [1000 + number for number in range(3 * NEW)]
    turns = [ids(models, turn) for turn in TALK.turns]
    expected = ids(models, TALK.text, first=True) + tokens[: min(place, NEW)]
    if place >= NEW:
        expected += turns[0] + tokens[NEW : min(place, 2 * NEW)]
    if place >= 2 * NEW:
        expected += turns[1] + tokens[2 * NEW : place]
    got = context_of(models.target.tokenizer, TALK, tokens[:place], [NEW] * 3)
    assert got == expected


def test_the_context_of_a_text(models: Models) -> None:
    tokenizer = models.target.tokenizer
    start = ids(models, ALONE.text, first=True)
    assert context_of(tokenizer, ALONE, [7, 8], [2]) == [*start, 7, 8]
    assert context_of(tokenizer, ALONE, [7, 8], [9]) == [*start, 7, 8]
    assert context_of(tokenizer, ALONE, [], [9]) == start
    assert context_of(tokenizer, ALONE, [7, 8], []) == [*start, 7, 8]


@pytest.mark.parametrize("index", [0, 5, NEW - 1, NEW, NEW + 3, 2 * NEW])
def test_a_difference_in_any_answer_is_judged_where_it_is(models: Models, index: int) -> None:
    """The rows both wrote are compared with a forward over all that was said before."""
    from outpace.bench.differences import Judge

    method = make_method("plain", models, 4)
    with method.ready():
        tokens, rows = method.rows(TALK, Writing(NEW))
    prefix = context_of(models.target.tokenizer, TALK, tokens[:index], [NEW] * 3)
    true = Judge(models.target, Writing())._true_logits(prefix)
    assert float((true - rows[index].double()).abs().max()) < 1e-3
    other = rows[index - 1 if index else 1]  # the negative control: the row beside it
    assert float((true - other.double()).abs().max()) > 0.1
