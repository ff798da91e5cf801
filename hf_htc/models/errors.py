"""Errors about what was given to the package: a file, an option, a value. Each names the culprit and the mend.

Whoever catches `ValueError` (or `TypeError`, `OSError`, ... where that is the kind) catches these too. An exception that is no
[`HTCError`] and does not come from the operating system is a fault of the package.
"""

from contextlib import contextmanager


class HTCError(ValueError):
    """
    Something that was given to the package is wrong.

    Args:
        message (`str`): What is wrong, the value, what is allowed.
        file (`str`, *optional*), line (`int`, *optional*): Where it stands; put before the message.
        field (`str`, *optional*), value (*optional*): The option, column or key, and what it holds; for programs that read the
            error, not shown again.
        mend (`str`, *optional*): How to mend it; put behind the message.
    """

    def __init__(self, message, *, file=None, line=None, field=None, value=None, mend=None):
        place = "" if file is None else f"{file}: " if line is None else f"{file}, line {line}: "
        super().__init__(place + message + (f" {mend}" if mend else ""))
        self.file, self.line, self.field, self.value, self.mend = file, line, field, value, mend


class HTCTypeError(HTCError, TypeError):
    """A value of a type that cannot be used."""


class HTCFloatingPointError(HTCError, FloatingPointError):
    """Numbers that are NaN or infinite."""


# `OSError` and `ImportError` have a layout of their own: they must come first.
class HTCOSError(OSError, HTCError):
    """A file, folder or repository that cannot be read or written."""

    def __init__(self, message, **details):
        HTCError.__init__(self, message, **details)


class HTCFileNotFoundError(HTCOSError, FileNotFoundError):
    """A file or folder that is not there."""


class HTCFileExistsError(HTCOSError, FileExistsError):
    """A file or folder that is there and would be lost."""


class HTCImportError(ImportError, HTCError):
    """An optional package that is missing."""

    def __init__(self, message, **details):
        HTCError.__init__(self, message, **details)


@contextmanager
def refusing(what, errors, *, mend=None, file=None, line=None, kind=HTCError):
    """
    Turns what a library raises about a user's input into an [`HTCError`], at the place where file and line are known.

    Args:
        what (`str`): What could not be done, e.g. `"cannot be read as Parquet"`; the library's reason is put behind it.
        errors (`type` or `tuple[type]`): The library's exceptions. An [`HTCError`] passes as it is.
        mend, file, line: As in [`HTCError`].
        kind (`type`, *optional*, defaults to [`HTCError`]): What is raised instead.
    """
    try:
        yield
    except HTCError:
        raise
    except errors as error:
        raise kind(f"{what}: {reason_of(error)}.", file=file, line=line, mend=mend) from error


def reason_of(error, limit=300):
    """The message of an exception in one line, without its last full stop; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= limit else text[: limit - 3] + "...").rstrip(".")


def check_number(name, value, interval, whole=False):
    """
    Raises [`HTCError`] unless a number lies in an interval.

    Args:
        name (`str`): Of the option.
        value (`int` or `float`): What it holds; a `bool` or NaN is refused too.
        interval (`str`): In the notation of mathematics: `"[0, 1]"`, `"(0, 1)"`, `"[1, inf)"`.
        whole (`bool`, *optional*, defaults to `False`): Whether it must be a whole number.
    """
    is_number = isinstance(value, int) or (not whole and isinstance(value, float))
    low, high = (float(end) for end in interval[1:-1].split(","))
    if is_number and not isinstance(value, bool):
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if above and below:
            return
    kind = "whole number" if whole else "number"
    bounds = f"of at least {low:g}" if high == float("inf") and interval[0] == "[" else f"in {interval}"
    bounds = f"above {low:g}" if high == float("inf") and interval[0] == "(" else bounds
    raise HTCError(f"`{name}` is {value!r}; it must be a {kind} {bounds}.", field=name, value=value)
