"""Measuring: methods and baselines on the same prompts, in turn, with intervals."""

from .environment import environment
from .fitting import fit_prompts
from .loop import load_own
from .measured import Measured
from .methods import Models
from .names import needs_drafter
from .plan import check_methods, make_method, method_names, that_run
from .record import Record, make_record
from .runner import Bench
from .sample import Sample, Writing
from .workloads import BenchPrompt, load_prompts

__all__ = [
    "Bench",
    "BenchPrompt",
    "Measured",
    "Models",
    "Record",
    "Sample",
    "Writing",
    "check_methods",
    "environment",
    "fit_prompts",
    "load_own",
    "load_prompts",
    "make_method",
    "make_record",
    "method_names",
    "needs_drafter",
    "that_run",
]
