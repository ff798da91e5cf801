"""The ranking losses of HiSR over all label sequences of a hierarchy; see model_cards/hisr.md.

The sequence of a label is the label with its ancestors: in a tree, the path from the first level to it; in a DAG, all its paths
together. Structure-only nodes have no probability and are in no sequence. So there are `N` sequences.

Legend: `B` documents, `N` labels and sequences, `K` members of all sequences together, `S` the longest sequence, `G` groups of
sequences with the same F1.
"""

import numpy as np
import torch
from transformers import initialization as init

from .label_sets import row_ids
from .modules import HTCModule, at_least_float32


class SequenceRanking(HTCModule):
    """
    Two hinge losses that rank label sequences by their probability, Eq. 6 to 8 of the paper.

    A sequence's probability is the mean of its labels' (Eq. 6). The ground truth is to be more probable than every candidate
    sequence (positive-negative, Eq. 7); and candidates that are closer to it, by the F1 of the two label sets, more probable than
    those further away (negative-negative, Eq. 8), judged by the most probable one of each F1.

    Memory is `B * (N + K + G * G)`; nothing is `N * N`. `G` depends on the depth alone: there are at most `S * (S + 1) / 2 + 1`
    different F1 scores. Nothing here is needed without labels.

    Args:
        config ([`HiSRConfig`]).
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        arrays = self._arrays(config.get_hierarchy())
        self.longest = int(arrays["length"].max())
        for name, values in arrays.items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    @staticmethod
    def _arrays(hierarchy):
        """`sequence (K,)`, `member (K,)`: the label ids of all sequences, sequence by sequence; `length (N,)`."""
        indptr, ancestors = hierarchy.ancestor_table
        nodes, labels = row_ids(indptr), np.arange(hierarchy.num_labels)
        between_labels = (nodes < hierarchy.num_labels) & (ancestors < hierarchy.num_labels)
        sequence = np.concatenate([nodes[between_labels], labels])
        order = np.argsort(sequence, kind="stable")
        member = np.concatenate([ancestors[between_labels], labels])[order]
        return {"sequence": sequence[order], "member": member, "length": np.bincount(sequence)}

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config.get_hierarchy()).items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def forward(self, logits, targets):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`): Computed with in float32 at least.
            targets (`torch.Tensor` of shape `(B, N)`): In [0, 1]; a label is in the gold set above 0.5. The set is taken as it
                is: closed or not, the F1 is with the labels that are given.

        Returns:
            `tuple[torch.Tensor, torch.Tensor]` of shape `(B,)` each: the positive-negative and the negative-negative loss of
            every document, not weighted. Both are 0 for a document without labels: it has no ground truth to rank by.
        """
        probability, gold = torch.sigmoid(at_least_float32(logits)), targets > 0.5
        size = gold.sum(1, keepdim=True)  # (B, 1)
        of_sequence = self.collect(probability) / self.length  # (B, N), Eq. 6
        overlap = self.collect(gold.long())
        candidate = self._candidates(overlap, size)
        rank, num_groups = self._ranks(overlap, size, candidate)
        selected, is_group = self._most_probable(of_sequence, rank, candidate, num_groups)  # (B, G) each

        truth = self._truth(probability, of_sequence, gold, size)  # (B, 1)
        compared, counts = (of_sequence, candidate) if self.config.ranking_negatives == "all" else (selected, is_group)
        positive = self._hinge(truth, compared, self.config.positive_margin)
        positive = (positive * (counts & (size > 0))).sum(1)

        place = torch.arange(num_groups, dtype=selected.dtype, device=logits.device)
        distance = place - place.unsqueeze(1)  # (G, G), row i, column j: j - i
        margin = distance.clamp(max=self.config.max_rank_distance or num_groups) * self.config.negative_margin
        negative = self._hinge(selected.unsqueeze(2), selected.unsqueeze(1), margin)  # (B, G, G)
        negative = (negative * (is_group.unsqueeze(2) & is_group.unsqueeze(1) & (distance > 0))).sum((1, 2))
        return positive, negative

    def collect(self, values):
        """`(B, N)`: the sum of `values (B, N)` over the labels of every sequence."""
        return torch.zeros_like(values).index_add(1, self.sequence, values.index_select(1, self.member))

    def _hinge(self, better, worse, margin):
        difference = worse - better if self.config.ranking_sign == "corrected" else better - worse
        return torch.relu(difference + margin)

    def _candidates(self, overlap, size):
        """`(B, N)` bool: the sequences that are ranked."""
        if self.config.ranking_candidates == "all_sequences":
            return torch.ones_like(overlap, dtype=torch.bool)
        inside = overlap == self.length
        return ~inside if self.config.ranking_candidates == "without_sequences_inside_gold" else ~(inside & (overlap == size))

    def _truth(self, probability, of_sequence, gold, size):
        """`(B, 1)`: the probability of the ground truth; 0 without labels."""
        if self.config.ranking_positive == "mean_of_paths":
            # A label on the way to another gold one is in that one's sequence as well as in its own.
            times = torch.zeros_like(size * self.length).index_add(1, self.member, gold.index_select(1, self.sequence).long())
            gold = gold & (times == 1)
            probability, size = of_sequence, gold.sum(1, keepdim=True)
        return (probability * gold).sum(1, keepdim=True) / size.clamp(min=1)

    @torch.no_grad()
    def _ranks(self, overlap, size, candidate):
        """
        `(B, N)`: the place, from 0, of each candidate's F1 among those of its document, the highest first; and `G`.

        `F1 = 2 overlap / (length + size)` depends on two small whole numbers, so sequences share a table of `(S + 1)^2` cells,
        which is sorted instead of them. Equal fractions are found in whole numbers: fractions with denominators up to `d` differ
        by `1 / d^2` at least, so times `d^2` they differ in their whole part.
        """
        width = self.longest + 1
        cell = overlap * width + self.length  # (B, N)
        cells = torch.arange(width * width, device=cell.device)
        largest = self.longest + self.length.numel()  # of all length + size
        score = (cells // width) * largest**2 // (cells % width + size).clamp(min=1)  # (B, S + 1 squared)
        found = torch.zeros_like(score).scatter_reduce(1, cell, candidate.long(), "amax")
        score, order = torch.where(found > 0, score, -1).sort(dim=1, descending=True)
        is_new = torch.ones_like(score)
        is_new[:, 1:] = score[:, 1:] != score[:, :-1]
        is_new *= score >= 0
        place = (is_new.cumsum(1) - 1).clamp(min=0)
        rank = torch.zeros_like(place).scatter(1, order, place).gather(1, cell)
        return rank, max(int(is_new.sum(1).max()), 1)

    @staticmethod
    def _most_probable(of_sequence, rank, candidate, num_groups):
        """`(B, G)`: the probability of the most probable candidate of each rank (the first by id of several), and bool `(B, G)`:
        whether the document has that rank. The choice itself has no gradient."""
        values = of_sequence.detach().masked_fill(~candidate, -1)
        best = values.new_full((len(values), num_groups), -1).scatter_reduce(1, rank, values, "amax")
        num_sequences = values.shape[1]
        ids = torch.arange(num_sequences, device=values.device).expand_as(values)
        ids = torch.where(candidate & (values == best.gather(1, rank)), ids, num_sequences)
        chosen = ids.new_full(best.shape, num_sequences).scatter_reduce(1, rank, ids, "amin")
        is_group = chosen < num_sequences
        return of_sequence.gather(1, chosen.clamp(max=num_sequences - 1)) * is_group, is_group
