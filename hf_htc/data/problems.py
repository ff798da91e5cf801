"""Problems of a data set: raised at once by the strict loader, collected by the checks."""

from __future__ import annotations

import logging
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
        skipped (`Iterable[str]`, *optional*): Kinds of errors whose rows are left out, which is a warning then.
    """

    MAX_EXAMPLES = 10

    def __init__(self, strict=True, skipped=()):
        self.strict, self.skipped = strict, frozenset(skipped)
        self.problems = []

    def error(self, kind, message, count=1, examples=(), exception=HTCError):
        """Raises `exception(message)` when strict, otherwise collects the problem."""
        if kind in self.skipped:
            places = ", ".join(str(x) for x in list(examples)[: self.MAX_EXAMPLES])
            rows = f"{count} row{' is' if count == 1 else 's are'}"
            self.add(kind, "warning", f"{rows} left out as asked ({places or 'see'}). The first: {message}", count, examples)
            return
        if self.strict:
            raise exception(message)
        self.add(kind, "error", message, count, examples)

    def add(self, kind, severity, message, count=1, examples=()):
        """Collects a problem of any severity."""
        self.problems.append(DataProblem(kind, severity, message, int(count), [str(x) for x in examples][: self.MAX_EXAMPLES]))

    def warn_to(self, logger):
        """Says the warnings in a log, and the notes below them."""
        for problem in self.problems:
            if problem.severity != "error":
                logger.log(logging.WARNING if problem.severity == "warning" else logging.INFO, problem.message)


class RowProblems:
    """
    Problems of the rows of one file: one of a kind is one line with its count, named by its first row.

    Args:
        log ([`ProblemLog`]): Takes them when [`~RowProblems.report`] is called.
    """

    def __init__(self, log):
        self.log, self.found = log, {}

    def add(self, kind, place, message, exception=HTCError):
        """A row with a problem: `place` is a file and line, `message` continues it."""
        entry = self.found.setdefault(kind, [f"{place}{message}", 0, [], exception])
        entry[1] += 1
        if len(entry[2]) < self.log.MAX_EXAMPLES:
            entry[2].append(place)

    def report(self):
        """Hands everything over; a strict log raises the first kind that was found."""
        found, self.found = self.found, {}
        for kind, (message, count, places, exception) in found.items():
            self.log.error(kind, message + (f" ({count} such rows.)" if count > 1 else ""), count, places, exception)


@dataclass
class Origin:
    """
    Where the rows of a split come from, to name them in messages.

    Attributes:
        name (`str`): File name, or the split when its rows come from several files.
        lines (`np.ndarray`, *optional*): Line number of each row, for text files; otherwise rows count from 1.
        unit (`str`, *optional*, defaults to `"line"`): What `lines` counts.
    """

    name: str
    lines: np.ndarray | None = None
    unit: str = "line"

    def at(self, row):
        """`"train.jsonl, line 12"`, or `"train.parquet, row 12"`."""
        if self.lines is None:
            return f"{self.name}, row {row + 1}"
        return f"{self.name}, {self.unit} {self.lines[row]}"

    def take(self, rows):
        """The origin of a selection of rows."""
        lines = np.arange(1, rows.max(initial=-1) + 2) if self.lines is None else self.lines
        return Origin(self.name, lines[rows], self.unit if self.lines is not None else "row")
