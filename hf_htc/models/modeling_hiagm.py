"""HiAGM: text features (TP) or label embeddings (LA) run through the label hierarchy (Zhou et al., "Hierarchy-Aware Global Model
for Hierarchical Text Classification", ACL 2020). The settings and every difference from the authors' code: model_cards/hiagm.md.

Legend: `B` documents, `T` tokens, `H` hidden size of the text encoder, `M` nodes, `N` labels, `D` node dimension,
`P` positions that labels attend to.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_hiagm import HiAGMConfig
from .graph_encoders import build_structure_encoder
from .labels import label_log_odds
from .losses import regularization
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import HTCModule, at_least_float32
from .text_encoders import text_vector_size


class HiAGMClassifier(HTCModule):
    """
    What both variants share: the structure encoder, and a classifier that reads the labels from all node states (`"flatten"`)
    or from each label's own (`"node"`).
    """

    _no_split_modules = ["HierarchyGCN", "TreeLSTMPass"]

    def __init__(self, config):
        super().__init__()
        self.num_labels, self.num_nodes, self.node_dim = (
            config.num_labels,
            config.num_hierarchy_nodes(),
            config.node_dim,
        )
        self.config = config
        self.transformation_dropout = nn.Dropout(config.transformation_dropout)
        self.structure_encoder = build_structure_encoder(config)
        width = config.num_read_nodes() * self.node_dim if config.classifier == "flatten" else self.node_dim
        self.out_weight = nn.Parameter(torch.empty(self.num_labels, width))
        self.out_bias = nn.Parameter(torch.empty(self.num_labels))
        self.logit_dropout = nn.Dropout(config.logit_dropout)
        parents = (config.hierarchy or {}).get("parents", [])[: self.num_labels]
        num_label_edges = sum(parent < self.num_labels for row in parents for parent in row)
        self.register_buffer("label_edges", torch.empty(num_label_edges, 2, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        init.normal_(self.out_weight, std=config.initializer_range)
        init.zeros_(self.out_bias)
        edges = torch.as_tensor(config.get_hierarchy().edges, device="cpu")
        init.copy_(self.label_edges, edges[(edges < self.num_labels).all(1)])

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        self.out_bias.copy_(label_log_odds(statistics))
        for layer in self.structure_encoder:
            layer.set_label_statistics(statistics, self.config)

    def encode_structure(self, nodes):  # (B, M, D)
        for layer in self.structure_encoder:
            nodes = layer(nodes)
        return nodes

    def classify(self, nodes):  # (B, M, D), or (B, N, D) of the labels alone
        if self.config.classifier == "flatten":
            logits = nn.functional.linear(nodes.flatten(1), self.out_weight, self.out_bias)
        else:
            logits = (nodes[:, : self.num_labels] * self.out_weight).sum(-1) + self.out_bias
        return self.logit_dropout(logits)  # (B, N)


class TextPropagation(HiAGMClassifier):
    """HiAGM-TP: a linear layer gives every node its share of the text, the structure encoder passes messages between them."""

    def __init__(self, config):
        super().__init__(config)
        self.transformation = nn.Linear(text_vector_size(config), self.num_nodes * self.node_dim)

    @torch.no_grad()
    def init_weights(self, config):
        super().init_weights(config)
        # By its inputs, torch's own, as the authors have it: a text encoder that begins at random hears little through less.
        init.kaiming_uniform_(self.transformation.weight, a=5**0.5)

    def propagate(self, text):  # (B, H)
        nodes = self.transformation_dropout(self.transformation(text)).view(-1, self.num_nodes, self.node_dim)  # (B, M, D)
        return self.encode_structure(nodes)

    def forward(self, text):
        return self.classify(self.propagate(text))


class LabelAttention(HiAGMClassifier):
    """
    HiAGM-LA: label embeddings run through the structure encoder; every label `n` then reads the text at the positions `p`,
    `v_n = sum_p softmax_p(x_p . l_n) x_p`. Positions whose width is not the node dimension are projected to it.
    """

    def __init__(self, config):
        super().__init__(config)
        self.label_embeddings = nn.Parameter(torch.empty(self.num_nodes, self.node_dim))
        text_config = config.text_config
        width = {"tokens": text_config.hidden_size, "text": text_vector_size(config)}.get(config.attention_positions)
        width = text_config.num_filters if width is None else width
        self.projection = None if width == self.node_dim else nn.Linear(width, self.node_dim)

    @torch.no_grad()
    def init_weights(self, config):
        super().init_weights(config)
        init.kaiming_uniform_(self.label_embeddings)

    def forward(self, positions, mask=None):
        """
        Args:
            positions (`torch.Tensor` of shape `(B, P, W)`): What is attended to.
            mask (`torch.Tensor` of shape `(B, P)`, *optional*): 0 for positions to leave out.

        Returns:
            `torch.Tensor` of shape `(B, N)`: the logits.
        """
        nodes = self.transformation_dropout(self.label_embeddings).unsqueeze(0)
        labels = self.encode_structure(nodes)[:, : self.num_labels]  # (1, N, D)
        if self.projection is not None:
            positions = self.projection(positions)
        return self.classify(self.attend(labels, positions, mask))

    @staticmethod
    def attend(labels, positions, mask=None):
        """Label-wise texts `(B, N, D)`; the fused kernel never holds the `(B, N, P)` attention as a whole."""
        if mask is not None:
            first = torch.arange(mask.shape[1], device=mask.device) == 0
            mask = ((mask != 0) | first)[:, None, None]  # (B, 1, 1, P); a text without tokens is its first position, not NaN
        query = labels.to(positions.dtype).expand(positions.shape[0], -1, -1).unsqueeze(1)  # one head: ONNX wants the axis
        text = positions.unsqueeze(1)
        return nn.functional.scaled_dot_product_attention(query, text, text, attn_mask=mask, scale=1.0).squeeze(1)


class HiAGMForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiAGM-TP or HiAGM-LA, as `config.variant` says:
    `loss = BCE + recursive_regularization * sum over edges of 0.5 ||w_parent - w_child||^2`, the `losses` `bce` and
    `recursive_regularization`.

    Call [`~HTCPreTrainedModel.set_label_statistics`] (or give `train_labels` to `from_text_encoder`; `build_trainer` does it)
    so that the edges start at the prior probabilities of the training labels.

    Example:

    ```python
    model = HiAGMForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, train_labels=labels
    )
    ```
    """

    config: HiAGMConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = self.build_classifier(config)
        self.post_init()

    def build_classifier(self, config):
        """The module that holds everything but the text encoder."""
        return TextPropagation(config) if config.variant == "tp" else LabelAttention(config)

    def logits_and_losses(self, encoded, targets=None):
        if self.config.variant == "la" and self.config.attention_positions == "tokens":
            logits = self.classifier(self.text_dropout(encoded.outputs.last_hidden_state), encoded.attention_mask)
        else:
            text = self.text_vectors(encoded)
            logits = self.classifier(text if self.config.variant == "tp" else self._positions(text))
        logits = at_least_float32(logits)  # (B, N)
        return HTCOutput(logits=logits, losses={} if targets is None else self.compute_losses(logits, targets))

    def compute_losses(self, logits, targets, reduction="mean"):
        """The named, weighted parts of the loss, of `logits (B, N)` and `targets (B, N)`; `reduction` is that of the
        cross-entropy over the labels of a document."""
        return {
            "bce": self.classification_loss(logits, targets, reduction),
            **regularization(self.config.recursive_regularization, self.classifier),
        }

    def _positions(self, text):
        """The text vector `(B, H)` as positions to attend to: `(B, P, W)`."""
        if self.config.attention_positions == "text":
            return text.unsqueeze(1)
        text_config = self.config.text_config
        shape = (len(text_config.kernel_sizes), text_config.num_filters, text_config.top_k)
        return text.unflatten(1, shape).transpose(2, 3).flatten(1, 2)  # kernels x top-k positions of one kernel's width
