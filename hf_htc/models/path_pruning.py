"""Pruning of predictions to paths that the hierarchy has: no label is left without a parent (PTMTTaxoFormer, Section 2.1).

Legend: `B` documents, `N` labels, `E` edges between labels.
"""

import numpy as np
import torch

from .level_walk import LevelWalk, edges_and_depth


class PathPruning(LevelWalk):
    """
    `out_n = min(logits_n, largest out of n's parents)`, level by level from the top: a label stays predicted exactly when a whole
    path of predicted labels leads to it. In a DAG one such path is enough.

    A structure-only node is no prediction and stops nothing: it hands on the largest value of its own parents, and at the top it
    leaves everything below it free. So a label whose path holds no label above it keeps its logit.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    @staticmethod
    def walk_edges(hierarchy):
        return pruning_edges(hierarchy)

    def forward(self, logits):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`).

        Returns:
            `torch.Tensor` of shape `(B, N)`: at most `logits`.
        """
        if not self.blocks:
            return logits
        steps = self.split(logits)
        best = [None] * len(steps)
        for upper, lower, parent, child in self.walk():
            if best[upper] is not None:  # all blocks of the step above are done: its own parents are known
                steps[upper], best[upper] = torch.minimum(steps[upper], best[upper]), None
            if best[lower] is None:
                best[lower] = torch.full_like(steps[lower], torch.finfo(logits.dtype).min)
            above = steps[upper].index_select(1, parent)
            best[lower] = best[lower].scatter_reduce(1, child.expand(logits.shape[0], -1), above, "amax")
        steps = [values if limit is None else torch.minimum(values, limit) for values, limit in zip(steps, best)]
        return self.join(steps)


def pruning_edges(hierarchy):
    """
    What a label's prediction asks for.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: (parent, child) label ids `(E, 2)`, a parent being a nearest ancestor that is a label;
        none for a label that some path reaches through structure-only nodes alone. And each label's longest path from the top
        over these edges, `(N,)`, from 0.
    """
    num_labels, above, free = hierarchy.num_labels, {}, {}
    for node in np.argsort(hierarchy.levels, kind="stable").tolist():  # parents before children
        free[node], above[node] = not hierarchy.parents[node], set()
        for parent in hierarchy.parents[node]:
            if parent < num_labels:
                above[node].add(parent)
            else:
                free[node] |= free[parent]
                above[node] |= above[parent]
        if free[node]:
            above[node] = set()
    return edges_and_depth(hierarchy, above)
