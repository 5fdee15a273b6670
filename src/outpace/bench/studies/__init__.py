"""Studies: files of axes over what a benchmark can be asked for, and what is made of them."""

from .study import Study, pair_names, study_names

__all__ = ["Study", "pair_names", "study_names"]
