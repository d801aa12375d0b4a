"""The errors that the library raises: each is one sentence that says what, where and what to do."""

from __future__ import annotations

MESSAGE_LENGTH = 400
"""Characters of a message, whatever the user typed: more is not read."""


def shown(text: object, most: int = 70) -> str:
    """What the user typed, for a sentence: on one line, without its middle where it is long."""
    return _cut(" ".join(str(text).split()), most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = (2 * most) // 3
    return f"{text[:head]} ... {text[len(text) - (most - head - 5) :]}"


class MixmetaError(Exception):
    """Base class of the library's errors."""


class InputError(MixmetaError, ValueError):
    """What the caller gave cannot be fitted; the message names the row, study, column or level."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message, MESSAGE_LENGTH))


class PrecisionError(MixmetaError, RuntimeError):
    """The functional core was called outside float64."""
