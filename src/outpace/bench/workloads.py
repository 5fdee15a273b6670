"""Prompts: public evaluation texts, sets from a hub, synthetic texts, or a file of one's own."""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from ..calls import parse_call
from ..data import VARIABLE, data_root
from ..errors import PromptError, UnknownName
from .hub import HUBS, from_hub
from .own_files import own_documents, own_file
from .published import DOCUMENTS, PUBLISHED
from .synthetic_text import SyntheticText
from .texts import Found, told_as
from .texts import spread as spread

SYNTHETIC = "synthetic"
WORKLOADS = (*PUBLISHED, SYNTHETIC)
"""The names that need no file of one's own and no hub."""
_LONGEST_TOKEN = 32
"""Characters, with much room: what is read of a book for each token of a prompt."""
_ASKING = ("spec-bench", "mt-bench")
"""Sets of questions, which only a model that was taught to answer does answer."""


@dataclass(frozen=True, slots=True)
class BenchPrompt:
    """One prompt: where it is from, and the text every method continues.

    Attributes:
        workload: its name, or that of the file.
        name: of the text in it.
        text: the prompt, or a longer text that begins with it.
        tokens: cut ``text`` to so many first tokens; None where it is the prompt itself.
        turns: what is said next, after each answer.
        seed: added to the seed of its text.
    """

    workload: str
    name: str
    text: str
    tokens: int | None = None
    turns: tuple[str, ...] = ()
    seed: int = 0


def load_prompts(
    names: Sequence[str],
    *,
    data_dir: Path | None = None,
    limit: int = 8,
    prompt_tokens: int = 128,
) -> list[BenchPrompt]:
    """Return the prompts of one or several workloads in turn, spread evenly over each.

    Args:
        names: of :data:`WORKLOADS`, where ``synthetic(tokens=128, count=8, seed=0, repeats=0.0)``
            has settings (:class:`~outpace.bench.synthetic_text.SyntheticText`); ``hub:...`` or
            ``modelscope:...`` (:func:`~outpace.bench.hub.from_hub`); or files
            (:func:`~outpace.bench.own_files.own_file`).
        data_dir: folder of the evaluation texts; None is ``data`` in the data root.
        limit: prompts of each workload at most.
        prompt_tokens: length of a passage of a book, an article or a story.

    Raises:
        PromptError: a text that is not there, or cannot be read.
        UnknownName: neither a workload nor a file.
        InvalidArgument: settings that are none, or outside their range.
    """
    if limit < 1:
        raise PromptError(f"a limit of {limit} prompts: give 1 or more")
    if prompt_tokens < 1:
        raise PromptError(f"prompts of {prompt_tokens} tokens: give 1 or more")
    workloads = [_load(name, data_dir, limit, prompt_tokens) for name in names]
    # in turn from each workload, so that a run that is cut short has some of all
    rows = itertools.zip_longest(*workloads)
    prompts = [prompt for row in rows for prompt in row if prompt is not None]
    if not prompts:
        where = f" in {', '.join(names)}" if names else "s"
        raise PromptError(f"no prompt{where}: give a file with text")
    return prompts


def load_documents(name: str, *, data_dir: Path | None = None) -> list[Found]:
    """Return whole texts, in order: those of a file, or of a published set.

    Args:
        name: of a file (:func:`~outpace.bench.own_files.own_documents`), or a set of
            :data:`~outpace.bench.published.DOCUMENTS`.
        data_dir: folder of the evaluation texts; None is ``data`` in the data root.

    Raises:
        PromptError: it is not there, cannot be read, or has no text.
        UnknownName: neither a set nor a file.
    """
    if name in DOCUMENTS:
        place = _place(data_dir, PUBLISHED[name][0], name)
        with told_as(str(place), "give the file as published"):
            return list(DOCUMENTS[name](place))
    path = Path(name).expanduser()
    if not path.is_file():
        why = "a folder" if path.is_dir() else "no such file, and no set of whole texts"
        raise UnknownName(
            f"text {name!r}: {why}: give a .txt or .jsonl file, or one of {', '.join(DOCUMENTS)}"
        )
    found = list(own_documents(path))
    if not found:
        raise PromptError(f"the file {name} is empty: give a file with text")
    return found


