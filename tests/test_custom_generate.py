"""The loop inside transformers' own generate."""

import pytest
import torch
import transformers as hf

import architectures
from outpace import CustomGenerate, Drafter
from outpace.drafters.model import ModelDrafter
from outpace.errors import InvalidArgument
from outpace.models import wrap
from outpace.models.attention import use_slot_attention
from outpace.models.step import cache_keyword
from outpace.models.tiny import tiny_model

IDS = torch.tensor([[*range(20, 40), 20, 21]])


@pytest.fixture(scope="module")
def model():
    return architectures.build("llama")


def own_drafter(model) -> Drafter:
    small = architectures.blurred(model)
    wrapped = wrap(small)
    use_slot_attention(small)
    return ModelDrafter(wrapped)


def generate(model, custom=None, ids=IDS, **settings):
    extra = {"custom_generate": custom} if custom else {}
    return model.generate(
        ids, attention_mask=torch.ones_like(ids), **{"max_new_tokens": 80, **settings}, **extra
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False},
        {"do_sample": False, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
        {"do_sample": False, "eos_token_id": [2, 45, 17]},
        {"do_sample": False, "min_new_tokens": 10, "eos_token_id": list(range(90))},
        {"do_sample": False, "bad_words_ids": [[5], [7, 8]], "suppress_tokens": [11]},
        {"do_sample": False, "max_new_tokens": 3},
        {"do_sample": False, "max_new_tokens": None, "max_length": 60},
    ],
)
def test_greedy_is_generates_own(model, settings):
    wanted = generate(model, **settings)
    for drafter in ("none", "ngram", "prompt-lookup", own_drafter(model)):
        custom = CustomGenerate(drafter)
        assert torch.equal(generate(model, custom, **settings), wanted)
        assert custom.last.tokens == wanted[0, IDS.shape[1] :].tolist()
    assert model.config._attn_implementation == "sdpa"


def test_sampling_takes_its_seed_from_torch(model):
    settings = {"do_sample": True, "top_p": 0.9, "temperature": 0.8, "repetition_penalty": 1.1}
    texts = []
    for drafter in ("none", "prompt-lookup", own_drafter(model)):
        torch.manual_seed(5)
        texts.append(generate(model, CustomGenerate(drafter), **settings))
    assert torch.equal(texts[0], texts[1])
    assert torch.equal(texts[0], texts[2])
    assert not torch.equal(texts[0], generate(model, CustomGenerate("none"), **settings))


def test_rounds_and_streamers_get_the_tokens(model):
    class Collector:
        def __init__(self):
            self.values, self.ended = [], False

        def put(self, value):
            self.values += value.flatten().tolist()

        def end(self):
            self.ended = True

    rounds, streamer = [], Collector()
    custom = CustomGenerate("prompt-lookup", on_round=rounds.append, streamer=streamer)
    out = generate(model, custom, do_sample=False)[0].tolist()
    assert [token for turn in rounds for token in turn.tokens] == out[IDS.shape[1] :]
    assert streamer.values == out
    assert streamer.ended
    assert custom.last.stats.new_tokens == len(out) - IDS.shape[1]


def test_stopping_criteria_are_asked_token_by_token(model):
    class AtLength(hf.StoppingCriteria):
        def __init__(self):
            self.seen = []

        def __call__(self, input_ids, scores, **kwargs):
            self.seen.append(input_ids.shape[1])
            return torch.tensor([input_ids.shape[1] >= 33])

    criteria = AtLength()
    out = generate(
        model,
        CustomGenerate(own_drafter(model)),
        do_sample=False,
        stopping_criteria=hf.StoppingCriteriaList([criteria]),
    )
    assert out.shape[1] == 33
    assert criteria.seen == list(range(23, 34))


def test_stop_strings_as_a_criterion():
    tiny = tiny_model()
    tiny.model.set_attn_implementation("sdpa")
    model, tokenizer = tiny.model, tiny.tokenizer
    ids = torch.tensor([list(b"the cat and the dog")])
    free = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False
    )
    letters = [tokenizer.decode([token]) for token in free[0, 25:].tolist()]
    stop = next(letter for letter in letters if letter.isascii() and letter.isprintable())
    criteria = hf.StoppingCriteriaList([hf.StopStringCriteria(tokenizer, [stop])])
    settings = {"do_sample": False, "stopping_criteria": criteria, "max_new_tokens": 60}
    wanted = generate(model, ids=ids, **settings)
    assert wanted.shape[1] < free.shape[1]
    assert torch.equal(
        generate(model, CustomGenerate("prompt-lookup"), ids=ids, **settings), wanted
    )


def test_an_output_object_where_one_is_asked_for(model):
    out = generate(model, CustomGenerate("none"), do_sample=False, return_dict_in_generate=True)
    assert torch.equal(out.sequences, generate(model, do_sample=False))


def test_the_reason_of_the_end(model):
    custom = CustomGenerate("none")
    first = generate(model, do_sample=False)[0, IDS.shape[1] + 5].item()
    for settings, end in (
        ({"max_new_tokens": 3}, "length"),
        ({"eos_token_id": [first]}, "eos"),
    ):
        generate(model, custom, do_sample=False, **settings)
        assert custom.last.stats.end == end


def test_past_the_context_it_warns_or_refuses(model):
    ids = torch.randint(3, 90, (1, architectures.CONTEXT - 4))
    with pytest.warns(UserWarning, match="past the model's context of 512"):
        out = generate(model, CustomGenerate("none"), ids=ids, do_sample=False)
    assert out.shape[1] <= architectures.CONTEXT
    with pytest.raises(InvalidArgument, match="shorten the prompt"):
        generate(model, CustomGenerate("none"), ids=torch.cat([ids, ids[:, :9]], 1))


def test_one_instance_serves_several_models_and_calls(model):
    custom = CustomGenerate("prompt-lookup")
    other = architectures.build("gpt2")
    for one in (model, other, model):
        wanted = generate(one, do_sample=False)
        assert torch.equal(generate(one, custom, do_sample=False), wanted)


def test_the_models_attention_comes_back_after_an_error(model):
    def fail(turn):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        generate(model, CustomGenerate("none", on_round=fail), do_sample=False)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ids": torch.ones(2, 4, dtype=torch.int64) * 5}, "a batch of 2"),
        ({"num_return_sequences": 2, "do_sample": True}, "a batch of 2"),
        ({"num_beams": 2}, "batch of 2|num_beams=2"),
        ({"output_scores": True, "return_dict_in_generate": True}, "output_scores"),
        ({"mask": True}, "padded"),
        ({"past": True}, "with tokens in it"),
        ({"position_ids": torch.arange(22)[None] + 7}, "position_ids"),
        ({"guidance_scale": 1.5}, "ClassifierFreeGuidance"),
    ],
)
def test_what_it_cannot_honour_is_refused(model, settings, words):
    settings = dict(settings)
    ids = settings.pop("ids", IDS)
    mask = torch.ones_like(ids)
    if settings.pop("mask", False):
        mask[0, 0] = 0
    if settings.pop("past", False):
        cache = hf.DynamicCache(config=model.config)
        model(ids[:, :5], **{cache_keyword(model): cache})
        settings[cache_keyword(model)] = cache
    with pytest.raises(InvalidArgument, match=words):
        model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=5,
            custom_generate=CustomGenerate("none"),
            **{"do_sample": False, **settings},
        )
    assert model.config._attn_implementation == "sdpa"
