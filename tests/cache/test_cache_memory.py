"""Bytes of keys and values under a policy: flat once the budget is reached, and given back."""

from functools import cache

import pytest

from outpace import Decoder
from outpace.cache import Session
from outpace.cache.policies import parse_policy
from outpace.drafters.ngram import NgramDrafter
from outpace.testing import tiny_model
from outpace.types import TokenTree

LENGTH = 2000
SLOT = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, width, bytes
SPARE = 64
SIZED = [
    "streaming(4, 252)",
    "recent(256)",
    "fixed_key_norm(256)",
    "h2o(256)",
    "snapkv(16, 256)",
    "streaming(4, 300) + h2o(256, every=32)",
]


@cache
def model():
    return tiny_model(context_length=4096)


def token(place):
    return (7 * place * place + place) % 250


def grown(session, length, step=10):
    """Have a session hold so many tokens, by rounds of a few; return its bytes after each."""
    found = {}
    while len(session) < length:
        count = step if session.room is None else min(step, session.room)
        start = len(session)
        tree = TokenTree.chain(token(start), [token(start + n) for n in range(1, count + 5)])
        session.forward(tree)
        session.commit(tree, list(range(1, count)))
        session.forget()
        found[len(session)] = session.nbytes
    return found


def storages(session):
    """Bytes of all storages, each once, and of the numbers in use there."""
    tensors = []
    for layer in session._cache._slot_layers:
        tensors += [layer.keys, layer.values] if not layer.parts else []
        tensors += [held for part in layer.parts for held in (part.keys, part.values)]
    whole = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(whole.values()), sum(t.numel() * t.element_size() for t in tensors)


@cache
def full():
    session = Session(model())
    grown(session, LENGTH, step=50)
    return session.nbytes


def test_without_a_policy_it_grows():
    assert full() == 2048 * SLOT
    session = Session(model())
    found = grown(session, 700, step=50)
    assert found[200] < found[500] < found[700]


@pytest.mark.parametrize("text", SIZED)
def test_bytes_are_flat_once_the_budget_is_reached(text):
    policy = parse_policy(text)
    session = Session(model(), policy)
    found = grown(session, LENGTH)
    first = policy.size + policy.block
    flat = {size for length, size in found.items() if length >= first}
    if "+" in text:  # at a boundary of one of them the other may just have seen a block come
        assert max(flat) <= (policy.size + 2 * policy.block + SPARE + 1) * SLOT
        half = {size for length, size in found.items() if first <= length < LENGTH / 2}
        assert max(flat) == max(half)
    else:
        assert flat == {(policy.size + policy.block + SPARE + 1) * SLOT}
        assert max(found.values()) in flat
    assert session.nbytes == storages(session)[0] == storages(session)[1]
    assert len(session) >= LENGTH
    assert len(session._held) == session._cache.capacity


@pytest.mark.parametrize("text", [text for text in SIZED if "+" not in text])
def test_a_cache_of_256_is_less_than_a_fifth_of_the_whole(text):
    assert parse_policy(text).size == 256
    session = Session(model(), parse_policy(text))
    session.prefill([token(place) for place in range(LENGTH)], room=256)
    assert session.nbytes <= 0.18 * full()
    assert session.nbytes <= 0.18 * LENGTH * SLOT  # of a cache without a slot too many
    grown(session, LENGTH + 100)
    assert session.nbytes <= 0.18 * full()


@pytest.mark.parametrize("text", ["streaming(4, 252)", "fixed_key_norm(256)"])
def test_texts_say_what_they_hold(text):
    prompt = [token(place) for place in range(100)]
    settings = {"max_new_tokens": 600, "ignore_eos": True}
    sizes = []
    for policy in (text, None):
        decoder = Decoder(model(), NgramDrafter(), cache_policy=policy)
        sizes.append(decoder.generate(prompt, **settings).stats.kv_bytes)
    assert sizes[0] <= (256 + 32 + SPARE + 1) * SLOT < sizes[1]


def test_heads_give_their_memory_back():
    text = "key_norm(0.5, skip_layers=1, start_after=400, interval=300)"
    session, whole = Session(model(), parse_policy(text)), Session(model())
    grown(session, 399, step=1)
    before = session.nbytes
    assert before == 512 * SLOT
    session.append([1])
    session.forget()
    assert session.compressions == 1
    assert session.nbytes == storages(session)[0] == storages(session)[1]
    layers = [layer.nbytes for layer in session._cache._slot_layers]
    capacity = 400 + 300 + SPARE + 1
    assert layers == [capacity * SLOT // 2, (capacity - 200) * SLOT // 2]
    grown(session, LENGTH)
    grown(whole, LENGTH, step=50)
    layers = [layer.nbytes for layer in session._cache._slot_layers]
    assert layers[1] < 0.5 * whole.nbytes / 2
    assert layers[1] < 0.5 * layers[0]
    assert session.nbytes == storages(session)[0] == storages(session)[1]


def test_copies_and_new_beginnings_hold_no_more():
    for text in ("streaming(4, 252)", "fixed_key_norm(256)"):
        session, twin = (Session(model(), parse_policy(text)) for _ in range(2))
        grown(session, 900)
        twin.adopt(session)
        assert twin.nbytes <= 1.1 * session.nbytes
        assert storages(twin)[0] == twin.nbytes
        ours, theirs = (
            {t.data_ptr() for layer in one._cache._slot_layers for t in _tensors(layer)}
            for one in (session, twin)
        )
        assert not ours & theirs
        session.clear()
        assert session.nbytes == 0
        grown(session, 20)
        assert session.nbytes == 128 * SLOT


def _tensors(layer):
    return [t for part in layer.parts for t in (part.keys, part.values)] or [
        layer.keys,
        layer.values,
    ]
