"""Walks over the labels level by level, along the edges between them: what coherence and the pruning of paths are made of.

Legend: `B` documents, `N` labels, `E` edges between labels.
"""

import numpy as np
import torch
from transformers import initialization as init

from .modules import HTCModule


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
