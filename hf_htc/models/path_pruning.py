"""Pruning of predictions to paths that the hierarchy has: no label is left without a parent (PTMTTaxoFormer, Section 2.1).

Legend: `B` documents, `N` labels, `E` edges between labels.
"""

import numpy as np
import torch
from transformers import initialization as init

from .modules import HTCModule


class PathPruning(HTCModule):
    """
    `out_n = min(logits_n, largest out of n's parents)`, level by level from the top: a label stays predicted exactly when a whole
    path of predicted labels leads to it. In a DAG one such path is enough.

    A structure-only node is no prediction and stops nothing: it hands on the largest value of its own parents, and at the top it
    leaves everything below it free. So a label whose path holds no label above it keeps its logit.

    It costs `B * (N + E)` steps.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    def __init__(self, config):
        super().__init__()
        arrays, self.level_sizes, self.blocks = self._arrays(config.get_hierarchy())
        for name, values in arrays.items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    @staticmethod
    def _arrays(hierarchy):
        """
        `order (N,)`: labels, top first; `place (N,)`: where a label stands in it; `parent (E,)`, `child (E,)`: edges as places
        inside their steps, block by block; and `blocks`, `(step of the parents, step of the children, edges)`, those of a step
        one behind the other.
        """
        edges, depth = pruning_edges(hierarchy)
        order = np.argsort(depth, kind="stable")
        place = np.argsort(order, kind="stable")
        sizes = np.bincount(depth)
        inside = place - (np.cumsum(sizes) - sizes)[depth]
        upper, lower = depth[edges[:, 0]], depth[edges[:, 1]]
        sorted_edges = np.lexsort((upper, lower))
        pairs, counts = np.unique(np.stack([lower, upper], 1), axis=0, return_counts=True)
        arrays = {
            "order": order,
            "place": place,
            "parent": inside[edges[sorted_edges, 0]],
            "child": inside[edges[sorted_edges, 1]],
        }
        blocks = [(top, below, count) for (below, top), count in zip(pairs.tolist(), counts.tolist())]
        return arrays, sizes.tolist(), blocks

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config.get_hierarchy())[0].items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def forward(self, logits):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`).

        Returns:
            `torch.Tensor` of shape `(B, N)`: at most `logits`.
        """
        if not self.blocks:
            return logits
        steps = list(logits.index_select(1, self.order).split(self.level_sizes, dim=1))
        counts = [count for _, _, count in self.blocks]
        best = [None] * len(steps)
        for (upper, lower, _), parent, child in zip(self.blocks, self.parent.split(counts), self.child.split(counts)):
            if best[upper] is not None:  # all blocks of the step above are done: its own parents are known
                steps[upper], best[upper] = torch.minimum(steps[upper], best[upper]), None
            if best[lower] is None:
                best[lower] = torch.full_like(steps[lower], torch.finfo(logits.dtype).min)
            above = steps[upper].index_select(1, parent)
            best[lower] = best[lower].scatter_reduce(1, child.expand(logits.shape[0], -1), above, "amax")
        steps = [values if limit is None else torch.minimum(values, limit) for values, limit in zip(steps, best)]
        return torch.cat(steps, dim=1).index_select(1, self.place)


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
    edges = sorted((parent, child) for child in range(num_labels) for parent in above[child])
    depth = np.zeros(num_labels, dtype=np.int64)
    for label in np.argsort(hierarchy.levels[:num_labels], kind="stable").tolist():
        depth[label] = max((depth[parent] + 1 for parent in above[label]), default=0)
    return np.asarray(edges, dtype=np.int64).reshape(-1, 2), depth
