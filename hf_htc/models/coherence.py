"""Coherent labels: no child is predicted without its parent (Giunchiglia and Lukasiewicz, "Coherent Hierarchical Multi-label
Classification Networks", NeurIPS 2020). For any method, by `config.coherence`; see model_cards/coherence.md. And the reverse,
the pruning of predictions to paths that the hierarchy has: no label is left without a parent (PTMTTaxoFormer, Section 2.1). Both
are walks over the labels level by level, along the edges between them.

Legend: `B` documents, `N` labels, `E` edges between labels.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .errors import HTCError
from .losses import reduce_labels
from .modules import HTCModule, at_least_float32


class LevelWalk(HTCModule):
    """
    The labels in steps, and the edges between them in blocks of one step's labels to another's: a walk costs `B * (N + E)`,
    where a product with the matrix of all ancestors costs `B * N * N`.

    A subclass says by `walk_edges` where the edges lead from and to, and walks in its `forward`.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    def __init__(self, config):
        super().__init__()
        arrays, self.step_sizes, self.blocks = self._arrays(config.get_hierarchy())
        for name, values in arrays.items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    @staticmethod
    def walk_edges(hierarchy):
        """(source, target) label ids `(E, 2)`, and each label's step `(N,)` from 0, a target's after all of its sources'."""
        raise NotImplementedError

    @classmethod
    def _arrays(cls, hierarchy):
        """
        `order (N,)`: labels by step; `place (N,)`: where a label stands in it; `source (E,)`, `target (E,)`: edges as places
        inside their steps, block by block; and `blocks`, `(step of the sources, step of the targets, edges)`, those of a target
        step one behind the other.
        """
        edges, step = cls.walk_edges(hierarchy)
        order = np.argsort(step, kind="stable")
        place = np.argsort(order, kind="stable")
        sizes = np.bincount(step)
        inside = place - (np.cumsum(sizes) - sizes)[step]
        source, target = edges.T
        by_block = np.lexsort((step[source], step[target]))
        pairs, counts = np.unique(np.stack([step[target], step[source]], 1), axis=0, return_counts=True)
        arrays = {"order": order, "place": place, "source": inside[source[by_block]], "target": inside[target[by_block]]}
        blocks = [(first, then, count) for (then, first), count in zip(pairs.tolist(), counts.tolist())]
        return arrays, sizes.tolist(), blocks

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config.get_hierarchy())[0].items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def split(self, logits):
        """`list[torch.Tensor]`: the logits `(B, N)` by step."""
        return list(logits.index_select(1, self.order).split(self.step_sizes, dim=1))

    def join(self, steps):
        """`torch.Tensor` of shape `(B, N)`: what `split` took apart."""
        return torch.cat(steps, dim=1).index_select(1, self.place)

    def walk(self):
        """Yields `(step of the sources, step of the targets, sources, targets)`, places inside the steps, block by block."""
        counts = [count for _, _, count in self.blocks]
        for (first, then, _), source, target in zip(self.blocks, self.source.split(counts), self.target.split(counts)):
            yield first, then, source, target


def edges_and_depth(hierarchy, above):
    """
    Args:
        hierarchy ([`LabelHierarchy`]).
        above (`dict[int, set[int]]`): The labels right above each label.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: (upper, lower) label ids `(E, 2)`, ascending and unique, and each
        label's longest path from the top over these edges, `(N,)`, from 0.
    """
    num_labels = hierarchy.num_labels
    edges = sorted((upper, label) for label in range(num_labels) for upper in above[label])
    depth = np.zeros(num_labels, dtype=np.int64)
    for label in np.argsort(hierarchy.levels[:num_labels], kind="stable").tolist():  # parents before children
        depth[label] = max((depth[upper] + 1 for upper in above[label]), default=0)
    return np.asarray(edges, dtype=np.int64).reshape(-1, 2), depth


class CoherentMax(LevelWalk):
    """
    The max constraint module: `out_n = max over n and its descendants d of logits_d`, the least logits above the given ones
    with which no label has a larger score than its parents.

    It goes through the levels from the deepest up. A maximum of logits is the logit of the maximal probability: nothing is lost
    in float32 where sigmoids round to 1. In a DAG every parent gets the maximum. Structure-only nodes pass on what is below
    them.

    Args:
        config ([`HTCConfig`]): Its hierarchy.
    """

    @staticmethod
    def walk_edges(hierarchy):
        edges, depth = label_edges(hierarchy)
        return edges[:, ::-1], depth.max() - depth

    def forward(self, logits):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`): Any scores that grow with the probability.

        Returns:
            `torch.Tensor` of shape `(B, N)`.
        """
        if not self.blocks:
            return logits
        levels = self.split(logits)
        for lower, upper, child, parent in self.walk():
            below = levels[lower].index_select(1, child)
            levels[upper] = levels[upper].scatter_reduce(1, parent.expand(logits.shape[0], -1), below, "amax")
        return self.join(levels)


def label_edges(hierarchy):
    """
    The hierarchy of the labels alone: a label's parents are its nearest ancestors that are labels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: (parent, child) label ids `(E, 2)`, ascending and unique, and each label's longest path
        from the top over these edges, `(N,)`, from 0.
    """
    num_labels, nearest = hierarchy.num_labels, {}
    for node in np.argsort(hierarchy.levels, kind="stable").tolist():  # parents before children
        found = set()
        for parent in hierarchy.parents[node]:
            found |= {parent} if parent < num_labels else nearest[parent]
        nearest[node] = found
    return edges_and_depth(hierarchy, nearest)


def coherent_bce(logits, targets, cohere, reduction="mean"):
    """
    The max constraint loss: a label that holds is judged by the best of its descendants that hold, one that does not by the
    best of all its descendants,
    `-[y_n log max_{d <= n, y_d = 1} s(l_d) + (1 - y_n) log(1 - max_{d <= n} s(l_d))]`.

    Args:
        logits (`torch.Tensor` of shape `(B, N)`): Before the max constraint.
        targets (`torch.Tensor` of shape `(B, N)`): 0 or 1, closed.
        cohere ([`CoherentMax`]).
        reduction (`str` or `torch.Tensor`): As for [`multi_label_bce`].

    Returns:
        `torch.Tensor`: a scalar, the mean over documents.

    Raises:
        `ValueError`: a document has a label without its parent, so that the parent would be judged against its own child.
    """
    logits, holds = at_least_float32(logits), targets > 0
    if not torch.compiler.is_compiling() and not torch.equal(cohere(targets), targets):
        raise HTCError(
            "`coherence='training'` needs closed labels, but a document has a label without its ancestors; load the data with "
            "`load_htc_dataset(..., closure='up')`, or leave `coherence` out."
        )
    lowest = torch.finfo(logits.dtype).min
    constrained = torch.where(holds, cohere(logits.masked_fill(~holds, lowest)), cohere(logits))
    losses = nn.functional.binary_cross_entropy_with_logits(constrained, targets.to(logits.dtype), reduction="none")
    return reduce_labels(losses, reduction)


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
