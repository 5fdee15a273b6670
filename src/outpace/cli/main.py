"""Commands, and how their failures are told: one line, exit code 2."""

import contextlib
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence

import typer

from ..errors import OutpaceError
from ..version import __version__
from .bench import bench
from .cache import app as cache
from .chat import chat
from .demo import demo
from .doctor import doctor
from .generate import generate
from .heads import heads
from .interrupt import INTERRUPTED, interruptible
from .memory import memory
from .ppl import ppl
from .precision import precision
from .study import report, study
from .text import visible
from .tune import tune
from .warm import warm

app = typer.Typer(
    name="outpace",
    help="Decode any Hugging Face causal language model faster, with the same output.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes cut the names of options short
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(short_help="Continue a prompt.")(interruptible(generate))
app.command(short_help="Talk to a model.")(interruptible(chat))
app.command(short_help="Measure methods side by side.")(interruptible(bench))
app.command(short_help="Run a study: many settings, tables, pictures, a page.")(
    interruptible(study)
)
app.command(short_help="Compare number formats: quality, speed, memory.")(interruptible(precision))
app.command(short_help="Draw the results of a study again.")(interruptible(report))
app.command(short_help="Measure the perplexity of texts.")(interruptible(ppl))
app.command(short_help="Measure what each attention head looks at.")(interruptible(heads))
app.command(short_help="Find out what to decode with here.")(interruptible(tune))
app.command(short_help="Say what presets take of memory.")(interruptible(memory))
app.command(short_help="Watch a small model write, and check it.")(interruptible(demo))
app.command(short_help="Compile models ahead.")(interruptible(warm))
app.add_typer(cache)
app.command(short_help="Show what is here, and what works here.")(interruptible(doctor))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"outpace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; the arguments default to the process's."""
    if arguments is None:
        _prepare_process()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], standalone_mode=False, prog_name="outpace")
        sys.stdout.flush()  # not at exit, where a reader that has gone is no longer caught
    except OutpaceError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("outpace: interrupted", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as error:  # typer's answer to a broken pipe
        if isinstance(error.__context__, OSError):
            return _unwritable(error.__context__)
        raise
    except OSError as error:
        return _unwritable(error)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, without importing torch here
            return _fail(
                "the device ran out of memory: give --device cpu, a smaller model or prompt, or "
                "fewer --max-new-tokens"
            )
        message = getattr(error, "format_message", None)  # a command line that cannot be read
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "outpace"
        return _fail(f"{message().rstrip('.')} ({where} --help says more)")
    if not given:
        return 2
    return code if isinstance(code, int) else 0


def _prepare_process() -> None:
    """Set what belongs to the whole process, so only where it is ours: encodings and warnings."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for variable in ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(variable, "error")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character the terminal lacks is no failure


def _fail(message: str) -> int:
    print("outpace: " + visible(" ".join(message.split())), file=sys.stderr)
    return 2


def _unwritable(error: OSError) -> int:
    """Standard output is full, or its reader has gone (``| head``), which is no failure."""
    with contextlib.suppress(OSError):  # keep Python from complaining once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL):
        return 0
    return _fail(f"{error}: check the disk and where the output goes")
