"""Rows of scores as they come from a model: checked, cut into blocks, closed over the hierarchy.

Letters: `B` documents, `N` labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .errors import MetricError, MetricTypeError
from .label_sets import LabelSets, close_up, to_csr, to_keys
from .taxonomy import Taxonomy


# Scores that are worked on at a time: bounds the temporary arrays at any number of documents.
BLOCK_SCORES = 1 << 20


def score_blocks(
    scores: np.ndarray, references: LabelSets, closer: RowCloser, taxonomy: Taxonomy, probabilities: bool = True
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """
    Blocks of score rows with their gold labels.

    Args:
        scores (`np.ndarray` of shape `(B, N)`): One row a document, one column a label.
        references (`list[list[int]]` or CSR pair): Gold label ids, as in [`HierarchicalScorer.add`].
        closer ([`RowCloser`]): The closure policy.
        taxonomy ([`Taxonomy`])
        probabilities (`bool`): Whether scores must lie in [0, 1].

    Yields:
        `tuple[np.ndarray, np.ndarray]`: closed scores `(b, N)` and the sorted keys `row * N + label` of the gold labels.

    Raises:
        ValueError: for another shape, NaN, scores out of range, gold ids that are no labels, naming row and value.
        TypeError: for scores that are no floating point numbers.
    """
    scores = np.asarray(scores)
    num_labels = taxonomy.num_labels
    if scores.dtype.kind != "f":
        raise MetricTypeError(
            f"`scores` must be floating point numbers; got {scores.dtype}. Label sets belong to the set scorers."
        )
    if scores.ndim != 2 or scores.shape[1] != num_labels:
        raise MetricError(f"`scores` must have the shape (documents, {num_labels}), one column a label; got {scores.shape}.")
    indptr, indices = to_csr(references, taxonomy, "references")
    if indptr.size - 1 != len(scores):
        raise MetricError(f"scores has {len(scores)} rows and references {indptr.size - 1}; give one row a document to both.")
    step = max(1, BLOCK_SCORES // num_labels)
    for start in range(0, len(scores), step):
        block = scores[start : start + step]
        good = (block >= 0) & (block <= 1) if probabilities else ~np.isnan(block)
        if not good.all():
            row, label = (int(place) for place in np.argwhere(~good)[0])
            allowed = (
                "scores are probabilities, in [0, 1]: take the sigmoid of logits first" if probabilities else "no score may be"
            )
            raise MetricError(f"scores row {start + row}, label {taxonomy.describe(label)} is {block[row, label]}; {allowed}.")
        gold = to_keys(indptr, indices, start, start + len(block), num_labels)
        yield closer(block), close_up(gold, taxonomy) if closer.closure == "up" else gold


class RowCloser:
    r"""
    The closure policy on scores, so that it holds at every threshold.

    `"up"` gives a label the largest score of itself and the labels below it, `"prune"` the smallest of itself and its
    ancestor labels: the labels at or above a threshold are then the closed, or pruned, set of that threshold.

    Args:
        closure (`str`): `"none"`, `"up"` or `"prune"`.
        taxonomy ([`Taxonomy`])
    """

    def __init__(self, closure: str, taxonomy: Taxonomy):
        self.closure = closure
        num_labels = taxonomy.num_labels
        own = np.arange(num_labels)
        below = np.repeat(own, np.diff(taxonomy.ancestor_indptr))
        above = taxonomy.ancestor_indices
        pair = (below, above) if closure == "prune" else (above, below)
        keys, values = (np.concatenate([part, own]) for part in pair)
        self._members = values[np.argsort(keys, kind="stable")]
        self._starts = np.searchsorted(np.sort(keys), own)

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        if self.closure == "none":
            return scores
        reduce = np.maximum if self.closure == "up" else np.minimum
        return reduce.reduceat(scores[:, self._members], self._starts, axis=1)


def positives(gold: np.ndarray, num_rows: int, num_labels: int) -> np.ndarray:
    """Gold keys as a boolean array `(B, N)`."""
    hot = np.zeros(num_rows * num_labels, dtype=bool)
    hot[gold] = True
    return hot.reshape(num_rows, num_labels)
