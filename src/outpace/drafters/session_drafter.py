"""What drafters have in common that hold a text in a model of their own."""

from ..cache import Session
from ..cache.policies import CachePolicy
from ..models import LanguageModel
from .base import Drafter


class SessionDrafter(Drafter):
    """Has a draft model, and a session of it.

    Args:
        model: a language model, loaded or wrapped.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self._session = Session(model)
        self._policy: CachePolicy | None = None

    def hold_by(self, policy: CachePolicy) -> None:
        """Forget keys and values as a policy says.

        Raises:
            InvalidArgument: it does not go with the model.
        """
        self._policy = policy
        self.reset()

    def reset(self) -> None:
        """Forget the keys and values of earlier texts, and give their memory back."""
        forwards = self._session.forwards
        self._session = Session(self.model, self._policy)
        self._session.forwards = forwards

    @property
    def models(self) -> tuple[LanguageModel, ...]:
        """The draft model."""
        return (self.model,)

    @property
    def forwards(self) -> int:
        """How many forwards the model has run."""
        return self._session.forwards

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values it holds."""
        return self._session.nbytes
