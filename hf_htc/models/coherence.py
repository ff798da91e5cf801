"""Coherent labels: no child is predicted without its parent (Giunchiglia and Lukasiewicz, "Coherent Hierarchical Multi-label
Classification Networks", NeurIPS 2020). For any method, by `config.coherence`; see model_cards/coherence.md.

Legend: `B` documents, `N` labels, `E` edges between labels.
"""

import numpy as np
import torch
from torch import nn

from .errors import HTCError
from .level_walk import LevelWalk, edges_and_depth
from .losses import at_least_float32, reduce_labels


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
