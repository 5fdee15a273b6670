"""The decoder: rounds, figures, sessions, names."""

import math
import sys

import pytest
import torch

import outpace
from outpace import Decoder, testing
from outpace.cache import Session
from outpace.compose import make_drafter, make_lengths
from outpace.drafters.model import ModelDrafter
from outpace.drafters.none import NoDrafter
from outpace.drafters.prompt_lookup import PromptLookupDrafter
from outpace.errors import InvalidArgument, UnknownName
from outpace.lengths.adaptive import AdaptiveLength
from outpace.lengths.fixed import FixedLength
from outpace.models.tiny import tiny_model
from outpace.types import TokenTree

PROMPT = list(b"the cat and the dog and the cat")


class TickingClock:
    """Every reading is one second after the last."""

    def __init__(self):
        self.now = 0.0

    def read(self):
        self.now += 1.0
        return self.now


@pytest.fixture(scope="module")
def target():
    return tiny_model()


def test_rounds_tell_the_whole_story(target):
    decoder = Decoder(target, PromptLookupDrafter(), lengths=FixedLength(4))
    stream = decoder.stream(PROMPT, max_new_tokens=60, ignore_eos=True, temperature=0.5)
    rounds = list(stream)
    written = []
    for number, turn in enumerate(rounds):
        tokens, _ = turn.tree.lists()
        assert turn.index == number
        assert tokens[0] == [*PROMPT, *written][-1]
        assert len(turn.tokens) == len(turn.kinds) == len(turn.pieces)
        assert turn.kinds[:-1] == ("accepted",) * (len(turn.kinds) - 1)
        if turn.drafted == 0:
            assert turn.kinds == ("plain",)
        elif len(turn.verdict.path) == turn.drafted and len(turn.tokens) > turn.drafted:
            assert turn.kinds[-1] == "bonus"
        elif len(turn.tokens) == len(turn.verdict.tokens):
            assert turn.kinds[-1] == "recovered"
        for node, token in zip(turn.verdict.path, turn.tokens, strict=False):
            assert tokens[node] == token == turn.verdict.choices[node - 1]
        times = turn.times
        assert times.started <= times.drafted <= times.verified <= times.committed
        written += turn.tokens
    assert written == stream.output.tokens
    assert rounds[-1].end == "length"
    assert {kind for turn in rounds for kind in turn.kinds} >= {"accepted", "plain"}


def test_figures_follow_from_the_rounds(target):
    decoder = Decoder(target, ModelDrafter(tiny_model(seed=4)), lengths=FixedLength(3))
    stream = decoder.stream(PROMPT, max_new_tokens=50, ignore_eos=True, temperature=2.0)
    rounds = list(stream)[1:]
    stats = stream.output.stats
    assert stats.rounds == len(rounds)
    assert stats.drafted == sum(turn.drafted for turn in rounds)
    accepted = sum(turn.kinds.count("accepted") for turn in rounds)
    assert stats.accepted == accepted
    assert stats.acceptance_rate == accepted / stats.drafted <= 1
    assert stats.mean_acceptance_length == 49 / len(rounds)
    firsts = [bool(turn.verdict.path) for turn in rounds if turn.drafted]
    assert stats.per_depth_acceptance[0] == sum(firsts) / len(firsts)
    assert stats.seed == 0
    assert stats.exact
    assert stats.kv_bytes > 0
    assert all(math.isfinite(v) for v in stats.as_dict().values() if isinstance(v, float))


def test_times_come_from_the_clock(target):
    decoder = Decoder(target, PromptLookupDrafter(), clock=TickingClock())
    stats = decoder.generate(PROMPT, max_new_tokens=10, ignore_eos=True).stats
    # one reading when asked, four in round 0; then four a round
    assert stats.ttft == 4.0
    assert stats.total == 4.0 + 4.0 * stats.rounds
    assert stats.tpot == 4.0 * stats.rounds / 9
    assert stats.tokens_per_second == 10 / stats.total
    assert stats.drafting == stats.verifying == stats.rounds


def test_plain_decoding_has_no_draft_figures(target):
    stats = Decoder(target).generate(PROMPT, max_new_tokens=10, ignore_eos=True).stats
    assert (stats.acceptance_rate, stats.mean_acceptance_length) == (0.0, 1.0)
    assert stats.per_depth_acceptance == []
    one = Decoder(target).generate(PROMPT, max_new_tokens=1).stats
    assert (one.rounds, one.mean_acceptance_length, one.tpot) == (0, 0.0, 0.0)


