"""The graph of labels and level prompts of HPT: one vector a level that has seen the labels of the hierarchy.

Legend: `M` nodes of the hierarchy, `L` levels, `E` embedding size, `G` edges of the graph, `U` nodes that a layer makes.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .modules import HTCModule, at_least_float32


def graph_edges(hierarchy, kind):
    """
    Edges of the graph over the `M` nodes of the hierarchy and, from id `M` on, the `L` levels.

    Args:
        kind (`str`): `"released"`: parent to child, level to each of its nodes; `"to_levels"`: the other way; `"both"`.

    Returns:
        `np.ndarray` of shape `(2, G)`, int64: sources and targets, edges to levels last. Every node also sends to itself (`G`
        includes that).
    """
    levels = hierarchy.num_nodes + hierarchy.levels - 1
    nodes = np.arange(hierarchy.num_nodes)
    down = np.concatenate([hierarchy.edges, np.stack([levels, nodes], 1)]).T
    parts = {"released": [down], "to_levels": [down[::-1]], "both": [down, down[::-1]]}[kind]
    itself = np.arange(hierarchy.num_nodes + hierarchy.num_levels)
    edges = np.concatenate([*parts, np.stack([itself, itself])], 1)
    return edges[:, np.argsort(edges[1] >= hierarchy.num_nodes, kind="stable")]


def weighted_sum(sent, source, target, weights, number):
    """
    What `number` nodes receive: the sum of `weights (G,) * sent[source]` by target, `(U, E)`. Summed in float32 at least: a level
    sums over up to all labels, of which half precision would lose most.
    """
    dtype, sent = sent.dtype, at_least_float32(sent)
    with torch.autocast(sent.device.type, enabled=False):
        if number * len(sent) <= len(source) * sent.shape[1]:  # a matrix of weights is smaller than the messages
            places = target * len(sent) + source
            matrix = weights.new_zeros(number * len(sent)).scatter_add(0, places, weights)
            return (matrix.view(number, len(sent)) @ sent).to(dtype)
        return torch.zeros_like(sent[:number]).index_add(0, target, sent[source] * weights.unsqueeze(1)).to(dtype)


class LabelGraph(HTCModule):
    """
    Graph encoder over label and level embeddings. One layer (`graph_form="attention"`):

    `a_uv = softmax over the sources v of u of leaky_relu(p W x_v + q W x_u)`,
    `x_u' = norm(x_u + dropout(sum_v a_uv W x_v + b))`;

    with `graph_form="mean"`, `x_u' = x_u + dropout(relu(mean over v of W x_v))`.

    Args:
        config ([`HPTConfig`]): The hierarchy, `graph_edges`, `num_graph_layers`, `graph_form`, `graph_dropout`.
        size (`int`): `E`.
    """

    def __init__(self, config, size):
        super().__init__()
        hierarchy = config.get_hierarchy()
        self.num_levels = hierarchy.num_levels
        targets = graph_edges(hierarchy, config.graph_edges)[1]
        self.num_to_levels = int((targets >= hierarchy.num_nodes).sum())
        self.register_buffer("source", torch.empty(len(targets), dtype=torch.long), persistent=False)
        self.register_buffer("target", torch.empty(len(targets), dtype=torch.long), persistent=False)
        kind = {"attention": GraphAttention, "mean": GraphMean}[config.graph_form]
        self.layers = nn.ModuleList([kind(size, config.graph_dropout) for _ in range(config.num_graph_layers)])

    @torch.no_grad()
    def init_weights(self, config):
        source, target = torch.as_tensor(graph_edges(config.get_hierarchy(), config.graph_edges), device="cpu")
        init.copy_(self.source, source)
        init.copy_(self.target, target)

    def forward(self, labels, levels):
        """
        Args:
            labels (`torch.Tensor` of shape `(M, E)`), levels (`torch.Tensor` of shape `(L, E)`).

        Returns:
            `torch.Tensor` of shape `(L, E)`.
        """
        if not self.layers:
            return levels
        nodes = torch.cat([labels, levels])
        for layer in self.layers[:-1]:
            nodes = layer(nodes, self.source, self.target)
        # Of the last layer only the levels are wanted.
        return self.layers[-1](nodes, self.source[-self.num_to_levels :], self.target[-self.num_to_levels :], len(labels))


class GraphAttention(HTCModule):
    """
    A layer of [`LabelGraph`], one attention head, slope 0.2.

    Called with `nodes (M + L, E)`, the edges' sources and targets `(G,)`, and `first`, it returns the nodes from id `first` on,
    `(U, E)`; all targets must be among these.
    """

    def __init__(self, size, dropout):
        super().__init__()
        self.dense = nn.Linear(size, size, bias=False)
        self.query, self.key = nn.Parameter(torch.empty(size)), nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.norm = nn.LayerNorm(size, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self, config):
        init.xavier_uniform_(self.dense.weight)
        bound = (6 / (len(self.key) + 1)) ** 0.5  # Xavier for a row
        init.uniform_(self.query, -bound, bound)
        init.uniform_(self.key, -bound, bound)
        init.zeros_(self.bias)
        init.ones_(self.norm.weight)
        init.zeros_(self.norm.bias)

    def forward(self, nodes, source, target, first=0):
        sent, target = self.dense(nodes), target - first
        nodes = nodes[first:]
        keys, queries = (sent @ torch.stack([self.key, self.query], 1)).unbind(1)
        scores = at_least_float32(nn.functional.leaky_relu(keys[source] + queries[first:][target], 0.2))
        top = scores.new_full((len(nodes),), -torch.inf).scatter_reduce(0, target, scores.detach(), "amax")
        weights = torch.exp(scores - top[target])
        total = weights.new_zeros(len(nodes)).index_add(0, target, weights)
        received = weighted_sum(sent, source, target, weights / total[target], len(nodes))
        return self.norm(nodes + self.dropout(received + self.bias))


class GraphMean(HTCModule):
    """A layer of [`LabelGraph`] as HPT's paper prints it."""

    def __init__(self, size, dropout):
        super().__init__()
        self.dense = nn.Linear(size, size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def init_weights(self, config):
        init.xavier_uniform_(self.dense.weight)

    def forward(self, nodes, source, target, first=0):
        """As [`GraphAttention`]."""
        sent, target = self.dense(nodes), target - first
        nodes = nodes[first:]
        ones = torch.ones_like(target, dtype=at_least_float32(sent).dtype)
        count = ones.new_zeros(len(nodes)).index_add(0, target, ones)
        received = weighted_sum(sent, source, target, ones / count[target], len(nodes))
        return nodes + self.dropout(nn.functional.relu(received))
