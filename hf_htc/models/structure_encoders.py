"""Structure encoders: they pass messages between the nodes of the hierarchy, over sparse edges.

Legend: `B` documents, `M` nodes, `D` node dimension, `E` edges.
"""

import torch
from torch import nn
from transformers import initialization as init

from .modeling_htc import HTCModule


def edge_prior(statistics, hierarchy, kind):
    """
    Prior probability of each child given its parent, from the training labels.

    Args:
        statistics (`dict` or `None`): From [`label_statistics`]; `None` gives `1 / number of children`.
        hierarchy ([`LabelHierarchy`]).
        kind (`str`): `"ratio"`: `min(1, documents(child) / documents(parent))`; `"sibling"`: documents with both, divided by
            their sum over the siblings. 0 where nothing was counted. Edges with a structure-only end keep `1 / number of
            children`: such nodes have no documents of their own.

    Returns:
        `torch.FloatTensor` of shape `(E,)`, in the order of `hierarchy.edges`, values in [0, 1].
    """
    edges = torch.as_tensor(hierarchy.edges, device="cpu")
    parent, child = edges[:, 0], edges[:, 1]
    ones = torch.ones(len(edges), dtype=torch.float64, device="cpu")
    uniform = 1 / torch.zeros(hierarchy.num_nodes, dtype=torch.float64, device="cpu").index_add(0, parent, ones)[parent]
    if statistics is None:
        return uniform.float()
    counts = torch.zeros(hierarchy.num_nodes, dtype=torch.float64, device="cpu")
    counts[: hierarchy.num_labels] = torch.as_tensor(statistics["counts"], dtype=torch.float64)
    if kind == "ratio":
        prior = (counts[child] / counts[parent].clamp(min=1)).clamp(max=1)
        prior = torch.where(counts[parent] > 0, prior, torch.zeros_like(prior))
    else:
        both = torch.as_tensor(statistics["edge_counts"], dtype=torch.float64)
        total = torch.zeros(hierarchy.num_nodes, dtype=torch.float64, device="cpu").index_add(0, parent, both)[parent]
        prior = torch.where(total > 0, both / total.clamp(min=1), torch.zeros_like(both))
    between_labels = (parent < hierarchy.num_labels) & (child < hierarchy.num_labels)
    return torch.where(between_labels, prior, uniform).float()


class HierarchyGCN(HTCModule):
    """
    One layer of HiAGM's hierarchy-GCN. For node `k` with children `c` and parents `p`:

    `up_k = sum_c u_kc h_c + b_up_k`, `down_k = sum_p v_pk h_p + b_down_k`,
    `out_k = ReLU(s(h_k g_up + a_up_k) up_k + s(h_k g_down + a_down_k) down_k + s(h_k g_self) h_k)`,

    with `s` the sigmoid: the gates are scalars of the receiving node, and edges carry weights, no matrices. `u` starts at 1,
    `v` at the prior probability of the child.

    Args:
        config ([`HiAGMConfig`]): `node_dim`, `structure_dropout`, `prior`, `train_edge_weights` and the hierarchy.
    """

    def __init__(self, config):
        super().__init__()
        num_nodes, dim = config.num_hierarchy_nodes(), config.node_dim
        num_edges = 0 if config.hierarchy is None else sum(len(row) for row in config.hierarchy["parents"])
        for direction in ("up", "down"):
            setattr(
                self,
                f"weight_{direction}",
                nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights),
            )
            setattr(self, f"bias_{direction}", nn.Parameter(torch.empty(num_nodes, dim)))
            setattr(self, f"gate_weight_{direction}", nn.Parameter(torch.empty(dim)))
            setattr(self, f"gate_bias_{direction}", nn.Parameter(torch.empty(num_nodes)))
        self.gate_weight_self = nn.Parameter(torch.empty(dim))
        self.dropout = nn.Dropout(config.structure_dropout)
        self.register_buffer("parent_index", torch.empty(num_edges, dtype=torch.long), persistent=False)
        self.register_buffer("child_index", torch.empty(num_edges, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        hierarchy = config.get_hierarchy()
        edges = torch.as_tensor(hierarchy.edges, device="cpu")
        init.copy_(self.parent_index, edges[:, 0])
        init.copy_(self.child_index, edges[:, 1])
        init.ones_(self.weight_up)
        init.copy_(self.weight_down, edge_prior(None, hierarchy, config.prior))
        # Xavier for a (D, 1) matrix, as the authors have it; biases start at zero (theirs is partly uninitialised memory).
        bound = (6 / (config.node_dim + 1)) ** 0.5
        for gate in (self.gate_weight_up, self.gate_weight_down, self.gate_weight_self):
            init.uniform_(gate, -bound, bound)
        for bias in (self.bias_up, self.bias_down, self.gate_bias_up, self.gate_bias_down):
            init.zeros_(bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics, config):
        self.weight_down.copy_(edge_prior(statistics, config.get_hierarchy(), config.prior))

    def forward(self, nodes):
        """
        Args:
            nodes (`torch.Tensor` of shape `(B, M, D)`): Node states.

        Returns:
            `torch.Tensor` of shape `(B, M, D)`.
        """
        up = self._collect(nodes, self.weight_up, self.child_index, self.parent_index) + self.bias_up
        down = self._collect(nodes, self.weight_down, self.parent_index, self.child_index) + self.bias_down
        gates = torch.stack([self.gate_weight_up, self.gate_weight_down, self.gate_weight_self], dim=1)  # (D, 3)
        shifts = torch.stack([self.gate_bias_up, self.gate_bias_down, torch.zeros_like(self.gate_bias_up)], dim=1)  # (M, 3)
        gate_up, gate_down, gate_self = torch.sigmoid(nodes @ gates + shifts).unsqueeze(-1).unbind(2)  # (B, M, 1) each
        return torch.relu(self.dropout(gate_up * up) + self.dropout(gate_down * down) + self.dropout(gate_self * nodes))

    @staticmethod
    def _collect(nodes, weight, source, target):
        """`(B, M, D)`: at each target node the weighted sum of its sources' states."""
        messages = nodes.index_select(1, source) * weight.unsqueeze(-1)
        return torch.zeros_like(nodes).index_add(1, target, messages.to(nodes.dtype))
