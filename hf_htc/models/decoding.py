"""Decoders: from logits to label sets. All take `(B, N)` logits and give `(B, N)` booleans; `predict` and the command line choose
one by its name.

Legend: `B` documents, `N` labels, `M` nodes, `E` edges, `L` levels.
"""

import copy
from typing import Literal, get_args

import torch

from .coherence import CoherentMax, label_edges
from .errors import HTCError
from .path_pruning import PathPruning


DecoderKind = Literal["threshold", "top_down", "coherent", "single_path", "one_per_level", "expected_f"]
DECODERS = get_args(DecoderKind)


class Decoder:
    """
    A decision rule over a hierarchy. A label is above its boundary, or not; labels are ranked by their logits. The boundary
    takes no part in the ranking, so that an infinite one (a threshold of 0 or 1: all labels or none are above) decides as any
    other.

    * `"threshold"`: labels above the boundary, each for itself.
    * `"top_down"`: of these, those to which a path of labels above the boundary leads ([`PathPruning`]).
    * `"coherent"`: labels of which a descendant or they themselves lie above the boundary ([`CoherentMax`]).
    * `"single_path"`: the label with the largest logit on the first level, whatever the boundary, then its child with the largest
      logit, and so on while that lies above the boundary; always one path. It goes down to a leaf with `to_leaf` or where all
      labels are above; with a threshold of 1 it is the first label alone.
    * `"one_per_level"`: the label with the largest logit of every level, where it lies above the boundary; always one on the
      first level.
    * `"expected_f"`: the closed set with the largest `2 sum of its p / (its size + sum of all p)`, the F1 of the expected counts,
      `p` the coherent probabilities; for micro- and hierarchical F1 without any threshold. Empty only where every `p` is 0.

    Tables over the hierarchy are made here, once, and copied once to each device; several threads may share a decoder.

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
        self.module, tables = None, {}
        if kind == "single_path":
            tables = _family_tables(self.hierarchy)
        elif kind == "one_per_level":
            tables = {"levels": [torch.as_tensor(labels) for labels in self.hierarchy.level_units()]}
        elif kind == "expected_f":
            levels = torch.as_tensor(self.hierarchy.levels[: self.hierarchy.num_labels])
            tables = {"by_level": torch.argsort(levels, stable=True)}
        module = {"top_down": PathPruning, "coherent": CoherentMax, "expected_f": CoherentMax}.get(kind)
        if module is not None:
            self.module = module(config)
            self.module.init_weights(config)
        self._tables = {torch.device("cpu"): (self.module, tables)}

    def _on(self, device):
        """The module and the tables on a device."""
        if device not in self._tables:
            module, tables = self._tables[torch.device("cpu")]
            module = None if module is None else copy.deepcopy(module).to(device)
            tables = {
                name: [part.to(device) for part in table] if isinstance(table, list) else table.to(device)
                for name, table in tables.items()
            }
            self._tables[device] = module, tables  # as a whole: another thread finds all of it or nothing
        return self._tables[device]

    @torch.no_grad()
    def __call__(self, logits, boundary=0.0):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`): Of the contract, a label's log-odds; finite.
            boundary (`float` or `torch.Tensor` of shape `(N,)`, *optional*, defaults to 0.0): Above which a label is predicted;
                may be infinite.

        Returns:
            `torch.BoolTensor` of shape `(B, N)`.
        """
        if self.kind == "expected_f":
            # Sums of many probabilities need float64, which Apple's GPUs have not.
            device = torch.device("cpu") if logits.device.type == "mps" else logits.device
            module, tables = self._on(device)
            return self._expected_f(module(logits.to(device)), **tables).to(logits.device)
        module, tables = self._on(logits.device)
        is_above = logits > (boundary.to(logits.device) if isinstance(boundary, torch.Tensor) else boundary)
        if self.kind == "threshold":
            return is_above
        if module is not None:  # a walk over yes and no, as 1 and -1
            return module(torch.where(is_above, 1.0, -1.0)) > 0
        return (self._single_path if self.kind == "single_path" else self._one_per_level)(logits, is_above, **tables)

    def _one_per_level(self, logits, is_above, levels):
        chosen, rows = torch.zeros_like(is_above), torch.arange(len(logits), device=logits.device)
        for place, columns in enumerate(levels):
            if len(columns):
                best = columns[logits[:, columns].argmax(1)]
                chosen[rows, best] = is_above[rows, best] if place else torch.ones_like(is_above[:, 0])
        return chosen

    def _single_path(self, logits, is_above, child, counts, starts):
        num_labels, device, lowest = logits.shape[1], logits.device, torch.finfo(logits.dtype).min
        chosen = torch.zeros_like(is_above)
        rows = torch.arange(len(logits), device=device)
        current = torch.full_like(rows, num_labels)
        is_first = True
        while len(rows):
            sizes = counts[current]
            rows, current, sizes = rows[sizes > 0], current[sizes > 0], sizes[sizes > 0]
            if not len(rows):
                break
            unit = torch.repeat_interleave(torch.arange(len(rows), device=device), sizes)
            place = torch.arange(len(unit), device=device) + (starts[current] - sizes.cumsum(0) + sizes)[unit]
            scores = logits[rows[unit], child[place]]
            best = scores.new_full((len(rows),), lowest).scatter_reduce(0, unit, scores, "amax")
            # Equal scores: the label with the smaller number.
            label = torch.where(scores == best[unit], child[place], num_labels)
            current = label.new_full((len(rows),), num_labels).scatter_reduce(0, unit, label, "amin")
            if not (is_first or self.to_leaf):
                goes_on = is_above[rows, current]
                rows, current = rows[goes_on], current[goes_on]
            chosen[rows, current] = True
            is_first = False
        return chosen

    def _expected_f(self, logits, by_level):
        p = torch.sigmoid(logits.double())
        # Equal probabilities: parents before children, so that every beginning of the order is closed.
        order = by_level[torch.argsort(p[:, by_level], dim=1, descending=True, stable=True)]
        gains = p.gather(1, order).cumsum(1)
        sizes = torch.arange(1, p.shape[1] + 1, device=p.device)
        value = gains / (sizes + gains[:, -1:])
        best = value.argmax(1, keepdim=True)
        kept = (torch.arange(p.shape[1], device=p.device) <= best) & (gains[:, -1:] > 0)
        return torch.zeros_like(kept).scatter(1, order, kept)


def _family_tables(hierarchy):
    """The labels below each label, and those on top below the number N: `child`, one family behind the other, and the families'
    `counts` and `starts`, `(N + 1,)`."""
    edges, _ = label_edges(hierarchy)
    num_labels = hierarchy.num_labels
    tops = sorted(set(range(num_labels)) - set(edges[:, 1].tolist()))
    pairs = torch.as_tensor([*edges.tolist(), *([num_labels, top] for top in tops)])
    pairs = pairs[torch.argsort(pairs[:, 0], stable=True)]
    parent, child = pairs.unbind(1)
    counts = torch.bincount(parent, minlength=num_labels + 1)
    return {"child": child, "counts": counts, "starts": counts.cumsum(0) - counts}
