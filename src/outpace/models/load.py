"""Models by folder or hub name: dtype, device, tokenizer, and errors a person can act on."""

import gc
import logging
import os
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from .. import zoo
from ..errors import InvalidArgument, ModelNotFound, UnknownName, UnsupportedModel
from .attention import use_slot_attention
from .choosing import check_runtime
from .language_model import LanguageModel, context_length
from .precision import PRECISIONS, check_precision, quantized
from .probe import probe
from .quiet import quiet
from .stored import MIXING, stored_precision

DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}
_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_CASTS = "bitsandbytes.autograd._functions"
"""The logger that says at every product of LLM.int8() that it is one of float16."""


def check_dtype(name: str) -> None:
    """Refuse a dtype or precision that there is not.

    Raises:
        UnknownName: none of the names in :data:`DTYPES` or :data:`PRECISIONS`.
    """
    if name not in PRECISIONS:
        resolve_dtype(name)


def resolve_dtype(name: str | torch.dtype) -> torch.dtype:
    """Return the dtype of a name.

    Raises:
        UnknownName: none of the names in :data:`DTYPES`.
    """
    if isinstance(name, torch.dtype):
        return name
    if name not in DTYPES:
        known = ", ".join([*DTYPES, *PRECISIONS])
        raise UnknownName(f"unknown dtype {name!r}: choose one of {known}")
    return DTYPES[name]


