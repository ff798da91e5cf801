"""From what the root branches' encoders give to the logits of their labels; all branches at once.

Legend: `B` documents, `N` labels, `K` copies of labels, one in each branch that a label lies in, `G` branches of one size, `W`
width of what a branch reads.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .losses import recursive_regularization
from .modules import HTCModule


# How long a label's row of weights is at the start: as HiAGM's classifier over 133 nodes with states of 300, 0.02 * 40,000^0.5. A
# branch reads little of that; with entries as small its rows would be shorter and learn many times more slowly, rare labels above
# all.
ROW_LENGTH = 4.0


class DenseReadout(HTCModule):
    """
    A matrix for each branch, from one vector to its labels. Branches of one size are one batched product.

    With `output="masking"` a branch has a row for every label of the hierarchy. Those of labels outside of the branch are masked,
    in training and after, so that they are not computed; the regularization alone sees them.

    Args:
        config ([`HiMTLConfig`]): `output` and the hierarchy.
        branches ([`Branches`]).
        widths (`list[int]`): `W` of each of the groups of branches of one size, see [`Branches.groups`].
    """

    def __init__(self, config, branches, widths):
        super().__init__()
        self.branches, self.masked = branches, config.output == "masking"
        members = [row for row, _ in branches.groups()]
        self.sizes = [(len(row), int(branches.label_counts[row[0]])) for row in members]  # (branches, labels in each)
        self.out_weights = nn.ParameterList(
            torch.empty(size, branches.num_labels if self.masked else labels, width)
            for (size, labels), width in zip(self.sizes, widths)
        )
        arrays, self.edge_counts = self._arrays(config)
        for name, values in arrays.items():
            self.register_buffer(name, torch.empty(values.shape, dtype=torch.long), persistent=False)

    def _arrays(self, config):
        """
        `place (K,)`: where a copy of a label stands in the outputs of all groups; `rows (K,)`: for each output the row of weights
        in its group; `label_edges`: for the regularization, as rows of a group, group by group; and the edges of each group.
        """
        branches = self.branches
        group, row = np.empty(branches.num_label_copies, dtype=np.int64), np.empty(branches.num_label_copies, dtype=np.int64)
        outputs, rows = [], []
        for number, ((_, copies), (size, labels)) in enumerate(zip(branches.groups(), self.sizes)):
            found = copies[:, :labels].reshape(-1)
            group[found], row[found] = number, np.arange(len(found))
            outputs.append(found)
            first = np.repeat(np.arange(size), labels) * branches.num_labels
            rows.append(first + branches.nodes[found] if self.masked else row[found])
        if self.masked:  # every branch has all labels: their edges are those of the hierarchy
            edges, counts = config.get_hierarchy().edges, None
            edges = edges[(edges < branches.num_labels).all(1)]
        else:
            edges = branches.label_edges
            counts = np.bincount(group[edges[:, 0]], minlength=len(outputs)).tolist()
            edges = row[edges[np.argsort(group[edges[:, 0]], kind="stable")]]
        place = np.argsort(np.concatenate(outputs), kind="stable")
        return {"place": place, "rows": np.concatenate(rows), "label_edges": edges}, counts

    @torch.no_grad()
    def init_weights(self, config):
        for weight in self.out_weights:
            init.normal_(weight, std=ROW_LENGTH * weight.shape[-1] ** -0.5)
        for name, values in self._arrays(config)[0].items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))

    def forward(self, vectors):
        """
        Args:
            vectors (`list[torch.Tensor]`): Of each group of branches what they read, `(B, G, W)`.

        Returns:
            `torch.Tensor` of shape `(B, K)`: the logits without their biases.
        """
        rows = self.rows.split([size * labels for size, labels in self.sizes])
        logits = []
        for vector, weight, row, shape in zip(vectors, self.out_weights, rows, self.sizes):
            if self.masked:
                weight = weight.flatten(0, 1).index_select(0, row).unflatten(0, shape)
            logits.append(torch.einsum("bgi,gli->bgl", vector, weight).flatten(1))
        return torch.cat(logits, dim=1).index_select(1, self.place)

    def weights(self):
        return list(self.out_weights)

    def recursive_regularization(self):
        if self.masked:  # the branches' matrices side by side: the sum over them is that over columns
            return sum(recursive_regularization(weight.transpose(0, 1), self.label_edges) for weight in self.out_weights)
        edges = self.label_edges.split(self.edge_counts)
        return sum(recursive_regularization(weight.flatten(0, 1), pairs) for weight, pairs in zip(self.out_weights, edges))
