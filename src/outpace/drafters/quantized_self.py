"""The target drafts for itself, in int8: no second model to find, train or load."""

from ..errors import InvalidArgument
from ..models import LanguageModel
from ..models.precision import check_precision, quantized
from .model import ModelDrafter


class QuantizedSelfDrafter(ModelDrafter):
    """Drafts with a low-precision copy of the target, made when it meets the target.

    The copy shares embeddings, norms and, unless told otherwise, the output head with the target,
    which is not altered; it adds about half the bytes of a bfloat16 target's matrices in int8.
    Related: QSpec (arXiv 2410.11305).

    Args:
        precision: ``int8``, or ``int4``.
        head: the copy's output head too.

    Raises:
        UnknownName: another precision.
    """

    def __init__(self, precision: str = "int8", *, head: bool = False) -> None:
        check_precision(precision)
        self.precision = precision
        self.head = head
        self._target: LanguageModel | None = None

    def attach(self, target: LanguageModel) -> None:
        """Make the copy, once.

        Raises:
            InvalidArgument: another target, or one that is not on the CPU.
            UnsupportedModel: the target cannot be quantised, or is.
        """
        if target is self._target:
            return
        if self._target is not None:
            raise InvalidArgument(
                f"quantized-self drafts for {self._target.name} already: make another drafter "
                f"for {target.name}"
            )
        super().__init__(quantized(target, self.precision, head=self.head))
        self._target = target