def resolve_device(name: str | torch.device | None) -> torch.device:
    """Return the device of a name; None is the GPU if there is one, else the CPU.

    Raises:
        InvalidArgument: torch does not know the device, or it is not there.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # a device without memory (meta) cannot do this
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        remedy = "give cpu" + (", cuda or cuda:N" if torch.cuda.is_available() else "")
        raise InvalidArgument(f"device {str(name)!r} cannot be used here: {remedy}") from error
    return device


def load(
    name: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype = "bfloat16",
    device: str | torch.device | None = None,
    runtime: str = "eager",
) -> LanguageModel:
    """Load a causal language model and its tokenizer, and probe it.

    Args:
        name: a folder in Hugging Face format, a name on the hub (or in its local cache), or an
            embedded model: ``zoo:target``, ``zoo:small``, ``zoo:medium``, ``zoo:large``.
        dtype: of the weights; ``int8``, ``int4``, ``fp8``, ``bnb-int8`` and ``nf4`` are made from
            bfloat16, where there are kernels for them. A checkpoint that was stored quantised
            stays as it is; there it is the dtype of everything else.
        device: where to run; None is the GPU if there is one, else the CPU.
        runtime: how to run forwards, see :meth:`LanguageModel.use_runtime`.

    Raises:
        ModelNotFound: there is no such folder, or the hub does not give the model.
        UnsupportedModel: the loop would be wrong on it.
        InvalidArgument: unknown dtype, device or runtime.
    """
    check_runtime(runtime)
    precision = dtype if isinstance(dtype, str) and dtype in PRECISIONS else None
    chosen, place = resolve_dtype("bfloat16" if precision else dtype), resolve_device(device)
    if precision:
        check_precision(precision, place)
    check_arithmetic(chosen, place)
    source = _source(name)
    config = _config(source)
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModel(
            f"{source} is an encoder-decoder ({config.model_type}): give a causal language model"
        )
    stored = stored_precision(config)
    if stored and precision:
        raise UnsupportedModel(
            f"{source} was stored in {stored}, it cannot be made {precision}: give dtype bfloat16, "
            "in which everything else of it is, or another checkpoint"
        )
    if stored == MIXING:  # as it was stored, so there is nothing to do about it
        logging.getLogger(_CASTS).setLevel(logging.ERROR)
    model = _weights(source, chosen, place, stored)
    if not stored:  # those are where they stay
        cast(Any, model).to(place)
    model.eval()
    language_model = wrap(model, _tokenizer(source), name=os.fspath(name))
    use_slot_attention(model)
    if precision:
        language_model = quantized(language_model, precision)
        del model
        gc.collect()  # modules know each other: the wide weights would wait for the next collection
    language_model.source = os.fspath(name), precision or str(chosen).removeprefix("torch.")
    language_model.use_runtime(runtime)
    if language_model.runtime_note is not None and runtime != "auto":
        warnings.warn(language_model.runtime_note, stacklevel=2)
    return language_model


def parameters_of(name: str | os.PathLike[str]) -> int:
    """Return how many parameters a model has, by its configuration alone: nothing is loaded.

    Raises:
        ModelNotFound: there is no such folder, or the hub does not give the model.
    """
    return sum(weight.numel() for weight in cast(Any, without_weights(name)).parameters())


def context_of(name: str | os.PathLike[str]) -> int | None:
    """Return how many tokens a model may read, by its configuration alone; None is any number.

    Raises:
        ModelNotFound: there is no such folder, or the hub does not give the model.
    """
    return context_length(_config(_source(name)).get_text_config())


def without_weights(name: str | os.PathLike[str]) -> PreTrainedModel:
    """Return a model on the device ``meta``, by its configuration alone: nothing is loaded.

    Raises:
        ModelNotFound: there is no such folder, or the hub does not give the model.
    """
    source = _source(name)
    config = _config(source)
    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.bfloat16, trust_remote_code=False
            )
    except Exception as error:
        raise ModelNotFound(_not_found(source, error)) from error
    return cast(PreTrainedModel, model.eval())


def wrap(model: PreTrainedModel, tokenizer: Any | None = None, *, name: str = "") -> LanguageModel:
    """Probe a model that is already loaded; its attention is left as it was.

    Run it inside :meth:`LanguageModel.attached`, or a forward takes a little longer.

    Raises:
        UnsupportedModel: the loop would be wrong on it.
    """
    try:
        language_model = LanguageModel(model, tokenizer, name)
    except AttributeError as error:  # a configuration without attention heads, layers …
        raise UnsupportedModel(
            f"{name or type(model).__name__} is not built as the loop expects ({error}): "
            "use transformers' own generate for this model"
        ) from error
    probe(language_model)
    return language_model


def check_arithmetic(dtype: torch.dtype, place: torch.device) -> None:
    """Refuse a dtype in which a device cannot multiply.

    Raises:
        InvalidArgument: it has no such product, as some builds of torch have none in float16.
    """
    one = torch.zeros(1, 1, 1, 16, dtype=dtype, device=place)
    try:
        F.linear(F.scaled_dot_product_attention(one, one, one), one[0, 0])
    except (RuntimeError, NotImplementedError) as error:
        name = str(dtype).removeprefix("torch.")
        raise InvalidArgument(
            f"dtype {name} on {place}: it cannot be multiplied there ({_line(error)}): give "
            "float32 or bfloat16"
        ) from error


def _config(source: str) -> Any:
    try:
        with quiet():
            return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise ModelNotFound(_not_found(source, error)) from error


def _weights(
    source: str, dtype: torch.dtype, place: torch.device, stored: str | None
) -> PreTrainedModel:
    """Load the weights; refuse a checkpoint that leaves some of the model at random values.

    They come from the file in the dtype asked for, tensor by tensor. Where accelerate is
    installed they go to a GPU in the same way; otherwise the host holds them all for a moment.
    Those that were stored quantised always go straight, and need it.
    """
    straight = bool(stored) or (place.type != "cpu" and find_spec("accelerate") is not None)
    where: dict[str, Any] = {"device_map": {"": place}} if straight else {}
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=dtype,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
                **where,
            )
    except Exception as error:
        if stored and isinstance(error, ImportError):
            raise UnsupportedModel(
                f"{source} was stored in {stored}: {_line(error)}: install what it needs, as "
                "pip install 'outpace[bitsandbytes]'"
            ) from error
        raise ModelNotFound(
            f"{source}: the model cannot be loaded: {_line(error)}: "
            "give the complete folder of a causal language model, config.json and weights"
        ) from error
    model, found = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    lost = {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}
    if lost:
        raise UnsupportedModel(
            f"{source}: the weights do not fit config.json: {len(lost)} tensors are missing or "
            f"have another shape ({min(lost)} is one): give the complete folder of one model"
        )
    return model


def _source(name: str | os.PathLike[str]) -> str:
    if not isinstance(name, str | os.PathLike):
        raise ModelNotFound(
            f"a model of type {type(name).__name__}: give a folder or hub name, or what "
            "outpace.models.load or wrap returned"
        )
    text = os.fspath(name)
    if not text.strip():
        raise ModelNotFound("an empty model name: give a model folder or a hub name (org/name)")
    if text.startswith(zoo.PREFIX):
        return str(zoo.folder(text))
    # functions of os.path answer False where a Path raises, as for a name too long to exist
    folder = Path(os.path.expanduser(text))
    if os.path.isdir(folder):
        if not (folder / "config.json").is_file():
            raise ModelNotFound(
                f"{text}: the folder has no config.json: give a model folder in Hugging Face format"
            )
        return str(folder)
    if os.path.isfile(folder):
        raise ModelNotFound(f"{text} is a file: give the model's folder")
    if not _HUB_NAME.fullmatch(text):
        raise ModelNotFound(f"{text}: no such folder: give a model folder or a hub name (org/name)")
    return text


def _not_found(source: str, error: Exception) -> str:
    if os.path.isdir(source):
        return (
            f"{source}: the configuration cannot be read: {_line(error)}: check config.json, and "
            "that this version of transformers knows the model"
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}
    why = "the hub is switched off (HF_HUB_OFFLINE) and its cache" if offline else "the hub"
    return f"{source}: no such folder, and {why} does not give it: check the name"


def _tokenizer(source: str) -> Any | None:
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception:
        # A model without a tokenizer still decodes lists of ids; text is refused later, by name.
        return None


def _line(error: Exception) -> str:
    """Return the first sentence of an error."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(". ")[0].rstrip(" .")
