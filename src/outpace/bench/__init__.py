"""Measuring: methods and baselines on the same prompts, in turn, with intervals."""

from .environment import environment
from .methods import Models, Writing, needs_drafter
from .plan import check_methods, make_method, method_names, that_run
from .record import Record, make_record
from .runner import Bench, Measured, fit_prompts
from .workloads import BenchPrompt, load_prompts

__all__ = [
    "Bench",
    "BenchPrompt",
    "Measured",
    "Models",
    "Record",
    "Writing",
    "check_methods",
    "environment",
    "fit_prompts",
    "load_prompts",
    "make_method",
    "make_record",
    "method_names",
    "needs_drafter",
    "that_run",
]
