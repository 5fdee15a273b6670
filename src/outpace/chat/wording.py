"""The tokens of a conversation: by the tokenizer's chat template, or as one text that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import InvalidArgument, PromptError
from ..models import LanguageModel
from .conversation import Conversation, Exchange

_ANCHOR = "\n"
"""Before a text that stands inside another: what a tokenizer puts before a text, it puts here."""


class Wording:
    """Turns conversations into prompts of one model.

    A prompt begins with the ids of the prompt before and those the answer was written with, so a
    session that holds these computes only what follows. The text is what the template, or plain
    continuation, makes of the whole conversation; a template that writes earlier answers in another
    way than they were given (without their reasoning, say) has the rest tokenised anew.

    Args:
        model: whose tokens.
        template: go by the tokenizer's chat template; None: if it has one.
        knows_tokens: the ids of answers are of this model's vocabulary.

    Attributes:
        template: whether prompts go by the template.

    Raises:
        InvalidArgument: there is no template.
        PromptError: there is no tokenizer.
    """

    def __init__(
        self, model: LanguageModel, *, template: bool | None = None, knows_tokens: bool = True
    ) -> None:
        if model.tokenizer is None:
            raise PromptError(
                f"{model.name} has no tokenizer that can be read, so it cannot take a text: "
                "put the model's tokenizer files (tokenizer.json) into its folder"
            )
        self._model, self._tokenizer, self._knows = model, model.tokenizer, knows_tokens
        if template and not self.has_template:
            raise InvalidArgument(
                f"{model.name} has no chat template: leave it off, its text is gone on with"
            )
        self.template = self.has_template if template is None else template
        self._last: tuple[Conversation, str, list[int], str] | None = None

    @property
    def has_template(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return bool(getattr(self._tokenizer, "chat_template", None))

    def prompt(self, conversation: Conversation, message: str) -> list[int]:
        """Return the ids to answer a message with.

        Raises:
            InvalidArgument: the template refuses the conversation.
            PromptError: the text is empty.
        """
        if self._last is not None and self._last[:2] == (conversation, message):
            return list(self._last[2])
        ids, text, start = self._known(conversation, message)
        messages = [one.message for one in conversation.exchanges[start:]] + [message]
        for number, said in enumerate(messages, start=start):
            done = conversation.exchanges[number - 1] if number else None
            before = Conversation(conversation.system, conversation.exchanges[:number])
            ids, text = self._further(before, said, ids, text, done)
        if not ids:
            raise PromptError("the message is empty: give some text to go on from")
        self._last = conversation, message, ids, text
        return list(ids)

    def more(self, conversation: Conversation) -> list[int]:
        """Return the ids to go on with the last answer.

        Raises:
            InvalidArgument: there is none, or the template refuses the conversation.
        """
        if not conversation.exchanges:
            raise InvalidArgument("there is no answer to go on with: give a message")
        last = conversation.exchanges[-1]
        ids = self.prompt(conversation.without_last(), last.message)
        return ids + self.answer(last)

    def _known(self, conversation: Conversation, message: str) -> tuple[list[int], str, int]:
        """Return ids and text of the longest beginning that was asked for last, and its length."""
        if self._last is not None:
            before, said, ids, text = self._last
            count = len(before)
            exchanges = conversation.exchanges
            same = before.system == conversation.system and before.exchanges == exchanges[:count]
            if same and len(exchanges) > count and exchanges[count].message == said:
                return list(ids), text, count + 1
        return [], "", 0

    def _further(
        self,
        before: Conversation,
        message: str,
        ids: list[int],
        text: str,
        done: Exchange | None,
    ) -> tuple[list[int], str]:
        """Return ids and text up to and with a message.

        Args:
            before: the conversation up to it.
            message: what is said.
            ids: up to and with the message before.
            text: likewise.
            done: the exchange before.
        """
        if done is not None:
            ids, text = ids + self.answer(done), text + done.answer
        if not self.template:
            if done is None and before.system:
                text = before.system
                ids = self._first(text)
            piece = _gap(text, message) + message
            return ids + (self._inside(piece) if text else self._first(piece)), text + piece
        whole = self._rendered(before, message)
        if done is not None and whole.startswith(text):
            return ids + self._plainly(whole[len(text) :]), whole
        return self._plainly(whole), whole

    def answer(self, exchange: Exchange) -> list[int]:
        """Return the ids of an answer, without the one that ended it."""
        if not self._knows or not exchange.tokens:
            return self._inside(exchange.answer)
        ids = list(exchange.tokens)
        if ids[-1] in self._model.eos_ids:
            ids.pop()
        return ids

    def _rendered(self, before: Conversation, message: str) -> str:
        messages = [{"role": "system", "content": before.system}] if before.system else []
        for one in before.exchanges:
            messages.append({"role": "user", "content": one.message})
            messages.append({"role": "assistant", "content": one.answer})
        messages.append({"role": "user", "content": message})
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            )
        except Exception as error:  # templates are programs, and raise what they like
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            remedy = "leave the system text out" if before.system else "go on without the template"
            raise InvalidArgument(
                f"the chat template of {self._model.name} refuses this ({why}): {remedy}"
            ) from error

    def _first(self, text: str) -> list[int]:
        return list(self._tokenizer(text)["input_ids"]) if text else []

    def _plainly(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _inside(self, text: str) -> list[int]:
        """Return the ids of a text that follows another: without a space some put before texts."""
        anchor, whole = self._plainly(_ANCHOR), self._plainly(_ANCHOR + text)
        if whole[: len(anchor)] == anchor:
            return whole[len(anchor) :]
        return self._plainly(text)  # the tokenizer has a token for both together


def _gap(text: str, message: str) -> str:
    """Return what goes between a text and the message that goes on with it."""
    return "" if not (text and message) or text[-1].isspace() or message[0].isspace() else "\n"


def same_tokens(one: LanguageModel, other: LanguageModel) -> bool:
    """Return whether two models number tokens in the same way."""
    both: Sequence[Any] = (one.tokenizer, other.tokenizer)
    return one is other or (None not in both and bool(both[0].get_vocab() == both[1].get_vocab()))
