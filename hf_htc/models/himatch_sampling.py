"""Which labels HiMatch compares a document with: drawn on the device, for all documents at once.

Legend: `B` documents, `N` labels, `M` nodes, `P` positives (a document and one of its labels), `Q` pairs (a positive and a label
that it is compared with).
"""

import numpy as np
import torch
from transformers import initialization as init

from .label_sets import row_ids
from .modules import HTCModule


# Random whole numbers below this; taken modulo a number of candidates, they favour none by more than one in 70,000 of 30,000.
_RANGE = 2**31 - 1
# In eval mode every label has numbers of its own instead: the loss of a document is then always the same.
_FIXED = (7919, 104_729, 1_299_709, 15_485_863)


def gather_places(starts, rows):
    """
    Every entry of the given rows.

    Args:
        starts (`torch.Tensor` of shape `(R + 1,)`): Where each row begins.
        rows (`torch.Tensor` of shape `(S,)`): Row numbers, any of them more than once.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: for each entry its index in `rows` and its place.
    """
    lengths = starts[rows + 1] - starts[rows]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
    inside = torch.arange(len(owner), device=rows.device) - (lengths.cumsum(0) - lengths)[owner]
    return owner, starts[rows][owner] + inside


class LabelSampler(HTCModule):
    """
    Draws the labels of [`~himatch_matching.matching_loss`] and [`~himatch_matching.released_losses`].

    Siblings of a label are the other children of its parents, of a first-level label the other first-level labels. They are
    never listed for each label, which would be quadratic for many labels under one parent: a sibling is drawn by its rank among
    those members of the parent's list of children that are not labels of the document.

    Args:
        config ([`HiMatchConfig`]): Its hierarchy, `gamma`, `alpha`, `beta`, `negatives`, `num_positives`.

    Attributes:
        is_random (`bool`): `False` draws in training as in eval mode.
    """

    def __init__(self, config):
        super().__init__()
        self.num_labels, self.num_groups, self.num_positives = (
            config.num_labels,
            config.num_hierarchy_nodes() + 1,
            config.num_positives,
        )
        self.gamma, self.margins = config.gamma, (config.alpha * config.gamma, config.beta * config.gamma, config.gamma)
        self.is_hierarchical = config.negatives == "hierarchy"
        self.is_random = True
        for name, values in self._arrays(config.get_hierarchy()).items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    @staticmethod
    def _arrays(hierarchy):
        """
        Rows one behind the other, each as `<name>_start` and `<name>_ids`: `ancestor`, a label's ancestors that are labels;
        `parent`, its parents; `group`, the labels among the children of each node, last the first-level labels; and `sibling`,
        the groups a label stands in, with `sibling_places`, its place in each.
        """
        num_labels, num_nodes = hierarchy.num_labels, hierarchy.num_nodes
        starts, above = hierarchy.ancestor_table
        kept = (row_ids(starts) < num_labels) & (above < num_labels)
        ancestor_counts = np.bincount(row_ids(starts)[kept], minlength=num_labels)
        parents = hierarchy.parents[:num_labels]
        groups = np.asarray([group for row in parents for group in (row or [num_nodes])], dtype=np.int64)
        members = np.repeat(np.arange(num_labels), [max(1, len(row)) for row in parents])
        by_group = np.argsort(groups, kind="stable")
        group_counts = np.bincount(groups, minlength=num_nodes + 1)
        places = np.empty(len(groups), dtype=np.int64)
        places[by_group] = np.arange(len(groups)) - np.repeat(np.cumsum(group_counts) - group_counts, group_counts)

        def start(counts):
            return np.concatenate([[0], np.cumsum(counts)])

        return {
            "ancestor_start": start(ancestor_counts),
            "ancestor_ids": above[kept],
            "parent_start": start([len(row) for row in parents]),
            "parent_ids": np.asarray([parent for row in parents for parent in row], dtype=np.int64),
            "group_start": start(group_counts),
            "group_ids": members[by_group],
            "sibling_start": start([max(1, len(row)) for row in parents]),
            "sibling_ids": groups,
            "sibling_places": places,
        }

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config.get_hierarchy()).items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def fine_grained(self, targets):
        """
        The most specific labels of every document: those without a descendant among its labels.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`): Above 0 for a document's labels.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]`: documents and labels `(P,)`, in the order of the documents.
        """
        rows, labels = (targets > 0).nonzero(as_tuple=True)
        owner, place = gather_places(self.ancestor_start, labels)
        covered = torch.zeros_like(targets, dtype=torch.bool)
        covered[rows[owner], self.ancestor_ids[place]] = True
        fine = ~covered[rows, labels]
        return rows[fine], labels[fine]

    @torch.no_grad()
    def forward(self, targets):
        """
        The pairs of equation 6: every fine-grained label beside all its ancestors that are labels, one sibling and one other
        label. The latter two are no labels of the document; where no sibling is left, it is a random wrong label.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`): Above 0 for a document's labels.

        Returns:
            `tuple` of documents `(P,)`, positive labels `(P,)`, pairs' positives `(Q,)` (indices into the former two), their
            other labels `(Q,)` and margins `(Q,)`.
        """
        rows, positives = self.fine_grained(targets)
        draws = self._draw(positives, 3)
        gold_rows, gold = (targets > 0).nonzero(as_tuple=True)
        wrong = _Members(gold_rows, gold, self.num_labels)
        num_wrong = self.num_labels - wrong.count(rows)
        # Of a document that has every label there is none.
        some = (num_wrong > 0).nonzero().squeeze(1)
        other = wrong.absent(rows, draws[:, 0] % num_wrong.clamp(min=1))
        sibling = wrong.absent(rows, draws[:, 1] % num_wrong.clamp(min=1))
        owner, place = gather_places(self.sibling_start, gold)
        keys = gold_rows[owner] * self.num_groups + self.sibling_ids[place]
        listed = _Members(keys, self.sibling_places[place], self.num_labels)
        sibling = self._siblings(rows, positives, listed, draws[:, 2], sibling)
        owner, place = gather_places(self.ancestor_start, positives)
        pairs = torch.cat([owner, some, some])
        negatives = torch.cat([self.ancestor_ids[place], sibling[some], other[some]])
        counts = (len(owner), len(some), len(some))
        margins = torch.cat([torch.full((n,), margin, device=targets.device) for n, margin in zip(counts, self.margins)])
        if not self.is_hierarchical:
            kept = (num_wrong > 0)[pairs]
            pairs, negatives = pairs[kept], negatives[kept]
            # A number of its own for each pair of a positive, also where numbers are fixed.
            draws = self._draw(positives[pairs] * self.num_labels + negatives, 1)[:, 0]
            negatives = wrong.absent(rows[pairs], draws % num_wrong[pairs])
            margins = torch.full_like(margins[: len(pairs)], self.gamma)
        return rows, positives, pairs, negatives, margins

    @torch.no_grad()
    def released(self, targets):
        """
        The draws of the authors' code: of every document `num_positives` of its labels, coarse ones too (some twice where there
        are fewer), each beside a parent (a first-level label beside itself), a sibling, which may be a label of the document,
        and a random wrong label.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`): Above 0 for a document's labels.

        Returns:
            `tuple` of documents, positive labels, parent nodes, siblings and wrong labels, `(P,)` each. A document that has
            every label has its positive in place of wrong labels.
        """
        gold_rows, gold = (targets > 0).nonzero(as_tuple=True)
        counts = (targets > 0).sum(1)  # (B,)
        order = torch.argsort(gold_rows * (_RANGE + 1) + self._draw(gold, 1)[:, 0])
        rows = (counts > 0).nonzero().squeeze(1).repeat_interleave(self.num_positives)
        turn = torch.arange(len(rows), device=rows.device) % self.num_positives
        positives = gold[order[(counts.cumsum(0) - counts)[rows] + turn % counts[rows].clamp(min=1)]]
        draws = self._draw(positives, 4)
        wrong = _Members(gold_rows, gold, self.num_labels)
        num_wrong = self.num_labels - wrong.count(rows)

        def drawn(column):
            label = wrong.absent(rows, draws[:, column] % num_wrong.clamp(min=1))
            return torch.where(num_wrong > 0, label, positives)

        number = torch.arange(len(rows), device=rows.device)
        owner, place = gather_places(self.sibling_start, positives)
        itself = _Members(owner * self.num_groups + self.sibling_ids[place], self.sibling_places[place], self.num_labels)
        sibling = self._siblings(number, positives, itself, draws[:, 2], drawn(1))
        starts, num_parents = self.parent_start[positives], self.parent_start[positives + 1] - self.parent_start[positives]
        parents = positives.clone()
        below = num_parents > 0
        parents[below] = self.parent_ids[(starts + draws[:, 3] % num_parents.clamp(min=1))[below]]
        return rows, positives, parents, sibling, drawn(0)

    def _siblings(self, keys, labels, listed, draws, default):
        """
        One sibling of each label, among the members of its groups that are not `listed`; a label under two parents may have
        one twice in its lists. `default` where there is none.

        Args:
            keys (`torch.Tensor` of shape `(P,)`): By which `listed` knows each label's list.
        """
        owner, place = gather_places(self.sibling_start, labels)
        groups = self.sibling_ids[place]
        keys = keys[owner] * self.num_groups + groups
        free = self.group_start[groups + 1] - self.group_start[groups] - listed.count(keys)
        total = torch.zeros_like(labels).index_add(0, owner, free)
        # The ranks of all of a label's groups follow each other.
        before = (free.cumsum(0) - free) - (total.cumsum(0) - total)[owner]
        rank = (draws % total.clamp(min=1))[owner] - before
        chosen = ((rank >= 0) & (rank < free)).nonzero().squeeze(1)
        place = listed.absent(keys[chosen], rank[chosen])
        sibling = default.clone()
        sibling[owner[chosen]] = self.group_ids[self.group_start[groups[chosen]] + place]
        return sibling

    def _draw(self, labels, columns):
        """Whole numbers `(len(labels), columns)`, row by row, so that they do not depend on how documents are batched."""
        if self.training and self.is_random:
            return torch.randint(_RANGE, (len(labels), columns), device=labels.device)
        factors = torch.tensor(_FIXED[:columns], device=labels.device)
        return ((labels.unsqueeze(1) + 1) * factors) % _RANGE


class _Members:
    """
    Sorted lists of whole numbers, one list a key: how many a list has, and which number is the `r`-th that is not in it.

    Args:
        keys, places (`torch.Tensor` of shape `(G,)`): A key and one number of its list; no pair twice.
        limit (`int`): The numbers are below it.
    """

    def __init__(self, keys, places, limit):
        self.stride = limit + 1
        code = torch.sort(keys * self.stride + places).values
        self.keys = code // self.stride
        index = torch.arange(len(code), device=code.device) - torch.searchsorted(self.keys, self.keys)
        # Numbers before this one that are not in the list; they rise inside it.
        self.absent_before = code - index

    def count(self, keys):
        return torch.searchsorted(self.keys, keys, right=True) - torch.searchsorted(self.keys, keys)

    def absent(self, keys, rank):
        """The number with `rank` others before it that are not in the list of its key either."""
        passed = torch.searchsorted(self.absent_before, keys * self.stride + rank, right=True)
        return rank + passed - torch.searchsorted(self.keys, keys)
