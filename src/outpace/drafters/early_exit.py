"""The target's own first layers draft, no second model (arXiv 2404.16710, 2309.08168)."""

from ..models import LanguageModel
from ..models.shallow import shallow
from .self_drafter import SelfDrafter


class EarlyExitDrafter(SelfDrafter):
    """Drafts with the first layers of the target, its last norm and its output layer.

    How good such drafts are depends on the training: a model that was not trained to be left early
    agrees little with its own middle.

    Args:
        layers: how many; None is a third of what the target has.
    """

    def __init__(self, layers: int | None = None) -> None:
        super().__init__()
        self.layers = layers

    def make(self, target: LanguageModel) -> LanguageModel:
        """Return the target's first layers.

        Raises:
            InvalidArgument: the target has not more layers than asked for.
            UnsupportedModel: its layers do not lie in one list.
        """
        count = self.layers
        if count is None:
            count = max(1, int(target.config.num_hidden_layers) // 3)
        return shallow(target, count)