def test_a_session_prefills_only_what_changed(target):
    decoder = Decoder(target, ModelDrafter(tiny_model()))
    session = decoder.session()
    text, widths = list(PROMPT), []
    original = Session.append

    def counting(self, tokens):
        if self is session:
            widths.append(len(tokens))
        return original(self, tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "append", counting)
        for _ in range(3):
            out = decoder.generate(text, max_new_tokens=12, ignore_eos=True, session=session)
            assert (
                out.tokens
                == Decoder(target).generate(text, max_new_tokens=12, ignore_eos=True).tokens
            )
            text += [*out.tokens, 1, 2, 3]
        # the last emitted token was never fed, so it comes with the next turn
        assert widths == [len(PROMPT), 4, 4]
        widths.clear()
        decoder.generate(PROMPT, max_new_tokens=4, session=session)
        assert widths == [1]  # a shorter text: rolled back, its last token computed
        decoder.generate([9, 9, 9], max_new_tokens=4, session=session)
        assert widths == [1, 3]


def test_noise_goes_on_over_the_turns_of_a_session(target):
    decoder, session = Decoder(target, PromptLookupDrafter()), None
    session = decoder.session()
    request = {"temperature": 1.0, "seed": 5, "ignore_eos": True}
    whole = decoder.generate(PROMPT, max_new_tokens=30, **request).tokens
    first = decoder.generate(PROMPT, max_new_tokens=13, session=session, **request).tokens
    second = decoder.generate([*PROMPT, *first], max_new_tokens=17, session=session, **request)
    assert first + second.tokens == whole


def test_a_stream_left_early_frees_its_slots(target):
    decoder = Decoder(target, PromptLookupDrafter())
    session = decoder.session()
    stream = decoder.stream(PROMPT, max_new_tokens=40, session=session)
    next(stream), next(stream), next(stream)
    del stream
    wanted = Decoder(target).generate(PROMPT, max_new_tokens=40)
    assert decoder.generate(PROMPT, max_new_tokens=40, session=session).tokens == wanted.tokens


def test_an_interrupt_at_any_line_leaves_a_usable_session(target):
    drafter = ModelDrafter(tiny_model(seed=4))
    decoder, session = Decoder(target, drafter), None
    settings = {"max_new_tokens": 12, "ignore_eos": True, "temperature": 1.5}
    wanted = {n: Decoder(target).generate(PROMPT[n:], **settings).tokens for n in range(3)}
    session, interrupted = decoder.session(), 0
    changing = {"_commit", "commit", "rollback", "free", "abandon", "take"}
    for place in range(1, 160):
        left = place

        def interrupt(frame, event, _):
            nonlocal left
            code = frame.f_code
            if code.co_name not in changing or "cache" not in code.co_filename:
                return None
            left -= event == "line"
            if left == 0:
                raise KeyboardInterrupt
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            decoder.generate(PROMPT[place % 3 :], session=session, **settings)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        prompt = PROMPT[(place + 1) % 3 :]
        out = decoder.generate(prompt, session=session, **settings)
        assert out.tokens == wanted[(place + 1) % 3], place
        assert len(set(session._slots.slots)) == len(session) == len(session.tokens)
        held = session._held[torch.tensor(session._slots.slots)].tolist()
        assert held == session._slots.positions
        assert int((session._held >= 0).sum()) == len(session)
    assert interrupted > 50


def test_two_streams_side_by_side(target):
    one = Decoder(target, PromptLookupDrafter())
    streams = [
        one.stream(PROMPT, max_new_tokens=30, temperature=1.0, seed=1),
        Decoder(target, ModelDrafter(target)).stream(PROMPT[5:], max_new_tokens=30),
    ]
    outs = [[], []]
    for turns in zip(*streams, strict=False):
        for out, turn in zip(outs, turns, strict=True):
            out.extend(turn.tokens)
    plain = Decoder(target)
    wanted = plain.generate(PROMPT, max_new_tokens=30, temperature=1.0, seed=1).tokens
    assert outs[0] == wanted[: len(outs[0])]
    assert outs[1] == plain.generate(PROMPT[5:], max_new_tokens=30).tokens[: len(outs[1])]


