"""Structure encoders: they pass messages between the nodes of the hierarchy, over sparse edges.

A method names one in its config (`structure_encoder`) and gets it from [`build_structure_encoder`]; all take and give
`(B, M, D)`, on trees and DAGs, with structure-only nodes.

Messages are added up in float32 at least: a node may have thousands of children, and a sum in bfloat16, which has 8 binary
digits, stands still after 256 equal numbers. That holds for gradients, too.

Legend: `B` documents, `M` nodes, `D` node dimension, `E` edges, `G` size of a TreeLSTM's memory in one direction.
"""

import numpy as np
import torch
from torch import nn
from transformers import initialization as init

from .modules import HTCModule, at_least_float32


def gather_states(states, source):
    """
    `states[:, source]`; where many read the same state, their gradients add up in float32 at least.

    Args:
        states (`torch.Tensor` of shape `(B, M, D)`), source (`torch.LongTensor` of shape `(E,)`).

    Returns:
        `torch.Tensor` of shape `(B, E, D)`.
    """
    return at_least_float32(states).index_select(1, source).to(states.dtype)


def add_up(messages, target, number):
    """
    The messages summed at their targets.

    Args:
        messages (`torch.Tensor` of shape `(B, E, D)`), target (`torch.LongTensor` of shape `(E,)`).
        number (`int`): `M`.

    Returns:
        `torch.Tensor` of shape `(B, M, D)`.
    """
    exact = at_least_float32(messages)
    # Not `new_zeros`, which an ONNX export does not fold into a constant.
    nothing = torch.zeros((messages.shape[0], number, messages.shape[2]), dtype=exact.dtype, device=exact.device)
    return nothing.index_add(1, target, exact).to(messages.dtype)


def collect(states, weight, source, target):
    """
    The weighted sums of the sources' states at their targets.

    Args:
        states (`torch.Tensor` of shape `(B, M, D)`), weight, source, target (`torch.Tensor` of shape `(E,)`).

    Returns:
        `torch.Tensor` of shape `(B, M, D)`.
    """
    return add_up(gather_states(states, source) * weight.unsqueeze(-1), target, states.shape[1])


