"""What drafters have in common whose model is made of the target."""

from __future__ import annotations

from abc import abstractmethod

from ..cache import Session
from ..errors import InvalidArgument
from ..models import LanguageModel
from ..types import Context
from .model import ModelDrafter


class SelfDrafter(ModelDrafter):
    """Drafts with a model made of the target when the two meet.

    Its layers are the target's, so it reads no prompt: it copies the keys and values that the
    target has computed.
    """

    def __init__(self) -> None:
        self._target: LanguageModel | None = None
        self._seen: Session | None = None

    @abstractmethod
    def make(self, target: LanguageModel) -> LanguageModel:
        """Return the model that drafts for a target, which is not altered."""

    def attach(self, target: LanguageModel) -> None:
        """Make the model, once.

        Raises:
            InvalidArgument: another target.
        """
        if self._target is not None and target.model is self._target.model:
            return
        if self._target is not None:
            raise InvalidArgument(
                f"{type(self).__name__} drafts for {self._target.name} already: make another one "
                f"for {target.name}"
            )
        super().__init__(self.make(target))
        self._target = target

    def reset(self) -> None:
        """Forget the keys and values of earlier texts, if there are any."""
        if self._target is not None:
            super().reset()

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The model, once there is one."""
        return () if self._target is None else super().models

    @property
    def forwards(self) -> int:
        """How many forwards it has run."""
        return 0 if self._target is None else super().forwards

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values it holds."""
        return 0 if self._target is None else super().kv_bytes

    def look(self, session: Session) -> None:
        """Remember where the target's keys and values are, until the start."""
        self._seen = session

    def start(self, context: Context, *, resume: bool = False) -> None:
        """Take over the target's keys and values of the prompt."""
        seen, self._seen = self._seen, None
        if seen is not None:
            self._session.adopt(seen)
            resume = True
        super().start(context, resume=resume)
