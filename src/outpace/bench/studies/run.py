"""Runs a study setting by setting, into its journal; what is done already is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...errors import InvalidArgument, OutpaceError
from ...models import LanguageModel
from ...stopping import check_ends
from .. import memory
from ..baselines import TunedAssisted, cannot_assist
from ..environment import environment
from ..fitting import fit_prompts
from ..keeping import Notify, silent
from ..measured import Asked, Measured
from ..methods import Method, Models
from ..names import needs_drafter
from ..plan import make_method
from ..prices import prices
from ..runner import Bench
from ..sample import Writing
from ..workloads import BenchPrompt, load_prompts
from . import evictions
from .journal import FORMAT, Journal, Recorder
from .models import Prepare, StudyModels, drafter_of
from .precisions import Alone, Then, missing
from .study import Setting, Study, shown

TUNED = "hf-assisted-tuned"
_SAME = {
    *("prompt_tokens", "max_new_tokens", "limit", "samples", "turns", "seed"),
    *("repeats", "warmup", "runtime", "draft_length"),
}
"""Options for which transformers' assisted generation is not tuned anew."""


def _as_they_are(models: Sequence[LanguageModel], runtime: str) -> None:
    for model in models:
        model.use_runtime(runtime)


@dataclass(slots=True)
class StudyRun:
    """A study, ready to run.

    Args:
        study: what to run.
        command: what runs it again, for the record.
        prepare: has models run as their runtime says.
        notify: told of every text.
        said: told in words what is begun.
    """

    study: Study
    command: str = ""
    prepare: Prepare = _as_they_are
    notify: Notify = silent
    said: Callable[[str], None] = print
    _models: StudyModels = field(init=False)
    _tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    _warm: set[str] = field(default_factory=set)
    _alone: Alone = field(init=False)

    def __post_init__(self) -> None:
        """Have models run as they are to, and errands told of as texts are."""
        self._models = StudyModels(self.prepare)
        self._alone = Alone(self.notify)

    def run(self, journal: Journal) -> bool:
        """Measure what is missing; return whether the study is whole.

        Raises:
            OutpaceError: a setting that cannot be measured; all before it is kept.
            KeyboardInterrupt: what is done is kept.
        """
        settings = [one for one in self.study.settings() if not finished(journal, one)]
        if not settings:
            return True
        for one in self.study.settings():
            self._note_tuned(one, _done(journal, one))
        with journal.writing():
            run = journal.runs + 1
            keep_plan(journal, self.study)
            journal.add(
                "run",
                number=run,
                study=self.study.name,
                quick=self.study.quick,
                command=self.command,
                environment=environment(),
            )
            for number, setting in enumerate(settings, start=1):
                label = f" ({setting.label})" if setting.label else ""
                self.said(f"{number} of {len(settings)}: {setting.part}{label}")
                with _threads(setting.config["threads"]), ExitStack() as stack:
                    _, why = memory.tried(partial(self._whole, journal, setting, run, stack))
                    if why is not None:
                        journal.add("impossible", setting=setting.id, run=run, why=why)
                        self.said(f"{setting.part}{label}: {why}: the others go on")
                        self._models.drop()
            journal.add("end", number=run)
            self._alone.close()
        return all(finished(journal, one) for one in self.study.settings())

    def _whole(self, journal: Journal, setting: Setting, run: int, stack: ExitStack) -> None:
        if setting.evictions is not None:
            target = self._models.of(setting).target
            evictions.score(journal, setting, run, target, self.notify)
            return
        then = self._measure(journal, setting, run, stack)
        if any(missing(journal, setting, then.unusable)):
            self._models.drop()  # those processes need the room
            self._alone.measure(journal, setting, run, then)

    def _measure(self, journal: Journal, setting: Setting, run: int, stack: ExitStack) -> Then:
        config = setting.config
        check_ends(config["max_new_tokens"], ())
        asked = _prompts(config)
        if setting.readings is not None:
            setting.readings.passages(config)  # refused now, not once all is measured
        models = self._models.of(setting)
        if config["ends"] is not None:
            stack.enter_context(_ending(models, config["ends"]))
        prompts, cut = fit_prompts(asked, models, config["max_new_tokens"])
        done = _done(journal, setting)
        refused = self._models.own(setting, models)
        methods, refused = self._methods(setting, models, refused)
        used = {m.name: m for method in methods for m in method.models_used[1:]}

        def price() -> None:
            costs = prices(models.target, list(used.values()))
            journal.add("costs", setting=setting.id, run=run, costs=costs)

        bench = Bench(
            models,
            methods,
            prompts,
            _writing(config),
            config["repeats"],
            config["warmup"],
            cut,
            price if setting.costs else None,
            frozenset(self._warm),
        )
        if done is None:
            done = bench.begun()
            _write_head(journal, setting, done, run)
        elif done.asked.sha256 != Asked.of(prompts).sha256:
            raise InvalidArgument(
                f"{setting.id}: the prompts are not those that were measured before: give the "
                "same --data-dir, or another --out"
            )
        tokenizer: Any = models.target.tokenizer
        recorder = Recorder(
            journal,
            setting.id,
            run,
            {one.name: {**one.axes, "template": one.template} for one in setting.methods},
            lambda token: tokenizer.decode([token]),
            draws=setting.id == self.study.settings()[0].id,
        )
        _note_unusable(done, recorder, refused)
        for method in methods:
            if isinstance(method, TunedAssisted) and (law := _law(setting)) in self._tuned:
                method.use(self._tuned[law])
        self.notify(f"{setting.part}: begun", more=bench.steps_left(done) + 1)
        self._warm.update(method.name for method in methods)
        result = bench.run(self.notify, done, recorder)
        self._note_tuned(setting, result)
        if result.interrupted:
            raise KeyboardInterrupt
        if result.ran_out:
            raise MemoryError(result.failed)
        if result.failed is not None:
            raise OutpaceError(f"{setting.id}: {result.failed}: mend it, then go on with --resume")
        longest = max(prompts, key=lambda prompt: len(prompt.text))
        drafter = drafter_of(config)
        return Then(tokenizer, drafter, longest, bench.writing, dict(result.unusable))

    def _note_tuned(self, setting: Setting, done: Measured | None) -> None:
        """Remember what transformers' assisted generation was best at, for settings like it."""
        if done is not None and TUNED in done.methods:
            self._tuned[_law(setting)] = done.methods[TUNED].settings

    def _methods(
        self, setting: Setting, models: Models, known: Mapping[str, str]
    ) -> tuple[list[Method], dict[str, str]]:
        """Return the methods that can run, and why others cannot."""
        methods, refused = list[Method](), dict(known)
        for one in setting.methods:
            if one.name in known:
                continue
            why = None
            if needs_drafter(one.name) and models.drafter is None:
                why = "it needs a draft model: give --drafter"
            elif one.name.startswith("hf-assisted"):
                why = cannot_assist(models)
            if why is None:
                methods.append(make_method(one.name, models, setting.config["draft_length"]))
            else:
                refused[one.name] = why
        return methods, refused


