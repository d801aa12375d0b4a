"""The errors that the library raises: each is one sentence that says what, where and what to do."""

from __future__ import annotations

MESSAGE_LENGTH = 400
"""Characters of a message, whatever the user typed: more is not read."""


def shown(text: object, most: int = 70) -> str:
    """What the user typed, for a sentence: on one line, without its middle where it is long."""
    try:
        words = str(text)
    except Exception:  # thousands of digits, or what an object of the user's own raises
        words = f"an object of type {type(text).__name__}"
    # Halves of characters, which no file or terminal takes, are spelled out.
    return _cut(" ".join(words.encode("utf-8", "backslashreplace").decode().split()), most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = (2 * most) // 3
    return f"{text[:head]} ... {text[len(text) - (most - head - 5) :]}"


class MixmetaError(Exception):
    """Base class of the library's errors.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> try:
    ...     mx.load_dataset("bcq")
    ... except mx.MixmetaError as error:
    ...     print(type(error).__name__)
    InputError
    """


class InputError(MixmetaError, ValueError):
    """What the caller gave cannot be fitted; the message names the row, study, column or level.

    Examples
    --------
    >>> import mixmeta_jax as mx
    >>> try:
    ...     mx.mixmeta("logor", S="v", data=mx.load_dataset("bcg"))
    ... except mx.InputError as error:
    ...     print(error)
    There is no column 'v' in the data, named in S.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(shown(message, MESSAGE_LENGTH))


class PrecisionError(MixmetaError, RuntimeError):
    """The functional core was called outside float64.

    Examples
    --------
    >>> import jax, mixmeta_jax as mx
    >>> design = mx.make_design([0.1, 0.3, 0.2], S=[0.1, 0.2, 0.1])
    >>> try:
    ...     with jax.enable_x64(False):
    ...         mx.estimate(design)
    ... except mx.PrecisionError as error:
    ...     print(str(error).partition(":")[0])
    The functional core needs float64
    """
