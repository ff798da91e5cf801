"""Calibration by level: Brier score and expected calibration error of label probabilities; numpy only.

Letters: `B` documents, `N` labels, `L` levels, `S` bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import MetricError
from .label_sets import Closure, LabelSets
from .score_rows import RowCloser, positives, score_blocks
from .scorers import Scorer
from .taxonomy import Parents


# Probabilities are summed up in this unit, as integers: the sums do not depend on the order of the documents.
_UNIT = 2.0**30


class CalibrationScorer(Scorer):
    r"""
    Streaming calibration of label probabilities: every (document, label) pair is one yes-or-no forecast.

    With the probability \\(s\\) and the truth \\(y\\) (0 or 1) of a pair, and the pairs put into `num_bins` bins of equal
    width by \\(s\\),

    $$Brier = \frac{1}{pairs} \sum (s - y)^2, \quad
      ECE = \sum_{bins\ b} \frac{n_b}{pairs} \left| \bar{y}_b - \bar{s}_b \right|$$

    of the pairs of each level and of all pairs. (hiclass has the multi-class Brier score, a sum over the labels of a level
    instead of the mean.) Values are exact to about 1e-9.

    Args:
        parents (`dict`, `list` or `LabelHierarchy`), num_labels (`int`, *optional*), names (`list[str]`, *optional*):
            The hierarchy, as in [`HierarchicalScorer`].
        closure (`str`, *optional*, defaults to `"none"`):
            `"up"`: a label's probability is the largest at or below it, and gold gets its ancestor labels; `"prune"`: the
            smallest at or above it; `"none"`: as they are.
        num_bins (`int`, *optional*, defaults to 15): `S`; bin `b` holds `b / S <= s < (b + 1) / S`, the last also 1.

    Raises:
        ValueError: for an unknown `closure`, `num_bins` below 1, a bad hierarchy.

    Example:

    ```py
    >>> import numpy as np
    >>> from hf_htc.metrics.hierarchical_f1 import CalibrationScorer

    >>> scorer = CalibrationScorer([[], [0]], num_bins=10)
    >>> scorer.add_scores(np.array([[0.75, 0.25], [0.75, 0.5]]), [[0], [0, 1]])
    >>> scores = scorer.compute()
    >>> round(scores["level_1_ece"], 6), round(scores["level_2_brier"], 6)
    (0.25, 0.15625)

    ```
    """

    COUNTS = ("_pairs", "_positive", "_sums", "_squares", "_num_documents")
    SETTINGS = ("closure", "num_bins")

    def __init__(
        self,
        parents: Parents,
        num_labels: int | None = None,
        closure: Closure = "none",
        num_bins: int = 15,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        if isinstance(num_bins, bool) or not isinstance(num_bins, (int, np.integer)) or num_bins < 1:
            raise MetricError(f"`num_bins` must be a whole number of 1 or more; got {num_bins!r}.")
        self.num_bins = int(num_bins)
        self._closer = RowCloser(closure, self.taxonomy)
        levels = self.taxonomy.levels[: self.num_labels]
        self._level_names, self._level_of = np.unique(levels, return_inverse=True)
        self.reset()

    def reset(self) -> None:
        """Forget all documents."""
        shape = (self._level_names.size, self.num_bins)
        self._pairs, self._positive, self._sums = np.zeros((3, *shape), dtype=np.int64)
        self._squares = np.zeros(shape[0], dtype=np.int64)
        self._num_documents = 0

    def add_scores(self, scores: np.ndarray, references: LabelSets) -> None:
        """
        Count some documents.

        Args:
            scores (`np.ndarray` of shape `(B, N)`, float): Probabilities, one row a document, one column a label.
            references (`list[list[int]]` or CSR pair `(indptr, indices)`): Gold label ids.

        Raises:
            ValueError: for scores outside [0, 1] or NaN, another shape, gold ids that are no labels.
        """
        for block, gold in score_blocks(scores, references, self._closer, self.taxonomy):
            truth = positives(gold, len(block), self.num_labels)
            bins = np.minimum((block * self.num_bins).astype(np.int64), self.num_bins - 1)
            bins += self._level_of * self.num_bins
            units = np.rint(block.astype(np.float64) * _UNIT)
            shape = self._pairs.shape
            for name, values in (("_pairs", bins), ("_positive", bins[truth])):
                counts = np.bincount(values.ravel(), minlength=self._pairs.size).reshape(shape)
                setattr(self, name, getattr(self, name) + counts)
            # Sums of up to 2**20 whole numbers of up to 2**30: exact in float64.
            sums = np.bincount(bins.ravel(), weights=units.ravel(), minlength=self._pairs.size)
            self._sums += sums.astype(np.int64).reshape(shape)
            squares = np.rint((block.astype(np.float64) - truth) ** 2 * _UNIT).sum(0)
            self._squares += np.bincount(self._level_of, weights=squares, minlength=shape[0]).astype(np.int64)
            self._num_documents += len(block)

    def compute(self) -> dict:
        """
        The scores of all documents so far.

        Returns:
            `dict` with `brier`, `ece`, and `level_<k>_brier`, `level_<k>_ece` for every level that has labels, in [0, 1], 0
            is best; `num_bins`, `num_documents`, `num_labels`, `closure`.

        Raises:
            ValueError: if no document was added.
        """
        if not self._num_documents:
            raise MetricError("There is nothing to score: no document was added. Call `add_scores` first.")
        everything = np.ones(self._level_names.size, dtype=bool)
        groups = [("", everything)]
        groups += [(f"level_{level}_", self._level_names == level) for level in self._level_names.tolist()]
        scores = {}
        for name, here in groups:
            pairs, positive, sums = (counts[here].sum(0) for counts in (self._pairs, self._positive, self._sums))
            scores[f"{name}brier"] = int(self._squares[here].sum()) / _UNIT / int(pairs.sum())
            # n_b / n * |mean truth - mean probability| = |truths - probabilities| / n.
            scores[f"{name}ece"] = float(np.abs(positive - sums / _UNIT).sum() / pairs.sum())
        scores.update(num_bins=self.num_bins, num_documents=self._num_documents)
        return {**scores, "num_labels": self.num_labels, "closure": self.closure}

    def reliability(self) -> dict:
        """
        What a reliability diagram shows.

        Returns:
            `dict`: `levels` `(L,)`, and `pairs`, `mean_score`, `mean_truth`, each of shape `(L, S)`: the pairs of each bin,
            their mean probability and the share of them that is true; nan in empty bins.
        """
        with np.errstate(invalid="ignore"):
            means = self._sums / _UNIT / self._pairs, self._positive / self._pairs
        return {"levels": self._level_names.copy(), "pairs": self._pairs.copy(), "mean_score": means[0], "mean_truth": means[1]}
