"""Root branches of a hierarchy as one disjoint graph: from what their encoders give to the logits of their labels, all branches
at once, and what brings these together again.

A branch is a first-level node with its descendants. A node of a DAG may lie in several branches: it has one copy in each.

Legend: `B` documents, `M` nodes, `N` labels, `R` branches, `C` copies of nodes, `K` copies of labels, one in each branch that a
label lies in, `E` edges between copies, `G` branches of one size, `W` width of what a branch reads.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .coherence import CoherentMax
from .hierarchy import LabelHierarchy
from .label_sets import gather_rows
from .losses import recursive_regularization
from .modules import HTCModule


class Branches:
    """
    The branches of a hierarchy as arrays. Copies are ordered by node, then by branch: in a tree a copy's number is its node's id,
    and in any hierarchy the `K` copies of labels come first. Branches without a label are left out.

    Args:
        hierarchy ([`LabelHierarchy`]).

    Attributes:
        nodes, branch (`np.ndarray` of shape `(C,)`): Node and branch of each copy.
        node_counts, label_counts (`np.ndarray` of shape `(R,)`): Copies in each branch, those of labels among them.
        edges (`np.ndarray` of shape `(E, 2)`): (parent, child) copies of one branch.
        edge_ids (`np.ndarray` of shape `(E,)`): Which of `hierarchy.edges` each is a copy of.
    """

    def __init__(self, hierarchy):
        rows = [row for row in hierarchy.root_branches() if row[0] < hierarchy.num_labels]  # ascending: labels come first
        nodes, branch = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        order = np.lexsort((branch, nodes))
        self.num_branches, self.num_copies, self.num_labels = len(rows), len(nodes), hierarchy.num_labels
        self.nodes, self.branch = nodes[order], branch[order]
        self.num_label_copies = int(np.searchsorted(self.nodes, hierarchy.num_labels))
        self.node_counts = np.bincount(self.branch)
        self.label_counts = np.bincount(self.branch[: self.num_label_copies])
        # A copy of an edge for each copy of its parent; below it, in the same branch, lies the copy of its child.
        starts = np.searchsorted(self.nodes, np.arange(hierarchy.num_nodes + 1))
        parent, child = hierarchy.edges[:, 0], hierarchy.edges[:, 1]
        counts, upper = gather_rows(starts, np.arange(self.num_copies), parent)
        self.edge_ids = np.repeat(np.arange(len(parent)), counts)
        lower = np.searchsorted(self._key(self.nodes, self.branch), self._key(child[self.edge_ids], self.branch[upper]))
        self.edges = np.stack([upper, lower], axis=1)

    def _key(self, nodes, branch):
        return nodes * self.num_branches + branch

    @property
    def label_edges(self):
        """The edges of which both ends are labels, `(E', 2)`."""
        return self.edges[(self.edges < self.num_label_copies).all(1)]

    def groups(self):
        """
        Branches of one size, so that they are computed together.

        Returns:
            `list[tuple[np.ndarray, np.ndarray]]`: branch numbers `(G,)`, and the copies in each, `(G, nodes of a branch)`, labels
            first.
        """
        by_branch = np.argsort(self.branch, kind="stable")
        starts = np.cumsum(self.node_counts) - self.node_counts
        sizes, group = np.unique(np.stack([self.node_counts, self.label_counts], 1), axis=0, return_inverse=True)
        members = [np.flatnonzero(group.reshape(-1) == number) for number in range(len(sizes))]
        return [(row, by_branch[starts[row][:, None] + np.arange(size)]) for row, (size, _) in zip(members, sizes)]

    def parents(self):
        """`list[list[list[int]]]`: of each branch the parents of its nodes, numbered in the order of their ids."""
        by_branch = np.argsort(self.branch, kind="stable")
        number = np.argsort(by_branch, kind="stable") - (np.cumsum(self.node_counts) - self.node_counts)[self.branch]
        parents = [[[] for _ in range(count)] for count in self.node_counts.tolist()]
        for branch, parent, child in zip(self.branch[self.edges[:, 0]].tolist(), *number[self.edges].T.tolist()):
            parents[branch][child].append(parent)
        return parents

    def as_hierarchy(self):
        """The [`LabelHierarchy`] of the copies; its labels are the `K` copies of labels."""
        parents = [[] for _ in range(self.num_copies)]
        for parent, child in self.edges.tolist():
            parents[child].append(parent)
        return LabelHierarchy([str(copy) for copy in range(self.num_copies)], parents, self.num_label_copies)


def branches_of(hierarchy):
    """The [`Branches`] of a hierarchy, made once and kept with it."""
    if "_branches" not in hierarchy.__dict__:
        hierarchy.__dict__["_branches"] = Branches(hierarchy)
    return hierarchy.__dict__["_branches"]


class BranchCoherentMax(CoherentMax):
    """[`CoherentMax`] inside every branch, over `(B, K)`."""

    @staticmethod
    def walk_edges(hierarchy):
        return CoherentMax.walk_edges(branches_of(hierarchy).as_hierarchy())


class BranchCombination(HTCModule):
    """
    From labels to their copies in the branches, and back.

    Args:
        branches ([`Branches`]).
        combine (`str`): `"max"`: the largest logit among a label's copies, which is that of the largest probability; `"mean"`:
            the log-odds of their mean probability; `"sum"`: of their sum, where no label has two.
    """

    def __init__(self, branches, combine):
        super().__init__()
        self.branches, self.combine = branches, combine
        self.is_identity = branches.num_label_copies == branches.num_labels
        for name in ("label_ids", "branch_sizes"):
            self.register_buffer(name, torch.empty(branches.num_label_copies, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        number = self.branches.num_label_copies
        init.copy_(self.label_ids, torch.as_tensor(self.branches.nodes[:number], device="cpu"))
        sizes = self.branches.label_counts[self.branches.branch[:number]]
        init.copy_(self.branch_sizes, torch.as_tensor(sizes, device="cpu"))

    def to_copies(self, values):
        """`(B, N)` of labels to `(B, K)` of their copies."""
        return values if self.is_identity else values.index_select(1, self.label_ids)

    def forward(self, logits):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, K)`): Of the copies.

        Returns:
            `torch.Tensor` of shape `(B, N)`.
        """
        if self.is_identity:
            return logits
        largest = self._largest(logits)
        if self.combine == "max":
            return largest
        # log sum p - log sum (1 - p), both over a label's copies, of logarithms: nothing is lost where sigmoids round to 1.
        mean = self._log_sum_exp(nn.functional.logsigmoid(logits)) - self._log_sum_exp(nn.functional.logsigmoid(-logits))
        single = torch.zeros_like(largest[0], dtype=torch.long).index_add(0, self.label_ids, torch.ones_like(self.label_ids)) == 1
        return torch.where(single, largest, mean)

    def _largest(self, values):
        """`(B, K)` to `(B, N)`: the maximum over the copies of a label."""
        lowest = torch.finfo(values.dtype).min
        empty = torch.full((values.shape[0], self.branches.num_labels), lowest, dtype=values.dtype, device=values.device)
        return empty.scatter_reduce(1, self.label_ids.expand(values.shape[0], -1), values, "amax")

    def _log_sum_exp(self, values):
        largest = self._largest(values).detach()
        shifted = (values - largest.index_select(1, self.label_ids)).exp()
        return torch.zeros_like(largest).index_add(1, self.label_ids, shifted).log() + largest

    def label_weights(self, over, dtype=torch.float32):
        """
        What each copy's cross-entropy counts in the sum over branches of the means over labels.

        Args:
            over (`str`): `"branch"`: the mean over the labels of the branch; `"all"`: over all labels, those outside count 0.

        Returns:
            `torch.Tensor` of shape `(K,)`.
        """
        # From whole numbers, which are exact in a model of half precision.
        sizes = self.branch_sizes if over == "branch" else torch.full_like(self.branch_sizes, self.branches.num_labels)
        return 1 / sizes.to(dtype)


# How long a label's row of weights is at the start: as HiAGM's classifier over 133 nodes with states of 300, 0.02 * 40,000^0.5. A
# branch reads little of that; with entries as small its rows would be shorter and learn many times more slowly, rare labels above
# all.
ROW_LENGTH = 4.0


class DenseReadout(HTCModule):
    """
    A matrix for each branch, from one vector to its labels. Branches of one size are one batched product.

    With `branch_output="masking"` a branch has a row for every label of the hierarchy. Those of labels outside of the branch are
    masked, in training and after, so that they are not computed; the regularization alone sees them.

    Args:
        config ([`HiMTLConfig`]): `branch_output` and the hierarchy.
        branches ([`Branches`]).
        widths (`list[int]`): `W` of each of the groups of branches of one size, see [`Branches.groups`].
    """

    def __init__(self, config, branches, widths):
        super().__init__()
        self.branches, self.masked = branches, config.branch_output == "masking"
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
