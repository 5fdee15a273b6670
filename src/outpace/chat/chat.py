"""A conversation and its answers: each method has what was said in a session of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from ..cache import Session
from ..errors import ContextFull
from ..models import LanguageModel
from ..recipe import Recipe
from ..sampling import Sampling
from ..stopping import check_ends
from .conversation import Conversation, Exchange
from .methods import METHODS, Methods
from .reply import Answering, Reply
from .wording import Wording, same_tokens

SEED = 42
"""Set before each answer, unless another one is given."""
LENGTH = 256


class Chat:
    """A conversation, and what its methods answer.

    Args:
        methods: who answers.
        sampling: how tokens are chosen.
        length: tokens of an answer at most.
        stop: texts that end an answer.
        template: go by the tokenizer's chat template; None: if it has one.

    Attributes:
        conversation: what was said.
        replies: the answers to the last message, in the order they were given.
        turns: the answers to every message since the beginning.
        keeps_cache: sessions are kept between messages.

    Raises:
        InvalidArgument: a length or stop text that cannot be, or no template.
        PromptError: the target has no tokenizer.
    """

    def __init__(
        self,
        methods: Methods,
        *,
        sampling: Sampling | None = None,
        length: int = LENGTH,
        stop: Sequence[str] = (),
        template: bool | None = None,
    ) -> None:
        check_ends(length, stop)
        self.methods = methods
        self._sessions: dict[str, Session] = {}
        self._template = template
        self._wordings = {id(methods.target): Wording(methods.target, template=template)}
        self._before: list[tuple[str, Conversation]] = []
        self.conversation = Conversation()
        self.replies: list[Reply] = []
        self.turns: list[Sequence[Reply]] = []
        self.sampling = Sampling(seed=SEED) if sampling is None else sampling
        self.length, self.stop = length, tuple(stop)
        self.keeps_cache = True

    def use(self, recipe: Recipe) -> None:
        """Decode as another recipe says; nothing is changed if that cannot be.

        A target that numbers tokens in another way is told the conversation as text.

        Raises:
            OutpaceError: a value, name or model that cannot be used.
        """
        before = self.target
        self.methods.use(recipe)
        if not same_tokens(before, self.target):
            self.conversation = self.conversation.as_text()
            self._before = [(what, one.as_text()) for what, one in self._before]
        if before is not self.target:
            self._template = None if self._template else self._template
        models = {id(one): one for one in self.methods.models}
        self._wordings = {key: one for key, one in self._wordings.items() if key in models}
        self._sessions = {
            name: one
            for name, one in self._sessions.items()
            if _alike(one, self.methods[name].session())
        }

    def enable(self, names: Sequence[str]) -> None:
        """Ask these methods, and no others, whose keys and values are given back.

        One that is new takes over what another one of the same model holds: nothing is computed.

        Raises:
            UnknownName: no such method.
            OutpaceError: one of them cannot be had.
        """
        before = self.methods.enabled
        self.methods.enable(names)
        for name in set(self.methods.enabled) - set(before):
            fresh = self.methods[name].session()
            held = [one for one in self._sessions.values() if _alike(one, fresh) and len(one)]
            if held:
                self._sessions[name] = fresh
                fresh.adopt(max(held, key=len))
        for name in set(self._sessions) - set(self.methods.enabled):
            del self._sessions[name]

    @property
    def target(self) -> LanguageModel:
        """The model that answers."""
        return self.methods.target

    def answer(self, name: str, message: str | None) -> Answering:
        """Begin a method's answer.

        Args:
            name: of the method.
            message: what is said; None goes on with the last answer.

        Raises:
            ContextFull: the conversation does not fit the model's context.
            OutpaceError: the conversation cannot be put into tokens.
        """
        decoder = self.methods[name]
        model, clock = decoder.target, decoder.clock
        began = clock.read()
        wording = self._wording(model)
        if message is None:
            ids = wording.more(self.conversation)
        else:
            ids = wording.prompt(self.conversation, message)
        spent = clock.read() - began
        session = self._session(name) if self.keeps_cache else decoder.session()
        limit = session.limit
        if limit is not None and len(ids) >= limit:
            raise ContextFull(
                f"the conversation has {len(ids):,} tokens with this, {model.name} takes "
                f"{limit:,}, the answer among them"
            )
        held = min(session.match(ids), len(ids) - 1)
        settings: dict[str, Any] = {
            one.name: getattr(self.sampling, one.name) for one in fields(self.sampling)
        }
        stream = decoder.stream(
            ids, session=session, max_new_tokens=self.length, stop=self.stop, **settings
        )
        return Answering(name, decoder, stream, wording=spent, prompt_length=len(ids), held=held)

    def keep(self, message: str | None, replies: Sequence[Reply]) -> Reply | None:
        """Put the answers to a message into the conversation, of several the first one.

        Returns:
            The answer that counts; None, and nothing is changed, where nobody wrote anything.
        """
        written = [one for one in replies if one.stats.new_tokens]
        if not written:
            return None
        self.replies = written
        self.turns.append(tuple(written))
        chosen = min(written, key=lambda one: METHODS.index(one.method))
        answer, tokens = chosen.output.text, tuple(chosen.output.tokens)
        cut = chosen.stats.end == "stop"  # the text ends before its last token
        if cut or not same_tokens(self.target, self.methods[chosen.method].target):
            tokens = ()
        if message is not None:
            self.change("the last message", self.conversation.answered(message, answer, tokens))
            return chosen
        last = self.conversation.exchanges[-1]
        if tokens:
            tokens = (*self._wording(self.target).answer(last), *tokens)
        longer = Exchange(last.message, last.answer + answer, tokens)
        exchanges = (*self.conversation.exchanges[:-1], longer)
        self.change("going on", replace(self.conversation, exchanges=exchanges))
        return chosen

    def change(self, what: str, conversation: Conversation) -> None:
        """Go on with another conversation; :meth:`undo` takes it back.

        Args:
            what: how to call the change.
            conversation: that is the conversation from now on.
        """
        self._before.append((what, self.conversation))
        self.conversation = conversation

    def undo(self) -> str | None:
        """Take back the last change; return how it is called, None where there was none."""
        if not self._before:
            return None
        what, self.conversation = self._before.pop()
        return what

    @property
    def template(self) -> bool:
        """Whether messages go through the target's chat template."""
        return self._wording(self.target).template

    @template.setter
    def template(self, wanted: bool) -> None:
        Wording(self.target, template=wanted)  # refused before anything changes
        self._template = wanted
        self._wordings.clear()

    @property
    def used(self) -> int:
        """How many tokens of the target's context the conversation has, its last answer in."""
        if not self.conversation.exchanges:
            return 0
        return len(self._wording(self.target).more(self.conversation))

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values of all sessions."""
        return sum(session.nbytes for session in self._sessions.values())

    def session(self, name: str) -> Session | None:
        """Return what a method holds; None before its first answer."""
        return self._sessions.get(name)

    def drop_sessions(self) -> None:
        """Give back the keys and values of all methods; they are computed anew when needed."""
        self._sessions.clear()

    def _wording(self, model: LanguageModel) -> Wording:
        found = self._wordings.get(id(model))
        if found is None:
            ours = model is self.target
            # a draft model may have no template
            template = self._template if ours or not self._template else None
            knows = same_tokens(self.target, model)
            found = Wording(model, template=template, knows_tokens=knows)
            self._wordings[id(model)] = found
        return found

    def _session(self, name: str) -> Session:
        if name not in self._sessions:
            self._sessions[name] = self.methods[name].session()
        return self._sessions[name]


def _alike(one: Session, other: Session) -> bool:
    """Return whether one session may hold what another does."""
    return one.model is other.model and str(one.policy) == str(other.policy)