@pytest.mark.parametrize("drafter", ["prompt-lookup", "ngram", "model"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_streams_that_share_a_drafter_take_turns(target, drafter, temperature):
    made = ModelDrafter(tiny_model()) if drafter == "model" else make_drafter(drafter)
    one, two = Decoder(target, made), Decoder(target, made, lengths=FixedLength(3))
    requests = [(one, PROMPT), (two, PROMPT[:7]), (one, [3, *PROMPT, *PROMPT])]
    settings = {"max_new_tokens": 40, "ignore_eos": True, "temperature": temperature}
    streams = [decoder.stream(prompt, **settings) for decoder, prompt in requests]
    outs, order = [[] for _ in streams], [0, 1, 1, 2, 0, 2, 2, 1] * 40
    for number in order:
        turn = next(streams[number], None)
        outs[number].extend(turn.tokens if turn else ())
    for out, (_, prompt) in zip(outs, requests, strict=True):
        assert out == Decoder(target).generate(prompt, **settings).tokens


def test_streams_that_share_a_session_take_turns(target):
    decoder = Decoder(target, PromptLookupDrafter())
    session, settings = decoder.session(), {"max_new_tokens": 30, "ignore_eos": True}
    prompts = [PROMPT, [9, 8, 9, 8, 9], [7]]
    streams = [decoder.stream(prompt, session=session, **settings) for prompt in prompts]
    outs = [[], [], []]
    for number in [0, 1, 2, 2, 1, 0, 0] * 30:
        turn = next(streams[number], None)
        outs[number].extend(turn.tokens if turn else ())
    for out, prompt in zip(outs, prompts, strict=True):
        assert out == Decoder(target).generate(prompt, **settings).tokens


def test_a_tree_with_another_root_is_an_error_not_another_text(target):
    class Lost(NoDrafter):
        def propose(self, context, budget, drawing):
            return TokenTree.chain((context.tokens[-1] + 1) % 200, [1])

    with pytest.raises(InvalidArgument, match="Lost drafted a tree that begins with"):
        Decoder(target, Lost()).generate(PROMPT, max_new_tokens=9)


def test_figures_of_an_unfinished_stream(target):
    stream = Decoder(target).stream(PROMPT, max_new_tokens=9)
    next(stream)
    assert stream.output.stats.end is None
    stream._rounds.close()
    assert stream.output.stats.kv_bytes > 0


def test_depths_past_the_end_of_the_text_do_not_count(target):
    decoder = Decoder(target, ModelDrafter(target), lengths=FixedLength(8))
    free = decoder.generate(PROMPT, max_new_tokens=20, ignore_eos=True)
    config = target.model.generation_config
    before, config.eos_token_id = config.eos_token_id, free.tokens[4]
    try:
        stats = decoder.generate(PROMPT, max_new_tokens=20).stats
    finally:
        config.eos_token_id = before
    assert stats.end == "eos"
    assert len(stats.per_depth_acceptance) == stats.accepted < 8


def test_models_in_the_place_of_names(target):
    small = tiny_model(seed=2)
    decoder = Decoder.from_pretrained(target, drafter=small)
    assert decoder.drafter.model is small
    assert isinstance(Decoder.from_pretrained(target, drafter=None).drafter, NoDrafter)
    for wrong, words in (
        ({"verifier": 5}, "verifier 5"),
        ({"draft_length": 2.7}, "draft length 2.7"),
        ({"draft_length": True}, "draft length True"),
        ({"drafter": 5}, "drafter 5"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            Decoder.from_pretrained(target, **wrong)
    with pytest.raises(outpace.OutpaceError, match="a model of type LlamaForCausalLM"):
        Decoder.from_pretrained(target.model)
    with pytest.raises(InvalidArgument, match="session 5"):
        Decoder(target).generate(PROMPT, session=5)


def test_prompts_of_many_types(target):
    import numpy as np

    decoder = Decoder(target)
    wanted = decoder.generate([5, 6, 7], max_new_tokens=4).tokens
    for prompt in (
        (5, 6, 7),
        range(5, 8),
        torch.tensor([5, 6, 7]),
        torch.tensor([[5, 6, 7]]),
        np.array([5, 6, 7]),
        [np.int64(5), 6, 7],
    ):
        assert decoder.generate(prompt, max_new_tokens=4).tokens == wanted


def test_long_prompts_are_prefilled_in_chunks_and_caches_grow():
    target = tiny_model(context_length=8192)
    prompt = torch.randint(256, (2700,), generator=torch.Generator().manual_seed(1)).tolist()
    session = Session(target)
    logits = session.prefill(prompt)
    assert session.forwards == 4  # 2048 + 512 + 128 + 12
    own = target.stock_logits(torch.tensor([prompt]))[0, -1]
    assert torch.allclose(logits, own, atol=1e-4)
    out = Decoder(target, PromptLookupDrafter()).generate(prompt, max_new_tokens=8)
    assert out.tokens == Decoder(target).generate(prompt, max_new_tokens=8).tokens


def test_a_seed_that_is_none_is_recorded(target):
    decoder = Decoder(target)
    out = decoder.generate(PROMPT, max_new_tokens=20, temperature=1.0, seed=None)
    again = decoder.generate(PROMPT, max_new_tokens=20, temperature=1.0, seed=out.stats.seed)
    assert out.tokens == again.tokens


def test_names(target):
    assert isinstance(make_lengths(3), FixedLength)
    assert make_lengths("3").length == 3
    assert isinstance(make_lengths("adaptive"), AdaptiveLength)
    assert isinstance(make_drafter("none"), NoDrafter)
    decoder = Decoder.from_pretrained(target, drafter="ngram", draft_length="adaptive")
    assert decoder.exact
    with pytest.raises(UnknownName, match="did you mean 'ngram'"):
        make_drafter("ngrm")
    with pytest.raises(UnknownName, match="did you mean 'coupled'"):
        Decoder.from_pretrained(target, verifier="coupld")
    with pytest.raises(UnknownName, match="unknown draft length 'often'"):
        make_lengths("often")
    with pytest.raises(InvalidArgument, match="which"):
        make_drafter("model")
    for length in (0, "0"):
        with pytest.raises(InvalidArgument, match="--drafter none"):
            make_lengths(length)
    for length in (-2, 64, "-2"):
        with pytest.raises(InvalidArgument, match="give 1 to 63"):
            make_lengths(length)


def test_a_drafter_can_only_want_what_there_is(target):
    class Wanting(NoDrafter):
        wants = frozenset({"attention:all"})

    with pytest.raises(InvalidArgument, match="attention:all"):
        Decoder(target, Wanting())


def test_an_approximate_part_makes_the_whole_approximate(target):
    from outpace.verifiers.rejection import RejectionVerifier

    class Lossy(NoDrafter):
        exact = False

    assert Decoder(target).exact
    assert not Decoder(target, Lossy()).exact
    loose = Decoder(target, verifier=RejectionVerifier(skip_sample_adjustment=True))
    assert not loose.exact
    assert not loose.generate(PROMPT, max_new_tokens=2).stats.exact


def test_trees_other_than_chains_go_through_the_loop(target):
    class Forks(NoDrafter):
        """The target's own greedy continuation among wrong ones, as a tree of 3 × 2."""

        def propose(self, context, budget, drawing):
            if budget.depth < 2:
                return super().propose(context, budget, drawing)
            first = int(torch.randint(256, ()))
            right = own[len(context)], own[len(context) + 1]
            tokens = [context.tokens[-1], first, right[0], 7, right[1], 9, 9]
            return TokenTree(torch.tensor(tokens), torch.tensor([-1, 0, 0, 0, 2, 2, 1]))

    text = Decoder(target).generate(PROMPT, max_new_tokens=62, ignore_eos=True).tokens
    own = dict(enumerate([*PROMPT, *text]))
    out = Decoder(target, Forks()).generate(PROMPT, max_new_tokens=60, ignore_eos=True)
    assert out.tokens == text[:60]
    assert out.stats.mean_acceptance_length > 2.5


def test_the_public_names_are_true():
    assert set(outpace.__all__) == set(outpace._HOMES) | {"__version__", "zoo"}
    for name in outpace.__all__:
        assert getattr(outpace, name) is not None
    assert dir(outpace) == sorted(outpace.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        outpace.nothing  # noqa: B018
    assert testing.tiny_model is tiny_model


def test_a_misspelt_method_asks_nobody(target, monkeypatch):
    def asked(*args, **kwargs):
        raise AssertionError("a misspelt name was looked up")

    monkeypatch.setattr("outpace.compose.load", asked)
    for name in ("ngrm", "Prompt-Lookup", "non", "prompt_lookup"):
        with pytest.raises(UnknownName, match="did you mean"):
            Decoder.from_pretrained("org/target", drafter=name)
