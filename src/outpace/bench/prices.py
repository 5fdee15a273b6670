"""What forwards and drafts of models cost here, measured apart from any text."""

from collections.abc import Sequence
from typing import Any

from ..cache.costs import draft_costs, forward_costs
from ..models import LanguageModel


def prices(models: Sequence[LanguageModel]) -> dict[str, Any]:
    """Return the seconds of a forward by width, and of a draft by length, of each model by name.

    Args:
        models: the target and its draft models.
    """
    found = {}
    for model in models:
        found[model.name] = {
            "forward": {str(width): cost for width, cost in forward_costs(model).items()},
            "draft": {str(length): cost for length, cost in draft_costs(model).items()},
        }
    return found
