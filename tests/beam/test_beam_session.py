"""Beams in the slot cache: what they cost, what they leave behind, and whom they share it with."""

from itertools import islice

import pytest
import torch

from outpace import Decoder
from outpace.cache import Session
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree

PROMPT = list(b"the cat and the dog and the cat")
SETTINGS = {"num_beams": 4, "num_return_sequences": 4, "ignore_eos": True}


@pytest.fixture(scope="module")
def target():
    return tiny_model()


@pytest.fixture(scope="module")
def decoder(target):
    return Decoder(target)


def texts(output):
    return [(one.tokens, round(one.score, 4)) for one in output.hypotheses]


def plain(target, tokens):
    """The log-probability of the last tokens, by a forward without a cache."""
    logits = target.stock_logits(torch.tensor([[*PROMPT, *tokens]]))[0]
    law = torch.log_softmax(logits, dim=-1)
    first = len(PROMPT) - 1
    return sum(float(law[first + n, token]) for n, token in enumerate(tokens))


def test_scores_are_those_of_forwards_without_a_cache(target, decoder):
    for penalty in ("power", "gnmt"):
        out = decoder.beam_search(PROMPT, max_new_tokens=30, penalty=penalty, **SETTINGS)
        assert len({tuple(one.tokens) for one in out.hypotheses}) == 4
        assert [one.score for one in out.hypotheses] == sorted(
            (one.score for one in out.hypotheses), reverse=True
        )
        length = 30 if penalty == "power" else (35 / 6) ** 1.2
        for one in out.hypotheses:
            assert one.log_prob == pytest.approx(plain(target, one.tokens), abs=1e-3)
            assert one.score == pytest.approx(one.log_prob / length)
            assert out.tree.text(one.node) == one.tokens
            assert out.tree.log_probs[one.node] == one.log_prob


def test_one_forward_a_step_and_no_copy_of_keys_and_values(decoder, monkeypatch):
    session = decoder.session()
    sizes, joined = [], []
    branch, cat = Session.branch, torch.cat

    def counted(self, tokens, parents, depth):
        sizes.append(len(tokens))
        return branch(self, tokens, parents, depth)

    def watched(tensors, *args, **kwargs):
        joined.extend(t.shape for t in tensors)
        return cat(tensors, *args, **kwargs)

    monkeypatch.setattr(Session, "branch", counted)
    session.prefill(PROMPT, room=400)
    before, memory = session.forwards, session._cache._slot_layers[0].keys.data_ptr()
    monkeypatch.setattr("outpace.cache.session.torch.cat", watched)
    out = decoder.beam_search(PROMPT, max_new_tokens=60, session=session, **SETTINGS)
    assert out.stats.steps == 60
    assert out.stats.forwards == len(sizes) == 59
    assert out.stats.computed == sum(sizes) == 59 * 4
    assert session.forwards - before == 60  # and one for the last token of the prompt
    assert session._cache._slot_layers[0].keys.data_ptr() == memory
    # halves of queries and keys are joined, by the rotary embedding: nothing as long as a view
    assert joined
    assert all(shape[-2] <= 4 for shape in joined if len(shape) == 4)


def test_slots_follow_how_far_the_beams_differ_and_not_how_long_they_are(decoder):
    session = decoder.session()
    tops, nodes = [], []
    search = decoder.beams(PROMPT, max_new_tokens=300, session=session, **SETTINGS)
    for step in search:
        tops.append(session._slots.top)
        nodes.append(step.held)
        if step.living:
            assert step.held == session.nodes
            paths = [search.tree.path(node)[:-1] for node in step.living]
            different = {node for path in paths for node in path}
            shared = set.intersection(*map(set, paths)) if paths[0] else set()
            assert step.held == len(different - shared)
            assert len(session) == len(PROMPT) + len(shared)
    assert search.stats.widest < 150 < 4 * 300
    # what is in use: the prompt, what is shared, and the nodes that beams differ in
    assert max(tops) <= len(PROMPT) + 300 + search.stats.widest
    assert session._slots.top < len(PROMPT) + 300 + search.stats.widest


