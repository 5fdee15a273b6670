"""What the name of a method says: drafter, length, trees, cache policy, precisions."""

import os
import re

from .. import zoo
from ..calls import is_call, parse_call, split
from ..compose import with_its_model
from ..drafters.shape import Shape
from ..drafters.shape_names import parse_shape
from ..drafters.tree import DEFAULT_SHAPE
from ..errors import UnknownName
from ..models.load import check_dtype
from ..registry import unknown_among

POLICIES = (
    "streaming",
    "recent",
    "key_norm",
    "fixed_key_norm",
    "head_aware",
    "snapkv",
    "h2o",
    "composed",
    "quantized",
)
"""Cache policies that a study can ask for."""
THERE: frozenset[str] = frozenset()
"""Of these, the ones that exist: the cells of the others are missing until they do."""
_WITH = " with "
_IN = " in "
_DTYPES = re.compile(r"[\w.-]+(/[\w.-]+)?")


def with_policy(name: str) -> tuple[str, str | None]:
    """Return the method of ``NAME with POLICY``, and the cache policy or None.

    Raises:
        UnknownName: no such policy.
        InvalidArgument: it cannot be read.
    """
    method, with_, policy = name.partition(_WITH)
    if not with_:
        return method, None
    call = parse_call(policy, f"cache policy {policy!r}", "streaming(sinks=4, recent=508)")
    if call.name not in POLICIES:
        raise UnknownName(unknown_among("cache policy", call.name, POLICIES))
    return method, policy


def in_precision(name: str) -> tuple[str, str | None, str | None]:
    """Return the method of ``NAME in TARGET/DRAFTER``, and the dtype of either model or None.

    Raises:
        UnknownName: no such dtype.
    """
    method, in_, dtypes = name.rpartition(_IN)
    is_path = os.sep in method or os.path.exists(name)
    if not in_ or is_path or not _DTYPES.fullmatch(dtypes):
        return name, None, None
    target, _, drafter = dtypes.partition("/")
    check_dtype(target)
    check_dtype(drafter or target)
    return method, target, drafter or None


def lacks_policy(name: str) -> str | None:
    """Return the cache policy that a method names and that does not exist yet, or None."""
    policy = with_policy(name)[1]
    if policy is None or policy.partition("(")[0].strip() in THERE:
        return None
    return policy


def tree_of(method: str) -> Shape | None:
    """Return the shape of ``tree`` or ``tree:SHAPE``; None for a method without trees.

    Raises:
        InvalidArgument: no such shape.
    """
    name, colon, shape = method.partition(":")
    if name != "tree":
        return None
    return parse_shape(shape if colon else DEFAULT_SHAPE)


def needs_drafter(method: str) -> bool:
    """Return whether a method drafts with the model that ``--drafter`` names."""
    return with_length(method)[0].partition(":")[0] in {
        "draft",
        "tree",
        "hf-assisted",
        "hf-assisted-tuned",
    }


def names_a_model(method: str) -> bool:
    """Return whether a method is a draft model's folder or an embedded one."""
    if is_call(method) or with_its_model(method):
        return False
    return method.startswith(zoo.PREFIX) or os.sep in method


def model_of(method: str) -> str | None:
    """Return the name of the draft model that a method names itself, or None."""
    own = with_its_model(method)
    if own is not None:
        return own[1]
    return method if names_a_model(method) else None


def with_length(name: str) -> tuple[str, str | None]:
    """Return the method of ``NAME`` or ``NAME@LENGTH``, and the length or None.

    The precisions a name goes on with have no part in either.
    """
    method, *own = split(in_precision(name)[0], "@")
    return method, "@".join(own) if own else None
