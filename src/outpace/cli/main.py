"""Commands, and how their failures are told: one line, exit code 2."""

import os
import sys
from collections.abc import Sequence

import typer

from ..errors import OutpaceError
from ..version import __version__
from .demo import demo
from .doctor import doctor
from .generate import generate

INTERRUPTED = 130

app = typer.Typer(
    name="outpace",
    help="Decode any Hugging Face causal language model faster, with the same output.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(demo)
app.command()(doctor)


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
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given, standalone_mode=False)
    except OutpaceError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("outpace: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader has gone (| head); keep Python from complaining once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        message = getattr(error, "format_message", None)  # a command line that cannot be read
        if message is None:
            raise
        if not message():  # no command at all: the help is printed already
            return 2
        return _fail(f"{message().rstrip('.')} (outpace --help lists commands and options)")
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print("outpace: " + " ".join(message.split()), file=sys.stderr)
    return 2