def test_the_session_holds_the_best_text(decoder):
    session = decoder.session()
    out = decoder.beam_search(PROMPT, max_new_tokens=40, session=session, **SETTINGS)
    # the last token was never computed
    assert session.tokens == [*PROMPT, *out.tokens[:-1]]
    longer = [*PROMPT, *out.tokens, 1, 2, 3]
    again = decoder.generate(longer, max_new_tokens=20, session=session)
    assert again.tokens == decoder.generate(longer, max_new_tokens=20).tokens
    more = decoder.beam_search(longer, max_new_tokens=20, session=session, **SETTINGS)
    fresh = decoder.beam_search(longer, max_new_tokens=20, **SETTINGS)
    assert texts(more) == texts(fresh)


def test_a_best_text_that_was_dropped_leaves_its_beginning(target, decoder):
    model = target.model
    free = decoder.beam_search(PROMPT, max_new_tokens=30, **SETTINGS)
    before = model.generation_config.eos_token_id
    held = set()
    try:
        for eos in free.tokens:
            model.generation_config.eos_token_id = eos
            session = decoder.session()
            out = decoder.beam_search(
                PROMPT,
                num_beams=3,
                early_stopping="never",
                length_penalty=-1.0,
                session=session,
                max_new_tokens=30,
            )
            kept = len(session) - len(PROMPT)
            assert session.tokens == [*PROMPT, *out.tokens][: len(session)]
            assert kept < len(out.tokens)
            held.add(kept == len(out.tokens) - 1)
            logits = session.prefill([*PROMPT, *out.tokens, 5])
            own = target.stock_logits(torch.tensor([[*PROMPT, *out.tokens, 5]]))[0, -1]
            assert torch.allclose(logits, own, atol=1e-3)
    finally:
        model.generation_config.eos_token_id = before
    assert True in held


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_an_interrupt_leaves_the_session_usable(decoder, steps, monkeypatch):
    session, whole = decoder.session(), decoder.beam_search(PROMPT, max_new_tokens=30, **SETTINGS)
    branch, calls = Session.branch, []

    def upset(self, *args):
        calls.append(args)
        if len(calls) == steps + 1:
            raise KeyboardInterrupt
        return branch(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "branch", upset)
        search = decoder.beams(PROMPT, max_new_tokens=30, session=session, **SETTINGS)
        with pytest.raises(KeyboardInterrupt):
            list(search)
    out = search.output
    assert len(out.tokens) == out.stats.new_tokens == steps + 1
    assert not out.stats.over
    assert out.hypotheses[0].end is None
    assert session.nodes == 0
    assert list(search) == []
    again = decoder.beam_search(PROMPT, max_new_tokens=30, session=session, **SETTINGS)
    assert texts(again) == texts(whole)


def test_nothing_is_found_before_the_first_step(decoder):
    out = decoder.beams(PROMPT, **SETTINGS).output
    assert (out.hypotheses, out.text, out.tokens, out.score) == ([], "", [], float("-inf"))


def test_texts_that_share_a_session_take_turns(decoder):
    session = decoder.session()
    settings = {"max_new_tokens": 20, **SETTINGS}
    first = decoder.beams(PROMPT, session=session, **settings)
    second = decoder.beams([*PROMPT[:9], 7, 8], session=session, **settings)
    stream = decoder.stream(PROMPT, session=session, max_new_tokens=20, ignore_eos=True)
    for _ in islice(first, 6):
        next(second)
        next(stream)
    list(stream)
    for search in first, second:
        assert list(search)
    wanted = decoder.beam_search(PROMPT, **settings)
    assert texts(first.output) == texts(wanted)
    assert texts(second.output) == texts(decoder.beam_search([*PROMPT[:9], 7, 8], **settings))
    plain = decoder.generate(PROMPT, max_new_tokens=20, ignore_eos=True)
    assert stream.output.tokens == plain.tokens


def test_a_stop_string_ends_a_beam(decoder):
    free = decoder.beam_search(PROMPT, max_new_tokens=30, num_beams=4, ignore_eos=True)
    wanted = free.text[8:10]
    out = decoder.beam_search(
        PROMPT, max_new_tokens=30, stop=wanted, early_stopping=True, **SETTINGS
    )
    ended = [one for one in out.hypotheses if one.end == "stop"]
    assert ended
    for one in out.hypotheses:
        assert wanted not in one.text
    for one in ended:
        whole = decoder.target.tokenizer.decode(one.tokens)
        assert whole.startswith(one.text + wanted)


