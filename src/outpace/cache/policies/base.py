"""What every cache policy declares and does: which tokens' keys and values are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Held:
    """What one layer holds between two rounds.

    Attributes:
        layer: its number.
        layers: how many there are.
        heads: which of its key heads.
        length: the boundary, tokens of the text so far.
        indices: ``[n, H]`` int64, which token of the text each head holds at each place; ascending.
        read_keys: returns ``[n, H, D]``, the keys as they were written.
        attention: ``[n, H]`` float32, what the policy asked to be added up of it; None if nothing.
    """

    layer: int
    layers: int
    heads: tuple[int, ...]
    length: int
    indices: Tensor
    read_keys: Callable[[], Tensor]
    attention: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def keys(self) -> Tensor:
        """Keys ``[n, H, D]``, gathered when they are looked at."""
        return self.read_keys()


class CachePolicy(ABC):
    """Says at which lengths of a text what is forgotten.

    It is a pure function of what is held and of the length of the text, so that drafting changes
    nothing: the same tokens are forgotten at the same lengths, however the text came about.

    Attributes:
        uniform: all layers and heads keep the same tokens, by their places alone.
        observes: of how many tokens before a boundary the attention is added up; 0 is none, None
            all since the beginning.
    """

    uniform: bool = False
    observes: int | None = 0

    @property
    def size(self) -> int | None:
        """How many tokens a head holds at most after a boundary; None if that grows."""
        return None

    @property
    def always(self) -> int:
        """How many tokens are kept whatever comes: sinks."""
        return 0

    @property
    def packing(self) -> tuple[str, int] | None:
        """``int8`` or ``int4``, and how many of the last tokens are left out; None is nothing."""
        return None

    @property
    @abstractmethod
    def block(self) -> int:
        """How many tokens lie between two boundaries."""

    @abstractmethod
    def due(self, length: int) -> int | None:
        """Return the first boundary after a length: there some tokens may go. None is never."""

    @abstractmethod
    def kept(self, held: Held) -> Tensor | None:
        """Return which places are kept at a boundary, ascending; None keeps all.

        Returns:
            int64 ``[k]`` for all heads, or ``[k, H]``, those of each head.
        """

    def groups(self, layer: int, heads: int) -> Sequence[Sequence[int]]:
        """Return the key heads of a layer that hold equally many tokens, group by group."""
        return [range(heads)]

    def check(self, layers: int, heads: int) -> None:  # noqa: B027 - optional hook
        """Compare what it is made for with a model.

        Args:
            layers: of the model.
            heads: key heads of each.

        Raises:
            InvalidArgument: it is made for another one.
        """

    @property
    def name(self) -> str:
        """How it is written."""
        return str(self)


def boundary(length: int, first: int, block: int) -> int:
    """Return the first of ``first``, ``first + block``, ``first + 2 block`` … after a length."""
    if length < first:
        return first
    return first + ((length - first) // block + 1) * block
