"""Conformal prediction over a hierarchy: label sets that hold what they promise, and that back off to ancestors where the model
is not sure. Calibrated by `hf_htc.evaluation.conformal`; a checkpoint carries the result in `config.conformal`.

Legend: `B` documents, `N` labels, `M` nodes, `F` leaves.
"""

import numpy as np

from .coherence import label_edges
from .errors import HTCError


KINDS = ("back_off", "risk")
# A logit that stands for certainty: finite, so that it can be written as JSON.
SURE = 1e9


class LabelTree:
    """
    The tree of the labels, numbered so that all below a label is one stretch.

    Args:
        hierarchy ([`LabelHierarchy`]).

    Raises:
        `ValueError`: a label has several parents: its way up is not one.

    Attributes: `leaves (F,)`, label ids in preorder; `start (N,)` and `end (N,)`, the leaves of a label are `leaves[start:end]`;
    `parent (N,)`, -1 for a first-level label; `number (N,)`, the place of a label in preorder; `last (N,)`, that of the last
    label below it.
    """

    def __init__(self, hierarchy):
        edges, _ = label_edges(hierarchy)
        self.parent = np.full(hierarchy.num_labels, -1, dtype=np.int64)
        children = [[] for _ in range(hierarchy.num_labels)]
        for above, below in edges.tolist():
            if self.parent[below] >= 0:
                raise HTCError(
                    f"The label {hierarchy.names[below]!r} has several parents; backing off needs a tree. Use `kind='risk'`."
                )
            self.parent[below] = above
            children[above].append(below)
        leaves, count = [], 0
        self.start, self.end, self.number, self.last = (np.zeros_like(self.parent) for _ in range(4))
        stack = [(label, False) for label in np.flatnonzero(self.parent < 0)[::-1].tolist()]
        while stack:
            label, is_done = stack.pop()
            if is_done:
                self.end[label], self.last[label] = len(leaves), count - 1
                continue
            self.start[label], self.number[label] = len(leaves), count
            count += 1
            stack.append((label, True))
            if children[label]:
                stack.extend((child, False) for child in reversed(children[label]))
            else:
                leaves.append(label)
        self.leaves = np.asarray(leaves, dtype=np.int64)

    def holds(self, label, gold):
        """Whether `gold` is `label` or lies below it; the root, -1, holds everything. Arrays that broadcast."""
        inside, place = np.maximum(label, 0), self.number[gold]
        return (label < 0) | ((self.number[inside] <= place) & (place <= self.last[inside]))

    def num_leaves(self, label):
        """How many leaves a label stands for; -1 is the root."""
        inside = np.maximum(label, 0)
        return np.where(label < 0, len(self.leaves), self.end[inside] - self.start[inside])


def nested_labels(logits, tree):
    """
    What is predicted with more and more caution: the best leaf (that with the largest geometric mean of the scores on its way),
    its parent, and so on up to the root.

    Args:
        logits (`np.ndarray` of shape `(B, N)`), tree ([`LabelTree`]).

    Returns:
        `tuple`: `chain (B, D)`, label ids, -1 for the root and behind it, and `sureness (B, D)`: the largest logit of a label and
        those before it, which rises along the chain; `SURE` for the root.
    """
    logits = np.asarray(logits, dtype=np.float64)
    log_scores = -np.logaddexp(0, -logits)
    leaves, parent = tree.leaves, tree.parent
    total, steps, current = np.zeros((len(logits), len(leaves))), np.zeros(len(leaves)), leaves
    while (current >= 0).any():
        alive = current >= 0
        total[:, alive] += log_scores[:, current[alive]]
        steps += alive
        current = np.where(alive, parent[np.maximum(current, 0)], -1)
    rows, chain, sureness = np.arange(len(logits)), [leaves[np.argmax(total / steps, 1)]], []
    while True:
        inside = np.maximum(chain[-1], 0)
        sureness.append(np.where(chain[-1] < 0, SURE, logits[rows, inside].clip(-SURE, SURE)))
        if (chain[-1] < 0).all():
            return np.stack(chain, 1), np.maximum.accumulate(np.stack(sureness, 1), 1)
        chain.append(np.where(chain[-1] < 0, -1, parent[inside]))


def back_off(logits, tree, quantile):
    """
    One label per document, the first on the way from the best leaf to the root that is surer than `quantile`.

    Args:
        logits (`np.ndarray` of shape `(B, N)`), tree ([`LabelTree`]), quantile (`float`): From the calibration.

    Returns:
        `tuple`: `label (B,)`, -1 for the root, and how many leaves it stands for, `(B,)`.
    """
    chain, sureness = nested_labels(logits, tree)
    is_enough = (sureness > quantile) | (chain < 0)
    label = chain[np.arange(len(chain)), np.argmax(is_enough, axis=1)]
    return label, tree.num_leaves(label)


class ConformalSets:
    """
    Calibrated label sets of documents.

    Args:
        hierarchy ([`LabelHierarchy`]).
        calibration (`dict`): From a calibration.
    """

    def __init__(self, hierarchy, calibration):
        self.calibration = calibration
        self.tree = LabelTree(hierarchy) if calibration["kind"] == "back_off" else None

    def __call__(self, logits):
        """
        Args:
            logits (`np.ndarray` of shape `(B, N)`).

        Returns:
            `tuple`: which labels, `(B, N)` bool, and sizes `(B,)`: leaves below the end of the path (`"back_off"`), else labels.
        """
        logits = np.asarray(logits, dtype=np.float64)
        if self.tree is None:
            boundary = self.calibration["boundary"]
            chosen = np.ones(logits.shape, dtype=bool) if boundary is None else logits > boundary
            return chosen, chosen.sum(1)
        label, sizes = back_off(logits, self.tree, self.calibration["quantile"])
        chosen, rows = np.zeros(logits.shape, dtype=bool), np.arange(len(logits))
        while (label >= 0).any():  # the label and all above it
            rows, label = rows[label >= 0], label[label >= 0]
            chosen[rows, label] = True
            label = self.tree.parent[label]
        return chosen, sizes