def test_a_beam_that_has_nowhere_to_go(target, decoder):
    everything = [[token] for token in range(target.vocabulary)]
    out = decoder.beam_search(PROMPT, max_new_tokens=8, bad_words=everything)
    assert (out.hypotheses, out.stats.over) == ([], True)
    # with three tokens and no pair of them twice, all texts end before their time
    few = [[token] for token in range(3, target.vocabulary)]
    out = decoder.beam_search(
        [0, 1, 2], max_new_tokens=30, bad_words=few, no_repeat_ngram_size=2, **SETTINGS
    )
    assert 0 < len(out.tokens) < 12
    assert set(out.tokens) <= {0, 1, 2}
    assert out.hypotheses[0].end is None
    assert out.stats.over


def test_the_context_is_the_limit():
    small = Decoder(tiny_model(context_length=40))
    out = small.beam_search(PROMPT, max_new_tokens=100, **SETTINGS)
    assert {one.end for one in out.hypotheses} == {"context"}
    assert {len(one.tokens) for one in out.hypotheses} == {40 - len(PROMPT)}


def test_few_continuations_a_beam(decoder):
    settings = {"max_new_tokens": 25, **SETTINGS}
    tree = decoder.beam_search(PROMPT, top_k=2, **settings).tree
    assert max(map(len, tree.children())) == 2
    assert max(map(len, decoder.beam_search(PROMPT, **settings).tree.children())) > 2
    one = decoder.beam_search(PROMPT, top_k=1, **settings)
    greedy = decoder.generate(PROMPT, max_new_tokens=25, ignore_eos=True)
    assert [hypothesis.tokens for hypothesis in one.hypotheses] == [greedy.tokens]


def test_no_beam_is_there_twice(decoder):
    tree = decoder.beam_search(PROMPT, max_new_tokens=40, **SETTINGS).tree
    assert len({(p, t) for p, t in zip(tree.parents, tree.tokens, strict=True)}) == len(tree)


# the session itself


def test_a_round_can_be_pruned_and_settled(target):
    session = Session(target)
    session.prefill(PROMPT)
    # level 1: a, b; level 2: aa, ab, ba
    session.branch(torch.tensor([10, 20]), [-1, -1], 1)
    session.branch(torch.tensor([30, 40, 50]), [0, 0, 1], 2)
    assert session.nodes == 5
    session.prune([0, 2, 3])
    assert session.nodes == 3
    session.settle([10])
    assert session.nodes == 2
    assert session.tokens == [*PROMPT, 10]
    logits = session.branch(torch.tensor([60, 70]), [0, 1], 2)
    # what was freed lies under the new nodes
    assert session._slots.top == len(PROMPT) + 5
    for row, text in zip(logits, ([10, 30, 60], [10, 40, 70]), strict=True):
        own = target.stock_logits(torch.tensor([[*PROMPT, *text]]))[0, -1]
        assert torch.allclose(row, own, atol=1e-4)
    session.keep([1, 3], [40, 70])
    assert session.tokens == [*PROMPT, 10, 40, 70]
    assert session.nodes == 0
    logits = session.append([80])
    own = target.stock_logits(torch.tensor([[*PROMPT, 10, 40, 70, 80]]))[0, -1]
    assert torch.allclose(logits, own, atol=1e-4)
    tree = TokenTree.chain(90, [91])
    session.forward(tree)
    session.abandon()
    assert session.nodes == 0


@pytest.mark.parametrize("where", ["prune", "settle"])
def test_an_interrupt_in_the_middle_of_a_change_costs_what_is_held(target, where, monkeypatch):
    from outpace.cache.slots import Slots

    def upset(*_):
        raise KeyboardInterrupt

    session = Session(target)
    session.prefill(PROMPT)
    session.branch(torch.tensor([10, 20]), [-1, -1], 1)
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "free" if where == "prune" else "commit", upset)
        with pytest.raises(KeyboardInterrupt):
            session.prune([1]) if where == "prune" else session.settle([10])
    logits = session.prefill([*PROMPT, 5])
    own = target.stock_logits(torch.tensor([[*PROMPT, 5]]))[0, -1]
    assert torch.allclose(logits, own, atol=1e-4)
    assert len(session) == len(PROMPT) + 1
