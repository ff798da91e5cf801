"""Problems of a data set: raised at once by the strict loader, collected by the checks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hf_htc.models.errors import HTCError


SEVERITIES = ("error", "warning", "note")


@dataclass
class DataProblem:
    """
    One kind of problem of a data set.

    Attributes:
        kind (`str`): e.g. `"unknown_label"`, `"empty_text"`, `"duplicate_across_splits"`.
        severity (`str`): `"error"` (the loader refuses it), `"warning"` (harms training or scores) or `"note"`.
        message (`str`): What is wrong, where, and how to mend it.
        count (`int`): How many rows (or labels) have it.
        examples (`list[str]`): Up to ten places or culprits.
    """

    kind: str
    severity: str
    message: str
    count: int = 1
    examples: list[str] = field(default_factory=list)


class ProblemLog:
    """
    Where readers and encoders send what they find.

    Args:
        strict (`bool`, *optional*, defaults to `True`): Raise the first error instead of collecting it.
    """

    MAX_EXAMPLES = 10

    def __init__(self, strict=True):
        self.strict = strict
        self.problems = []

    def error(self, kind, message, count=1, examples=(), exception=HTCError):
        """Raises `exception(message)` when strict, otherwise collects the problem."""
        if self.strict:
            raise exception(message)
        self.add(kind, "error", message, count, examples)

    def add(self, kind, severity, message, count=1, examples=()):
        """Collects a problem of any severity."""
        self.problems.append(DataProblem(kind, severity, message, int(count), [str(x) for x in examples][: self.MAX_EXAMPLES]))


@dataclass
class Origin:
    """
    Where the rows of a split come from, to name them in messages.

    Attributes:
        name (`str`): File name, or the split when its rows come from several files.
        lines (`np.ndarray`, *optional*): Line number of each row, for text files; otherwise rows count from 1.
    """

    name: str
    lines: np.ndarray | None = None

    def at(self, row):
        """`"train.jsonl, line 12"`, or `"train.parquet, row 12"`."""
        return f"{self.name}, row {row + 1}" if self.lines is None else f"{self.name}, line {self.lines[row]}"
