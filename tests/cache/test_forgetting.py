"""Forgetting in sessions: logits are those of the stock model over what is kept, and no more."""

import functools

import pytest
import torch
import transformers as hf
from forgetful import Oracle, Rounds, Telling, built, deviation

import architectures
from outpace.cache import Session
from outpace.cache.policies import CachePolicy, parse_policy
from outpace.cache.policies.base import boundary
from outpace.cache.policies.composed import ComposedPolicy
from outpace.errors import InvalidArgument
from outpace.models import wrap
from outpace.models.step import cache_keyword

CLOSE, FAR = 1e-4, 1e-3
LENGTH = 120
POLICIES = [
    "streaming(4, 28, every=8)",
    "recent(24, every=5)",
    "key_norm(0.8, skip_layers=1, start_after=40, interval=15)",
    "key_norm(0.7, skip_layers=0, start_after=30, interval=20)",
    "fixed_key_norm(32, every=8)",
    "fixed_key_norm(24, 0.5, high, 10)",
    "fixed_key_norm(24, 0, random, 10)",
    "snapkv(6, 30, kernel=3, every=9)",
    "h2o(32, every=8)",
    "streaming(2, 40, every=12) + key_norm(0.8, skip_layers=1, start_after=30, interval=10)",
    "fixed_key_norm(40, every=8) + h2o(24, every=16)",
]
FAMILIES = ["llama", "qwen3", "gpt_neox", "gpt2", "cohere"]


