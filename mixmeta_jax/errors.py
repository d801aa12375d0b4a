"""The errors that the library raises: each is one sentence that says what, where and what to do."""

from __future__ import annotations


class MixmetaError(Exception):
    """Base class of the library's errors."""


class InputError(MixmetaError, ValueError):
    """What the caller gave cannot be fitted; the message names the row, study, column or level."""


class PrecisionError(MixmetaError, RuntimeError):
    """The functional core was called outside float64."""