def keep_plan(journal: Journal, study: Study) -> None:
    """Write down what is asked for, so that the folder alone can be reported on and taken up."""
    plan = {
        "format": FORMAT,
        "study": study.name,
        "quick": study.quick,
        "options": dict(study.options),
        "text": study.text,
    }
    if study.axes:
        plan["axes"] = {name: list(values) for name, values in study.axes.items()}
    if not journal.of("plan", **plan):
        journal.add("plan", **plan)


def planned(journal: Journal) -> Study:
    """Return the study whose records these are.

    Raises:
        InvalidArgument: there is none.
    """
    plans = journal.of("plan")
    if not plans:
        raise InvalidArgument(f"{journal.path}: no plan of a study in it: give another folder")
    plan = plans[-1]
    if (number := plan.get("format", FORMAT)) > FORMAT:
        raise InvalidArgument(
            f"{journal.path} is of a later version ({number}, known is {FORMAT}): install a newer "
            "Outpace"
        )
    how = {"quick": plan["quick"], "options": plan["options"], "axes": plan.get("axes")}
    return Study.parse(plan["study"], plan["text"], **how)


def _done(journal: Journal, setting: Setting) -> Measured | None:
    if setting.evictions is not None:
        return None
    return journal.measured(setting.id, [one.name for one in setting.methods])


def _law(setting: Setting) -> str:
    return json.dumps({name: setting.config[name] for name in setting.config if name not in _SAME})


def finished(journal: Journal, setting: Setting) -> bool:
    """Return whether nothing of a setting is left to measure."""
    if journal.of("impossible", setting=setting.id):
        return True
    if setting.evictions is not None:
        return not evictions.missing(journal, setting)
    done = _done(journal, setting)
    if done is None:
        return False
    texts = done.repeats * len(done.asked.texts)
    for one in setting.methods:
        if one.name in done.unusable:
            continue  # a reason is a result
        if len(done.samples.get(one.name, ())) < texts:
            return False
    return done.judged and done.weighed and not any(missing(journal, setting, done.unusable))


def _prompts(config: Any) -> list[BenchPrompt]:
    found = load_prompts(
        config["prompts"],
        data_dir=None if config["data_dir"] is None else Path(config["data_dir"]),
        limit=config["limit"],
        prompt_tokens=config["prompt_tokens"],
    )
    return [
        replace(prompt, seed=prompt.seed + number, turns=prompt.turns[: config["turns"] - 1])
        for prompt in found
        for number in range(config["samples"])
    ]


def _writing(config: Any) -> Writing:
    names = ("max_new_tokens", "temperature", "seed", "top_k", "top_p", "repetition_penalty")
    return Writing(**{name: config[name] for name in names}, ignore_eos=config["ignore_eos"])


def _write_head(journal: Journal, setting: Setting, done: Measured, run: int) -> None:
    journal.add(
        "setting",
        id=setting.id,
        run=run,
        part=setting.part,
        axes={name: shown(value) for name, value in setting.axes.items()},
        config=dict(setting.config),
        methods=[one.name for one in setting.methods],
        reference=done.reference,
        repeats=done.repeats,
        texts=done.asked.texts,
        sha256=done.asked.sha256,
        cut=done.asked.cut,
        note=done.asked.note,
    )


def _note_unusable(done: Measured, recorder: Recorder, refused: dict[str, str]) -> None:
    for name, why in refused.items():
        if done.unusable.get(name) != why:
            done.unusable[name] = why
            recorder.unusable(name, why)


@contextmanager
def _ending(models: Models, text: str) -> Iterator[None]:
    """Have texts end at a token besides the model's own EOS.

    Raises:
        InvalidArgument: the text is no single token of the target.
    """
    tokenizer: Any = models.target.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InvalidArgument(
            f"ends is {text!r}, which is {len(ids)} tokens of {models.target.name}: give the text "
            "of one token"
        )
    models.target.ends = frozenset(ids)
    try:
        yield
    finally:
        models.target.ends = frozenset()


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Use so many threads, where a number is given; leave as many as there were."""
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
