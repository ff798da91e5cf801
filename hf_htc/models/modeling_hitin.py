"""HiTIN: a tree isomorphism network over the coding tree of the label hierarchy (Zhu et al., "HiTIN: Hierarchy-aware Tree
Isomorphism Network for Hierarchical Text Classification", ACL 2023). The settings and every difference from the authors' code:
model_cards/hitin.md.

Legend: `B` documents, `T` tokens, `H` size of the text vector, `M` nodes of the hierarchy, which are the leaves of the coding
tree, `N` labels, `K` height of the coding tree, `D` hidden dimension, `n` nodes of a layer, `R` width of the readout.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_hitin import HiTINConfig
from .labels import label_log_odds
from .losses import regularization
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import HTCModule, at_least_float32
from .text_encoders import text_vector_size


# Leaves whose features are compared at once by the largest value of all; more would only take memory.
_LEAVES_AT_ONCE = 512


def _linear(layer, inputs):
    """A linear layer on inputs of any float type."""
    return at_least_float32(layer(inputs.to(layer.weight.dtype)))


class NodeNorm(nn.BatchNorm1d):
    """
    Batch norm over the documents and the nodes of a layer, `(B, n, D)`, in float32 at least.

    One document alone has no variance at the root, so a batch of one is normalised by the running statistics in training too,
    and does not change them.
    """

    def forward(self, nodes):
        nodes = at_least_float32(nodes)
        of_batch = self.training and nodes.shape[0] > 1
        mean, variance, weight, bias = (
            tensor.to(nodes.dtype) for tensor in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        normed = nn.functional.batch_norm(nodes.flatten(0, 1), mean, variance, weight, bias, of_batch, self.momentum, self.eps)
        if of_batch:
            self.num_batches_tracked.add_(1)
            if mean is not self.running_mean:  # half precision: the copies were updated
                self.running_mean.copy_(mean)
                self.running_var.copy_(variance)
        return normed.view_as(nodes)


class NodeMLP(nn.Module):
    """What a layer does with the sum of a node's children: linear layers with batch norm and ReLU in between, then both again."""

    def __init__(self, dim, num_layers):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(dim, dim) for _ in range(num_layers))
        self.norms = nn.ModuleList(NodeNorm(dim) for _ in range(num_layers))

    def forward(self, nodes):  # (B, n, D)
        return self.after_first(_linear(self.linears[0], nodes))

    def along(self, vectors, scales, shifts):
        """`forward` of the nodes `scales_i * vectors_b + shifts_i`, `(B, n, D)`, which need not be made: `vectors (B, D)`,
        `scales`, `shifts (n,)`."""
        first = self.linears[0]
        weight_sums = at_least_float32(first.weight).sum(1)  # (D,)
        projected = at_least_float32(nn.functional.linear(vectors.to(first.weight.dtype), first.weight))
        constant = shifts.unsqueeze(-1) * weight_sums + at_least_float32(first.bias)  # (n, D)
        return self.after_first(scales.unsqueeze(-1) * projected.unsqueeze(1) + constant)

    def after_first(self, nodes):
        for norm, linear in zip(self.norms, self.linears[1:]):
            nodes = _linear(linear, torch.relu(norm(nodes)))
        return torch.relu(self.norms[-1](nodes))


