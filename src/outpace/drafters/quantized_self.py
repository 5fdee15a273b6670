"""The target drafts for itself, in int8: no second model to find, train or load."""

from ..models import LanguageModel
from ..models.precision import check_precision, quantized
from .self_drafter import SelfDrafter


class QuantizedSelfDrafter(SelfDrafter):
    """Drafts with a low-precision copy of the target.

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
        super().__init__()
        check_precision(precision)
        self.precision = precision
        self.head = head

    def make(self, target: LanguageModel) -> LanguageModel:
        """Return the copy.

        Raises:
            InvalidArgument: the target is on a device that has no such kernels, or has layers of
                sizes that they do not take.
            UnsupportedModel: it cannot be quantised, or is.
        """
        return quantized(target, self.precision, head=self.head)
