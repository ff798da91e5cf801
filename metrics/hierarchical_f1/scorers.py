"""What all scorers share: settings, how documents come in, how scorers are merged.

Letters: `B` documents, `N` labels, `K` (document, label) pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import MetricError, MetricTypeError
from .label_sets import CLOSURES, Closure, Csr, LabelSets, close_up, has_all_ancestors, to_csr, to_keys
from .taxonomy import Parents, Taxonomy


# (document, label) pairs that are worked on at a time: bounds the temporary arrays at any number of documents.
_BLOCK_PAIRS = 1 << 20


class Scorer:
    """
    A hierarchy, a closure policy and integer counts.

    Subclasses name their counts in `COUNTS` (arrays, numbers and `Counter`s, all of them sums over documents) and what
    merged scorers must have in common in `SETTINGS`.
    """

    COUNTS: Sequence[str] = ()
    SETTINGS: tuple = ("closure",)
    ALLOWED_CLOSURES: tuple = CLOSURES

    def __init__(
        self, parents: Parents, num_labels: int | None = None, closure: Closure = "none", names: Sequence[str] | None = None
    ) -> None:
        if closure not in self.ALLOWED_CLOSURES:
            raise MetricError(f"`closure` is {closure!r}; allowed are {', '.join(map(repr, self.ALLOWED_CLOSURES))}.")
        if not isinstance(parents, Taxonomy) or num_labels is not None or names is not None:
            parents = Taxonomy(parents, num_labels=num_labels, names=names)
        self.taxonomy: Taxonomy = parents
        self.closure: Closure = closure

    @property
    def num_labels(self) -> int:
        """`N`."""
        return self.taxonomy.num_labels

    def merge(self, other: Scorer) -> None:
        """
        Add the counts of another scorer, as if its documents had been added here.

        Raises:
            ValueError: if the other scorer has another hierarchy or other settings.
            TypeError: if it is a scorer of another kind.
        """
        kind = type(self).__name__
        if not isinstance(other, type(self)):
            raise MetricTypeError(f"Only a {kind} can be merged; got {type(other).__name__}.")
        for name in (*self.SETTINGS, "num_labels"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if not np.array_equal(mine, theirs):
                raise MetricError(
                    f"The scorers differ in `{name}`: {mine!r} and {theirs!r}; only scorers of the same settings can be merged."
                )
        if [sorted(row) for row in self.taxonomy.parents] != [sorted(row) for row in other.taxonomy.parents]:
            raise MetricError("The scorers have different hierarchies; only scorers of the same settings can be merged.")
        for name in self.COUNTS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, name, mine + theirs)


class SetScorer(Scorer):
    """A scorer of predicted and gold label sets; subclasses count blocks of documents in `_add_block`."""

    def add(self, predictions: LabelSets, references: LabelSets) -> None:
        """
        Count some documents.

        Args:
            predictions, references (`list[list[int]]`, `np.ndarray` of shape `(B, K)` or a tuple of two arrays):
                Label ids of each document, or a CSR pair `(indptr, indices)`, a tuple of two arrays. A label that a row
                repeats counts once. Rows may be empty.

        Raises:
            ValueError: for unequal numbers of rows and for ids that are no labels, naming row and id.
            TypeError: for ids that are no integers.
        """
        predicted = to_csr(predictions, self.taxonomy, "predictions")
        gold = to_csr(references, self.taxonomy, "references")
        num_rows = predicted[0].size - 1
        if num_rows != gold[0].size - 1:
            raise MetricError(
                f"predictions has {num_rows} rows and references {gold[0].size - 1}; give one row a document to both."
            )
        pairs = predicted[0] + gold[0]
        start = 0
        while start < num_rows:
            stop = int(np.searchsorted(pairs, pairs[start] + _BLOCK_PAIRS, side="right")) - 1
            stop = min(max(stop, start + 1), start + _BLOCK_PAIRS, num_rows)
            self._add_block(
                *under_closure(
                    to_keys(*predicted, start, stop, self.num_labels),
                    to_keys(*gold, start, stop, self.num_labels),
                    self.closure,
                    self.taxonomy,
                ),
                stop - start,
            )
            start = stop

    def _add_block(self, predicted: np.ndarray, gold: np.ndarray, num_rows: int) -> None:
        raise NotImplementedError


def under_closure(predicted: np.ndarray, gold: np.ndarray, closure: str, taxonomy: Taxonomy) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and gold keys after the closure policy."""
    if closure == "up":
        return close_up(predicted, taxonomy), close_up(gold, taxonomy)
    if closure == "prune":
        return predicted[has_all_ancestors(predicted, taxonomy)], gold
    return predicted, gold


