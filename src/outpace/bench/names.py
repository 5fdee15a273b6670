"""What the name of a method says: drafter, length, trees, cache policy, precisions."""

import os
import re

from .. import zoo
from ..cache.policies import parse_policy
from ..calls import is_call, split
from ..compose import with_its_model
from ..drafters.shape import Shape
from ..drafters.shape_names import parse_shape
from ..drafters.tree import DEFAULT_SHAPE
from ..models.load import check_dtype

_WITH = " with "
_IN = " in "
_DTYPES = re.compile(r"[\w.-]+(/[\w.-]+)?")


def with_policy(name: str) -> tuple[str, str | None]:
    """Return the method of ``NAME with POLICY``, and the cache policy or None.

    ``TARGET/DRAFTER`` gives both models one; ``full`` is none. The precisions a name goes on with
    have no part in either.

    Raises:
        UnknownName: no such policy.
        InvalidArgument: it cannot be read, or a value out of range.
    """
    method, with_, policy = in_precision(name)[0].partition(_WITH)
    if not with_:
        return method, None
    for part in split(policy, "/"):
        parse_policy(part)
    return method, policy


def policies_of(name: str) -> tuple[str | None, str | None]:
    """Return the cache policies of target and draft model that a method names, or None."""
    policy = with_policy(name)[1]
    if policy is None:
        return None, None
    own = split(policy, "/")
    return own[0], own[1] if len(own) > 1 else None


def in_precision(name: str) -> tuple[str, str | None, str | None]:
    """Return the method of ``NAME in TARGET/DRAFTER``, and the dtype of either model or None.

    Raises:
        UnknownName: no such dtype.
    """
    method, in_, dtypes = name.rpartition(_IN)
    # two cache policies have a stroke between them, which makes no path
    is_path = os.sep in method.partition(_WITH)[0] or os.path.exists(name)
    if not in_ or is_path or not _DTYPES.fullmatch(dtypes):
        return name, None, None
    target, _, drafter = dtypes.partition("/")
    check_dtype(target)
    check_dtype(drafter or target)
    return method, target, drafter or None


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

    The cache policies and precisions a name goes on with have no part in either.
    """
    method, *own = split(in_precision(name)[0].partition(_WITH)[0], "@")
    return method, "@".join(own) if own else None
