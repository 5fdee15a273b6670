"""What constructors of policies share."""

from ...errors import InvalidArgument


def need(condition: bool, message: str) -> None:
    """Raise InvalidArgument with a message, unless a condition holds."""
    if not condition:
        raise InvalidArgument(message)


def usual_block(size: int) -> int:
    """Return how many tokens lie between two boundaries where nobody says: an eighth, 64 at most.

    So that what a boundary costs is shared by many tokens, and the memory beside what is kept is
    small against it.
    """
    return max(1, min(64, size // 8))
