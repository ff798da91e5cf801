"""Decoders: from logits to label sets. All take `(B, N)` logits and give `(B, N)` booleans; `predict` and the command line choose
one by its name.

Legend: `B` documents, `N` labels, `M` nodes, `E` edges, `L` levels.
"""

import torch

from .coherence import CoherentMax, label_edges
from .errors import HTCError
from .path_pruning import PathPruning


DECODERS = ("threshold", "top_down", "coherent", "single_path", "one_per_level", "expected_f")


class Decoder:
    """
    A decision rule over a hierarchy.

    * `"threshold"`: labels above the boundary, each for itself.
    * `"top_down"`: of these, those to which a path of predicted labels leads ([`PathPruning`]).
    * `"coherent"`: labels of which the best descendant or they themselves lie above the boundary ([`CoherentMax`]).
    * `"single_path"`: the best first-level label, then its best child, and so on while it lies above the boundary; always one
      path. With `to_leaf` it goes down to a leaf.
    * `"one_per_level"`: the best label of every level, where it lies above the boundary; always one on the first level.
    * `"expected_f"`: the closed set with the largest `2 sum of its p / (its size + sum of all p)`, the F1 of the expected counts,
      `p` the coherent probabilities; for micro- and hierarchical F1 without any threshold. Empty only where every `p` is 0.

    Args:
        kind (`str`): One of [`DECODERS`].
        config ([`HTCConfig`]): Its hierarchy.
        to_leaf (`bool`, *optional*, defaults to `False`): See above.

    Raises:
        `ValueError`: an unknown decoder.
    """

    def __init__(self, kind, config, to_leaf=False):
        if kind not in DECODERS:
            raise HTCError(f"`decoder` is {kind!r}; allowed are {', '.join(map(repr, DECODERS))}.")
        self.kind, self.to_leaf = kind, to_leaf
        self.hierarchy = config.get_hierarchy()
        self.module = {"top_down": PathPruning, "coherent": CoherentMax, "expected_f": CoherentMax}.get(kind)
        if self.module is not None:
            self.module = self.module(config)
            self.module.init_weights(config)

    @torch.no_grad()
    def __call__(self, logits, boundary=0.0):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`): Of the contract, a label's log-odds.
            boundary (`float` or `torch.Tensor` of shape `(N,)`, *optional*, defaults to 0.0): From which a label is predicted.

        Returns:
            `torch.BoolTensor` of shape `(B, N)`.
        """
        if self.module is not None:
            self.module.to(logits.device)
        if self.kind == "expected_f":
            return self._expected_f(self.module(logits))
        distance = logits - boundary
        if self.kind in ("threshold", "top_down", "coherent"):
            return (distance if self.module is None else self.module(distance)) > 0
        return self._single_path(distance) if self.kind == "single_path" else self._one_per_level(distance)

    def _one_per_level(self, distance):
        chosen = torch.zeros_like(distance, dtype=torch.bool)
        for level, labels in enumerate(self.hierarchy.level_units()):
            if len(labels):
                columns = torch.as_tensor(labels, device=distance.device)
                best = distance[:, columns].max(1)
                wanted = torch.ones_like(best.values, dtype=torch.bool) if level == 0 else best.values > 0
                chosen[torch.arange(len(distance), device=distance.device), columns[best.indices]] = wanted
        return chosen

    def _single_path(self, distance):
        edges, _ = label_edges(self.hierarchy)
        num_labels, device = distance.shape[1], distance.device
        tops = sorted(set(range(num_labels)) - set(edges[:, 1].tolist()))
        # The virtual root has the number N; parents are sorted, so that the children of one stand side by side.
        pairs = torch.as_tensor([*edges.tolist(), *([num_labels, top] for top in tops)], device=device)
        pairs = pairs[torch.argsort(pairs[:, 0], stable=True)]
        parent, child = pairs.unbind(1)
        counts = torch.bincount(parent, minlength=num_labels + 1)
        starts = counts.cumsum(0) - counts
        chosen = torch.zeros_like(distance, dtype=torch.bool)
        rows = torch.arange(len(distance), device=device)
        current = torch.full_like(rows, num_labels)
        is_first = True
        while len(rows):
            sizes = counts[current]
            rows, current, sizes = rows[sizes > 0], current[sizes > 0], sizes[sizes > 0]
            if not len(rows):
                break
            unit = torch.repeat_interleave(torch.arange(len(rows), device=device), sizes)
            place = torch.arange(len(unit), device=device) + (starts[current] - sizes.cumsum(0) + sizes)[unit]
            scores = distance[rows[unit], child[place]]
            best = scores.new_full((len(rows),), -torch.inf).scatter_reduce(0, unit, scores, "amax")
            # Equal scores: the label with the smaller number.
            label = torch.where(scores == best[unit], child[place], num_labels)
            current = label.new_full((len(rows),), num_labels).scatter_reduce(0, unit, label, "amin")
            if not (is_first or self.to_leaf):
                rows, current = rows[best > 0], current[best > 0]
            chosen[rows, current] = True
            is_first = False
        return chosen

    def _expected_f(self, logits):
        p = torch.sigmoid(logits.double())
        # Equal probabilities: parents before children, so that every beginning of the order is closed.
        levels = torch.as_tensor(self.hierarchy.levels[: logits.shape[1]], device=logits.device)
        by_level = torch.argsort(levels, stable=True)
        order = by_level[torch.argsort(p[:, by_level], dim=1, descending=True, stable=True)]
        gains = p.gather(1, order).cumsum(1)
        sizes = torch.arange(1, p.shape[1] + 1, device=p.device)
        value = gains / (sizes + gains[:, -1:])
        best = value.argmax(1, keepdim=True)
        kept = (torch.arange(p.shape[1], device=p.device) <= best) & (gains[:, -1:] > 0)
        return torch.zeros_like(kept).scatter(1, order, kept)
