"""What a report shows beside the scores: confused siblings, violations, worst documents, scores against thresholds.

Legend: `B` documents, `N` labels, `S` bins of scores, `R` coarser ones, which are counted by label.
"""

import heapq
from collections import Counter

import numpy as np

from hf_htc.metrics.hierarchical_f1 import CalibrationScorer
from hf_htc.models.label_sets import as_csr, contains, from_keys, gather_rows, row_ids, sorted_unique


class EvaluationDetails:
    """
    Streaming details of an evaluation.

    Args:
        hierarchy ([`LabelHierarchy`]).
        closure (`str`, *optional*, defaults to `"none"`): With `"up"`, the ancestors of labels are added on both sides before
            they are compared.
        num_worst (`int`, *optional*, defaults to 15): Documents with the lowest F1 that are kept.
        num_bins (`int`, *optional*, defaults to 1000): `S`, of scores from 0 to 1.
        num_label_bins (`int`, *optional*, defaults to 100): `R`, for macro-F1.
    """

    def __init__(self, hierarchy, closure="none", num_worst=15, num_bins=1000, num_label_bins=100):
        self.hierarchy, self.closure, self.num_worst, self.num_bins = hierarchy, closure, num_worst, num_bins
        self.confusions = Counter()  # (gold, predicted) siblings
        self.violations = Counter()  # (label, missing ancestor)
        self.num_documents = self.num_violating = 0
        self.positives = np.zeros(num_bins, dtype=np.int64)
        self.pairs = np.zeros(num_bins, dtype=np.int64)
        self.label_positives = np.zeros((hierarchy.num_labels, num_label_bins), dtype=np.int32)
        self.label_pairs = np.zeros_like(self.label_positives)
        self.calibration = CalibrationScorer(hierarchy.parents, hierarchy.num_labels, names=hierarchy.names)
        self._worst = []
        parents = [row or [hierarchy.num_nodes] for row in hierarchy.parents[: hierarchy.num_labels]]  # the root is one
        self._parents = as_csr(parents, hierarchy.num_nodes + 1)[:2]

    def add(self, rows, raw, predicted, gold, scores=None):
        """
        Counts some documents.

        Args:
            rows (`list[int]` of length `B`): Their numbers, kept with the worst.
            raw, predicted, gold (`list[list[int]]` or CSR pair): Label ids: predicted before any closure, predicted, gold.
            scores (`np.ndarray` of shape `(B, N)`, *optional*): In [0, 1].
        """
        n = self.hierarchy.num_labels
        found = self.hierarchy.violations(raw)
        self.violations.update(map(tuple, found[:, 1:].tolist()))
        self.num_violating += len(np.unique(found[:, 0]))
        self.num_documents += len(rows)
        if self.closure == "up":
            predicted, gold = self.hierarchy.close(predicted), self.hierarchy.close(gold)
        keys = []
        for sets in (predicted, gold):
            indptr, indices, _ = as_csr(sets, n)
            keys.append(sorted_unique(row_ids(indptr) * n + indices))
        predicted, gold = keys
        right = contains(gold, predicted)
        self._count_confusions(gold[~contains(predicted, gold)], predicted[~right])
        counts = [np.bincount(key // n, minlength=len(rows)) for key in (predicted[right], predicted, gold)]
        f1 = 2 * counts[0] / np.maximum(counts[1] + counts[2], 1)
        errors = counts[1] + counts[2] - 2 * counts[0]
        for row, value, number in zip(rows, f1.tolist(), errors.tolist()):
            if not number:
                continue
            entry = (-value, number, -row)  # the worst: low F1, many errors, first in the data
            if len(self._worst) < self.num_worst:
                heapq.heappush(self._worst, entry)
            elif entry > self._worst[0]:
                heapq.heapreplace(self._worst, entry)
        if scores is not None:
            self.calibration.add_scores(scores, from_keys(gold, len(rows), n))
            bins = _bins(scores, self.num_bins)
            self.pairs += np.bincount(bins.ravel(), minlength=self.num_bins)
            self.positives += np.bincount(bins[gold // n, gold % n], minlength=self.num_bins)
            shape = self.label_pairs.shape
            bins = _bins(scores, shape[1]) + np.arange(n) * shape[1]  # (B, N), a number for each label and bin
            for counts, found in ((self.label_pairs, bins.ravel()), (self.label_positives, bins[gold // n, gold % n])):
                counts += np.bincount(found, minlength=counts.size).reshape(shape).astype(counts.dtype)

    def _count_confusions(self, missed, added):
        """Pairs of a missed and a wrongly predicted label of a document with a common parent."""
        n, width = self.hierarchy.num_labels, self.hierarchy.num_nodes + 1
        sides = []
        for keys in (missed, added):
            lengths, parents = gather_rows(*self._parents, keys % n)
            where = np.repeat(keys // n, lengths) * width + parents  # document and parent
            labels = np.repeat(keys % n, lengths)
            order = np.argsort(where, kind="stable")
            sides.append((where[order], labels[order]))
        (left, missed_labels), (right, added_labels) = sides
        start, end = np.searchsorted(left, right, "left"), np.searchsorted(left, right, "right")
        number = end - start
        place = np.repeat(start - np.cumsum(number) + number, number) + np.arange(number.sum())
        self.confusions.update(zip(missed_labels[place].tolist(), np.repeat(added_labels, number).tolist()))

    def worst(self):
        """
        `list[tuple]`: `(row, F1)` of the worst documents, the worst first.

        The F1 is that of which samples-F1 is the mean, here, in the scores and in [`bootstrap_intervals`]: 0 for a document
        without gold and without predicted labels. Nothing is wrong with such a document, so it is not among these, and no other
        without a wrong or missed label is.
        """
        return [(-row, -value) for value, _, row in sorted(self._worst, reverse=True)]

    def threshold_curve(self):
        """
        Precision, recall and micro-F1 of labels as they are scored, without closure, by threshold.

        Returns:
            `dict` of `np.ndarray` of shape `(S,)`: `threshold`, the lower ends of the bins, `precision` (1 where nothing is
            predicted), `recall`, `f1`.
        """
        hits, found = self.positives[::-1].cumsum()[::-1], self.pairs[::-1].cumsum()[::-1]
        total = max(1, int(self.positives.sum()))
        precision, recall = np.where(found > 0, hits / np.maximum(found, 1), 1.0), hits / total
        f1 = 2 * hits / np.maximum(found + total, 1)
        return {"threshold": np.arange(self.num_bins) / self.num_bins, "precision": precision, "recall": recall, "f1": f1}

    def macro_curve(self):
        """
        Macro-F1 over all labels as they are scored, without closure, by threshold; a label without a document and without a
        prediction counts as 0.

        Returns:
            `dict` of `np.ndarray` of shape `(R,)`: `threshold`, the lower ends of the bins, and `f1`.
        """
        hits, found = (np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] for counts in (self.label_positives, self.label_pairs))
        f1 = 2 * hits / np.maximum(found + hits[:, :1], 1)  # at the threshold 0 every document that has the label is hit
        return {"threshold": np.arange(f1.shape[1]) / f1.shape[1], "f1": f1.mean(0)}


def _bins(scores, number):
    """Bins of scores in [0, 1], each of which holds its lower end."""
    return np.minimum((np.asarray(scores) * number).astype(np.int64), number - 1)