@functools.cache
def model_of(name):
    if name != "cohere":
        return built(name)
    config = hf.CohereConfig(**architectures._NO_GROUPS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap(hf.AutoModelForCausalLM.from_config(config).eval(), name=name)


def played(family, text, *, length=LENGTH, seed=0, backs=True):
    """Random rounds of a model under a policy, and what the policy kept."""
    policy = Telling(parse_policy(text))
    rounds = Rounds(Session(model_of(family), policy), seed, backs=backs)
    rounds.run(length)
    return rounds, policy


def other_token(policy, kept):
    """The mistake: at the last boundary but one each head keeps a token that was forgotten.

    Returns:
        What is kept then, and the length of the text at the last boundary.
    """
    at, end = sorted({length for length, _ in kept})[-2:]
    wrong = {one: tokens for one, tokens in kept.items() if one[0] <= at}
    layer = max(layer for length, layer in kept if length == at)
    before = max(length for length, number in kept if number == layer and length < at)
    tokens = wrong[at, layer] = wrong[at, layer].clone()
    for head, column in enumerate(tokens.T):
        lost = {*kept[before, layer][:, head].tolist(), *range(before, at)} - set(column.tolist())
        tokens[0, head] = max(lost)
    return wrong, end


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", POLICIES)
def test_logits_are_the_stock_models_over_what_is_kept(text, family):
    rounds, policy = played(family, text)
    model, tokens = model_of(family), rounds.tokens
    assert rounds.backs > 0
    assert rounds.restarts == 1
    assert len(rounds.rows) > 20
    kept = policy.until(len(tokens))
    own = Oracle(model, policy, kept).run(tokens)
    assert deviation(rounds.rows, own) < CLOSE
    # something was forgotten that mattered
    assert deviation(rounds.rows, Oracle(model, policy, {}).run(tokens)) > FAR


@pytest.mark.parametrize("text", POLICIES)
def test_one_other_token_would_be_seen(text):
    rounds, policy = played("llama", text, backs=False)
    kept, end = other_token(policy, policy.until(len(rounds.session)))
    own = Oracle(model_of("llama"), policy, kept).run(rounds.tokens[:end])
    rows = {at: row for at, row in rounds.rows.items() if at < end}
    assert deviation(rows, own) > FAR


TURNED = [
    "streaming(4, 28, every=8)",
    "fixed_key_norm(32, every=8)",
    "h2o(28, every=7)",
    "snapkv(6, 30, every=9)",
    "streaming(4, 30, every=8) + key_norm(0.9, skip_layers=1, start_after=40, interval=6)",
]


@pytest.mark.parametrize("text", TURNED)
def test_past_the_context_keys_are_turned(text):
    rounds, policy = played("small", text, length=400)
    model, tokens = model_of("small"), rounds.tokens
    assert rounds.restarts == 1
    assert model.context_length == 160
    assert rounds.session.limit is None
    kept = policy.until(len(tokens))
    assert deviation(rounds.rows, Oracle(model, policy, kept).run(tokens)) < CLOSE
    wrong = Oracle(model, policy, kept, turns=False).run(tokens)
    assert deviation(rounds.rows, wrong) > FAR
    assert max(rounds.session._slots.positions) < 160
    assert rounds.session._next <= 160


def test_a_long_prompt_is_forgotten_on_the_way():
    model = model_of("small")
    tokens = [(7 * n * n + n) % 250 for n in range(300)]  # the last 50 are the first again
    for text in TURNED:
        policy = Telling(parse_policy(text))
        session = Session(model, policy)
        logits = session.prefill(tokens)
        kept = policy.until(len(tokens))
        own = Oracle(model, policy, kept).run(tokens)
        assert deviation({299: logits}, own) < CLOSE
        again = Session(model, policy)
        for token in tokens:
            one = again.append([token])
            again.forget()
        assert torch.allclose(one, logits, atol=1e-3)
        assert again.indices == session.indices
        assert again._slots.positions == session._slots.positions
        assert again.compressions == session.compressions
        assert again.evicted == session.evicted


def test_a_prompt_and_its_prefixes_share_what_is_held():
    model, tokens = model_of("small"), [(5 * n * n) % 250 for n in range(200)]
    for text in TURNED:
        session = Session(model, parse_policy(text))
        session.prefill(tokens[:150])
        before = session.forwards
        logits = session.prefill(tokens)
        whole = Session(model, parse_policy(text))
        assert torch.allclose(whole.prefill(tokens), logits, atol=1e-3)
        assert session.forwards - before < whole.forwards
        # below what was forgotten: from the beginning, and right
        short = Session(model, parse_policy(text)).prefill(tokens[:90])
        assert torch.allclose(session.prefill(tokens[:90]), short, atol=1e-3)


def test_positions_within_the_context_stay_with_gaps():
    session = Session(model_of("llama"), parse_policy("streaming(4, 28, every=8)"))
    session.prefill(list(range(3, 83)))
    wanted = [*range(4), *range(52, 80)]
    assert session.indices == session._slots.positions == wanted
    assert session.room == 8
    assert len(session) == 80
    assert session.compressions == 6
    assert session.evicted == 48


def test_layers_that_look_back_a_window_only_are_left_alone():
    model = model_of("mistral")
    session = Session(model, parse_policy("fixed_key_norm(32, every=8)"))
    tokens = list(range(3, 93))
    logits = session.prefill(tokens)
    own = model.stock_logits(torch.tensor([tokens]))[0, -1]
    assert torch.allclose(logits, own, atol=1e-3)
    assert session.compressions == 0
    mixed = Session(model_of("gemma3"), parse_policy("fixed_key_norm(32, every=8)"))
    mixed.prefill(tokens)
    assert mixed.compressions > 0
    assert len(mixed.indices) == 90  # by the layers that hold most
    assert 0 < mixed.evicted < 90 - 32


def test_another_session_goes_on_from_a_copy():
    tokens = [(5 * n * n) % 250 for n in range(230)]
    for text in TURNED:
        model = model_of("small")
        session, twin = (Session(model, parse_policy(text)) for _ in range(2))
        session.prefill(tokens[:150])
        twin.adopt(session)
        found = twin.extend(tokens[150:])
        session.extend([9] * 30)  # apart from each other
        whole = Session(model, parse_policy(text)).prefill(tokens)
        assert torch.allclose(found, whole, atol=1e-3)
        # and back: one that has forgotten holds what one holds that has not
        fresh = Session(model, parse_policy(text))
        fresh.prefill(tokens[:20])
        twin.adopt(fresh)
        assert torch.allclose(twin.extend(tokens[20:]), whole, atol=1e-3)


def test_an_interrupt_while_tokens_are_forgotten_leaves_a_usable_session(monkeypatch):
    model, tokens = model_of("small"), [(5 * n * n) % 250 for n in range(120)]
    for text in TURNED:
        session = Session(model, parse_policy(text))
        wanted = Session(model, parse_policy(text)).prefill(tokens)

        def interrupted(*given):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(session._forgetting, "_model", None)
            patch.setattr(session._forgetting, "forget", interrupted)
            with pytest.raises(KeyboardInterrupt):
                session.prefill(tokens)
        assert torch.allclose(session.prefill(tokens), wanted, atol=1e-3)


def test_what_does_not_fit_into_the_context_is_refused():
    text = "streaming(4, 100, every=8)"
    with pytest.raises(InvalidArgument, match=r"it needs 176 positions .* has 160: keep less"):
        Session(model_of("small"), parse_policy(text))
    Session(model_of("llama"), parse_policy(text))


def test_learned_positions_are_not_turned():
    session = Session(model_of("gpt2"), parse_policy("streaming(4, 28, every=8)"))
    assert session.limit == 512
    unbounded = Session(model_of("llama"), parse_policy("streaming(4, 28, every=8)"))
    assert unbounded.limit is None
    growing = Session(model_of("llama"), parse_policy("key_norm"))
    assert growing.limit == 512


class ByHeads(CachePolicy):
    """Heads hold different numbers of tokens: so many of the last ones, and the first."""

    size, block = 44, 8

    def __init__(self, *counts):
        self.counts = counts  # of each head

    def due(self, length):
        return boundary(length, 52, 8)

    def groups(self, layer, heads):
        return [[head for head in range(heads) if self.counts[head] == one] for one in self.sizes]

    @property
    def sizes(self):
        return sorted(set(self.counts))

    def kept(self, held):
        count = self.counts[held.heads[0]]
        if len(held) <= count + 4:
            return None
        return torch.tensor([*range(4), *range(len(held) - count, len(held))])

    def __str__(self):
        return f"by-heads{self.counts}"


@torch.no_grad()
def masked(model, tokens, counts, due):
    """The stock model token by token over all keys, what a head has forgotten behind a mask."""
    stock, heads = model.model, model.config.num_attention_heads
    each = heads // len(counts)
    seen, rows, cache = torch.zeros(heads, 0, dtype=torch.bool), [], hf.DynamicCache()
    for place, token in enumerate(tokens):
        seen = torch.cat([seen, torch.ones(heads, 1, dtype=torch.bool)], dim=1)
        out = stock(
            input_ids=torch.tensor([[token]]),
            position_ids=torch.tensor([[place]]),
            attention_mask=seen[None, :, None],
            use_cache=True,
            **{cache_keyword(stock): cache},
        )
        rows.append(out.logits[0, 0])
        if due(place) == place + 1:
            for head in range(heads):
                seen[head, 4 : place + 1 - counts[head // each]] = False
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("family", "counts"), [("llama", (40, 12)), ("gpt_neox", (20, 40, 20, 9)), ("qwen3", (9, 40))]
)
def test_heads_of_a_layer_may_hold_different_numbers(family, counts):
    policy = ByHeads(*counts)
    rounds = Rounds(Session(model_of(family), policy))
    rounds.run(LENGTH)
    assert rounds.restarts == 1
    assert rounds.backs > 0
    own = masked(model_of(family), rounds.tokens, counts, policy.due)
    assert deviation(rounds.rows, own) < CLOSE
    wrong = masked(model_of(family), rounds.tokens, counts[::-1], policy.due)
    assert deviation(rounds.rows, wrong) > FAR
    parts = rounds.session._cache.layer(0).parts
    assert [len(part.heads) for part in parts] == [counts.count(n) for n in policy.sizes]
    assert len({part.keys.shape[0] for part in parts}) == len(parts)


def test_different_numbers_do_not_go_by_attention():
    policy = ComposedPolicy((ByHeads(40, 12), parse_policy("h2o(60)")))
    with pytest.raises(InvalidArgument, match="give one of the two") as caught:
        Session(model_of("llama"), policy)
    assert "\n" not in str(caught.value)
    Session(model_of("llama"), ComposedPolicy((ByHeads(40, 12), parse_policy("key_norm"))))


# --- the choice -----------------------------------------------------------------------------------


def summed(model, tokens, first, last):
    """transformers' own weights of these rows, added up for each key head: ``[T, H]`` a layer."""
    model.model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model.model(torch.tensor([tokens]), output_attentions=True, use_cache=False)
    model.model.set_attn_implementation("sdpa")
    heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
    sums = [layer[0, :, first:last].sum(dim=1) for layer in out.attentions]  # [H, T]
    return [one.view(heads, -1, len(tokens)).mean(dim=1).T for one in sums]


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gpt2"])
@pytest.mark.parametrize(("text", "window"), [("h2o(40, every=8)", 48), ("snapkv(6, 40)", 6)])
def test_attention_is_what_transformers_adds_up(text, window, family):
    rounds, policy = played(family, text, length=60, backs=False)
    length = policy.due(0)
    own = summed(model_of(family), rounds.tokens[:length], length - min(window, length), length)
    for layer, sums in enumerate(own):
        shown = policy.shown[length, layer]
        assert torch.allclose(shown, sums, atol=1e-4)
        assert not torch.allclose(shown.flip(1), sums, atol=1e-2)
        assert not torch.allclose(shown.roll(1, 0), sums, atol=1e-2)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_heavy_hitters_are_those_of_another_implementation(family):
    """Added up token by token from transformers' own weights over what is kept."""
    text = "h2o(24, every=6)"
    rounds, policy = played(family, text)
    sums = [{} for _ in range(2)]

    def add(length, layer, held, weights):
        heads = held.shape[1]
        each = weights.view(heads, -1, weights.shape[1]).mean(dim=1)  # [H, n]
        for head in range(heads):
            for place, token in enumerate(held[:, head].tolist()):
                key = head, token
                sums[layer][key] = sums[layer].get(key, 0.0) + float(each[head, place])
        if (length, layer) in policy.kept_at:
            shown = policy.shown[length, layer]
            own = [[sums[layer][head, one] for head, one in enumerate(r)] for r in held.tolist()]
            assert torch.allclose(shown, torch.tensor(own), atol=1e-4)
            seen.append(length)

    seen = []
    kept = policy.until(len(rounds.session))
    Oracle(model_of(family), policy, kept, attention="eager", watch=add).run(rounds.tokens)
    assert len(set(seen)) > 10


WATCHING = ["h2o(24, every=6)", "snapkv(5, 24, every=9)", "snapkv(20, 24, kernel=1, every=4)"]


@pytest.mark.parametrize("text", WATCHING)
@pytest.mark.parametrize("backs", [False, True])
def test_rejected_tokens_change_no_choice(text, backs):
    rounds, policy = played("llama", text, seed=3, backs=backs)
    plain = Telling(parse_policy(text))
    session = Session(model_of("llama"), plain)
    for token in rounds.tokens:
        session.append([token])
        session.forget()
    tokens = len(session)
    assert session.indices == rounds.session.indices
    found = {at: one for at, one in policy.shown.items() if at[0] <= tokens}
    assert found.keys() == plain.shown.keys()
    assert len(found) > 15
    for at, one in plain.shown.items():
        assert torch.allclose(found[at], one, atol=1e-4)
    assert all(torch.equal(one, plain.kept_at[at]) for at, one in policy.until(tokens).items())


def test_counting_a_rejected_token_would_be_seen(monkeypatch):
    """The mistake: all rows of a round are added up."""
    text = WATCHING[0]
    plain, _ = played("llama", text, seed=3, backs=False)
    observe = Session._observe

    def all_of_them(session, nodes):
        rows = session._seen[0].shape[1] if session._seen else 0
        observe(session, range(rows))

    monkeypatch.setattr(Session, "_observe", all_of_them)
    mistaken, policy = played("llama", text, seed=3, backs=False)
    own = Oracle(model_of("llama"), policy, plain.session.policy.until(200)).run(mistaken.tokens)
    assert plain.tokens == mistaken.tokens
    assert deviation(mistaken.rows, own) > FAR
