"""Units: the parts of a hierarchy in which a unit method decides, the ragged sums that its losses need, and the network that
gives each its bound, a dynamic threshold (HBM, Section 3.3).

A unit is a set of labels that one state scores together: the labels of a level (HPT, PTMTTaxoFormer) or the children of a node
(HiDEC). The units of a batch have different sizes, so everything about them is flat: one entry a unit and label.

Legend: `B` documents, `U` units of the batch, `K` entries (labels of all units).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init

from .modules import HTCModule


@dataclass
class Units:
    """
    The units of a batch.

    Args:
        unit (`torch.LongTensor` of shape `(K,)`): The unit of every entry, in `[0, U)`, in any order.
        document (`torch.LongTensor` of shape `(U,)`): The document of every unit, in `[0, B)`.
        num_documents (`int`): `B`.
    """

    unit: torch.Tensor
    document: torch.Tensor
    num_documents: int

    @classmethod
    def of_groups(cls, group, num_groups, num_documents):
        """The same units for every document: `group (N,)` names the unit of each label. Entries are those of a `(B, N)` tensor,
        row after row; units are document-major."""
        documents = torch.arange(num_documents, device=group.device)
        unit = (documents.unsqueeze(1) * num_groups + group).flatten()
        return cls(unit, documents.repeat_interleave(num_groups), num_documents)

    def __len__(self):
        return len(self.document)

    def sum(self, values):
        """Sums `values (K,)` over every unit: `(U,)`."""
        return values.new_zeros(len(self)).index_add(0, self.unit, values)

    def max(self, values, start):
        """The largest of `start` and of `values (K,)` in every unit: `(U,)`."""
        return values.new_full((len(self),), start).scatter_reduce(0, self.unit, values, "amax")

    def mean_over_documents(self, values, reduction="document"):
        """
        Reduces one value a unit, `(U,)`, to a scalar.

        Args:
            reduction (`str`): `"document"`: the mean over the units of each document, then over documents; `"sum"`: their sum,
                then the mean over documents; `"batch"`: the mean over all units of the batch, as the authors' code has it.
        """
        if reduction == "batch":
            return values.sum() / max(1, len(values))
        total = values.new_zeros(self.num_documents).index_add(0, self.document, values)
        if reduction == "document":
            count = torch.bincount(self.document, minlength=self.num_documents).clamp(min=1)
            total = total / count
        return total.sum() / max(1, self.num_documents)

    def mean_over_entries(self, values, reduction="document"):
        """As [`~Units.mean_over_documents`] for one value an entry, `(K,)`: means are over the entries."""
        if reduction == "batch":
            return values.sum() / max(1, len(values))
        document = self.document[self.unit]
        return Units(self.unit, document, self.num_documents).mean_over_documents(values, reduction)


class BoundNetwork(HTCModule):
    """
    `t = w2 relu(W1 r + b1)` of a unit's state `r`. The last layer starts at zero and has no bias, so that all bounds start at
    exactly 0, ZLPR's.

    Args:
        size (`int`): Width of the states.
    """

    def __init__(self, size):
        super().__init__()
        self.dense = nn.Linear(size, size)
        self.out = nn.Linear(size, 1, bias=False)

    def init_weights(self, config):
        init.xavier_normal_(self.dense.weight)
        init.zeros_(self.dense.bias)
        init.zeros_(self.out.weight)

    def forward(self, states):  # (..., D)
        return self.out(nn.functional.relu(self.dense(states))).squeeze(-1)  # (...)
