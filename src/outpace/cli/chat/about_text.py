"""Commands about what was said: the system text, taking back, going on, files."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from .slash import SWITCH, Command, said, switched, whole_number

if TYPE_CHECKING:
    from .talk import Talk


def _system(talk: "Talk", rest: str) -> None:
    conversation = talk.chat.conversation
    if rest:
        system = "" if rest.lower() == "off" else rest
        talk.chat.change("the system text", replace(conversation, system=system))
    text = talk.chat.conversation.system
    talk.note(f"system: {text}" if text else "system: nothing")


def _chat(talk: "Talk", rest: str) -> None:
    talk.chat.template = switched(rest, talk.chat.template, "chat")
    talk.note(f"the chat template: {said(talk.chat.template)}")


def _undo(talk: "Talk", rest: str) -> None:
    what = talk.chat.undo()
    if what is None:
        raise InvalidArgument("/undo: there is nothing to take back yet")
    talk.note(f"took back {what} · {_held(talk)}")


def _edit(talk: "Talk", rest: str) -> None:
    conversation = talk.chat.conversation
    if not conversation.exchanges:
        raise InvalidArgument("/edit: there is no message to edit yet")
    if not (rest or talk.lines.interactive):
        raise InvalidArgument("/edit: give the message as it should be, as in /edit TEXT")
    message = conversation.exchanges[-1].message
    talk.chat.change("the edit", conversation.without_last())
    if rest:
        talk.ask(rest)
    else:
        talk.offered = message


def _retry(talk: "Talk", rest: str) -> None:
    conversation = talk.chat.conversation
    if not conversation.exchanges:
        raise InvalidArgument("/retry: there is no message to answer again yet")
    talk.chat.change("the retry", conversation.without_last())
    talk.ask(conversation.exchanges[-1].message)


def _more(talk: "Talk", rest: str) -> None:
    talk.ask(None)


def _clear(talk: "Talk", rest: str) -> None:
    conversation = talk.chat.conversation
    talk.chat.change("the clearing", replace(conversation, exchanges=()))
    if talk.screen.terminal:
        talk.screen.console.clear()
    talk.note(f"forgot {_held(talk, len(conversation))}: /undo brings it back")


def _forget(talk: "Talk", rest: str) -> None:
    conversation = talk.chat.conversation
    count = whole_number(rest or "1", "forget", 1)
    if not 1 <= count <= len(conversation):
        raise InvalidArgument(f"/forget {count}: there are {len(conversation)} messages")
    talk.chat.change("the forgetting", conversation.without_first(count))
    talk.note(f"forgot the oldest {count} · {_held(talk)}")


def _save(talk: "Talk", rest: str) -> None:
    if not rest:
        raise InvalidArgument("/save: give the name of a file, as in /save talk.json")
    talk.chat.conversation.write(rest, target=talk.chat.methods.recipe.target)
    talk.note(f"saved in {rest} · {_held(talk)}")


def _load(talk: "Talk", rest: str) -> None:
    from ...chat import Conversation

    if not rest:
        raise InvalidArgument("/load: give the file of a saved conversation")
    talk.chat.change("the loading", Conversation.read(rest))
    talk.note(f"loaded {rest} · {_held(talk)}")


def _held(talk: "Talk", count: int | None = None) -> str:
    number = len(talk.chat.conversation) if count is None else count
    return f"{number} message{'' if number == 1 else 's'}"


COMMANDS = (
    Command("system", "TEXT", "what the model is told first; off for nothing", _system, ("off",)),
    Command("chat", "[on|off]", "go by the tokenizer's chat template", _chat, SWITCH),
    Command("more", "", "go on with the last answer", _more),
    Command("retry", "", "answer the last message again", _retry),
    Command("edit", "[TEXT]", "say the last message in another way", _edit),
    Command("undo", "", "take back the last message, or the last change", _undo),
    Command("forget", "[N]", "forget the oldest messages", _forget),
    Command("clear", "", "forget all messages, clear the screen", _clear),
    Command("save", "FILE", "write the conversation to a file", _save, path=True),
    Command("load", "FILE", "go on with a saved conversation", _load, path=True),
)