def apply_closure(predictions: LabelSets, references: LabelSets, parents: Parents, closure: str) -> tuple[Csr, Csr]:
    """
    Label sets as a scorer with this closure compares them.

    Args:
        predictions, references (`list[list[int]]` or CSR pair): Label ids of each document, as in [`SetScorer.add`].
        parents (`dict`, `list` or `LabelHierarchy`): The hierarchy, as in [`Taxonomy`].
        closure (`str`): `"none"`, `"up"` or `"prune"`.

    Returns:
        `tuple`: two CSR pairs `(indptr, indices)`, predicted and gold, every label once.

    Raises:
        ValueError: for an unknown `closure` and what [`SetScorer.add`] refuses.
    """
    if closure not in CLOSURES:
        raise MetricError(f"`closure` is {closure!r}; allowed are {', '.join(map(repr, CLOSURES))}.")
    taxonomy = Taxonomy(parents)
    pairs = to_csr(predictions, taxonomy, "predictions"), to_csr(references, taxonomy, "references")
    predicted, gold = (to_keys(*pair, 0, pair[0].size - 1, taxonomy.num_labels) for pair in pairs)
    closed = []
    for (indptr, _), found in zip(pairs, under_closure(predicted, gold, closure, taxonomy)):
        rows = found // taxonomy.num_labels
        closed.append((np.searchsorted(rows, np.arange(indptr.size)), found - rows * taxonomy.num_labels))
    return closed[0], closed[1]


def checked_zero_division(value: float) -> float:
    """`value` as a float. Raises `ValueError` for anything but 0, 1 and nan."""
    if isinstance(value, (int, float, np.number)) and (value in (0, 1) or math.isnan(value)):
        return float(value)
    raise MetricError(f"`zero_division` must be 0.0, 1.0 or nan; got {value!r}.")


def mean(values: np.ndarray, zero_division: float, weights: np.ndarray | None = None) -> float:
    """Mean of the values that are not nan; without weight anywhere the plain mean, as scikit-learn has it."""
    defined = ~np.isnan(values)
    if values.size == 0:
        return zero_division
    if not defined.any():
        return math.nan
    if weights is None or weights[defined].sum() == 0:
        return float(values[defined].mean())
    return float(np.average(values[defined], weights=weights[defined]))


def precision_recall_f(tp: Any, predicted: Any, support: Any, beta: float, zero_division: float) -> Any:
    """Precision, recall and F of arrays of counts, each a float array of their shape; 0 / 0 is `zero_division`."""
    square = beta**2
    return tuple(
        np.divide(over, under, out=np.full(np.shape(tp), zero_division), where=under != 0)
        for over, under in ((tp, predicted), (tp, support), ((1 + square) * tp, square * support + predicted))
    )


def count_rows(counter: Counter, *columns: np.ndarray) -> None:
    """Count equal rows of columns of small integers that are not negative: `(column values) -> how many rows`."""
    base = 1 + max(int(column.max()) for column in columns)
    codes = columns[0]
    for column in columns[1:]:
        codes = codes * base + column
    codes = np.sort(codes)
    first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    for code, count in zip(codes[first].tolist(), np.diff(first, append=codes.size).tolist()):
        row = []
        for _ in columns:
            code, value = divmod(code, base)
            row.append(value)
        counter[tuple(reversed(row))] += count


def counted_rows(counter: Counter) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """The rows of [`count_rows`] as arrays, sorted: a tuple of columns, and the counts."""
    # Sorted, so that the order of the documents does not reach a floating point sum.
    rows = sorted(counter.items())
    return tuple(np.array([row for row, _ in rows], dtype=np.int64).T), np.array([n for _, n in rows], dtype=np.int64)