def build_structure_encoder(config):
    """
    The structure encoder that a config names.

    Args:
        config ([`HTCConfig`]): `structure_encoder` (`"gcn"`, `"tree_lstm"` or `"none"`, no layers), `num_structure_layers`,
            `node_dim`, `structure_dropout`, `prior`, `train_edge_weights` and the hierarchy.

    Returns:
        `torch.nn.ModuleList`: the layers, each with `set_label_statistics(statistics, config)`.
    """
    if config.structure_encoder == "none":
        return nn.ModuleList()
    kind = {"gcn": HierarchyGCN, "tree_lstm": BidirectionalTreeLSTM}[config.structure_encoder]
    return nn.ModuleList([kind(config) for _ in range(config.num_structure_layers)])


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
        node_dim (`int`, *optional*): Width of a node's state; defaults to the config's.
    """

    def __init__(self, config, node_dim=None):
        super().__init__()
        num_nodes, dim = config.num_hierarchy_nodes(), node_dim or config.node_dim
        num_edges = 0 if config.hierarchy is None else sum(len(row) for row in config.hierarchy["parents"])
        self.weight_up = nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights)
        self.weight_down = nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights)
        self.gate_weight_up = nn.Parameter(torch.empty(dim))
        self.gate_weight_down = nn.Parameter(torch.empty(dim))
        self.gate_weight_self = nn.Parameter(torch.empty(dim))
        self.make_biases(config, num_nodes, dim)
        self.dropout = nn.Dropout(config.structure_dropout)
        self.register_buffer("parent_index", torch.empty(num_edges, dtype=torch.long), persistent=False)
        self.register_buffer("child_index", torch.empty(num_edges, dtype=torch.long), persistent=False)

    def make_biases(self, config, num_nodes, dim):
        """The biases of single nodes, which a subclass may leave out."""
        self.bias_up = nn.Parameter(torch.empty(num_nodes, dim))
        self.bias_down = nn.Parameter(torch.empty(num_nodes, dim))
        self.gate_bias_up = nn.Parameter(torch.empty(num_nodes))
        self.gate_bias_down = nn.Parameter(torch.empty(num_nodes))

    @torch.no_grad()
    def init_weights(self, config):
        hierarchy = config.get_hierarchy()
        edges = torch.as_tensor(hierarchy.edges, device="cpu")
        init.copy_(self.parent_index, edges[:, 0])
        init.copy_(self.child_index, edges[:, 1])
        init.ones_(self.weight_up)
        init.copy_(self.weight_down, edge_prior(None, hierarchy, config.prior))
        # Xavier for a (D, 1) matrix, as the authors have it; biases start at zero (theirs is partly uninitialised memory).
        bound = (6 / (len(self.gate_weight_self) + 1)) ** 0.5
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
        up = collect(nodes, self.weight_up, self.child_index, self.parent_index) + self.bias_up
        down = collect(nodes, self.weight_down, self.parent_index, self.child_index) + self.bias_down
        gates = torch.stack([self.gate_weight_up, self.gate_weight_down, self.gate_weight_self], dim=1)  # (D, 3)
        shifts = torch.stack([self.gate_bias_up, self.gate_bias_down, torch.zeros_like(self.gate_bias_up)], dim=1)  # (M, 3)
        gate_up, gate_down, gate_self = torch.sigmoid(nodes @ gates + shifts).unsqueeze(-1).unbind(2)  # (B, M, 1) each
        return torch.relu(self.dropout(gate_up * up) + self.dropout(gate_down * down) + self.dropout(gate_self * nodes))


class _Schedule(HTCModule):
    """
    The order in which messages run through the hierarchy, one level of nodes after the other: from the top down (`source` are the
    parents), or from the deepest level up (`source` are the children). A node's level is its longest path from the top, so its
    parents are all above it and its children all below, in a DAG too.

    `order (M,)`: nodes, level by level; `place (M,)`: where a node stands in it; for the edges, level by level of their target:
    `edge (E,)` number in `hierarchy.edges`, `source (E,)` place of the source, `target (E,)` place of the target in its level.
    """

    def __init__(self, config, downward):
        super().__init__()
        self.downward = downward
        arrays, self.node_counts, self.edge_counts = self._arrays(config.get_hierarchy())
        for name, values in arrays.items():
            self.register_buffer(name, torch.empty(len(values), dtype=torch.long), persistent=False)

    def _arrays(self, hierarchy):
        levels = np.asarray(hierarchy.levels)
        steps = levels if self.downward else levels.max() - levels  # (M,), counted from 0 or 1
        order = np.argsort(steps, kind="stable")
        place = np.argsort(order, kind="stable")
        starts = np.searchsorted(steps[order], np.unique(steps))
        edges = np.asarray(hierarchy.edges).reshape(-1, 2)
        source, target = (edges[:, 0], edges[:, 1]) if self.downward else (edges[:, 1], edges[:, 0])
        edge = np.argsort(place[target], kind="stable")
        level_of = np.searchsorted(starts, place[target[edge]], side="right") - 1
        arrays = {
            "order": order,
            "place": place,
            "edge": edge,
            "source": place[source[edge]],
            "target": place[target[edge]] - starts[level_of],
        }
        node_counts = np.diff(np.append(starts, len(levels))).tolist()
        return arrays, node_counts, np.bincount(level_of, minlength=len(starts)).tolist()

    @torch.no_grad()
    def init_weights(self, config):
        for name, values in self._arrays(config.get_hierarchy())[0].items():
            init.copy_(getattr(self, name), torch.as_tensor(values, device="cpu"))


class TreeLSTMPass(HTCModule):
    """
    One direction of a TreeLSTM, all nodes of a level at once. For node `k` with neighbours `n` on the level before (children in
    the pass up, parents in the pass down) and edge factors `a_kn`:

    `h~_n = a_kn h_n`, `c~_n = a_kn c_n`, `s_k = sum_n h~_n`,
    `i, o, u = s(W_i x + U_i s_k), s(W_o x + U_o s_k), tanh(W_u x + U_u s_k)`, `f_n = s(W_f x + U_f h~_n)`,
    `c_k = i u + sum_n f_n c~_n`, `h_k = o tanh(c_k)`.

    In the pass down the two sums are means over the parents: in a tree there is one, in a DAG a label with many parents
    is not louder than one with few.

    Args:
        config: As for [`build_structure_encoder`].
        downward (`bool`): From parents to children.
    """

    def __init__(self, config, downward):
        super().__init__()
        self.downward = downward
        dim, self.size = config.node_dim, config.node_dim // 2
        num_edges = 0 if config.hierarchy is None else sum(len(row) for row in config.hierarchy["parents"])
        self.input_gates = nn.Linear(dim, 3 * self.size)  # i, o, u
        self.state_gates = nn.Linear(self.size, 3 * self.size)
        self.input_forget = nn.Linear(dim, self.size)
        self.state_forget = nn.Linear(self.size, self.size)
        self.edge_weight = nn.Parameter(torch.empty(num_edges), requires_grad=config.train_edge_weights)
        self.schedule = _Schedule(config, downward)
        # By edge, among how many parents a child's sums are shared; whole numbers, exact in every floating-point type.
        self.register_buffer("num_parents", torch.empty(num_edges, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        hierarchy = config.get_hierarchy()
        edges = torch.as_tensor(hierarchy.edges, device="cpu")
        counts = torch.bincount(edges[:, 1], minlength=hierarchy.num_nodes)
        init.copy_(self.num_parents, counts[edges[:, 1]] if self.downward else torch.ones_like(edges[:, 1]))
        if self.downward:
            init.copy_(self.edge_weight, edge_prior(None, hierarchy, config.prior))
        else:
            init.ones_(self.edge_weight)

    @torch.no_grad()
    def set_label_statistics(self, statistics, config):
        if self.downward:
            self.edge_weight.copy_(edge_prior(statistics, config.get_hierarchy(), config.prior))

    def forward(self, nodes):
        """`(B, M, D)` node states to `(B, M, G)`."""
        schedule = self.schedule
        ordered = nodes.index_select(1, schedule.order)
        gates = self.input_gates(ordered).split(schedule.node_counts, dim=1)
        forget = self.input_forget(ordered).split(schedule.node_counts, dim=1)
        weights, shares, sources, targets = (
            tensor.split(schedule.edge_counts)
            for tensor in (
                self.edge_weight[schedule.edge],
                1 / self.num_parents[schedule.edge].to(nodes.dtype),
                schedule.source,
                schedule.target,
            )
        )
        hidden, cells = [], []
        for level, count in enumerate(schedule.node_counts):
            gate, kept = gates[level], None
            if len(sources[level]):
                weight, share = weights[level].unsqueeze(-1), shares[level].unsqueeze(-1)
                h = gather_states(torch.cat(hidden, dim=1), sources[level]) * weight
                c = gather_states(torch.cat(cells, dim=1), sources[level]) * weight
                f = torch.sigmoid(gather_states(forget[level], targets[level]) + self.state_forget(h))
                gathered = add_up(torch.cat([h * share, f * c * share], dim=-1), targets[level], count)
                state, kept = gathered.split(self.size, dim=-1)
                gate = gate + self.state_gates(state)
            else:
                gate = gate + self.state_gates.bias
            i, o, u = gate.split(self.size, dim=-1)
            cell = torch.sigmoid(i) * torch.tanh(u)
            cell = cell if kept is None else cell + kept
            cells.append(cell)
            hidden.append(torch.sigmoid(o) * torch.tanh(cell))
        return torch.cat(hidden, dim=1).index_select(1, schedule.place)


class BidirectionalTreeLSTM(nn.Module):
    """
    HiAGM's other structure encoder: a child-sum TreeLSTM from the leaves up and one from the top down, each of half the node
    dimension, side by side. Edge factors start at 1 upwards and at the prior probability of the child downwards, and are trained
    further.

    Args:
        config: As for [`build_structure_encoder`]; `node_dim` is even.
    """

    def __init__(self, config):
        super().__init__()
        self.up = TreeLSTMPass(config, downward=False)
        self.down = TreeLSTMPass(config, downward=True)
        self.dropout = nn.Dropout(config.structure_dropout)

    def set_label_statistics(self, statistics, config):
        self.down.set_label_statistics(statistics, config)

    def forward(self, nodes):
        """
        Args:
            nodes (`torch.Tensor` of shape `(B, M, D)`): Node states.

        Returns:
            `torch.Tensor` of shape `(B, M, D)`: the states from below, then those from above.
        """
        return self.dropout(torch.cat([self.up(nodes), self.down(nodes)], dim=-1))
