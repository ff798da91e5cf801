"""The joint embedding of texts and labels of HiMatch: the label side, the projections, the losses.

Legend: `B` documents, `M` nodes, `N` labels, `E` size of a label embedding, `J` size of the joint embedding, `P` positives (a
document and one of its labels), `Q` pairs (a positive and a label that it is compared with).
"""

import torch
from torch import nn
from transformers import initialization as init

from .graph_encoders import HierarchyGCN
from .himatch_sampling import LabelSampler
from .modules import CachingModule, at_least_float32


# Distance up to which the released code lets a parent be.
RELEASED_SLACK = 0.01


class LabelGCN(HierarchyGCN):
    """
    The hierarchy-GCN over label embeddings.

    Where these are not trained, neither are biases of single nodes, which would be embeddings by another name: they stay 0, so
    that a label without training documents lacks nothing that others have learned. Edges then start as means over a node's
    children and over its parents: by its documents such a label would be cut off.

    Args:
        config ([`HiMatchConfig`]).
        width (`int`): Size of a label embedding.
    """

    def __init__(self, config, width):
        super().__init__(config, width)
        self.is_residual, self.is_shared = config.label_residual, not config.train_label_embeddings

    def make_biases(self, config, num_nodes, dim):
        if config.train_label_embeddings:
            super().make_biases(config, num_nodes, dim)
            return
        self.register_buffer("bias_up", torch.empty(1), persistent=False)
        self.register_buffer("bias_down", torch.empty(1), persistent=False)
        self.register_buffer("gate_bias_up", torch.empty(num_nodes), persistent=False)
        self.register_buffer("gate_bias_down", torch.empty(num_nodes), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        super().init_weights(config)
        if self.is_shared:
            ends = torch.as_tensor(config.get_hierarchy().edges, device="cpu").T
            for weight, receivers in ((self.weight_up, ends[0]), (self.weight_down, ends[1])):
                init.copy_(weight, 1 / torch.bincount(receivers)[receivers])

    @torch.no_grad()
    def set_label_statistics(self, statistics, config):
        if not self.is_shared:
            super().set_label_statistics(statistics, config)

    def forward(self, nodes):
        """`(1, M, E)` node states to `(1, M, E)`."""
        return super().forward(nodes) + nodes if self.is_residual else super().forward(nodes)

    def extend(self, nodes, new, parents):
        """
        States of labels that have no node: they hear from their parents and nobody hears from them. An edge weighs as those of
        the parent's children do on average (of all edges where it has none); biases are the mean over the nodes.

        Args:
            nodes (`torch.Tensor` of shape `(1, M, E)`): States of the nodes, before the layer.
            new (`torch.Tensor` of shape `(K, E)`): States of the new labels, before the layer.
            parents (`list[list[int]]`): `K` rows of node ids.

        Returns:
            `torch.Tensor` of shape `(K, E)`.
        """
        down = torch.zeros_like(new)
        for row, above in enumerate(parents):
            for parent in above:
                weights = self.weight_down[self.parent_index == parent]
                weights = weights if len(weights) else self.weight_down
                down[row] += (weights.mean() if len(weights) else 1.0) * nodes[0, parent]
        up, down = self.bias_up.mean(0).expand_as(new), down + self.bias_down.mean(0)
        gate_up = torch.sigmoid(new @ self.gate_weight_up + self.gate_bias_up.mean()).unsqueeze(1)
        gate_down = torch.sigmoid(new @ self.gate_weight_down + self.gate_bias_down.mean()).unsqueeze(1)
        gate_self = torch.sigmoid(new @ self.gate_weight_self).unsqueeze(1)
        states = torch.relu(gate_up * up + gate_down * down + gate_self * new)
        return states + new if self.is_residual else states


class LabelMatching(CachingModule):
    """
    Text and label semantics: `Phi_t = FFN_t(S_t)` (equation 3) and `Phi_l = FFN_l(S_l)` (4), with `S_l` the label embeddings
    after the label GCN (2), and the losses between them.

    Args:
        config ([`HiMatchConfig`]).
        text_width (`int`): Size of what is known of the text, `S_t`.
        label_width (`int`): `E`.
    """

    def __init__(self, config, text_width, label_width):
        super().__init__()
        self.config = config
        embeddings = torch.empty(config.num_hierarchy_nodes(), label_width)
        if config.train_label_embeddings:
            self.label_embeddings = nn.Parameter(embeddings)
        else:
            self.register_buffer("label_embeddings", embeddings)
        # What was taken off the encoder's vectors and by what they were multiplied, for labels that come later.
        self.register_buffer("label_shift", torch.empty(label_width))
        self.register_buffer("label_scale", torch.empty(1))
        self.register_buffer("label_age", torch.empty(1, dtype=torch.long))
        self.label_tokens = None
        self.label_layers = nn.ModuleList([LabelGCN(config, label_width) for _ in range(config.num_label_layers)])
        self.text_ffn = self._ffn(text_width)
        self.label_ffn = self._ffn(label_width)
        self.sampler = LabelSampler(config)

    def _ffn(self, width):
        joint_dim, dropout = self.config.joint_dim, nn.Dropout(self.config.joint_dropout)
        return nn.Sequential(nn.Linear(width, joint_dim), nn.ReLU(), dropout, nn.Linear(joint_dim, joint_dim))

    @torch.no_grad()
    def init_weights(self, config):
        init.normal_(self.label_embeddings, std=config.initializer_range)
        init.zeros_(self.label_shift)
        init.ones_(self.label_scale)
        init.zeros_(self.label_age)
        for layer in (self.text_ffn[0], self.text_ffn[3], self.label_ffn[0], self.label_ffn[3]):
            # By its inputs, torch's own, bias included: no text and no label begins at the origin, which has no direction.
            init.kaiming_uniform_(layer.weight, a=5**0.5)
            init.uniform_(layer.bias, -(layer.in_features**-0.5), layer.in_features**-0.5)
        if config.prediction == "dot_product" and self.text_ffn[0].in_features == self.label_ffn[0].in_features:
            self._start_as_one_map()

    def _start_as_one_map(self):
        """
        Both projections start as the same linear map, which keeps distances as far as the joint embedding is wide enough: what
        the encoder says of texts and labels that no training document brings together is not lost.

        Hidden units come in pairs of opposite sign, `relu(x) - relu(-x) = x`.
        """
        joint_dim, width = self.text_ffn[0].weight.shape
        pairs = (joint_dim + 1) // 2
        into, out = (torch.empty(shape, dtype=torch.float32, device="cpu") for shape in ((pairs, width), (joint_dim, pairs)))
        nn.init.orthogonal_(into)
        nn.init.orthogonal_(out)
        into = torch.stack([into, -into], dim=1).flatten(0, 1)[:joint_dim]
        out = torch.stack([out, -out], dim=2).flatten(1, 2)[:, :joint_dim]
        for ffn in (self.text_ffn, self.label_ffn):
            init.copy_(ffn[0].weight, into)
            init.copy_(ffn[3].weight, out)
            init.zeros_(ffn[0].bias)
            init.zeros_(ffn[3].bias)

    @torch.no_grad()
    def set_label_embeddings(self, vectors):
        """
        Starts the label embeddings; with `prediction="dot_product"` without what all labels have in common, and at a mean length
        of 1: pretrained vectors of short texts point much the same way, which says nothing of any of them.

        Args:
            vectors (`torch.Tensor` of shape `(M, E)`): One a node.
        """
        if self.config.prediction == "dot_product" and len(vectors) > 1:
            self.label_shift.copy_(vectors.mean(0))
            length, before = (torch.linalg.vector_norm(x, dim=-1).mean() for x in (vectors - vectors.mean(0), vectors))
            # Texts of unknown words only have one vector; what is left of it are rounding errors.
            self.label_scale.fill_(1 / float(length) if length > 1e-4 * before else 1.0)
        self.label_embeddings.copy_(self.moved(vectors))
        self.label_age.zero_()

    def moved(self, vectors):
        """The encoder's vectors as embeddings: `(vector - label_shift) * label_scale`."""
        return (vectors.to(self.label_shift) - self.label_shift) * self.label_scale

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        for layer in self.label_layers:
            layer.set_label_statistics(statistics, self.config)

    # ------------------------------------------------------------------ semantics

    def text_semantics(self, features):
        """`Phi_t (B, J)` of `(B, text_width)`."""
        return self.scaled(self.text_ffn(features))

    def label_semantics(self):
        """
        `Phi_l (M, J)` of all nodes.

        Without gradients and in eval mode it is computed once, until a weight is changed.
        """
        parts = [tensor for part in (self.label_layers, self.label_ffn) for tensor in (*part.parameters(), *part.buffers())]
        return self.computed_once(self._label_semantics, [self.label_embeddings, *parts])

    def semantics_of(self, embeddings, parents):
        """
        `Phi_l` of labels that have no node.

        Args:
            embeddings (`torch.Tensor` of shape `(K, E)`): The encoder's vectors of their texts, made as those of the nodes.
            parents (`list[list[int]]`): `K` rows of node ids, empty for labels that stand alone.

        Returns:
            `torch.Tensor` of shape `(K, J)`.
        """
        nodes, new = self.label_embeddings.unsqueeze(0), self.moved(embeddings).to(self.label_embeddings)
        for layer in self.label_layers:
            nodes, new = layer(nodes), layer.extend(nodes, new, parents)
        return self.scaled(self.label_ffn(new))

    def _label_semantics(self):
        nodes = self.label_embeddings.unsqueeze(0)
        for layer in self.label_layers:
            nodes = layer(nodes)
        return self.scaled(self.label_ffn(nodes[0]))

    def scaled(self, semantics):
        """Of length 1 where the config says so."""
        return nn.functional.normalize(semantics, dim=-1) if self.config.normalize_joint else semantics

    # ------------------------------------------------------------------ losses

    def losses(self, text, labels, targets):
        """
        Args:
            text (`torch.Tensor` of shape `(B, J)`): From `text_semantics`.
            labels (`torch.Tensor` of shape `(M, J)`): From `label_semantics`.
            targets (`torch.Tensor` of shape `(B, N)`): Above 0 for a document's labels.

        Returns:
            `dict`: `joint` and `match`, weighted, as far as their weights are not 0.
        """
        config, text, labels = self.config, at_least_float32(text), at_least_float32(labels)
        losses = {}
        if config.lambda_joint == config.lambda_match == 0:
            return losses
        if config.matching == "released":
            losses["joint"], losses["match"] = released_losses(
                text, labels, *self.sampler.released(targets), config.beta * config.gamma, config.gamma
            )
        else:
            if config.lambda_joint:
                gold = (targets > 0).nonzero(as_tuple=True)
                losses["joint"] = joint_embedding_loss(text, labels, *gold, config.joint_reduction)
            if config.lambda_match:
                losses["match"] = matching_loss(text, labels, *self.sampler(targets))
        weights = {"joint": config.lambda_joint, "match": config.lambda_match}
        return {name: weights[name] * loss for name, loss in losses.items() if weights[name]}


def joint_embedding_loss(text, labels, rows, positives, reduction="sum"):
    """
    Equation 5: `sum over a document's labels of ||Phi_t - Phi_l||^2`, then the mean over documents (0 for one without labels).

    Args:
        text (`torch.Tensor` of shape `(B, J)`): Text semantics.
        labels (`torch.Tensor` of shape `(M, J)`): Label semantics.
        rows, positives (`torch.Tensor` of shape `(P,)`, int64): Documents and their labels, all of them.
        reduction (`str`, *optional*, defaults to `"sum"`): `"sum"`, or `"mean"` over a document's labels and over the dimensions.

    Returns:
        `torch.Tensor`: a scalar.
    """
    squares = (text.index_select(0, rows) - labels.index_select(0, positives)).square()
    if reduction == "sum":
        return squares.sum() / len(text)
    return _mean_over_documents(squares.mean(-1), rows, len(text))


def matching_loss(text, labels, rows, positives, pairs, negatives, margins):
    """
    Equations 6 and 7: `max(0, D(Phi_t, Phi_p) - D(Phi_t, Phi_n) + margin)`, `D` the Euclidean distance of vectors of length 1;
    the mean over a document's pairs, then over documents (0 for one without pairs).

    Args:
        text (`torch.Tensor` of shape `(B, J)`): Text semantics.
        labels (`torch.Tensor` of shape `(M, J)`): Label semantics.
        rows, positives (`torch.Tensor` of shape `(P,)`, int64): Documents and their fine-grained labels.
        pairs, negatives (`torch.Tensor` of shape `(Q,)`, int64): Indices into the former two, and labels that should be farther.
        margins (`torch.Tensor` of shape `(Q,)`): By how much.

    Returns:
        `torch.Tensor`: a scalar.
    """
    unit_text = nn.functional.normalize(text, dim=-1).index_select(0, rows)  # (P, J)
    near = _distance(unit_text, nn.functional.normalize(labels.index_select(0, positives), dim=-1))
    far = _distance(unit_text.index_select(0, pairs), nn.functional.normalize(labels.index_select(0, negatives), dim=-1))
    hinges = torch.relu(near.index_select(0, pairs) - far + margins.to(far.dtype))
    return _mean_over_documents(hinges, rows.index_select(0, pairs), len(text))


def released_losses(text, labels, rows, positives, parents, siblings, others, sibling_margin=0.1, other_margin=0.2):
    """
    The authors' code, with `s(x) = ||Phi_t - Phi_x||^2 / J`:
    `joint = mean s(positive) + mean max(0, s(parent) - 0.01 / J)`,
    `match = mean max(0, s(positive) - s(sibling) + 0.1) + mean max(0, s(positive) - s(other) + 0.2)`,
    means over a document's positives, then over documents (0 for one without labels).

    Args:
        text (`torch.Tensor` of shape `(B, J)`): Text semantics.
        labels (`torch.Tensor` of shape `(M, J)`): Label semantics.
        rows, positives, parents, siblings, others (`torch.Tensor` of shape `(P,)`, int64): Documents, labels, and the nodes
            that each is compared with, as from [`~label_sampling.LabelSampler.released`].
        sibling_margin, other_margin (`float`, *optional*): `beta * gamma` and `gamma`.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: `joint` and `match`.
    """
    texts = text.index_select(0, rows)

    def squared(nodes):
        return (texts - labels.index_select(0, nodes)).square().sum(-1) / text.shape[1]

    def mean(values):
        return _mean_over_documents(values, rows, len(text))

    near = squared(positives)
    joint = mean(near) + mean(torch.relu(squared(parents) - RELEASED_SLACK / text.shape[1]))
    match = mean(torch.relu(near - squared(siblings) + sibling_margin)) + mean(torch.relu(near - squared(others) + other_margin))
    return joint, match


def _distance(a, b):
    return torch.linalg.vector_norm(a - b, dim=-1)


def _mean_over_documents(values, rows, num_documents):
    """The mean over documents of the means of each one's values."""
    counts = torch.zeros(num_documents, dtype=values.dtype, device=values.device).index_add(0, rows, torch.ones_like(values))
    return (values / counts.index_select(0, rows)).sum() / num_documents
