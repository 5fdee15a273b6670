"""``outpace cache``: the compiled models on disk."""

import sys
import time
from typing import Annotated

import typer

from .text import print_json, visible

app = typer.Typer(
    name="cache",
    help="Compiled models on disk: list them, remove them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("ls", short_help="List compiled models.")
def ls(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """List the compiled models, the one used last first."""
    from ..models import artefacts
    from .screen import Screen
    from .tables import grid

    found, making = artefacts.artefacts(), artefacts.being_made()
    if as_json:
        record = [
            {"key": one.key, "bytes": one.nbytes, "used": one.used, **one.about} for one in found
        ]
        print_json({"folder": str(artefacts.folder()), "compiled": record, "being_made": making})
        return 0
    screen = Screen(sys.stdout)
    if found:
        head = ("model", "precision", "MB", "last used", "torch", "threads", "key")
        rows = [
            (
                one.about.get("model", "?"),
                one.about.get("precision", "?"),
                f"{one.nbytes / 1e6:.0f}",
                time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)),
                one.about.get("torch", "?"),
                one.about.get("threads", "?"),
                one.key[:8],
            )
            for one in found
        ]
        screen.console.print(grid(head, rows, screen))
    total = sum(one.nbytes for one in found) / 1e9
    most = artefacts.limit() / 1e9
    print(
        f"{_models(len(found))}, {total:.2f} of {most:g} GB, in {visible(str(artefacts.folder()))}"
    )
    if making:
        print(f"{len(making)} being compiled now")
    return 0


@app.command("clear", short_help="Remove all compiled models.")
def clear() -> int:
    """Remove all compiled models; what was measured and learnt stays."""
    from ..models import artefacts

    count, nbytes = artefacts.clear()
    print(f"removed {_models(count)}, {nbytes / 1e6:.0f} MB")
    return 0


def _models(count: int) -> str:
    return f"{count} compiled model{'' if count == 1 else 's'}"