class TreeIsomorphismNetwork(HTCModule):
    """
    Layer by layer from the leaves of the coding tree to its root,
    `h_v = ReLU(BN(MLP_l(sum over the children u of v of h_u)))`, and what is read of every layer.

    Args:
        config ([`HiTINConfig`]): `coding_tree`, `hidden_dim`, `num_mlp_layers`, `tree_pooling`.
    """

    def __init__(self, config):
        super().__init__()
        self.layer_sizes = [*(len(layer) for layer in config.coding_tree), 1]
        self.pooling = config.tree_pooling
        self.layers = nn.ModuleList(NodeMLP(config.hidden_dim, config.num_mlp_layers) for _ in config.coding_tree)
        for number, layer in enumerate(config.coding_tree):
            self.register_buffer(f"parents_{number}", torch.empty(len(layer), dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        for number, layer in enumerate(config.coding_tree):
            init.copy_(getattr(self, f"parents_{number}"), torch.tensor(layer, device="cpu"))
        for mlp in self.layers:
            for linear in mlp.linears:
                init.kaiming_uniform_(linear.weight, a=5**0.5)  # by its inputs, torch's own, as the authors have it

    def forward(self, leaves, scales=None, shifts=None):
        """
        Args:
            leaves (`torch.Tensor` of shape `(B, M, D)`): Features of the leaves. Or of shape `(B, D)` with the next two.
            scales, shifts (`torch.Tensor` of shape `(M,)`, *optional*): Leaf `n` is `scales_n * leaves + shifts_n`; no tensor of
                the size `B * M * D` is made.

        Returns:
            `torch.Tensor` of shape `(B, R)`: the pooled features of all layers side by side, leaves first, `R = (K + 1) D`; with
            `tree_pooling="root"` those of the root, `R = D`.
        """
        leaves = at_least_float32(leaves)
        read = []
        if scales is None:
            if self.pooling != "root":
                read.append(self._pool(leaves))
            nodes = self.layers[0](self._sum_of_children(leaves, 0))
        else:
            scales, shifts = at_least_float32(scales), at_least_float32(shifts)
            if self.pooling != "root":
                read.append(self._pool_along(leaves, scales, shifts))
            nodes = self.layers[0].along(leaves, *(self._sum_of_children(x[None, :, None], 0)[0, :, 0] for x in (scales, shifts)))
        for number, mlp in enumerate(self.layers[1:], start=1):
            if self.pooling != "root":
                read.append(self._pool(nodes))
            nodes = mlp(self._sum_of_children(nodes, number))
        return torch.cat([*read, nodes.squeeze(1)], dim=-1)

    def _sum_of_children(self, nodes, number):
        """`(B, n', D)`: the sums of the nodes `(B, n, D)` of a layer, at their parents in the next."""
        sums = torch.zeros((nodes.shape[0], self.layer_sizes[number + 1], nodes.shape[2]), dtype=nodes.dtype, device=nodes.device)
        return sums.index_add(1, getattr(self, f"parents_{number}"), nodes)

    def _pool(self, nodes):
        return {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[self.pooling](nodes, dim=1)

    def _pool_along(self, vectors, scales, shifts):
        """`_pool` of the leaves `scales_n * vectors + shifts_n`."""
        if self.pooling == "max":
            return self._largest_along(vectors, scales, shifts)
        summed = scales.sum() * vectors + shifts.sum()
        return summed / len(scales) if self.pooling == "mean" else summed

    @staticmethod
    def _largest_along(vectors, scales, shifts):
        """The largest value of every feature: which leaf has it is found in parts and without gradients, to save memory."""
        fixed, best, index = vectors.detach(), None, None
        for start in range(0, len(scales), _LEAVES_AT_ONCE):
            part = slice(start, start + _LEAVES_AT_ONCE)
            values = scales.detach()[part, None] * fixed.unsqueeze(1) + shifts.detach()[part, None]
            largest, place = values.max(dim=1)  # (B, D)
            if best is None:
                best, index = largest, place
            else:
                index = torch.where(largest > best, place + start, index)
                best = torch.maximum(best, largest)
        return scales[index] * vectors + shifts[index]


class HiTINClassifier(HTCModule):
    """
    The leaves' features from the text, the tree isomorphism network, and the logits from what is read of its layers.

    Leaf `n` is `x_n = sum_m W_nm (W_p t + b_p) + b_n`: copies of one projected text, mixed by a dense map. Without dropout that
    is `(sum_m W_nm) (W_p t + b_p) + b_n`, so that at inference only the row sums of the map are needed.

    Args:
        config ([`HiTINConfig`]): Also `label_map`, `transformation_dropout`, `readout_dropout` and the hierarchy.
    """

    _no_split_modules = ["TreeIsomorphismNetwork"]

    def __init__(self, config):
        super().__init__()
        num_labels, num_nodes = config.num_labels, config.num_hierarchy_nodes()
        self.projection = nn.Linear(text_vector_size(config), config.hidden_dim)
        self.map_weight = nn.Parameter(torch.empty((num_nodes, num_nodes) if config.label_map == "dense" else num_nodes))
        self.map_bias = nn.Parameter(torch.empty(num_nodes))
        self.transformation_dropout = nn.Dropout(config.transformation_dropout)
        self.network = TreeIsomorphismNetwork(config)
        self.readout_dropout = nn.Dropout(config.readout_dropout)
        num_read = 1 if config.tree_pooling == "root" else config.tree_depth + 1
        # The prediction matrices of all layers side by side, and one bias: the sum of theirs, which is all that acts.
        self.out_weight = nn.Parameter(torch.empty(num_labels, num_read * config.hidden_dim))
        self.out_bias = nn.Parameter(torch.empty(num_labels))
        parents = (config.hierarchy or {}).get("parents", [])[:num_labels]
        num_label_edges = sum(parent < num_labels for row in parents for parent in row)
        self.register_buffer("label_edges", torch.empty(num_label_edges, 2, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        num_nodes, dense = config.num_hierarchy_nodes(), config.label_map == "dense"
        init.kaiming_uniform_(self.projection.weight, a=5**0.5)
        # As torch draws the dense map, whose row sums then lie around 0 with a variance of 1/3; the diagonal has the same. A mean
        # over leaves would be nothing with such, so they lie around 1 for it.
        half_width = num_nodes**-0.5 if dense else 1.0
        center = 0.0 if config.tree_pooling != "mean" else 1 / num_nodes if dense else 1.0
        init.uniform_(self.map_weight, center - half_width, center + half_width)
        init.zeros_(self.map_bias)
        init.normal_(self.out_weight, std=config.initializer_range)
        if config.tree_pooling == "sum":
            # A sum grows with the nodes; the logits begin near the label frequencies all the same.
            sizes = [num_nodes**0.5, *self.network.layer_sizes[1:]]
            largest = torch.tensor(sizes, device="cpu").repeat_interleave(config.hidden_dim)
            init.copy_(self.out_weight, self.out_weight / largest.to(self.out_weight))
        init.zeros_(self.out_bias)
        edges = torch.as_tensor(config.get_hierarchy().edges, device="cpu")
        init.copy_(self.label_edges, edges[(edges < config.num_labels).all(1)])

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        self.out_bias.copy_(label_log_odds(statistics))

    def forward(self, text):
        """
        Args:
            text (`torch.Tensor` of shape `(B, H)`): Text vectors.

        Returns:
            `torch.Tensor` of shape `(B, N)`: the logits.
        """
        text = self.projection(text)
        dense = self.map_weight.dim() == 2
        if dense and self.training and self.transformation_dropout.p > 0:
            copies = self.transformation_dropout(text.unsqueeze(1).expand(-1, len(self.map_bias), -1))  # (B, M, D)
            leaves = torch.matmul(self.map_weight, copies) + self.map_bias.unsqueeze(-1)
            read = self.network(self.transformation_dropout(leaves))
        else:
            scales = at_least_float32(self.map_weight).sum(1) if dense else self.map_weight
            read = self.network(self.transformation_dropout(text), scales, self.map_bias)
        read = self.readout_dropout(read).to(self.out_weight.dtype)
        return nn.functional.linear(read, self.out_weight, self.out_bias)


class HiTINForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiTIN: `loss = BCE + recursive_regularization * sum over the K + 1 prediction matrices and the edges of
    0.5 ||w_parent - w_child||^2`, the `losses` `bce` and `recursive_regularization`.

    Batch norm makes a document's features in training depend on the other documents of its batch; in eval mode nothing does.

    Example:

    ```python
    model = HiTINForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, train_labels=labels, tree_depth=2
    )
    ```
    """

    config: HiTINConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = HiTINClassifier(config)
        self.post_init()

    def logits_and_losses(self, encoded, targets=None):
        logits = at_least_float32(self.classifier(self.text_vectors(encoded)))  # (B, N)
        losses = {}
        if targets is not None:
            losses["bce"] = self.classification_loss(logits, targets)
            losses |= regularization(self.config.recursive_regularization, self.classifier)
        return HTCOutput(logits=logits, losses=losses)
