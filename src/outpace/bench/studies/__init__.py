"""Studies: files of axes over what a benchmark can be asked for, and what is made of them."""

from .study import Study, study_names

__all__ = ["Study", "study_names"]
