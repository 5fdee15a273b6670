"""Commands about who answers: methods, drafters, trees, n-gram storage."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ... import zoo
from ...errors import InvalidArgument
from ...registry import names
from .slash import SWITCH, Command, said, switched, whole_number

if TYPE_CHECKING:
    from .talk import Talk

SHAPES = ("chain", "best_first", "fixed(depth=4, branch=2)", "pruned(tau=0.03)", "planned")
STORAGES = {"basic": True, "onelevel": False}


def _switch(method: str) -> "Command":
    about = {
        "target": "plain decoding answers too; the others' gain is over it",
        "speculative": "the drafter drafts, the target verifies",
        "ngram": "n-gram assisted decoding answers too",
    }

    def run(talk: "Talk", rest: str) -> None:
        on = switched(rest, method in talk.chat.methods.enabled, method)
        _enable(talk, method, on)

    return Command(method, "[on|off]", about[method], run, SWITCH)


def _enable(talk: "Talk", method: str, on: bool) -> None:
    others = [name for name in talk.chat.methods.enabled if name != method]
    if not (on or others):
        raise InvalidArgument(f"/{method} off: nobody else answers: turn another method on first")
    with talk.busy():
        talk.chat.enable([*others, method] if on else others)
    talk.note(f"who answers: {', '.join(talk.chat.methods.enabled)}")


def _drafter(talk: "Talk", rest: str) -> None:
    if not rest or rest.lower() in SWITCH:
        enabled = "drafter" in talk.chat.methods.enabled
        _enable(talk, "drafter", switched(rest, enabled, "drafter"))
        return
    with talk.busy():
        talk.chat.use(talk.chat.methods.recipe.but(drafter=rest))
    talk.note(f"drafter: {rest}")


def _recipe(talk: "Talk", rest: str) -> None:
    from ...recipe import Recipe

    if not rest:
        raise InvalidArgument("/recipe: give the file of one, made by outpace tune")
    with talk.busy():
        talk.chat.use(Recipe.read(rest))
    recipe = talk.chat.methods.recipe
    talk.note(f"target: {recipe.target} · drafter: {talk.chat.methods.drafter_name} · by {rest}")


def _gamma(talk: "Talk", rest: str) -> None:
    recipe = talk.chat.methods.recipe
    if not rest:
        now = "as the tree's shape says" if recipe.tree else recipe.draft_length or "gate"
        talk.note(f"draft tokens a round: {now}")
        return
    length = int(rest) if rest.lstrip("-").isdigit() else rest
    with talk.busy():
        talk.chat.use(recipe.but(draft_length=None if length == "gate" else length))
    talk.note(f"draft tokens a round: {rest}")


def _tree(talk: "Talk", rest: str) -> None:
    if not rest or rest.lower() in SWITCH:
        talk.trees = switched(rest, talk.trees, "tree")
        if talk.trees:
            talk.debug = True
        talk.note(f"trees of the rounds: {said(talk.trees)} · debug: {said(talk.debug)}")
        return
    shape = None if rest == "chain" else rest
    recipe = talk.chat.methods.recipe
    with talk.busy():
        talk.chat.use(replace(recipe.but(draft_length=None), tree=shape, costs=None))
    talk.note(f"the draft model drafts: {rest}")


def _fillers(talk: "Talk", rest: str) -> None:
    number = whole_number(rest, "top_k_filler", 3)
    with talk.busy():
        talk.chat.methods.count(replace(talk.chat.methods.storage, fillers=number))
    talk.note(f"of the target's best tokens the n-gram storage learns: {number}")


def _storage(talk: "Talk", rest: str) -> None:
    kind, _, order = rest.partition(" ")
    if kind not in STORAGES:
        raise InvalidArgument(
            f"/set_ngramstorage {rest}".rstrip() + ": give basic N (n-grams up to N, the longest "
            "first) or onelevel N (those of N alone)"
        )
    number = whole_number(order or "3", "set_ngramstorage " + kind, 3)
    storage = replace(talk.chat.methods.storage, multilevel=STORAGES[kind], order=number)
    with talk.busy():
        talk.chat.methods.count(storage)
    talk.note(f"n-gram storage: {kind}, n = {number}")


def _reset(talk: "Talk", rest: str) -> None:
    storage = talk.chat.methods.storage
    reset = switched(rest, not storage.keep, "reset_in_between")
    with talk.busy():
        talk.chat.methods.count(replace(storage, keep=not reset))
    talk.note(f"the n-gram storage begins anew with every message: {said(reset)}")


def _cache(talk: "Talk", rest: str) -> None:
    chat = talk.chat
    if rest and rest.lower() not in SWITCH:
        with talk.busy():
            chat.use(chat.methods.recipe.but(cache_policy=rest))
        talk.note(f"cache policy: {rest}")
        return
    chat.keeps_cache = switched(rest, chat.keeps_cache, "cache")
    if not chat.keeps_cache:
        chat.drop_sessions()
    talk.note(f"keys and values are kept between messages: {said(chat.keeps_cache)}")


_DRAFTERS = (
    *SWITCH,
    *sorted({*names("drafter")} - {"model", "tree", "retokenized"}),
    *(f"{zoo.PREFIX}{size}" for size in ("small", "medium", "large")),
)

COMMANDS = (
    _switch("target"),
    _switch("speculative"),
    _switch("ngram"),
    Command(
        "drafter",
        "[on|off|NAME]",
        "the draft model alone answers too; NAME is another drafter: a method or a model",
        _drafter,
        _DRAFTERS,
        path=True,
    ),
    Command("recipe", "FILE", "decode as a file of outpace tune says", _recipe, path=True),
    Command(
        "gamma",
        "[N|gate|…]",
        "draft tokens a round; gate drafts as many as pay",
        _gamma,
        sorted(names("lengths")),
    ),
    Command(
        "tree",
        "[on|off|SHAPE]",
        "draw what each round drafted; SHAPE has the draft model draft such trees, or a chain",
        _tree,
        (*SWITCH, *SHAPES),
    ),
    Command("top_k_filler", "N", "of the target's best tokens ngram learns N", _fillers),
    Command(
        "set_ngramstorage",
        "basic|onelevel N",
        "n-grams up to N, or of N alone",
        _storage,
        tuple(STORAGES),
    ),
    Command(
        "reset_in_between",
        "[on|off]",
        "begin the n-gram storage anew with every message",
        _reset,
        SWITCH,
    ),
    Command(
        "cache",
        "[on|off|POLICY]",
        "keep keys and values between messages; POLICY says which are forgotten, full for none",
        _cache,
        (*SWITCH, *sorted(names("policy"))),
    ),
)
