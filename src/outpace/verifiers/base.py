"""What every verifier declares and does."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from ..errors import DrawRefused
from ..sampling import Sampler
from ..types import Draw, TokenTree, Verdict


class Verifier(ABC):
    """Decides which draft tokens stand and which token follows them.

    Attributes:
        draws: the ways of drawing siblings this verifier can treat.
        exact: whether the emitted text has the target's own law.
        chains_only: whether it refuses a node with several children.
        same_text: whether a seed gives the very text of plain decoding, not only its law.
    """

    draws: ClassVar[frozenset[Draw]]
    chains_only: ClassVar[bool] = False
    exact: bool = True
    same_text: ClassVar[bool] = False

    @abstractmethod
    def drawing(self, greedy: bool) -> Draw:
        """Return how a drafter that has a law should draw for this verifier."""

    @abstractmethod
    def verify(self, tree: TokenTree, logits: Tensor, sampler: Sampler) -> Verdict:
        """Return the verdict on ``tree`` given the target's ``logits [N, V]`` at its nodes.

        Raises:
            DrawRefused: the tree was drawn in a way this verifier cannot treat.
        """

    def check(self, tree: TokenTree) -> None:
        """Raise DrawRefused for a draw that this verifier cannot treat."""
        if len(tree) > 1 and tree.draw not in self.draws:
            raise DrawRefused(
                f"{type(self).__name__} cannot treat a tree drawn as {tree.draw!r} (it takes "
                f"{', '.join(sorted(self.draws))}): use the coupled verifier, which takes any"
            )
