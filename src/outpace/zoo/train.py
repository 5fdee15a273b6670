"""``python -m outpace.zoo.train``: make the embedded models again, from text to folders."""

import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from . import corpus, tokenizer
from .shapes import DEEP, DRAFTERS, TARGET, Shape
from .training import Phase, Plan, Training

app = typer.Typer(add_completion=False, no_args_is_help=True)

TARGET_NAME, DEEP_NAME = "target", "deep"
TARGET_PHASES = (Phase(0.5, 256), Phase(0.35, 512), Phase(0.15, 2048))
"""Short rows first: they cost less attention; the context of 2048 is learnt at the end."""
DRAFTER_PHASES = (Phase(0.85, 256), Phase(0.15, 2048))
SEED = 0
OVERLAP_WEIGHT = 2.0
"""Of the share a drafter misses of the target's law, beside the cross-entropy."""
_SHORT = 512
Tokens = Annotated[float, typer.Option(help="Millions of tokens in all.")]
Minutes = Annotated[float | None, typer.Option(help="Stop after so long, to go on later.")]
Compiled = Annotated[bool, typer.Option(help="Compile the step (needs a C++ compiler).")]
Work = Annotated[Path, typer.Option(metavar="DIR", help="Tokens, checkpoints and curves.")]


@app.command()
def prepare(work: Work = Path("build/zoo")) -> None:
    """Train the tokenizer and cut the corpus into tokens."""
    prose, held_prose = corpus.split(list(corpus.books()), corpus.HELD_OUT)
    sources = list(corpus.sources())
    code, held_code = corpus.split(sources, len(sources) // 100)
    work.mkdir(parents=True, exist_ok=True)
    tokenizer.train([*_sample(prose, 35_000_000), *_sample(code, 15_000_000)], work / "tokenizer")
    pieces = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
    random.Random(SEED).shuffle(prose)
    for name, texts in (
        ("prose", prose),
        ("code", code),
        ("held_prose", held_prose),
        ("held_code", held_code),
    ):
        tokens = tokenizer.encode(pieces, texts)
        np.save(work / f"{name}.npy", tokens)
        size = sum(len(text.encode()) for text in texts)
        print(f"{name}: {len(texts)} texts, {len(tokens)} tokens, {size / len(tokens):.3f} bytes")


@app.command()
def target(
    work: Work = Path("build/zoo"),
    tokens: Tokens = 18.0,
    minutes: Minutes = None,
    compiled: Compiled = True,
) -> None:
    """Train the target, or go on from its last checkpoint."""
    torch.manual_seed(SEED)
    model = new_model(TARGET)
    model.train()

    def losses(rows: Tensor) -> Mapping[str, Tensor]:
        return {TARGET_NAME: F.cross_entropy(logits(model, rows), rows[:, 1:].flatten())}

    held = held_out(work)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        attention([model], "sdpa")
        return {f"held_{name}": float(losses(rows)[TARGET_NAME]) for name, rows in held.items()}

    run = Training(
        work / TARGET_NAME,
        {TARGET_NAME: model},
        Plan(round(tokens * 1e6), TARGET_PHASES, seed=SEED),
        mixture(work, SEED),
        stepped(losses, [model], compiled),
        validate,
    )
    if run.run(print_now, seconds=None if minutes is None else minutes * 60):
        export(model, work, work / "models" / TARGET_NAME)


@app.command()
def text(
    work: Work = Path("build/zoo"),
    tokens: Tokens = 1.5,
) -> None:
    """Let the target write, or go on: the corpus continued greedily and at temperature 1.

    Drafters meet what the target writes, which is not what people write.
    """
    model: Any = LlamaForCausalLM.from_pretrained(
        work / "models" / TARGET_NAME, dtype=torch.bfloat16
    )
    model.eval()
    model.generation_config = GenerationConfig(pad_token_id=0)  # no text ends early
    rows = mixture(work, SEED + 100)
    batch, length, prompt = 64, 256, 64
    file = work / "written.npy"
    written = [np.load(file)] if file.is_file() else []
    count = round(tokens * 1e6 / (batch * length))
    for number in range(sum(map(len, written)) // batch, count):
        torch.manual_seed(SEED + number)
        law = {"do_sample": True, "top_k": 0} if number % 2 else {"do_sample": False}
        ids = rows(number * batch, batch, length)[:, :prompt]
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(max_length=length + 1, pad_token_id=0, **law),
        )
        written.append(out.to(torch.int32).numpy().astype(np.uint16))
        np.save(file, np.concatenate(written))
        print_now(f"{number + 1} of {count} batches of {batch} texts")


@app.command()
def drafters(
    work: Work = Path("build/zoo"),
    tokens: Tokens = 12.0,
    minutes: Minutes = None,
    compiled: Compiled = True,
) -> None:
    """Distil all drafters at once on the target's distribution, or go on.

    Half of the short rows are the corpus, half what the target wrote; long rows are the corpus.
    """
    torch.manual_seed(SEED)
    teacher: Any = LlamaForCausalLM.from_pretrained(
        work / "models" / TARGET_NAME, dtype=torch.float32
    )
    teacher.eval().requires_grad_(False)
    students = {name: new_model(shape) for name, shape in {**DRAFTERS, DEEP_NAME: DEEP}.items()}
    everyone = [teacher, *students.values()]

    def losses(rows: Tensor) -> Mapping[str, Tensor]:
        with torch.no_grad():
            law = torch.softmax(logits(teacher, rows), dim=-1)
        return {name: distance(law, logits(one, rows)) for name, one in students.items()}

    held = held_out(work)

    @torch.no_grad()
    def validate() -> dict[str, float]:
        attention(everyone, "sdpa")
        figures = {}
        for text, rows in held.items():
            law = torch.softmax(logits(teacher, rows), dim=-1)
            for name, one in students.items():
                own = torch.softmax(logits(one, rows), dim=-1)
                figures[f"{text}_{name}_overlap"] = float(torch.minimum(law, own).sum(-1).mean())
                same = law.argmax(-1) == own.argmax(-1)
                figures[f"{text}_{name}_agreement"] = float(same.float().mean())
        return figures

    corpus_rows, written = mixture(work, SEED + 10), np.load(work / "written.npy")

    def rows(first: int, count: int, length: int) -> Tensor:
        if length != written.shape[1] - 1:
            return corpus_rows(first, count, length)
        half = count // 2
        picked = [(first // 2 + row) % len(written) for row in range(half)]
        own = torch.from_numpy(written[picked].astype(np.int64))
        return torch.cat([corpus_rows(first // 2, count - half, length), own])

    run = Training(
        work / "drafters",
        students,
        Plan(
            round(tokens * 1e6),
            DRAFTER_PHASES,
            batch=4096,
            matrix_rate=8e-3,
            table_rate=8e-3,
            seed=SEED,
        ),
        rows,
        stepped(losses, everyone, compiled),
        validate,
    )
    if run.run(print_now, seconds=None if minutes is None else minutes * 60):
        for name, model in students.items():
            export(model, work, work / "models" / name)


def logits(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Return float32 logits ``[rows · length, V]``."""
    with torch.autocast("cpu", torch.bfloat16):
        out: Tensor = model(input_ids=rows[:, :-1], use_cache=False).logits
    return out.float().flatten(0, 1)


def distance(law: Tensor, scores: Tensor) -> Tensor:
    """Return how far the softmax of scores ``[N, V]`` is from a law ``[N, V]``: the loss.

    Cross-entropy, which keeps every token of the law in reach, and the total variation, which is
    the chance of a rejection: a drafter too small for the whole law learns what is accepted
    (arXiv 2310.08461).
    """
    own = torch.log_softmax(scores, -1)
    cross_entropy = -(law * own).sum(-1)
    overlap = torch.minimum(law, own.exp()).sum(-1)
    return (cross_entropy + OVERLAP_WEIGHT * (1.0 - overlap)).mean()


def attention(models: Iterable[LlamaForCausalLM], name: str) -> None:
    """Choose how models compute attention."""
    for model in models:
        model.set_attn_implementation(name)


def stepped(
    losses: Callable[[Tensor], Mapping[str, Tensor]],
    models: Iterable[LlamaForCausalLM],
    compiled: bool,
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """Return the losses by the quickest way for the length of the rows.

    Written-out attention, compiled, until its scores outgrow the cache; then the fused kernel.
    """
    short = torch.compile(losses, dynamic=False) if compiled else losses

    def step(rows: Tensor) -> Mapping[str, Tensor]:
        if rows.shape[1] <= _SHORT + 1:
            attention(models, "eager")
            return short(rows)
        attention(models, "sdpa")
        return losses(rows)

    return step


def new_model(shape: Shape) -> LlamaForCausalLM:
    """Return a model of a shape with random weights."""
    config: Any = LlamaConfig
    return LlamaForCausalLM(config(**shape.config(), attn_implementation="sdpa"))


def mixture(work: Path, seed: int) -> Callable[[int, int, int], Tensor]:
    """Return the source of rows: ``(first, count, length) -> [count, length + 1]``."""
    prose, code = (np.load(work / f"{name}.npy", mmap_mode="r") for name in ("prose", "code"))
    made: dict[int, corpus.Mixture] = {}

    def rows(first: int, count: int, length: int) -> Tensor:
        if length not in made:
            made[length] = corpus.Mixture(prose, code, length, seed)
        return torch.from_numpy(made[length].rows(first, count))

    return rows


def held_out(work: Path) -> dict[str, Tensor]:
    """Return a few rows of text that nothing is trained on."""
    texts = {}
    for name in ("prose", "code"):
        tokens = np.load(work / f"held_{name}.npy")
        chunks = corpus.Chunks(tokens, 512, seed=1)
        texts[name] = torch.from_numpy(np.stack([chunks[i] for i in range(16)]).astype(np.int64))
    return texts


def export(model: LlamaForCausalLM, work: Path, folder: Path) -> None:
    """Write a model in bfloat16, with the tokenizer, as transformers reads it."""
    copy: Any = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(folder)
    for file in (work / "tokenizer").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors lets the owner alone read


def print_now(line: str) -> None:
    """Print a line at once, also where the output goes to a file."""
    print(line, flush=True)


def _sample(texts: list[str], characters: int) -> list[str]:
    picked, size = [], 0
    for text in random.Random(SEED).sample(texts, len(texts)):
        picked.append(text)
        size += len(text)
        if size > characters:
            break
    return picked


if __name__ == "__main__":
    app()
