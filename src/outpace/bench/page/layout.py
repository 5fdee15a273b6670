"""The page: its parts in order, and the frame around them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from ..document import Document, Generation, Picture, Section
from .stages import stages, totals
from .tables import facts, table
from .timeline import timeline
from .tokens import tokens
from .trees import trees
from .words import escaped, many, milliseconds

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may fetch for the page: nothing."""

_NOTHING = '<p class="note">No rounds were recorded.</p>'


def html(document: Document) -> str:
    """Return the report as one HTML file without scripts, fonts or links to anywhere.

    Whatever the document says is shown as text, except for ``Picture.svg``, which is put in as it
    is.
    """
    parts = [
        _header(document),
        *(_section(number, section) for number, section in enumerate(document.sections, start=1)),
        _environment(document),
        _again(document),
    ]
    body = "\n\n".join(part for part in parts if part)
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{escaped(document.title)}</title>\n<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(document: Document) -> str:
    lead = _paragraphs(document.lead)
    warnings = "".join(f"<li>{escaped(warning)}</li>\n" for warning in document.warnings)
    if warnings:
        warnings = (
            '<aside class="warnings" aria-labelledby="limits">\n'
            f'<h2 id="limits">What limits these figures</h2>\n<ul>\n{warnings}</ul>\n</aside>\n'
        )
    return (
        f"<header>\n<h1>{escaped(document.title)}</h1>\n{_verdict(document.verdict)}\n"
        f'<div class="lead">\n{lead}</div>\n{warnings}</header>'
    )


def _verdict(sentences: Sequence[str]) -> str:
    """Return the verdict: large where it is one, a list where there are several."""
    if len(sentences) == 1:
        return f'<p class="verdict">{escaped(sentences[0])}</p>'
    items = "".join(f"<li>{escaped(sentence)}</li>\n" for sentence in sentences)
    return f'<ul class="verdict">\n{items}</ul>'


def _section(number: int, section: Section) -> str:
    generations = "\n".join(
        _generation(generation, opened=place == 0)
        for place, generation in enumerate(section.generations)
    )
    parts = [
        f'<h2 id="heading-{number}">{escaped(section.title)}</h2>',
        _paragraphs(section.paragraphs),
        *(table(one) for one in section.tables),
        *(_picture(picture) for picture in section.pictures),
        generations,
    ]
    body = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="heading-{number}">\n{body}\n</section>'


def _picture(picture: Picture) -> str:
    alternative = escaped(picture.alternative)
    return (
        f'<figure class="picture">\n<figcaption>{escaped(picture.title)}</figcaption>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(picture.title)}">\n'
        f'<div class="drawing" role="img" aria-label="{alternative}">\n{picture.svg}\n</div>\n'
        "</div>\n</figure>"
    )


def _generation(generation: Generation, *, opened: bool) -> str:
    """Return one text with its rounds; all but the first of a section wait to be opened."""
    turns = generation.turns
    emitted = sum(len(turn.pieces) for turn in turns)
    seconds = sum(totals(stages(turns)).values())
    told = f"{many(emitted, 'token')} in {milliseconds(seconds)}"
    if len(turns) > 1:
        told += f", {emitted / len(turns):.2f} tokens a forward"
    if generation.rounds is not None and generation.rounds > len(turns):
        told += f": the first {len(turns)} of {many(generation.rounds, 'round')}"
    shown = f"{timeline(turns)}\n{tokens(generation)}\n{trees(turns)}" if turns else _NOTHING
    return (
        f'<details class="generation"{" open" if opened else ""}>\n'
        f"<summary><h3>{escaped(generation.method)} <span>on {escaped(generation.prompt)}</span>"
        f"</h3> <small>{told}</small></summary>\n"
        f"{shown}\n</details>"
    )


def _environment(document: Document) -> str:
    if not document.environments:
        return ""
    found = "\n".join(facts(environment) for environment in document.environments)
    return (
        '<section aria-labelledby="environment">\n<h2 id="environment">Where it was measured</h2>\n'
        f"{found}\n</section>"
    )


def _again(document: Document) -> str:
    if not document.commands:
        return ""
    commands = "\n".join(escaped(command) for command in document.commands)
    return (
        '<section aria-labelledby="again">\n<h2 id="again">Run it again</h2>\n'
        '<pre class="scroll" role="region" tabindex="0" aria-label="commands">'
        f"<code>{commands}</code></pre>\n</section>"
    )


def _paragraphs(paragraphs: Sequence[str]) -> str:
    return "".join(f"<p>{escaped(paragraph)}</p>\n" for paragraph in paragraphs)
