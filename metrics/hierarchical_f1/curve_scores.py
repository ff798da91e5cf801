"""Threshold-free scores: areas under precision-recall curves and the best F over thresholds; numpy only.

Scores are put into bins by their log-odds and only counts by bin are kept, or all scores are kept and nothing is rounded.

Letters: `B` documents, `N` labels, `T` thresholds (bins, highest scores last).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import MetricError
from .label_sets import Closure, LabelSets
from .score_rows import BLOCK_SCORES, RowCloser, positives, score_blocks
from .scorers import Scorer
from .taxonomy import Parents


# Scores with log-odds beyond this share the outermost bins.
_LOG_ODDS = 16.0
# Ratios are summed up in this unit, as integers: the sums do not depend on the order of the documents.
_UNIT = 2.0**40
# Documents of one block: sums of ratios over them stay exact in float64.
_MAX_ROWS = 1 << 12


class CurveScorer(Scorer):
    r"""
    Streaming precision-recall curves over all thresholds.

    At a threshold \\(t\\) the labels with a score of \\(t\\) or more are predicted. Areas are scikit-learn's average precision
    \\(\sum_t (R_t - R_{t-1}) P_t\\), except for the hF1-AUC, which is a trapezoidal area as its authors have it.

    Args:
        parents (`dict`, `list` or `LabelHierarchy`), num_labels (`int`, *optional*), names (`list[str]`, *optional*):
            The hierarchy, as in [`HierarchicalScorer`].
        closure (`str`, *optional*, defaults to `"up"`):
            What happens to the sets of every threshold: `"up"`: ancestor labels are added on both sides (a label's score is
            the largest at or below it); `"prune"`: predicted labels that lack an ancestor label are dropped; `"none"`.
        resolution (`int`, *optional*, defaults to 1024):
            Bins of equal width in log-odds between -16 and 16: with 1024, scores whose log-odds differ by less than 1/32
            may count as equal. Memory: 8 bytes x `N` x `resolution`. `None` keeps all scores and is exact; memory and time
            grow with documents x labels.

    Raises:
        ValueError: for an unknown `closure`, a `resolution` below 2, a bad hierarchy.

    Example:

    ```py
    >>> import numpy as np
    >>> from hf_htc.metrics.hierarchical_f1 import CurveScorer

    >>> scorer = CurveScorer([[], [0], [0], []])  # 1 and 2 are children of 0; 3 stands alone
    >>> scorer.add_scores(np.array([[0.9, 0.8, 0.1, 0.2], [0.6, 0.1, 0.3, 0.7]]), [[1], [2]])
    >>> scores = scorer.compute()
    >>> scores["macro_auprc"], round(scores["hf1_auc"], 4), round(scores["micro_fmax"], 4), scores["closure"]
    (1.0, 0.7083, 0.8889, 'up')

    ```
    """

    SETTINGS = ("closure", "resolution")

    def __init__(
        self,
        parents: Parents,
        num_labels: int | None = None,
        closure: Closure = "up",
        resolution: int = 1024,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        whole = isinstance(resolution, (int, np.integer)) and not isinstance(resolution, bool) and resolution >= 2
        if resolution is not None and not whole:
            raise MetricError(f"`resolution` must be a whole number of 2 or more, or None for exact scores; got {resolution!r}.")
        self.resolution = resolution
        self._closer = RowCloser(closure, self.taxonomy)
        self.reset()

    @property
    def COUNTS(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("_num_documents", "_kept") if self.resolution is None else ("_num_documents", "_all", "_true", "_documents")

    def reset(self) -> None:
        """Forget all documents."""
        self._num_documents = 0
        self._kept: list = []
        if self.resolution is not None:
            # Documents by label and bin, and those of them that have the label.
            self._all, self._true = np.zeros((2, self.num_labels, self.resolution), dtype=np.int32)
            self._documents = _DocumentSums(self.resolution)

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
            self._num_documents += len(block)
            truth = positives(gold, len(block), self.num_labels)
            if self.resolution is None:
                self._kept.append((block.copy(), truth))
                continue
            bins = _bins(block, self.resolution)
            keys = bins + np.arange(self.num_labels) * self.resolution
            _count_into(self._all, keys.ravel())
            _count_into(self._true, keys[truth])
            self._documents = self._documents + document_sums(bins, truth, self.resolution)

    def compute(self) -> dict:
        r"""
        The scores of all documents so far.

        Returns:
            `dict` with the keys, all in [0, 1], 1 is best:

            - `micro_auprc`: area under the curve of the micro-averaged precision and recall over all labels, AU(PRC) of Vens
              et al. (2008); `macro_auprc`: the mean of the labels' own areas, over labels with gold documents, and
              `weighted_auprc`: the same weighted by their number. (Vens et al. interpolate between thresholds; C-HMCNN and
              its successors take average precision, as here.)
            - `samples_auprc`: the mean of the documents' own areas, over documents with gold labels; the label ranking
              average precision of scikit-learn;
            - `hf1_auc`: area under the curve of the hierarchical precision and recall of one document, from recall 0 and
              precision 1 through all thresholds, trapezoidal, the mean over documents with gold labels (Plaud et al., 2024);
            - `micro_fmax`, `micro_fmax_threshold`: the largest micro F1 over all thresholds, and the largest threshold that
              has it (with bins, the lower edge of the bin);
            - `fmax`, `fmax_threshold`: the same of F1 of the mean precision (over documents with predictions) and the mean
              recall (over all documents), both of documents with gold labels only: CAFA's Fmax;
            - `num_documents`, `num_scored_documents` (those with gold labels), `num_supported_labels` (labels with gold
              documents), `num_labels`, `closure`, `resolution`.

        Raises:
            ValueError: if no document was added.
        """
        if not self._num_documents:
            raise MetricError("There is nothing to score: no document was added. Call `add_scores` first.")
        if self.resolution is None:
            scores = np.concatenate([block for block, _ in self._kept])
            truth = np.concatenate([hot for _, hot in self._kept])
            thresholds, bins = np.unique(scores, return_inverse=True)
            bins = bins.reshape(scores.shape)
            total, true = (np.bincount(chosen, minlength=thresholds.size) for chosen in (bins.ravel(), bins[truth]))
            areas, support = _row_areas(bins.T, truth.T)[0], truth.sum(0)
            documents = document_sums(bins, truth, thresholds.size)
        else:
            thresholds = 1 / (1 + np.exp(_LOG_ODDS - np.arange(self.resolution) * (2 * _LOG_ODDS / self.resolution)))
            thresholds[0] = 0.0  # holds all smaller scores too
            total, true = self._all.sum(0, dtype=np.int64), self._true.sum(0, dtype=np.int64)
            support = self._true.sum(1, dtype=np.int64)
            areas = self._label_areas(np.flatnonzero(support))
            documents = self._documents
        tp, predicted, wanted = np.cumsum(true[::-1]), np.cumsum(total[::-1]), int(true.sum())
        has_gold = support > 0
        mean_p, mean_r = documents.curve()
        below = mean_p + mean_r
        fmax = np.divide(2 * mean_p * mean_r, below, out=np.zeros_like(below), where=below > 0)
        micro = 2 * tp / np.maximum(predicted + wanted, 1)
        number = max(1, documents.number)
        result = {
            "micro_auprc": _area(true[None], total[None])[0],
            "macro_auprc": areas[has_gold].mean() if has_gold.any() else 0.0,
            "weighted_auprc": (areas * support).sum() / max(1, support.sum()),
            "samples_auprc": documents.steps / _UNIT / number,
            "hf1_auc": documents.trapezoids / _UNIT / number,
            "micro_fmax": micro.max(),
            "micro_fmax_threshold": thresholds[::-1][micro.argmax()],
            "fmax": fmax.max(),
            "fmax_threshold": thresholds[::-1][fmax.argmax()],
        }
        result = {name: float(value) for name, value in result.items()}
        result.update(num_documents=self._num_documents, num_scored_documents=documents.number)
        result.update(num_supported_labels=int(has_gold.sum()), num_labels=self.num_labels)
        return {**result, "closure": self.closure, "resolution": self.resolution}

    def _label_areas(self, labels: np.ndarray) -> np.ndarray:
        areas, step = np.zeros(self.num_labels), max(1, BLOCK_SCORES // self.resolution)
        for start in range(0, labels.size, step):
            here = labels[start : start + step]
            areas[here] = _area(self._true[here], self._all[here])
        return areas


class _DocumentSums:
    """
    Sums over documents with gold labels, in units of `_UNIT`.

    Attributes:
        number, steps, trapezoids (`int`): documents, and the sums of their areas of both kinds.
        first, precision, recall (`np.ndarray` of shape `(T,)`): by bin, documents whose best score is there, and the sums of
            the changes of precision and recall that the threshold makes there.
    """

    def __init__(self, num_bins: int):
        self.number = self.steps = self.trapezoids = 0
        self.first, self.precision, self.recall = np.zeros((3, num_bins), dtype=np.int64)

    def __add__(self, other: _DocumentSums) -> _DocumentSums:
        total = _DocumentSums(self.first.size)
        for name, value in vars(self).items():
            setattr(total, name, value + getattr(other, name))
        return total

    def curve(self):
        """Mean precision over the documents with predictions and mean recall, at every threshold from the highest down."""
        first, precision, recall = (np.cumsum(counts[::-1]) for counts in (self.first, self.precision, self.recall))
        return precision / _UNIT / np.maximum(first, 1), recall / _UNIT / max(1, self.number)


def document_sums(bins: np.ndarray, truth: np.ndarray, num_bins: int) -> _DocumentSums:
    """The [`_DocumentSums`] of `(B, N)` bins and a boolean array of gold labels."""
    sums = _DocumentSums(num_bins)
    rows = np.flatnonzero(truth.any(1))
    step = max(1, min(_MAX_ROWS, BLOCK_SCORES // bins.shape[1]))
    for start in range(0, rows.size, step):
        here = rows[start : start + step]
        steps, trapezoids, (ends, precision, recall) = _row_areas(bins[here], truth[here])
        sums.number += here.size
        sums.steps += int(np.rint(steps * _UNIT).astype(np.int64).sum())
        sums.trapezoids += int(np.rint(trapezoids * _UNIT).astype(np.int64).sum())
        sums.first += np.bincount(bins[here].max(1), minlength=num_bins)
        for name, values in (("precision", precision), ("recall", recall)):
            # Whole numbers, at most 2**12 of 2**40: float64 adds them exactly.
            changes = np.bincount(ends, weights=values, minlength=num_bins)
            setattr(sums, name, getattr(sums, name) + changes.astype(np.int64))
    return sums


def _row_areas(bins: np.ndarray, truth: np.ndarray):
    """
    Areas under the precision-recall curve of every row.

    Returns:
        `tuple`: average precision `(B,)`, trapezoidal area from recall 0 and precision 1 `(B,)`, and of every threshold of
        every row the bin, the change of precision and of recall it makes, in whole units.
    """
    num_rows, width = bins.shape
    # One sort of `2 * bin + truth`, best first, says all about a row.
    keys = np.sort(-(bins.astype(np.int64 if bins.size and bins.max() > 1 << 28 else np.int32) * 2 + truth), axis=1)
    tp = np.cumsum(-keys & 1, axis=1, dtype=np.int32)
    value = -keys >> 1
    # Thresholds lie behind the last of equal scores.
    last = np.ones((num_rows, width), dtype=bool)
    last[:, :-1] = value[:, 1:] != value[:, :-1]
    row, place = np.nonzero(last)
    hits = tp[row, place]
    precision = hits / (place + 1)
    recall = hits / np.maximum(tp[:, -1], 1)[row]
    start = np.append(True, row[1:] != row[:-1]) if row.size else np.zeros(0, dtype=bool)
    before_p = np.where(start, 1.0, np.append(1.0, precision[:-1]))
    before_r = np.where(start, 0.0, np.append(0.0, recall[:-1]))
    gain = recall - before_r
    steps = np.bincount(row, weights=gain * precision, minlength=num_rows)
    trapezoids = np.bincount(row, weights=gain * (precision + before_p) / 2, minlength=num_rows)
    whole_p, whole_r = np.rint(precision * _UNIT), np.rint(recall * _UNIT)
    change_p = whole_p - np.where(start, 0.0, np.append(0.0, whole_p[:-1]))
    change_r = whole_r - np.where(start, 0.0, np.append(0.0, whole_r[:-1]))
    return steps, trapezoids, (value[row, place], change_p, change_r)


def _count_into(counts: np.ndarray, places: np.ndarray) -> None:
    """Adds 1 at every place of the flattened counts, as often as it is there."""
    if counts.size > 8 * places.size:  # a pass over all counts costs more than finding the few
        np.add.at(counts.reshape(-1), places, np.int32(1))
    else:
        counts += np.bincount(places, minlength=counts.size).reshape(counts.shape).astype(np.int32)


def _area(true: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Average precision of every row of counts by bin, `(rows, T)`; 0 without gold documents."""
    tp = np.cumsum(true[:, ::-1], axis=1, dtype=np.int64)
    predicted = np.cumsum(total[:, ::-1], axis=1, dtype=np.int64)
    return (true[:, ::-1] * (tp / np.maximum(predicted, 1))).sum(1) / np.maximum(tp[:, -1], 1)


def _bins(scores: np.ndarray, resolution: int) -> np.ndarray:
    """Scores to bins of equal width in log-odds, int64."""
    with np.errstate(divide="ignore"):
        log_odds = np.log(scores) - np.log1p(-scores)
    bins = np.floor((log_odds + _LOG_ODDS) * (resolution / (2 * _LOG_ODDS)))
    return np.clip(bins, 0, resolution - 1).astype(np.int64)
