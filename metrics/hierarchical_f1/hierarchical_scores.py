"""Hierarchical precision, recall and F, exact, sparse and streaming; numpy only.

Documents are turned into integer counts as they arrive, and every score is computed from the counts: the result does
not depend, not even in the last bit, on how the documents were split into calls or between merged scorers.

Letters: `B` documents, `N` labels, `M` nodes, `L` levels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .errors import MetricError
from .label_sets import Closure, ancestor_keys, contains, has_all_ancestors, is_path_end, sorted_unique
from .scorers import SetScorer, checked_zero_division, count_rows, counted_rows, mean, precision_recall_f
from .taxonomy import Parents


AVERAGES = ("micro", "macro", "samples", "weighted")

# The counts of each label, `(N,)` arrays.
_COUNTS = ("_tp", "_predicted", "_support", "_consistent", "_c_tp", "_path_tp", "_path_predicted", "_path_support")


class HierarchicalScorer(SetScorer):
    r"""
    Streaming counts of predicted and gold label sets over a hierarchy.

    For a document with the gold set \\(G\\) and the predicted set \\(P\\), and for a label \\(v\\) over all documents,

    $$P = \frac{tp}{predicted}, \quad R = \frac{tp}{support}, \quad
      F_\beta = \frac{(1 + \beta^2)\, tp}{\beta^2\, support + predicted}$$

    with `tp` = \\(|G \cap P|\\), `predicted` = \\(|P|\\) and `support` = \\(|G|\\). The averages are scikit-learn's:
    `micro` of the sums, `macro` the mean over labels, `weighted` the mean over labels weighted by support, `samples`
    the mean over documents. On closed sets `micro` is the hierarchical precision, recall and F of Kiritchenko et al.
    (2006).

    Args:
        parents (`dict`, `list` or `LabelHierarchy`):
            The hierarchy; see [`Taxonomy`] for the forms. Ids `0..N-1` are the labels, `N..M-1` structure-only nodes.
        num_labels (`int`, *optional*):
            `N`; default: every node is a label.
        closure (`str`, *optional*, defaults to `"none"`):
            What happens to the sets before they are compared: `"none"` nothing; `"up"` the ancestor labels are added on
            both sides; `"prune"` predicted labels that lack an ancestor label are dropped, gold stays as it is.
        beta (`float`, *optional*, defaults to 1.0):
            Weight of recall, positive. With another value than 1 every `f1` in a key reads `fbeta`.
        names (`list[str]`, *optional*):
            Node names, for messages.

    Raises:
        ValueError: for an unknown `closure`, a `beta` that is not positive and finite, a bad hierarchy.

    Example:

    ```py
    >>> from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer

    >>> scorer = HierarchicalScorer([[], [0], [0], []], closure="up")  # 1 and 2 are children of 0; 3 stands alone
    >>> scorer.add(predictions=[[1], [3]], references=[[2], [3]])
    >>> scores = scorer.compute()
    >>> round(scores["micro_f1"], 4), round(scores["samples_f1"], 4), scores["closure"]
    (0.6667, 0.75, 'up')
    >>> scores["level_1_micro_f1"], scores["level_2_micro_f1"]
    (1.0, 0.0)

    ```
    """

    COUNTS = (*_COUNTS, "_documents", "_consistent_documents")
    SETTINGS = ("closure", "beta")

    def __init__(
        self,
        parents: Parents,
        num_labels: int | None = None,
        closure: Closure = "none",
        beta: float = 1.0,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        if isinstance(beta, bool) or not isinstance(beta, (int, float, np.number)) or not 0 < beta < math.inf:
            raise MetricError(f"`beta` must be a positive finite number; got {beta!r}. 1 weighs precision and recall alike.")
        self.beta = float(beta)
        self.reset()

    @property
    def num_documents(self) -> int:
        """How many documents were added."""
        return sum(self._documents.values())

    def reset(self) -> None:
        """Forget all documents."""
        zeros = np.zeros((8, self.num_labels), dtype=np.int64)
        self._tp, self._predicted, self._support, self._consistent, self._c_tp = zeros[:5]
        self._path_tp, self._path_predicted, self._path_support = zeros[5:]
        # (tp, predicted, support) of a document -> how many documents: enough for every average over documents.
        self._documents: Counter = Counter()
        self._consistent_documents = 0

    def _add_block(self, predicted: np.ndarray, gold: np.ndarray, num_rows: int) -> None:
        taxonomy = self.taxonomy
        above = ancestor_keys(predicted, taxonomy)
        # After closure no label lacks an ancestor.
        whole = self.closure != "none"
        consistent = np.ones(predicted.size, dtype=bool) if whole else has_all_ancestors(predicted, taxonomy, above)
        hit = contains(gold, predicted)
        end = is_path_end(predicted, taxonomy, above)
        gold_end = is_path_end(gold, taxonomy)
        path_hit = end & hit & consistent
        path_hit[path_hit] = contains(gold[gold_end], predicted[path_hit])

        rows, gold_rows = predicted // self.num_labels, gold // self.num_labels
        labels, gold_labels = predicted - rows * self.num_labels, gold - gold_rows * self.num_labels

        def per_label(chosen):
            return np.bincount(chosen, minlength=self.num_labels)

        self._tp += per_label(labels[hit])
        self._predicted += per_label(labels)
        self._support += per_label(gold_labels)
        self._consistent += per_label(labels[consistent])
        self._c_tp += per_label(labels[hit & consistent])
        self._path_tp += per_label(labels[path_hit])
        self._path_predicted += per_label(labels[end])
        self._path_support += per_label(gold_labels[gold_end])

        count_rows(self._documents, *(np.bincount(chosen, minlength=num_rows) for chosen in (rows[hit], rows, gold_rows)))
        self._consistent_documents += num_rows - sorted_unique(rows[~consistent]).size

    def compute(
        self,
        averages: Sequence[str] = AVERAGES,
        labels: Literal["all", "supported"] = "all",
        per_level: bool = True,
        constrained: bool = True,
        zero_division: float = 0.0,
    ) -> dict:
        r"""
        The scores of all documents so far.

        Args:
            averages (`str` or list of `str`, *optional*):
                Any of `"micro"`, `"macro"`, `"samples"`, `"weighted"`.
            labels (`str`, *optional*, defaults to `"all"`):
                What macro averages divide by: `"all"` labels of the hierarchy, a label that never occurs scoring
                `zero_division` (so do HiAGM, HPT, HGCLR and their successors), or the `"supported"` ones, which occur
                in a gold or predicted set at least once.
            per_level (`bool`, *optional*, defaults to `True`):
                Whether to add the scores of each level.
            constrained (`bool`, *optional*, defaults to `True`):
                Whether to add the path-constrained and path-based scores.
            zero_division (`float`, *optional*, defaults to 0.0):
                The value of 0 / 0, in scikit-learn's sense: 0.0, 1.0, or nan = leave it out of the mean. A precision is
                undefined without predicted, a recall without gold labels, an F without either. So a document with two
                empty sets adds `zero_division` to the three `samples` scores.

        Returns:
            `dict` with the keys (`f1` reads `fbeta` throughout where `beta` is not 1), all scores in [0, 1]:

            - `<average>_precision`, `<average>_recall`, `<average>_f1` for every average; `samples_f1` is the mean of
              the documents' F, `macro_f1` the mean of the labels' F;
            - `macro_hf1` (with `macro`): the F of `macro_precision` and `macro_recall`, 0 where both are 0;
            - `macro_f1_supported`, `num_supported_labels` (always): macro F over the labels that occur;
            - `level_<k>_micro_f1`, `level_<k>_macro_f1` for every level k = 1, 2, ... that has labels;
            - `c_micro_f1`, `c_macro_f1`: path-constrained, a true positive needs all ancestor labels of the label
              predicted too; predicted and gold counts are unchanged;
            - `p_micro_f1`, `p_macro_f1`: path-based. A path is a most specific label of a set (an ancestor of no other
              label of the set) together with all its ancestor labels, matched as a whole: it is found if its end is the
              end of a path on both sides and all its ancestors are predicted. The mean is over the labels that end a
              gold or predicted path at least once;
            - `exact_match`: share of documents with equal sets;
            - `consistency`: share of predicted labels whose ancestor labels are all predicted, `document_consistency`:
              share of documents with such labels only; 1 where nothing is predicted, as nothing is violated. Both are
              of the sets after closure, so 1 unless `closure="none"`;
            - `num_documents`, `num_labels`, `closure`, `beta` and `labels`: what the scores belong to.

        Raises:
            ValueError: if no document was added, or for an unknown average, `labels` or `zero_division`.
        """
        averages = (averages,) if isinstance(averages, str) else tuple(averages)
        for average in averages:
            if average not in AVERAGES:
                raise MetricError(f"`averages` must be among {list(AVERAGES)}; got {average!r}.")
        if labels not in ("all", "supported"):
            raise MetricError(f"`labels` must be 'all' or 'supported'; got {labels!r}.")
        zero_division = checked_zero_division(zero_division)
        if not self._documents:
            raise MetricError("There is nothing to score: no document was added. Call `add` first.")

        f = "f1" if self.beta == 1 else "fbeta"
        occurs = (self._predicted + self._support) > 0
        counted = occurs if labels == "supported" else np.ones_like(occurs)
        by_label = self._scores(self._tp, self._predicted, self._support, zero_division)
        scores = {}
        for average in averages:
            precision, recall, fscore = self._averaged(average, by_label, counted, zero_division)
            scores.update({f"{average}_precision": precision, f"{average}_recall": recall, f"{average}_{f}": fscore})
            if average == "macro":
                scores[f"macro_h{f}"] = self._f_of(precision, recall)
        scores[f"macro_{f}_supported"] = mean(by_label[2][occurs], zero_division)
        scores["num_supported_labels"] = int(occurs.sum())
        if per_level:
            label_levels = self.taxonomy.levels[: self.num_labels]
            for level in np.unique(label_levels).tolist():
                here = label_levels == level
                scores[f"level_{level}_micro_{f}"] = self._micro(here, zero_division)[2]
                scores[f"level_{level}_macro_{f}"] = mean(by_label[2][here & counted], zero_division)
        if constrained:
            c_counts = self._c_tp, self._predicted, self._support
            p_counts = self._path_tp, self._path_predicted, self._path_support
            ends = (self._path_predicted + self._path_support) > 0
            for prefix, counts, over in (("c", c_counts, counted), ("p", p_counts, ends)):
                fscores = self._scores(counts[0], counts[1], counts[2], zero_division)[2]
                sums = [count.sum(keepdims=True) for count in counts]
                scores[f"{prefix}_micro_{f}"] = float(self._scores(sums[0], sums[1], sums[2], zero_division)[2][0])
                scores[f"{prefix}_macro_{f}"] = mean(fscores[over], zero_division)
        num_documents, num_predicted = self.num_documents, int(self._predicted.sum())
        exact = sum(count for (tp, predicted, gold), count in self._documents.items() if tp == predicted == gold)
        scores["exact_match"] = exact / num_documents
        scores["consistency"] = int(self._consistent.sum()) / num_predicted if num_predicted else 1.0
        scores["document_consistency"] = self._consistent_documents / num_documents
        scores.update(num_documents=num_documents, num_labels=self.num_labels)
        return {**scores, "closure": self.closure, "beta": self.beta, "labels": labels}

    def per_label(self, zero_division: float = 0.0) -> dict:
        """
        The counts and scores of each label.

        Args:
            zero_division (`float`, *optional*, defaults to 0.0): the value of 0 / 0: 0.0, 1.0 or nan.

        Returns:
            `dict` of `np.ndarray`, each of shape `(N,)`: int64 `level`, `tp`, `predicted`, `support`; `consistent`
            (predicted with all ancestors), `c_tp` (of those the true ones), `path_tp`, `path_predicted`, `path_support`
            (paths that end in the label); float64 `precision`, `recall`, `f1` (`fbeta` where `beta` is not 1).
        """
        zero_division = checked_zero_division(zero_division)
        scores = self._scores(self._tp, self._predicted, self._support, zero_division)
        table = {"level": self.taxonomy.levels[: self.num_labels].copy()}
        table.update({name[1:]: getattr(self, name).copy() for name in _COUNTS})
        table.update(zip(("precision", "recall", "f1" if self.beta == 1 else "fbeta"), scores))
        return table

    def _scores(self, tp, predicted, support, zero_division: float):
        """Precision, recall and F of arrays of counts, each a float array of their shape."""
        return precision_recall_f(tp, predicted, support, self.beta, zero_division)

    def _micro(self, chosen, zero_division: float) -> list[float]:
        sums = [count[chosen].sum(keepdims=True) for count in (self._tp, self._predicted, self._support)]
        return [float(score[0]) for score in self._scores(sums[0], sums[1], sums[2], zero_division)]

    def _averaged(self, average: str, by_label, counted, zero_division: float) -> list[float]:
        if average == "micro":
            return self._micro(slice(None), zero_division)
        if average == "macro":
            return [mean(score[counted], zero_division) for score in by_label]
        if average == "weighted":
            return [mean(score, zero_division, self._support) for score in by_label]
        counts, weights = counted_rows(self._documents)
        return [mean(score, zero_division, weights) for score in self._scores(counts[0], counts[1], counts[2], zero_division)]

    def _f_of(self, precision: float, recall: float) -> float:
        square = self.beta**2
        below = square * precision + recall
        return (1 + square) * precision * recall / below if below != 0 else 0.0
