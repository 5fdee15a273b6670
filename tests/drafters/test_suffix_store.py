"""The store of texts: bounded, deterministic, saved and loaded."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from outpace.drafters.suffix import SuffixDrafter
from outpace.drafters.suffix_store import SuffixStore
from outpace.errors import InvalidArgument
from outpace.models.tiny import tiny_model
from outpace.types import Budget, Context


def metadata(path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def known(store, string) -> int:
    """How often a store knows a string."""
    total = 0
    for generation in store.generations:
        state, length = generation.match(string)
        total += generation.count(state) if length == len(string) else 0
    return total


def test_the_oldest_texts_are_forgotten():
    store = SuffixStore(20, longest=4)
    for first in range(0, 60, 3):
        store.add([first, first + 1, first + 2])
        assert len(store) <= 20
    assert [n for n in range(0, 60, 3) if known(store, [n, n + 1])] == [48, 51, 54, 57]


def test_of_a_long_text_the_end_is_kept():
    store = SuffixStore(20, longest=4)
    store.add(range(100))
    assert known(store, [98, 99]) == 1
    assert known(store, [89, 90]) == 0
    assert len(store) == 10
    store.add([])
    assert len(store) == 10


def test_tokens_out_of_range_are_refused():
    for token in (-1, 2**31):
        with pytest.raises(InvalidArgument, match="give 0 to"):
            SuffixStore().add([1, token])


def test_memory_is_flat_over_a_hundred_thousand_tokens(phrases):
    store, text = SuffixStore(8_192, longest=16), phrases(100_000)
    states, sizes = [], []
    for number, at in enumerate(range(0, len(text), 100)):
        store.add(text[at : at + 100])
        assert len(store) <= store.capacity
        states.append(sum(g.states for g in store.generations))
        if number % 50 == 49:
            sizes.append(store.nbytes)
    assert max(states) <= 2 * store.capacity
    assert max(sizes) <= 700 * store.capacity
    # after the first fill it rises and falls, and ends no higher than it began
    assert max(sizes[10:]) <= 1.2 * max(sizes[:10])


@given(st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=12), st.integers(4, 60))
@settings(deadline=None, max_examples=40)
def test_a_loaded_store_knows_what_the_saved_one_knew(tmp_path_factory, texts, capacity):
    path = tmp_path_factory.mktemp("stores") / "deep" / "store.safetensors"
    store = SuffixStore(capacity, longest=3)
    for text in texts:
        store.add(text)
    store.save(path)
    loaded = SuffixStore.load(path)
    assert (loaded.capacity, loaded.longest) == (store.capacity, store.longest)
    for more in ([], [1, 2, 1, 2], [3]):  # also what is forgotten next is the same
        store.add(more)
        loaded.add(more)
        for one, two in zip(store.generations, loaded.generations, strict=True):
            assert one.tokens == two.tokens
            assert one._count == two._count
            assert all(one.children(s) == two.children(s) for s in range(one.states))


def test_a_loaded_store_drafts_the_same(tmp_path, phrases):
    store = SuffixStore()
    for seed in range(5):
        store.add(phrases(300, seed))
    store.save(tmp_path / "store")
    both = [SuffixDrafter(shared=s) for s in (store, SuffixStore.load(tmp_path / "store"))]
    for end in range(10, 200, 10):
        context = Context(phrases(300, 3)[end - 6 : end])
        one, two = (d.propose(context, Budget(63, 63), None).lists() for d in both)
        assert one == two


def test_foreign_and_damaged_files_are_refused_in_one_line(tmp_path):
    store = SuffixStore(100, longest=4)
    store.add([1, 2, 3])
    good = tmp_path / "good"
    store.save(good)
    parts, about = load_file(good), metadata(good)

    def refused(words, name="bad"):
        with pytest.raises(InvalidArgument, match=words) as caught:
            SuffixStore.load(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)

    refused("not a saved suffix store", "missing")
    (tmp_path / "folder").mkdir()
    refused("not a saved suffix store", "folder")
    for content in (b"", b"no store", good.read_bytes()[:-5], good.read_bytes()[:40]):
        (tmp_path / "bad").write_bytes(content)
        refused("not a saved suffix store")
    flipped = bytearray(good.read_bytes())
    flipped[-8] ^= 4
    (tmp_path / "bad").write_bytes(flipped)
    refused("damaged")
    save_file({"counts": torch.zeros(2)}, tmp_path / "bad", {"outpace": "ngram"})
    refused("not a saved suffix store")
    save_file(parts, tmp_path / "bad", {**about, "outpace": "suffix-0"})
    refused("version '0', this version of the suffix store is 1")
    for key, value in (("crc32", "x"), ("capacity", "6"), ("longest", "0"), ("longest", "²")):
        save_file(parts, tmp_path / "bad", {**about, key: value})
        refused("damaged")
    for young in ([1, 2], [-2, -1], [[1, -1]]):
        save_file({**parts, "young": torch.tensor(young).int()}, tmp_path / "bad", about)
        refused("damaged")
    save_file({**parts, "young": parts["young"].float()}, tmp_path / "bad", about)
    refused("damaged")


def test_text_files_are_added(tmp_path):
    target = tiny_model()
    for name, text in (("one", "to be or not"), ("two", "that is")):
        (tmp_path / name).write_text(text)
    (tmp_path / "noise").write_bytes(b"\xff\xfe\xfd")
    store = SuffixStore(100).add_files(target, [tmp_path / "one", str(tmp_path / "two")])
    for text in ("to be or not", "that is"):
        ids = target.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert known(store, ids[:4]) == 1
    for name, words in (("missing", "No such file"), ("noise", "no UTF-8")):
        with pytest.raises(InvalidArgument, match=f"{name}: {words}.*: give a text file"):
            store.add_files(target, [tmp_path / name])
    target.tokenizer = None
    with pytest.raises(InvalidArgument, match=r"has no tokenizer: add\(\) texts"):
        store.add_files(target, [])


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path, store = tmp_path / "store", SuffixStore(100)
    store.save(path)
    before = path.read_bytes()
    store.add([1, 2, 3])

    def broken(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", broken)
        with pytest.raises(InvalidArgument, match=r"store: No space left .* can be written"):
            store.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_work_for_a_draft_token_does_not_grow_with_the_store(phrases):
    context = Context(phrases(300, seed=1))
    costs = []
    for size in (1_000, 10_000, 100_000):
        store = SuffixStore(2 * size, longest=16)
        text = phrases(size, seed=1)
        for at in range(0, size, 500):
            store.add(text[at : at + 500])
        drafter = SuffixDrafter(shared=store)
        drafted = 0
        before = sum(g.work for g in store.generations)
        for end in range(50, 300, 5):
            part = Context(context.tokens[:end])
            drafted += len(drafter.propose(part, Budget(63, 63), None)) - 1
        costs.append((sum(g.work for g in store.generations) - before) / drafted)
    # a match looks at up to `longest` tokens, each at most one link longer than it is long
    assert max(costs) <= 16
    assert max(costs) <= 2 * costs[0]
