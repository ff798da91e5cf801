"""HiAGM-TP: text features are propagated over the label hierarchy (Zhou et al., "Hierarchy-Aware Global Model for
Hierarchical Text Classification", ACL 2020). The settings and every difference from the authors' code: model_cards/hiagm.md.

Legend: `B` documents, `T` tokens, `H` hidden size of the text encoder, `M` nodes, `N` labels, `D` node dimension.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_hiagm import HiAGMConfig
from .labels import label_log_odds
from .losses import at_least_float32, multi_label_bce, recursive_regularization
from .modeling_htc import HTCModule, HTCPreTrainedModel
from .structure_encoders import HierarchyGCN


class HiAGMClassifier(HTCModule):
    """
    The text propagation: a linear layer gives every node its share of the text, the structure encoder passes messages, a
    classifier reads the labels from all node states (`"flatten"`) or from each label's own (`"node"`).
    """

    def __init__(self, config):
        super().__init__()
        self.num_labels, self.num_nodes, self.node_dim = (
            config.num_labels,
            config.num_hierarchy_nodes(),
            config.node_dim,
        )
        self.config = config
        self.transformation = nn.Linear(config.text_config.hidden_size, self.num_nodes * self.node_dim)
        self.transformation_dropout = nn.Dropout(config.transformation_dropout)
        self.structure_encoder = nn.ModuleList([HierarchyGCN(config) for _ in range(config.num_structure_layers)])
        width = self.num_nodes * self.node_dim if config.classifier == "flatten" else self.node_dim
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

    def forward(self, text):  # (B, H)
        nodes = self.transformation_dropout(self.transformation(text)).view(-1, self.num_nodes, self.node_dim)  # (B, M, D)
        for layer in self.structure_encoder:
            nodes = layer(nodes)
        if self.config.classifier == "flatten":
            logits = nn.functional.linear(nodes.flatten(1), self.out_weight, self.out_bias)
        else:
            logits = (nodes[:, : self.num_labels] * self.out_weight).sum(-1) + self.out_bias
        return self.logit_dropout(logits)  # (B, N)


class HiAGMForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiAGM-TP: `loss = BCE + recursive_regularization * sum over edges of 0.5 ||w_parent - w_child||^2`.

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
    _no_split_modules = ["HierarchyGCN"]

    def __init__(self, config):
        super().__init__(config)
        self.classifier = HiAGMClassifier(config)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        inputs_embeds=None,
        labels=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        """
        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(B, T)`): As the encoder's tokenizer
                gives them, padded left or right.
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, H)`, *optional*): Instead of `input_ids`.
            labels (`torch.Tensor`, *optional*): float or bool multi-hot `(B, N)`; or integer label ids `(B, K)` padded with
                -100, or `(B,)`.

        Returns:
            [`HTCOutput`] with `losses` `bce` and `recursive_regularization`.
        """
        encoded, text = self.encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_attentions, output_hidden_states
        )
        logits = at_least_float32(self.classifier(text))  # (B, N)
        losses = {}
        if labels is not None:
            losses["bce"] = multi_label_bce(logits, self.label_targets(labels))
            if self.config.recursive_regularization:
                penalty = recursive_regularization(self.classifier.out_weight, self.classifier.label_edges)
                losses["recursive_regularization"] = self.config.recursive_regularization * penalty
        return self.output(logits, losses, encoded, return_dict)
