"""What the tests of conversations share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from outpace.chat import Answering, Chat, Reply
from outpace.models import LanguageModel
from outpace.models.tiny import tiny_model

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m.role == 'system' %}S:{{ m.content }}\n"
    "{% elif m.role == 'user' %}U:{{ m.content }}\n"
    "{% else %}A:{{ m.content }}<end>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)


Start = Callable[..., Chat]


class Loads:
    """Loads tiny models.

    Attributes:
        names: what was loaded, in that order.
        template: the chat template of the next ones.
        ends: whether they may end a text.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.ends = False
        self.template: str | None = None

    def __call__(self, name: str, **options: Any) -> LanguageModel:
        self.names.append(name)
        if name == "broken":
            raise RuntimeError("cannot be read")
        model = tiny_model(seed=1 if name == "stranger" else 0)
        model.name = name
        tokenizer: Any = model.tokenizer
        tokenizer.chat_template = self.template
        if not self.ends:
            model.model.generation_config.eos_token_id = model.config.eos_token_id = None
        if name == "other":  # often right: the target with some noise
            noise = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for weight in model.model.parameters():
                    weight.add_(0.02 * torch.randn(weight.shape, generator=noise))
        return model


class Counted:
    """Counts the tokens a model computes.

    Args:
        model: that is watched.
        interrupt: before the forward of this number Ctrl-C comes, counted from 1; 0 for never.

    Attributes:
        widths: tokens of each forward.
    """

    def __init__(self, model: LanguageModel, *, interrupt: int = 0) -> None:
        self.widths: list[int] = []
        run = model.forward

        def forward(tokens: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
            self.widths.append(len(tokens))
            if len(self.widths) == interrupt:
                raise KeyboardInterrupt
            return run(tokens, *rest, **options)

        model.forward = forward  # type: ignore[method-assign]


def finished(answering: Answering) -> Reply:
    for _ in answering:
        pass
    return answering.reply


def ask(chat: Chat, message: str | None) -> list[Reply]:
    """Have every method answer."""
    replies = [finished(chat.answer(name, message)) for name in chat.methods.enabled]
    chat.keep(message, replies)
    return replies


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
