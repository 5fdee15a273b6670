"""Prompts: the text that the template or plain continuation makes, ids that go on with ids."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talking import TEMPLATE

from outpace.chat import Conversation, Wording
from outpace.errors import InvalidArgument, PromptError
from outpace.models import LanguageModel
from outpace.models.tiny import EOS, tiny_model

MODEL = tiny_model()
TEMPLATED = tiny_model()
TEMPLATED.tokenizer.chat_template = TEMPLATE  # type: ignore[union-attr]


def text(model: LanguageModel, ids: list[int]) -> str:
    tokenizer: Any = model.tokenizer
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def ids(said: str) -> tuple[int, ...]:
    tokenizer: Any = MODEL.tokenizer
    return tuple(tokenizer(said)["input_ids"])


def test_plain_text_goes_on() -> None:
    wording = Wording(MODEL)
    assert not wording.template
    said = Conversation("Once.").answered("a", " b").answered(" c", "d\n").answered("e", "f")
    assert text(MODEL, wording.prompt(said, "g")) == "Once.\na b cd\ne" + "f\ng"
    assert text(MODEL, wording.more(said)) == "Once.\na b cd\nef"


def test_template() -> None:
    wording = Wording(TEMPLATED)
    assert wording.template
    said = Conversation("be brief").answered("hello", "ho", (*ids("ho"), EOS))
    found = wording.prompt(said, "and")
    assert text(TEMPLATED, found) == "S:be brief\nU:hello\nA:ho<end>\nU:and\nA:"
    assert found.count(EOS) == 1
    assert text(TEMPLATED, wording.more(said)) == "S:be brief\nU:hello\nA:ho"
    off = Wording(TEMPLATED, template=False)
    assert text(TEMPLATED, off.prompt(said, "and")) == "be brief\nhelloho\nand"


@pytest.mark.parametrize("model", [MODEL, TEMPLATED], ids=["plain", "template"])
@given(
    turns=st.lists(st.tuples(st.text("ab \n", max_size=5), st.binary(min_size=1, max_size=5))),
    system=st.text("ab\n", max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_a_prompt_begins_with_what_a_session_holds(
    model: LanguageModel, turns: list[tuple[str, bytes]], system: str
) -> None:
    tokenizer: Any = model.tokenizer
    wording, said = Wording(model), Conversation(system)
    held: list[int] = []
    for message, answer in [("x", b"y"), *turns]:
        found = wording.prompt(said, message)
        assert found[: len(held)] == held
        # the negative control: nothing remembered, the same prompt
        assert found == Wording(model).prompt(said, message)
        tokens = [*answer, EOS] if answer[0] % 2 else list(answer)
        held = found + list(answer)
        written = tokenizer.decode(list(answer))
        said = said.answered(message, written, tuple(tokens))


def test_a_template_that_rewrites_answers_is_followed() -> None:
    model = tiny_model()
    tokenizer: Any = model.tokenizer
    tokenizer.chat_template = TEMPLATE.replace("A:{{ m.content }}", "A:{{ m.content | trim }}")
    said = Conversation().answered("hello", " ho ", (*ids(" ho "), EOS))
    found = Wording(model).prompt(said, "and")
    assert text(model, found) == "U:hello\nA:ho<end>\nU:and\nA:"


def test_a_template_that_refuses() -> None:
    model = tiny_model()
    tokenizer: Any = model.tokenizer
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    )
    with pytest.raises(InvalidArgument, match=r"no system role\): leave the system text out"):
        Wording(model).prompt(Conversation("be brief"), "a")
    assert Wording(model).prompt(Conversation(), "a") == list(ids("x"))


def test_what_no_prompt_can_be_made_of() -> None:
    with pytest.raises(InvalidArgument, match="has no chat template"):
        Wording(MODEL, template=True)
    with pytest.raises(PromptError, match="the message is empty"):
        Wording(MODEL).prompt(Conversation(), "")
    with pytest.raises(InvalidArgument, match="no answer to go on with"):
        Wording(MODEL).more(Conversation())
    model = tiny_model()
    model.tokenizer = None
    with pytest.raises(PromptError, match="has no tokenizer"):
        Wording(model)


def test_no_space_is_put_before_what_follows() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(
        models.BPE(
            vocab={"▁": 0, "a": 1, "b": 2, "\n": 3, "<unk>": 4}, merges=[], unk_token="<unk>"
        )
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    model = tiny_model()
    model.tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    wording = Wording(model)
    said = Conversation().answered("a", "b")
    assert wording.prompt(said, " a") == [0, 1, 2, 0, 1]
    assert wording.prompt(said, "a") == [0, 1, 2, 3, 1]