def prompts_hash(prompts: Sequence[BenchPrompt]) -> str:
    """Return a hash that is equal exactly where all texts and all later turns are."""
    digest = hashlib.sha256()
    for prompt in prompts:
        for number, said in enumerate((prompt.text, *prompt.turns)):
            text = said.encode()
            if number:
                digest.update(_LATER)
            digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


_LATER = b"\xff" * 8
"""Before a later turn: no text has this length."""


def note_for(names: Sequence[str]) -> str | None:
    """Return what to say of workloads where the target is no chat model; None is nothing.

    Args:
        names: as :func:`load_prompts` takes them.
    """
    asking = [name for name in names if asks(name)]
    if not asking:
        return None
    return (
        f"{', '.join(dict.fromkeys(asking))}: a model that is no chat model neither answers nor "
        "translates; what is measured is how it continues the text of the question"
    )


def asks(name: str) -> bool:
    """Return whether a workload asks questions, which a chat model reads through its template."""
    return _base(name) in _ASKING


def _base(name: str) -> str:
    return name.removeprefix("hub:").partition("(")[0].partition(":")[0]


def _load(name: str, data_dir: Path | None, limit: int, tokens: int) -> list[BenchPrompt]:
    """Return the prompts of one workload."""
    workload, found = name, list[Found]()
    if name in PUBLISHED:
        where, reader = PUBLISHED[name]
        place = _place(data_dir, where, name)
        with told_as(str(place), "give the file as published"):
            found = list(reader(place, limit))
    elif name.startswith(HUBS):
        workload, found = from_hub(name, limit)
    elif name.partition("(")[0].strip() == SYNTHETIC:
        call = parse_call(name, f"prompts {name!r}", "synthetic(tokens=64, repeats=0.5)")
        synthetic = SyntheticText(**call.settings(SyntheticText))
        tokens = synthetic.tokens or tokens
        found = list(synthetic.texts(tokens, limit))
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            raise UnknownName(_unknown(name))
        workload, found = path.name, spread(list(own_file(path)), limit)
    return list(_prompts(workload, found, tokens))


def _prompts(workload: str, found: Iterable[Found], tokens: int) -> Iterable[BenchPrompt]:
    for one in found:
        if one.passage:
            text = one.text[: _LONGEST_TOKEN * tokens]
            yield BenchPrompt(workload, one.name, text, tokens, one.turns)
        else:
            yield BenchPrompt(workload, one.name, one.text, turns=one.turns)


def _place(data_dir: Path | None, where: str, name: str) -> Path:
    if data_dir is None:
        root = data_root()
        if root is None:
            raise PromptError(
                f"no evaluation text for {name}: {VARIABLE} names a folder with data/, --data-dir "
                "that folder itself; or give --prompts a file of your own"
            )
        data_dir = root / "data"
    place = data_dir.expanduser() / where
    if not place.exists():
        raise PromptError(
            f"{place} is not there: --data-dir names the folder with {where}, or give --prompts a "
            "file of your own"
        )
    return place


def _unknown(name: str) -> str:
    if Path(name).expanduser().is_dir():
        return f"prompts {name!r}: a folder: give a file in it, or hub:{name} to read all of it"
    near = get_close_matches(name.lower(), [*WORKLOADS, *HUBS], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    base = name.partition(":")[0]
    parts = [one for one in WORKLOADS if one.startswith(f"{base}:")]
    if parts:
        return f"prompts {name!r}{hint}: no such part: give {base} or one of {', '.join(parts)}"
    whole = ", ".join(one for one in WORKLOADS if ":" not in one)
    return (
        f"prompts {name!r}{hint}: no such file, and no workload: give a .txt or .jsonl file, one "
        f"of {whole}, or a set from a hub as hub:ORG/NAME"
    )
