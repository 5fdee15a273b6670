"""Prompts as the models can take them: cut to a number of tokens, or to the room there is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import PromptError
from .methods import Models
from .workloads import BenchPrompt, asks


def fit_prompts(
    prompts: Sequence[BenchPrompt], models: Models, max_new_tokens: int
) -> tuple[list[BenchPrompt], int]:
    """Cut passages to their number of tokens, and what is too long for the models from the left.

    Returns:
        The prompts, and how many were too long.

    Raises:
        PromptError: the new tokens alone do not fit, or the target has no tokenizer.
    """
    tokenizer = models.target.tokenizer
    if tokenizer is None:
        raise PromptError(
            f"{models.target.name} has no tokenizer that can be read, so it cannot take a text: "
            "put the model's tokenizer files (tokenizer.json) into its folder"
        )
    prompts = [as_asked(tokenizer, _first_tokens(tokenizer, prompt)) for prompt in prompts]
    limits = [m.context_length for m in (models.target, models.drafter) if m and m.context_length]
    if not limits:
        return prompts, 0
    if min(limits) <= max_new_tokens:
        raise PromptError(
            f"{max_new_tokens} new tokens leave no room for a prompt in a context of "
            f"{min(limits)}: give fewer --max-new-tokens"
        )
    fitted, cut = [], 0
    for prompt in prompts:
        later = [
            len(tokenizer(turn, add_special_tokens=False)["input_ids"]) for turn in prompt.turns
        ]
        room = min(limits) - max_new_tokens * (1 + len(later)) - sum(later)
        text = _last_tokens(tokenizer, prompt.text, room) if room > 0 else ""
        if not text:
            raise PromptError(
                f"{max_new_tokens} new tokens leave no room for the prompt {prompt.name} in a "
                f"context of {min(limits)}: give fewer --max-new-tokens"
            )
        cut += text is not prompt.text
        fitted.append(replace(prompt, text=text))
    return fitted, cut


def _last_tokens(tokenizer: Any, text: str, room: int) -> str:
    """Return the end of a text that has at most ``room`` tokens, special ones included."""
    ids = tokenizer(text)["input_ids"]
    keep = room
    while len(ids) > room and keep > 0:
        text = tokenizer.decode(ids[-keep:], skip_special_tokens=True)
        if len(tokenizer(text)["input_ids"]) <= room:
            return text
        keep -= 1 + keep // 16  # a text that is cut can have more tokens than it had
    return text if keep > 0 else ""


def _first_tokens(tokenizer: Any, prompt: BenchPrompt) -> BenchPrompt:
    if prompt.tokens is None:
        return prompt
    ids = tokenizer(prompt.text, add_special_tokens=False)["input_ids"][: prompt.tokens]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return replace(prompt, text=text.rstrip("\N{REPLACEMENT CHARACTER}"), tokens=None)


def as_asked(tokenizer: Any, prompt: BenchPrompt) -> BenchPrompt:
    """Return a conversation as the model is to read it.

    A model with a chat template reads what its template makes of what is said; one without reads
    it as it stands, each turn a paragraph of its own. Texts that ask nothing stay as they are: a
    passage is continued, not answered.
    """
    if not prompt.turns and not (asks(prompt.workload) and is_chat(tokenizer)):
        return prompt
    if not is_chat(tokenizer):
        turns = tuple(f"\n\n{turn}\n\n" for turn in prompt.turns)
        return replace(prompt, text=f"{prompt.text}\n\n", turns=turns)
    said = [{"role": "user", "content": prompt.text}]
    text = _rendered(tokenizer, said)
    later = []
    for turn in prompt.turns:
        # what the template puts between an answer and the next one, whatever the answer is
        said += [{"role": "assistant", "content": _MARK}, {"role": "user", "content": turn}]
        later.append(_rendered(tokenizer, said).rpartition(_MARK)[2])
    return replace(prompt, text=text, turns=tuple(later))


def is_chat(tokenizer: Any) -> bool:
    """Return whether a model's tokenizer has a chat template."""
    return getattr(tokenizer, "chat_template", None) is not None


_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"


def _rendered(tokenizer: Any, said: list[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    bos: str | None = getattr(tokenizer, "bos_token", None)
    if not bos or tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        return text
    return text.removeprefix(bos)  # the tokenizer puts it there by itself
