"""Losses over label sets of a hierarchy: H-loss, HMC-loss, symmetric difference, broken paths; numpy only.

All of them are sums over labels of integer counts times a cost, so they do not depend on the order of the documents.

Letters: `B` documents, `N` labels, `M` nodes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .errors import MetricError
from .label_sets import Closure, ancestor_keys, contains, has_all_ancestors, is_path_end
from .scorers import SetScorer, count_rows
from .taxonomy import Parents, Taxonomy


_LABEL_COUNTS = ("_added", "_missed", "_charged_added", "_charged_missed")
_TOTALS = ("_num_documents", "_predicted", "_inconsistent", "_paths", "_whole_paths")


class HierarchicalLosses(SetScorer):
    r"""
    Streaming losses of predicted label sets.

    A label is wrong in a document if only one of the gold set \\(G\\) and the predicted set \\(P\\) holds it, and charged
    if it is wrong while all its ancestor labels are right: a mistake is paid for once, where it begins.

    Args:
        parents (`dict`, `list` or `LabelHierarchy`), num_labels (`int`, *optional*), names (`list[str]`, *optional*):
            The hierarchy, as in [`HierarchicalScorer`].
        closure (`str`, *optional*, defaults to `"none"`):
            `"none"`, `"up"` or `"prune"`, as in [`HierarchicalScorer`]. The losses of the literature are of closed sets.
        alpha, beta (`float`, *optional*, defaults to 1.0):
            What a missed and a wrongly added label cost in the HMC-loss; not negative.

    Raises:
        ValueError: for an unknown `closure`, a negative or infinite `alpha` or `beta`, a bad hierarchy.

    Example:

    ```py
    >>> from hf_htc.metrics.hierarchical_f1 import HierarchicalLosses

    >>> losses = HierarchicalLosses([[], [0], [0], []], closure="up")  # 1 and 2 are children of 0; 3 stands alone
    >>> losses.add(predictions=[[1], [3]], references=[[2], [3]])
    >>> scores = losses.compute()
    >>> scores["h_loss"], scores["h_loss_sibling"], scores["symmetric_difference"]  # 1 and 2 are wrong in one of two
    (1.0, 0.25, 1.0)

    ```
    """

    COUNTS = (*_LABEL_COUNTS, *_TOTALS, "_gold_paths")
    SETTINGS = ("closure", "alpha", "beta")
    # Set by `reset`.
    _added: np.ndarray
    _missed: np.ndarray
    _charged_added: np.ndarray
    _charged_missed: np.ndarray
    _num_documents: int
    _inconsistent: int
    _predicted: int
    _whole_paths: int
    _paths: int

    def __init__(
        self,
        parents: Parents,
        num_labels: int | None = None,
        closure: Closure = "none",
        alpha: float = 1.0,
        beta: float = 1.0,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(parents, num_labels=num_labels, closure=closure, names=names)
        for name, value in (("alpha", alpha), ("beta", beta)):
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < math.inf:
                raise MetricError(f"`{name}` must be a finite number that is not negative; got {value!r}.")
        self.alpha, self.beta = float(alpha), float(beta)
        self.reset()

    def reset(self) -> None:
        """Forget all documents."""
        for name in _LABEL_COUNTS:
            setattr(self, name, np.zeros(self.num_labels, dtype=np.int64))
        for name in _TOTALS:
            setattr(self, name, 0)
        # (broken gold paths, gold paths) of a document -> how many documents.
        self._gold_paths: Counter = Counter()

    def _add_block(self, predicted, gold, num_rows):
        taxonomy, num_labels = self.taxonomy, self.num_labels
        added, missed = predicted[~contains(gold, predicted)], gold[~contains(predicted, gold)]
        wrong = np.sort(np.concatenate([added, missed]))
        for keys, name in ((added, "_added"), (missed, "_missed")):
            charged = keys[~_touches(keys, wrong, taxonomy)]
            for counted, counts in ((keys, name), (charged, f"_charged{name}")):
                setattr(self, counts, getattr(self, counts) + np.bincount(counted % num_labels, minlength=num_labels))

        above = ancestor_keys(predicted, taxonomy)
        consistent = has_all_ancestors(predicted, taxonomy, above)
        end = is_path_end(predicted, taxonomy, above)
        self._num_documents += num_rows
        self._predicted += predicted.size
        self._inconsistent += int((~consistent).sum())
        self._paths += int(end.sum())
        self._whole_paths += int((end & consistent).sum())

        ends = gold[is_path_end(gold, taxonomy)]
        lacking = predicted[~consistent]
        broken = contains(lacking, ends) | _touches(ends, lacking, taxonomy)
        rows = ends // num_labels
        columns = np.bincount(rows[broken], minlength=num_rows), np.bincount(rows, minlength=num_rows)
        count_rows(self._gold_paths, *columns)

    def compute(self) -> dict:
        r"""
        The losses of all documents so far; 0 is best unless said otherwise.

        Returns:
            `dict` with the keys, \\(c_v\\) the sibling cost of [`sibling_costs`]:

            - `h_loss`: charged labels per document, in [0, N] (Cesa-Bianchi et al., 2006, with all costs 1);
            - `h_loss_sibling`: \\(\frac{1}{B} \sum_{charged} c_v\\), the same with sibling costs;
            - `hmc_loss`: \\(\frac{1}{B} (\alpha \sum_{charged, missed} c_v + \beta \sum_{charged, added} c_v)\\) (Bi & Kwok,
              2012); with `alpha = beta = 1` equal to `h_loss_sibling`;
            - `symmetric_difference`: wrong labels per document, in [0, N]; `hamming_loss`: that divided by `N`;
            - `label_inconsistency`: share of predicted labels that lack a predicted ancestor label, and
              `path_inconsistency`: the mean over documents with gold labels of the share of gold paths on which a label is
              predicted without all its ancestor labels; both as HJCL's authors compute them (Yu et al., 2023);
            - `path_validity`: share of predicted paths (most specific labels) whose ancestor labels are all predicted; 1 is
              best. Where nothing is predicted nothing is broken: 0 and 1;
            - `num_documents`, `num_labels`, `closure`, `alpha`, `beta`: what the losses belong to.

        Raises:
            ValueError: if no document was added.
        """
        if not self._num_documents:
            raise MetricError("There is nothing to score: no document was added. Call `add` first.")
        costs = sibling_costs(self.taxonomy)[: self.num_labels]
        missed, added = float(costs @ self._charged_missed), float(costs @ self._charged_added)
        number = self._num_documents
        wrong = int(self._added.sum() + self._missed.sum())
        charged = int(self._charged_added.sum() + self._charged_missed.sum())
        with_paths = {row: count for row, count in sorted(self._gold_paths.items()) if row[1]}
        broken = sum(broken / paths * count for (broken, paths), count in with_paths.items())
        return {
            "h_loss": charged / number,
            "h_loss_sibling": (missed + added) / number,
            "hmc_loss": (self.alpha * missed + self.beta * added) / number,
            "symmetric_difference": wrong / number,
            "hamming_loss": wrong / (number * self.num_labels),
            "label_inconsistency": self._inconsistent / max(1, self._predicted),
            "path_inconsistency": broken / max(1, sum(with_paths.values())),
            "path_validity": self._whole_paths / self._paths if self._paths else 1.0,
            "num_documents": number,
            "num_labels": self.num_labels,
            "closure": self.closure,
            "alpha": self.alpha,
            "beta": self.beta,
        }


def sibling_costs(taxonomy: Taxonomy) -> np.ndarray:
    r"""
    The costs of Cesa-Bianchi et al. (2006): the first level shares 1, and a node's children share its cost,

    $$c_v = \sum_{p \in parents(v)} \frac{c_p}{|children(p)|}, \quad c_v = \frac{1}{|first\ level|} \text{ without parents}$$

    In a DAG a node gets a share of every parent (Bi & Kwok, 2012). Structure-only nodes pass costs on.

    Args:
        taxonomy ([`Taxonomy`]): The hierarchy.

    Returns:
        `np.ndarray` of shape `(M,)`, float64.
    """
    parents = taxonomy.parents
    edges = np.array([parent for above in parents for parent in above], dtype=np.int64)
    num_children = np.bincount(edges, minlength=taxonomy.num_nodes)
    costs = np.zeros(taxonomy.num_nodes)
    first = 1 / sum(not above for above in parents)
    for node in np.argsort(taxonomy.levels, kind="stable").tolist():
        costs[node] = sum(costs[parent] / num_children[parent] for parent in parents[node]) if parents[node] else first
    return costs


def _touches(keys: np.ndarray, others: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """Which keys have an ancestor label, in the same document, among the sorted `others`."""
    owners, above = ancestor_keys(keys, taxonomy)
    found = np.zeros(keys.size, dtype=bool)
    found[owners[contains(others, above)]] = True
    return found
