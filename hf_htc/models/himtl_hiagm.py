"""HiAGM's text propagation in every root branch by itself, all branches at once.

Legend: `B` documents, `H` size of the text vector, `R` branches, `C` copies of nodes, `K` copies of labels, `E` edges between
copies, `D` node dimension, `G` branches of one size.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .graph_encoders import collect, edge_prior
from .himtl_branches import ROW_LENGTH, DenseReadout
from .losses import recursive_regularization
from .modules import HTCModule, at_least_float32
from .text_encoders import text_vector_size


class BranchGCN(HTCModule):
    """
    One layer of the hierarchy-GCN in every branch, over the disjoint union of their graphs. Edge weights, biases and gates are
    each branch's own; the equations are those of [`HierarchyGCN`].

    Args:
        config ([`HiMTLConfig`]): `node_dim`, `structure_dropout`, `prior`, `train_edge_weights` and the hierarchy.
        branches ([`Branches`]).
    """

    def __init__(self, config, branches):
        super().__init__()
        self.branches = branches
        num_edges, copies, dim = len(branches.edges), branches.num_copies, config.node_dim
        self.weight_up = nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights)
        self.weight_down = nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights)
        self.bias_up = nn.Parameter(torch.empty(copies, dim))
        self.bias_down = nn.Parameter(torch.empty(copies, dim))
        self.gate_bias_up = nn.Parameter(torch.empty(copies))
        self.gate_bias_down = nn.Parameter(torch.empty(copies))
        self.gate_weight = nn.Parameter(torch.empty(branches.num_branches, dim, 3))  # up, down, self
        self.dropout = nn.Dropout(config.structure_dropout)
        for name, size in (("parent_index", num_edges), ("child_index", num_edges), ("branch_index", copies)):
            self.register_buffer(name, torch.empty(size, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        edges = torch.as_tensor(self.branches.edges, device="cpu")
        init.copy_(self.parent_index, edges[:, 0])
        init.copy_(self.child_index, edges[:, 1])
        init.copy_(self.branch_index, torch.as_tensor(self.branches.branch, device="cpu"))
        init.ones_(self.weight_up)
        init.copy_(self.weight_down, self._prior(None, config))
        bound = (6 / (config.node_dim + 1)) ** 0.5  # Xavier for a (D, 1) matrix, as in HiAGM
        init.uniform_(self.gate_weight, -bound, bound)
        for bias in (self.bias_up, self.bias_down, self.gate_bias_up, self.gate_bias_down):
            init.zeros_(bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics, config):
        self.weight_down.copy_(self._prior(statistics, config))

    def _prior(self, statistics, config):
        # Among the training labels a branch holds whole families: a prior in it is the prior in the hierarchy.
        return edge_prior(statistics, config.get_hierarchy(), config.prior)[torch.as_tensor(self.branches.edge_ids, device="cpu")]

    def forward(self, nodes):
        """
        Args:
            nodes (`torch.Tensor` of shape `(B, C, D)`): States of the copies.

        Returns:
            `torch.Tensor` of shape `(B, C, D)`.
        """
        up = collect(nodes, self.weight_up, self.child_index, self.parent_index) + self.bias_up
        down = collect(nodes, self.weight_down, self.parent_index, self.child_index) + self.bias_down
        gates = torch.einsum("bcd,cdk->bck", nodes, self.gate_weight.index_select(0, self.branch_index))
        shifts = torch.stack([self.gate_bias_up, self.gate_bias_down, torch.zeros_like(self.gate_bias_up)], dim=1)  # (C, 3)
        gate_up, gate_down, gate_self = torch.sigmoid(gates + shifts).unsqueeze(-1).unbind(2)  # (B, C, 1) each
        return torch.relu(self.dropout(gate_up * up) + self.dropout(gate_down * down) + self.dropout(gate_self * nodes))


class NodeReadout(HTCModule):
    """Every copy of a label is read from its own node: `w_k . h_k`, `K * D` parameters."""

    def __init__(self, config, branches):
        super().__init__()
        self.branches = branches
        self.out_weight = nn.Parameter(torch.empty(branches.num_label_copies, config.node_dim))
        self.register_buffer("label_edges", torch.empty(branches.label_edges.shape, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        init.normal_(self.out_weight, std=ROW_LENGTH * config.node_dim**-0.5)
        init.copy_(self.label_edges, torch.as_tensor(self.branches.label_edges, device="cpu"))

    def forward(self, nodes):  # (B, C, D)
        return (nodes[:, : self.branches.num_label_copies] * self.out_weight).sum(-1)  # (B, K)

    def weights(self):
        return [self.out_weight]

    def recursive_regularization(self):
        return recursive_regularization(self.out_weight, self.label_edges)


class FlatReadout(DenseReadout):
    """Every branch reads its labels from the states of all of its nodes."""

    def __init__(self, config, branches):
        shapes = [copies.shape for _, copies in branches.groups()]
        super().__init__(config, branches, [count * config.node_dim for _, count in shapes])
        self.shapes = shapes  # (branches of this size, nodes in each)
        self.register_buffer("order", torch.empty(branches.num_copies, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        super().init_weights(config)
        order = np.concatenate([copies.reshape(-1) for _, copies in self.branches.groups()])
        init.copy_(self.order, torch.as_tensor(order, device="cpu"))

    def forward(self, nodes):  # (B, C, D)
        states = nodes.index_select(1, self.order).split([size * count for size, count in self.shapes], dim=1)
        return super().forward([state.unflatten(1, shape).flatten(2) for state, shape in zip(states, self.shapes)])


class BranchPropagation(HTCModule):
    """
    The `K` outputs, without their bias, of a HiAGM-TP in every branch.

    Args:
        config ([`HiMTLConfig`]).
        branches ([`Branches`]).
    """

    def __init__(self, config, branches):
        super().__init__()
        self.node_dim = config.node_dim
        self.transformation = nn.Linear(text_vector_size(config), branches.num_copies * config.node_dim)
        self.transformation_dropout = nn.Dropout(config.transformation_dropout)
        self.structure_encoder = nn.ModuleList([BranchGCN(config, branches) for _ in range(config.num_structure_layers)])
        self.readout = (FlatReadout if config.classifier == "flatten" else NodeReadout)(config, branches)

    @torch.no_grad()
    def init_weights(self, config):
        init.kaiming_uniform_(self.transformation.weight, a=5**0.5)  # by its inputs, as in HiAGM

    @torch.no_grad()
    def set_label_statistics(self, statistics, config):
        for layer in self.structure_encoder:
            layer.set_label_statistics(statistics, config)

    def forward(self, text):  # (B, H)
        nodes = self.transformation_dropout(self.transformation(text)).unflatten(1, (-1, self.node_dim))  # (B, C, D)
        for layer in self.structure_encoder:
            nodes = layer(nodes)
        return self.readout(nodes)

    def l2_regularization(self):
        """The squared entries of the matrices, text to nodes and nodes to labels; the edges' weights have a prior to stay at."""
        return sum(at_least_float32(weight).square().sum() for weight in (self.transformation.weight, *self.readout.weights()))

    def recursive_regularization(self):
        return self.readout.recursive_regularization()
