"""The model drafter: what it feeds its model, counted."""

import pytest
import torch

from outpace import Decoder
from outpace.drafters.model import ModelDrafter
from outpace.errors import VocabularyMismatch
from outpace.lengths.fixed import FixedLength
from outpace.models import LanguageModel, wrap
from outpace.models.attention import use_slot_attention
from outpace.models.tiny import byte_tokenizer, tiny_model


@pytest.fixture
def fed(monkeypatch):
    """The model and width of every forward, in order."""
    widths = []
    original = LanguageModel.forward

    def forward(self, tokens, *rest, **settings):
        widths.append((self.name, len(tokens)))
        return original(self, tokens, *rest, **settings)

    monkeypatch.setattr(LanguageModel, "forward", forward)
    return widths


def named(name, **kwargs) -> LanguageModel:
    model = tiny_model(**kwargs)
    model.name = name
    return model


def test_full_acceptance_feeds_two_and_never_prefills_again(fed):
    target, small = named("target"), named("small")
    decoder = Decoder(target, ModelDrafter(small), lengths=FixedLength(4))
    out = decoder.generate(range(20), max_new_tokens=31, ignore_eos=True)
    assert out.stats.acceptance_rate == 1.0
    assert out.stats.mean_acceptance_length == 5.0
    assert out.stats.rounds == 6
    drafts = [width for name, width in fed if name == "small"]
    # the prompt but its last token, then root and first draft; later the last draft token and the
    # bonus token together, and three more draft tokens
    assert drafts == [19, 2, 1, 1, 1] + [2, 1, 1, 1] * 5
    assert [width for name, width in fed if name == "target"] == [20] + [5] * 6


def test_rejection_feeds_one(fed):
    target, small = named("target"), named("small", seed=9)
    decoder = Decoder(target, ModelDrafter(small), lengths=FixedLength(3))
    out = decoder.generate(range(20), max_new_tokens=20, ignore_eos=True)
    assert out.stats.accepted == 0
    drafts = [width for name, width in fed if name == "small"]
    assert drafts[0] == 19
    assert set(drafts[1:]) <= {1, 2}
    assert drafts[4:7] == [1, 1, 1]


def test_one_target_forward_a_round():
    target = tiny_model()
    drafter = ModelDrafter(tiny_model())
    decoder = Decoder(target, drafter, lengths=FixedLength(4))
    session = decoder.session()
    out = decoder.generate(range(20), max_new_tokens=40, ignore_eos=True, session=session)
    assert session.forwards == 1 + out.stats.rounds
    # the last round has fewer tokens left to draft
    assert drafter.forwards <= 1 + 4 * out.stats.rounds


def test_a_drafter_with_a_shorter_context_stops_drafting():
    target, small = tiny_model(), tiny_model(context_length=32)
    decoder = Decoder(target, ModelDrafter(small))
    seen = [
        (len(prompt_and_output), turn.drafted)
        for prompt_and_output, turn in _lengths(decoder, range(20), 40)
    ]
    assert all(drafted == 0 for length, drafted in seen if length >= 32)
    assert any(drafted for length, drafted in seen if length < 32)
    longer = decoder.generate(range(60), max_new_tokens=20, ignore_eos=True)
    assert longer.stats.drafted == 0
    assert longer.tokens == Decoder(target).generate(range(60), max_new_tokens=20).tokens


def _lengths(decoder, prompt, count):
    written = list(prompt)
    for turn in decoder.stream(prompt, max_new_tokens=count, ignore_eos=True):
        yield list(written), turn
        written += turn.tokens


def padded(model: LanguageModel, rows: int) -> LanguageModel:
    """The same model with more rows than its tokenizer has tokens."""
    inner = model.model
    inner.resize_token_embeddings(rows, mean_resizing=False)
    larger = wrap(inner, model.tokenizer, name="padded")
    use_slot_attention(inner)
    return larger


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_padded_rows_are_tolerated(temperature):
    plain = tiny_model()
    wide = padded(tiny_model(), 320)
    for target, small in ((plain, wide), (wide, plain)):
        request = {"max_new_tokens": 40, "temperature": temperature, "ignore_eos": True}
        wanted = Decoder(target).generate(range(20), **request)
        for verifier in (None, "rejection"):
            decoder = Decoder.from_pretrained(
                target, drafter=ModelDrafter(small), verifier=verifier or "coupled"
            )
            out = decoder.generate(range(20), **request)
            if verifier is None or not temperature:
                assert out.tokens == wanted.tokens
            assert out.stats.accepted > 0


def test_one_drafter_serves_targets_of_different_padding():
    wide, drafter = padded(tiny_model(), 320), ModelDrafter(tiny_model())
    decoders = [Decoder(wide, drafter), Decoder(tiny_model(), drafter)]
    for verifier in ("coupled", "rejection"):
        for decoder in decoders:
            one = Decoder.from_pretrained(decoder.target, drafter=drafter, verifier=verifier)
            out = one.generate(range(20), max_new_tokens=30, temperature=2.0, ignore_eos=True)
            assert len(out.tokens) == 30


def test_another_vocabulary_is_refused_by_its_first_difference():
    target, other = tiny_model(), tiny_model()
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    other.tokenizer = tokenizer
    with pytest.raises(VocabularyMismatch, match=r"1 of 258 tokens differently \('<extra>'"):
        Decoder(target, ModelDrafter(other))
    other.tokenizer = None
    Decoder(target, ModelDrafter(other))
    wide = padded(tiny_model(), 300)
    wide.tokenizer = None
    with pytest.raises(VocabularyMismatch, match="257 and 300"):
        Decoder(target, ModelDrafter(wide))


def test_an_error_in_the_middle_leaves_a_usable_drafter(monkeypatch):
    target, drafter = tiny_model(), ModelDrafter(tiny_model())
    decoder = Decoder(target, drafter)
    wanted = decoder.generate(range(20), max_new_tokens=20).tokens
    calls = {"left": 3}
    original = LanguageModel.forward

    def failing(self, *args, **kwargs):
        calls["left"] -= 1
        if calls["left"] == 0:
            raise RuntimeError("out of memory")
        return original(self, *args, **kwargs)

    for left in range(1, 9):
        calls["left"] = left
        monkeypatch.setattr(LanguageModel, "forward", failing)
        session = decoder.session()
        with pytest.raises(RuntimeError, match="out of memory"):
            decoder.generate(range(20), max_new_tokens=20, session=session)
        monkeypatch.setattr(LanguageModel, "forward", original)
        again = decoder.generate(range(20), max_new_tokens=20, session=session)
        assert again.tokens == wanted


def test_iid_draws_carry_their_law():
    from outpace.drawing import Drawing
    from outpace.noise import Noise
    from outpace.sampling import Sampler
    from outpace.types import Budget, Context

    drafter = ModelDrafter(tiny_model())
    context = Context([1, 2, 3])
    drafter.start(context)
    sampler = Sampler(context, [], greedy=False, noise=Noise(0))
    tree = drafter.propose(context, Budget.chain(4), Drawing("iid", sampler))
    assert tree.draw == "iid"
    assert tree.log_q.shape == (4, 257)
    assert torch.allclose(tree.log_q.exp().sum(-1), torch.ones(4), atol=1e-5)
