"""Ranking scores: precision, recall, R-precision, nDCG and average precision of the best labels; numpy only.

All of them are sums, over ranks, of how many documents with a number of gold labels have a right label there. Only these
integers are kept, so nothing depends on the order of the documents.

Letters: `B` documents, `N` labels, `K` ranks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .errors import MetricError, MetricTypeError
from .label_sets import Closure, LabelSets, close_up, contains, to_csr, to_keys
from .score_rows import RowCloser, score_blocks
from .scorers import Scorer
from .taxonomy import Parents


class RankingScorer(Scorer):
    r"""
    Streaming ranking scores of the labels with the best scores.

    With \\(G\\) the gold labels of a document and \\(hit_r\\) = 1 if the label at rank \\(r\\) is one of them, else 0,

    $$P@k = \frac{1}{k} \sum_{r \le k} hit_r, \quad R@k = \frac{1}{|G|} \sum_{r \le k} hit_r, \quad
      RP@k = \frac{1}{\min(k, |G|)} \sum_{r \le k} hit_r$$

    $$nDCG@k = \frac{\sum_{r \le k} hit_r / \log_2(r + 1)}{\sum_{r \le \min(k, |G|)} 1 / \log_2(r + 1)}, \quad
      MAP@k = \frac{1}{\min(k, |G|)} \sum_{r \le k} hit_r \cdot P@r$$

    and R-precision = \\(P@|G|\\), each the mean over the documents that have gold labels. RP@k is that of EURLEX57K
    (Chalkidis et al., 2019). All are in [0, 1].

    Args:
        parents (`dict`, `list` or `LabelHierarchy`), num_labels (`int`, *optional*), names (`list[str]`, *optional*):
            The hierarchy, as in [`HierarchicalScorer`].
        closure (`str`, *optional*, defaults to `"none"`):
            `"none"`: the gold labels as given; `"up"`: with their ancestor labels. The ranking is taken as it comes.
        ks (`tuple[int]`, *optional*, defaults to `(1, 3, 5, 10)`): Every `k`, 1 or more.
        labels (`list[int]`, *optional*):
            Rank these labels only, and let only these count as right, as EURLEX57K does for its frequent, few-shot and
            zero-shot labels ([`frequency_groups`]). Only score rows can be added then.

    Raises:
        ValueError: for another `closure`, a `k` below 1, ids in `labels` that are no labels, a bad hierarchy.

    Example:

    ```py
    >>> from hf_htc.metrics.hierarchical_f1 import RankingScorer

    >>> scorer = RankingScorer([[], [0], [0], []], ks=(1, 2))
    >>> scorer.add(ranked=[[2, 0], [3, 0]], references=[[0, 2], [0]])
    >>> scores = scorer.compute()
    >>> scores["precision_at_1"], scores["recall_at_2"], scores["r_precision"]
    (0.5, 1.0, 0.5)

    ```
    """

    COUNTS = ("_documents", "_short", "_hits")
    SETTINGS = ("closure", "ks", "labels")
    ALLOWED_CLOSURES = ("none", "up")

    def __init__(
        self,
        parents: Parents,
        num_labels: int | None = None,
        closure: Closure = "none",
        ks: Sequence[int] = (1, 3, 5, 10),
        labels: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        ks = (ks,) if isinstance(ks, (int, np.integer)) else tuple(ks)
        if not ks or any(isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1 for k in ks):
            raise MetricError(f"`ks` must be whole numbers of 1 or more, e.g. (1, 5); got {ks!r}.")
        self.ks = tuple(sorted(set(map(int, ks))))
        self.labels = None
        if labels is not None:
            self.labels = np.unique(np.asarray(labels, dtype=np.int64))
            if self.labels.size == 0 or not 0 <= self.labels[0] <= self.labels[-1] < self.num_labels:
                raise MetricError(f"`labels` must be at least one id in [0, {self.num_labels}); got {labels!r}.")
        # Gold is closed; ranks are not.
        self._closer = RowCloser("none", self.taxonomy)
        self.reset()

    def reset(self) -> None:
        """Forget all documents."""
        # Number of gold labels -> how many documents; of these, how many with fewer ranks than gold labels.
        self._documents: Counter = Counter()
        self._short: Counter = Counter()
        # Number of gold labels -> [documents with a right label at a rank, the sum of right labels up to there] by rank.
        self._hits = _RankTable()

    @property
    def num_documents(self) -> int:
        """How many documents were added."""
        return sum(self._documents.values())

    def add(self, ranked: LabelSets, references: LabelSets) -> None:
        """
        Count documents by their best labels.

        Args:
            ranked (`np.ndarray` of shape `(B, K)`, int): Label ids, best first, at least `min(max(ks), N)` of them.
            references (`list[list[int]]` or CSR pair `(indptr, indices)`): Gold label ids.

        Raises:
            ValueError: for too few ranks, a repeated label in a row, ids that are no labels, unequal numbers of rows.
            TypeError: for ids that are no integers.
        """
        if self.labels is not None:
            raise MetricError("With `labels`, the ranks among them are needed: add score rows with `add_scores`.")
        ranked = np.asarray(ranked)
        needed = min(max(self.ks), self.num_labels)
        if ranked.ndim != 2 or ranked.shape[1] < needed:
            raise MetricError(
                f"`ranked` has the shape {ranked.shape}; the scores at {max(self.ks)} need {needed} labels a document."
            )
        if ranked.dtype.kind not in "iu" and ranked.size:
            raise MetricTypeError(f"`ranked` must hold label ids, integers; got {ranked.dtype}.")
        indptr, indices = to_csr(references, self.taxonomy, "references")
        if indptr.size - 1 != len(ranked):
            raise MetricError(f"ranked has {len(ranked)} rows and references {indptr.size - 1}; give one row a document to both.")
        in_order = np.sort(ranked, axis=1)
        bad = (in_order[:, :1] < 0).any(1) | (in_order[:, -1:] >= self.num_labels).any(1)
        bad |= (in_order[:, 1:] == in_order[:, :-1]).any(1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise MetricError(
                f"ranked row {row} is {ranked[row].tolist()}; labels lie in [0, {self.num_labels}), each at most once."
            )
        keys = to_keys(indptr, indices, 0, len(ranked), self.num_labels)
        self._count(ranked.astype(np.int64), close_up(keys, self.taxonomy) if self.closure == "up" else keys)

    def add_scores(self, scores: np.ndarray, references: LabelSets) -> None:
        """
        Count documents by the scores of all labels; of equal scores the label with the smaller id goes first.

        Args:
            scores (`np.ndarray` of shape `(B, N)`, float): One row a document; any numbers, larger is better. They are
                worked on in blocks, so a memory map will do.
            references (`list[list[int]]` or CSR pair `(indptr, indices)`): Gold label ids.

        Raises:
            ValueError: for NaN, another shape, gold ids that are no labels, unequal numbers of rows.
        """
        # The blocks leave the gold labels open, since ranks are not closed with them.
        for block, gold in score_blocks(scores, references, self._closer, self.taxonomy, probabilities=False):
            if self.closure == "up":
                gold = close_up(gold, self.taxonomy)
            if self.labels is not None:
                gold = gold[contains(self.labels, gold % self.num_labels)]
                block = block[:, self.labels]
            most = int(np.bincount(gold // self.num_labels, minlength=1).max()) if gold.size else 0
            best = best_labels(block, min(max(most, *self.ks), block.shape[1]))
            self._count(best if self.labels is None else self.labels[best], gold)

    def _count(self, ranked: np.ndarray, gold: np.ndarray) -> None:
        num_rows, depth = ranked.shape
        hit = contains(gold, np.arange(num_rows)[:, None] * self.num_labels + ranked).astype(np.int64)
        so_far = np.cumsum(hit, axis=1) * hit
        sizes = np.bincount(gold // self.num_labels, minlength=num_rows)
        for size in np.unique(sizes).tolist():
            here = sizes == size
            self._documents[size] += int(here.sum())
            if depth < size:
                self._short[size] += int(here.sum())
            if size:
                self._hits.include(size, np.stack([hit[here].sum(0), so_far[here].sum(0)]))

    def compute(self) -> dict:
        """
        The scores of all documents so far.

        Returns:
            `dict` with, for every `k`, `precision_at_<k>`, `recall_at_<k>`, `rp_at_<k>`, `ndcg_at_<k>`, `map_at_<k>`;
            `r_precision`, left out if a document had fewer ranks than gold labels; `num_documents`, `num_scored_documents`
            (those with gold labels; all scores are 0 without any), `num_labels` (that were ranked) and `closure`.

        Raises:
            ValueError: if no document was added.
        """
        if not self._documents:
            raise MetricError("There is nothing to score: no document was added. Call `add` or `add_scores` first.")
        number = self.num_documents - self._documents[0]
        sums = dict.fromkeys((f"{name}_at_{k}" for k in self.ks for name in ("precision", "recall", "rp", "ndcg", "map")), 0.0)
        sums["r_precision"] = 0.0
        for size, table in sorted(self._hits.items()):
            ranks = np.arange(1, table.shape[1] + 1)
            discounts = 1 / np.log2(np.arange(max(size, table.shape[1])) + 2)
            for k in self.ks:
                hits = int(table[0, :k].sum())
                most = min(k, size)
                sums[f"precision_at_{k}"] += hits / k
                sums[f"recall_at_{k}"] += hits / size
                sums[f"rp_at_{k}"] += hits / most
                sums[f"ndcg_at_{k}"] += float(table[0, :k] @ discounts[: len(ranks)][:k] / discounts[:most].sum())
                sums[f"map_at_{k}"] += float((table[1] / ranks)[:k].sum() / most)
            sums["r_precision"] += int(table[0, :size].sum()) / size
        if self._short:
            del sums["r_precision"]
        scores = {name: value / max(1, number) for name, value in sums.items()}
        num_labels = self.num_labels if self.labels is None else self.labels.size
        scores.update(num_documents=self.num_documents, num_scored_documents=number)
        return {**scores, "num_labels": num_labels, "closure": self.closure}


class _RankTable(dict):
    """`number of gold labels -> (2, K) counts`; tables of other depths are filled up with zeros."""

    def include(self, size: int, counts: np.ndarray) -> None:
        mine = self.get(size, np.zeros((2, 0), dtype=np.int64))
        depth = max(mine.shape[1], counts.shape[1])
        self[size] = sum(np.pad(table, ((0, 0), (0, depth - table.shape[1]))) for table in (mine, counts))

    def __add__(self, other):
        total = _RankTable(self)
        for size, counts in other.items():
            total.include(size, counts)
        return total


def best_labels(scores: np.ndarray, k: int) -> np.ndarray:
    """
    The `k` best labels of every row, best first; of equal scores the smaller id.

    Args:
        scores (`np.ndarray` of shape `(B, N)`): Without NaN.
        k (`int`): At most `N`.

    Returns:
        `np.ndarray` of shape `(B, k)`, int64.
    """
    last = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k, None]
    chosen = scores > last
    missing = k - chosen.sum(1)
    tied = scores == last
    # Labels that tie with the last one are taken by id; few rows have more of them than places.
    crowded = tied.sum(1) > missing
    tied[crowded] &= np.cumsum(tied[crowded], axis=1) <= missing[crowded, None]
    ids = np.nonzero(chosen | tied)[1].reshape(len(scores), k)
    order = np.argsort(-np.take_along_axis(scores, ids, axis=1), axis=1, kind="stable")
    return np.take_along_axis(ids, order, axis=1)
