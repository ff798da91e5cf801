"""HiTIN's tree isomorphism network in every root branch by itself, all branches at once.

Legend: `B` documents, `H` size of the text vector, `R` branches, `C` copies of nodes, which are the leaves of the branches'
coding trees, `K` height of the trees, `D` hidden dimension, `n` nodes of a layer in all trees, `G` trees of one size.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .graph_encoders import gather_states
from .himtl_branches import DenseReadout
from .modules import HTCModule, at_least_float32
from .text_encoders import text_vector_size


class TreeLayer:
    """
    A layer of all coding trees, trees with few nodes in it first, so that those with equally many are one batched product.

    Args:
        order (`np.ndarray` of shape `(R,)`): The branches, as they stand in the layer.
        counts (`np.ndarray` of shape `(R,)`): Nodes of each branch in the layer.
    """

    def __init__(self, order, counts):
        self.order, self.counts = order, counts
        starts = np.empty_like(order)
        starts[order] = np.cumsum(counts[order]) - counts[order]
        self.starts = starts  # (R,): where a branch's nodes begin
        self.slots = np.repeat(np.arange(len(order)), counts[order])  # (n,): the place of a node's branch in `order`
        sizes, members = np.unique(counts, return_counts=True)
        self.groups = list(zip(members.tolist(), sizes.tolist()))  # (G, nodes in each)

    def parts(self, nodes):
        """Views `(B, G, nodes of a tree, ...)` of `(B, n, ...)`."""
        split = nodes.split([members * size for members, size in self.groups], dim=1)
        return [part.unflatten(1, shape) for part, shape in zip(split, self.groups)]


def tree_layers(branches, trees):
    """
    The layers of the coding trees, side by side.

    Args:
        branches ([`Branches`]).
        trees (`list`): The coding tree of each branch, see [`build_coding_tree`].

    Returns:
        `tuple[list[TreeLayer], list[np.ndarray]]`: `K + 1` layers, the leaves first, and for all but the last the place in the
        next layer of each node's parent.
    """
    counts = [np.asarray([len(tree[number]) for tree in trees]) for number in range(len(trees[0]))] + [np.ones(len(trees), int)]
    orders = [np.concatenate([row for row, _ in branches.groups()])] + [np.argsort(row, kind="stable") for row in counts[1:]]
    layers = [TreeLayer(order, row) for order, row in zip(orders, counts)]
    parents = [
        np.concatenate([layers[number + 1].starts[branch] + np.asarray(trees[branch][number]) for branch in layer.order])
        for number, layer in enumerate(layers[:-1])
    ]
    return layers, parents


class BranchNorm(HTCModule):
    """
    Batch norm of each tree over the documents and its nodes of a layer, `(B, n, D)`, in float32 at least. A batch of one document
    is normalised by the running statistics in training too, and does not change them, as in [`NodeNorm`].
    """

    momentum, eps = 0.1, 1e-5

    def __init__(self, layer, dim):
        super().__init__()
        self.layer, size = layer, (len(layer.order), dim)
        self.weight, self.bias = nn.Parameter(torch.empty(size)), nn.Parameter(torch.empty(size))
        self.register_buffer("running_mean", torch.empty(size))
        self.register_buffer("running_var", torch.empty(size))
        self.register_buffer("slots", torch.empty(len(layer.slots), dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        init.ones_(self.weight)
        init.zeros_(self.bias)
        init.zeros_(self.running_mean)
        init.ones_(self.running_var)
        init.copy_(self.slots, torch.as_tensor(self.layer.slots, device="cpu"))

    def forward(self, nodes):
        nodes = at_least_float32(nodes)
        if self.training and nodes.shape[0] > 1:
            counts = torch.bincount(self.slots, minlength=len(self.weight)).unsqueeze(-1)  # (R, 1)
            mean = self._mean(nodes, counts)
            variance = self._mean((nodes - mean.index_select(0, self.slots)).square(), counts)
            number = counts * nodes.shape[0]
            self._track(self.running_mean, mean)
            self._track(self.running_var, variance * number / (number - 1))
        else:
            mean, variance = self.running_mean.to(nodes.dtype), self.running_var.to(nodes.dtype)
        scale = self.weight.to(nodes.dtype) * torch.rsqrt(variance + self.eps)
        shift = self.bias.to(nodes.dtype) - mean * scale
        return torch.addcmul(shift.index_select(0, self.slots), nodes, scale.index_select(0, self.slots))

    def _mean(self, values, counts):
        """`(R, D)`: the mean over documents and the nodes of a tree of `(B, n, D)`."""
        sums = torch.zeros(self.weight.shape, dtype=values.dtype, device=values.device)
        return sums.index_add(0, self.slots, values.mean(0)) / counts

    @torch.no_grad()
    def _track(self, running, found):
        running.copy_(torch.lerp(running.to(found.dtype), found, self.momentum))


class BranchMLP(HTCModule):
    """What a layer does with the sums of its nodes' children, see [`NodeMLP`]; every tree has its own linear layers and norms."""

    def __init__(self, layer, dim, num_layers):
        super().__init__()
        self.layer, size = layer, len(layer.order)
        self.weights = nn.ParameterList(torch.empty(size, dim, dim) for _ in range(num_layers))
        self.biases = nn.ParameterList(torch.empty(size, dim) for _ in range(num_layers))
        self.norms = nn.ModuleList(BranchNorm(layer, dim) for _ in range(num_layers))
        self.register_buffer("slots", torch.empty(len(layer.slots), dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        bound = config.hidden_dim**-0.5  # by its inputs, torch's own, as in HiTIN
        for weight, bias in zip(self.weights, self.biases):
            init.uniform_(weight, -bound, bound)
            init.zeros_(bias)
        init.copy_(self.slots, torch.as_tensor(self.layer.slots, device="cpu"))

    def forward(self, nodes):  # (B, n, D)
        return self._after_first(self._linear(0, nodes))

    def along(self, vectors, scales, shifts):
        """`forward` of the nodes `scales_i * v + shifts_i`, `(B, n, D)`, which need not be made: `vectors (B, R, D)`, one `v` a
        tree, `scales`, `shifts (n,)`."""
        weight = self.weights[0]
        projected = at_least_float32(torch.einsum("brd,red->bre", vectors.to(weight.dtype), weight))
        sums = at_least_float32(weight).sum(2).index_select(0, self.slots)  # (n, D)
        constant = shifts.unsqueeze(-1) * sums + at_least_float32(self.biases[0]).index_select(0, self.slots)
        return self._after_first(scales.unsqueeze(-1) * projected.index_select(1, self.slots) + constant)

    def _after_first(self, nodes):
        for number, norm in enumerate(self.norms[:-1], start=1):
            nodes = self._linear(number, torch.relu(norm(nodes)))
        return torch.relu(self.norms[-1](nodes))

    def _linear(self, number, nodes):
        weight = self.weights[number]
        weights = weight.split([members for members, _ in self.layer.groups])
        parts = self.layer.parts(nodes.to(weight.dtype))
        found = [torch.einsum("bgcd,ged->bgce", part, rows).flatten(1, 2) for part, rows in zip(parts, weights)]
        return at_least_float32(torch.cat(found, dim=1) + self.biases[number].index_select(0, self.slots))


class BranchTrees(HTCModule):
    """
    The logits of the copies of labels, without their bias, of a HiTIN in every branch; see [`HiTINClassifier`].

    Args:
        config ([`HiMTLConfig`]).
        branches ([`Branches`]).
    """

    def __init__(self, config, branches):
        super().__init__()
        self.branches, self.pooling, dim = branches, config.tree_pooling, config.hidden_dim
        self.layers, _ = tree_layers(branches, config.coding_trees)
        leaves = self.layers[0]  # branches stand everywhere as in it
        self.projection = nn.Linear(text_vector_size(config), branches.num_branches * dim)
        dense = config.label_map == "dense"
        shapes = [(members, size, size) for members, size in leaves.groups] if dense else [(branches.num_copies,)]
        self.map_weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.map_bias = nn.Parameter(torch.empty(branches.num_copies))
        self.transformation_dropout = nn.Dropout(config.transformation_dropout)
        self.mlps = nn.ModuleList(BranchMLP(layer, dim, config.num_mlp_layers) for layer in self.layers[1:])
        self.readout_dropout = nn.Dropout(config.readout_dropout)
        num_read = 1 if self.pooling == "root" else config.tree_depth + 1
        self.readout = DenseReadout(config, branches, [num_read * dim] * len(branches.groups()))
        for name, values in self._arrays(config).items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    def _arrays(self, config):
        """
        `slots (C,)`: the place of a leaf's branch; `below (R,)`: that of each branch of the first layer above; `parents_l (n,)`:
        for the nodes of layer `l` the place of their parents in the next; `place_l (R,)`: where the branches stand in layer `l`.
        """
        layers, parents = tree_layers(self.branches, config.coding_trees)
        places = [np.argsort(layer.order) for layer in layers]
        arrays = {"slots": layers[0].slots, "below": places[0][layers[1].order]}
        arrays |= {f"parents_{number}": row for number, row in enumerate(parents)}
        return arrays | {f"place_{number}": row[layers[0].order] for number, row in enumerate(places)}

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config).items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))
        init.kaiming_uniform_(self.projection.weight, a=5**0.5)
        for weight in self.map_weights:  # as in HiTIN, a branch like its hierarchy
            size = weight.shape[-1] if weight.dim() == 3 else 1
            center = 1 / size if config.tree_pooling == "mean" else 0.0
            init.uniform_(weight, center - size**-0.5, center + size**-0.5)
        init.zeros_(self.map_bias)
        for weight in self.readout.out_weights:
            init.normal_(weight, std=config.initializer_range)
        if config.tree_pooling == "sum":
            # A sum grows with the nodes; the logits begin near the label frequencies all the same.
            counts = [layer.counts[self.layers[0].order] for layer in self.layers]
            sizes = torch.as_tensor(np.stack([counts[0] ** 0.5, *counts[1:]], axis=1), device="cpu")  # (R, K + 1)
            sizes = sizes.repeat_interleave(config.hidden_dim, dim=1).unsqueeze(1)
            for weight, size in zip(self.readout.out_weights, sizes.split([members for members, _ in self.readout.sizes])):
                init.copy_(weight, weight / size.to(weight))

    def set_label_statistics(self, statistics, config):
        """Nothing but the biases of the logits is taken from them."""

    def forward(self, text):
        """
        Args:
            text (`torch.Tensor` of shape `(B, H)`): Text vectors.

        Returns:
            `torch.Tensor` of shape `(B, K)`, `K` here the copies of labels.
        """
        vectors = self.projection(text).unflatten(1, (self.branches.num_branches, -1))  # (B, R, D)
        dense = self.map_weights[0].dim() == 3
        if dense and self.training and self.transformation_dropout.p > 0:
            copies = self.transformation_dropout(gather_states(vectors, self.slots))  # (B, C, D)
            parts = zip(self.layers[0].parts(copies), self.map_weights)
            leaves = torch.cat([torch.einsum("bgnd,gmn->bgmd", part, weight).flatten(1, 2) for part, weight in parts], dim=1)
            leaves = at_least_float32(self.transformation_dropout(leaves + self.map_bias.unsqueeze(-1)))
            read = [] if self.pooling == "root" else [self._pool(0, leaves)]
            nodes = self.mlps[0](self._sum_of_children(leaves, 0))
        else:
            vectors = at_least_float32(self.transformation_dropout(vectors))
            sums = [at_least_float32(weight).sum(2).flatten() for weight in self.map_weights] if dense else self.map_weights
            scales, shifts = at_least_float32(torch.cat(list(sums))), at_least_float32(self.map_bias)
            read = [] if self.pooling == "root" else [self._pool_along(vectors, scales, shifts)]
            of_nodes = (self._sum_of_children(row[None, :, None], 0)[0, :, 0] for row in (scales, shifts))
            nodes = self.mlps[0].along(vectors.index_select(1, self.below), *of_nodes)
        for number, mlp in enumerate(self.mlps[1:], start=1):
            if self.pooling != "root":
                read.append(self._pool(number, nodes))
            nodes = mlp(self._sum_of_children(nodes, number))
        read.append(nodes.index_select(1, getattr(self, f"place_{len(self.mlps)}")))
        read = self.readout_dropout(torch.cat(read, dim=-1)).to(self.readout.out_weights[0].dtype)  # (B, R, W)
        return self.readout(read.split([members for members, _ in self.readout.sizes], dim=1))

    def _sum_of_children(self, nodes, number):
        """`(B, n', D)`: the sums of the nodes `(B, n, D)` of a layer, at their parents in the next."""
        size = len(self.layers[number + 1].slots)
        sums = torch.zeros((nodes.shape[0], size, nodes.shape[2]), dtype=nodes.dtype, device=nodes.device)
        return sums.index_add(1, getattr(self, f"parents_{number}"), nodes)

    def _pool(self, number, nodes):
        """`(B, R, D)`: a layer's nodes `(B, n, D)`, pooled in each tree."""
        operation = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[self.pooling]
        pooled = torch.cat([operation(part, dim=2) for part in self.layers[number].parts(nodes)], dim=1)
        return pooled.index_select(1, getattr(self, f"place_{number}"))

    def _pool_along(self, vectors, scales, shifts):
        """`_pool` of the leaves `scales_n * v + shifts_n`; only their maximum needs them as such."""
        if self.pooling == "max":
            return self._pool(0, scales.unsqueeze(-1) * vectors.index_select(1, self.slots) + shifts.unsqueeze(-1))
        scale, shift = (self._pool(0, row[None, :, None]) for row in (scales, shifts))  # (1, R, 1)
        return scale * vectors + shift

    def l2_regularization(self):
        """The squared entries of the matrices and maps; not those of the norms."""
        weights = [self.projection.weight, *self.map_weights, *self.readout.weights()]
        weights += [weight for mlp in self.mlps for weight in mlp.weights]
        return sum(at_least_float32(weight).square().sum() for weight in weights)

    def recursive_regularization(self):
        return self.readout.recursive_regularization()
