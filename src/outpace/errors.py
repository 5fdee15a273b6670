"""Every error Outpace raises on purpose.

::

    OutpaceError
    ├── InvalidArgument (also ValueError)   a value outside its range
    │   ├── UnknownName                     no such method, dtype, device …
    │   ├── PromptError                     empty, unreadable or too long
    │   │   └── ContextFull                 a conversation that no longer fits
    │   └── StatefulProcessor               a logits processor with a memory
    ├── ModelError
    │   ├── ModelNotFound                   no such folder or hub name
    │   ├── UnsupportedModel                loaded, but the loop would be wrong on it
    │   └── VocabularyMismatch              target and drafter number tokens differently
    ├── EntryPointError                     a method of another package cannot be had
    └── DrawRefused                         a tree drawn in a way the verifier cannot treat

Each message names what was given, what is allowed and what to do.
"""


class OutpaceError(Exception):
    """Base of all errors that a user can cause and mend."""


class InvalidArgument(OutpaceError, ValueError):
    """A value is outside its range."""


class UnknownName(InvalidArgument):
    """A name stands for nothing here."""


class PromptError(InvalidArgument):
    """The prompt is empty, unreadable or longer than the context."""


class ContextFull(PromptError):
    """A conversation and its next answer do not fit the model's context."""


class StatefulProcessor(InvalidArgument):
    """A logits processor remembers earlier calls, so it cannot score the nodes of a tree."""


class ModelError(OutpaceError):
    """A model cannot be used."""


class ModelNotFound(ModelError):
    """Neither a folder with a model nor a name the hub (or its local cache) knows."""


class UnsupportedModel(ModelError):
    """The model loads, but one forward over a token tree is not what plain forwards give."""


class RuntimeUnavailable(OutpaceError):
    """A model cannot be compiled or captured here."""


class VocabularyMismatch(ModelError):
    """Target and drafter give the same number to different tokens."""


class EntryPointError(OutpaceError):
    """A method that another package adds cannot be loaded, or two packages add the same name."""


class DrawRefused(OutpaceError):
    """A verifier was handed a token tree whose siblings were drawn in a way it cannot treat."""
