"""HiMatch: texts and labels meet in a joint embedding (Chen et al., "Hierarchy-aware Label Semantics Matching Network for
Hierarchical Text Classification", ACL 2021). The settings and every difference from the authors' code: model_cards/himatch.md.

Legend: `B` documents, `T` tokens, `H` hidden size of the text encoder, `M` nodes, `N` labels, `D` node dimension, `K` labels to
score, `J` size of the joint embedding.
"""

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

from .configuration_himatch import HiMatchConfig
from .label_matching import LabelMatching
from .label_texts import complete_texts, embed_label_texts, label_embedding_size
from .losses import at_least_float32, recursive_regularization
from .modeling_hiagm import TextPropagation
from .modeling_htc import HTCPreTrainedModel
from .modules import HTCModule
from .prediction import check_texts
from .text_encoders import text_vector_size


logger = logging.get_logger(__name__)


class MatchingClassifier(TextPropagation):
    """HiAGM-TP, whose node states are also drawn to the semantics of the document's labels while it is trained."""

    _no_split_modules = [*TextPropagation._no_split_modules, "LabelGCN"]

    def __init__(self, config, label_width):
        super().__init__(config)
        self.node_weights = self.matching = None
        if config.has_matching():
            width = self.node_dim
            if config.text_projection == "flatten":
                width = self.num_nodes * self.node_dim
            else:
                self.node_weights = nn.Parameter(torch.empty(self.num_nodes, self.node_dim))
            self.matching = LabelMatching(config, width, label_width)

    @torch.no_grad()
    def init_weights(self, config):
        super().init_weights(config)
        if self.node_weights is not None:
            init.constant_(self.node_weights, self.num_nodes**-0.5)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        super().set_label_statistics(statistics)
        if self.matching is not None:
            self.matching.set_label_statistics(statistics)

    def forward(self, text, targets=None):
        """
        Args:
            text (`torch.Tensor` of shape `(B, H)`).
            targets (`torch.Tensor` of shape `(B, N)`, *optional*): For the losses.

        Returns:
            `tuple`: logits `(B, N)` and a `dict` of losses, empty without targets.
        """
        nodes = self.propagate(text)
        losses = {}
        if targets is not None and self.matching is not None:
            features = nodes.flatten(1) if self.node_weights is None else (nodes * self.node_weights).sum(1)
            matching = self.matching
            losses = matching.losses(matching.text_semantics(features), matching.label_semantics(), targets)
        return self.classify(nodes), losses


class DotProductClassifier(HTCModule):
    """
    The form without a classifier: `logits_n = scale * Phi_t . Phi_n + bias`.

    One bias for all labels, as one of their own would keep down those without training documents. It starts at the log-odds of
    the mean label frequency, the scale at 1.
    """

    _no_split_modules = ["LabelGCN"]

    def __init__(self, config, label_width):
        super().__init__()
        self.num_labels = config.num_labels
        self.matching = LabelMatching(config, text_vector_size(config), label_width)
        self.out_scale = nn.Parameter(torch.empty(1))
        self.out_bias = nn.Parameter(torch.empty(1))

    @torch.no_grad()
    def init_weights(self, config):
        init.ones_(self.out_scale)
        init.zeros_(self.out_bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        counts = torch.as_tensor(statistics["counts"], dtype=torch.float64)
        share = (counts.mean() + 0.5) / (statistics["num_documents"] + 1)
        self.out_bias.fill_(torch.logit(share))
        self.matching.set_label_statistics(statistics)

    def score(self, text, labels):
        """Logits `(B, K)` of text semantics `(B, J)` and label semantics `(K, J)`."""
        return self.out_scale * (text @ labels.T) + self.out_bias

    def forward(self, text, targets=None):
        """As [`MatchingClassifier`]'s."""
        text, labels = self.matching.text_semantics(text), self.matching.label_semantics()
        losses = {} if targets is None else self.matching.losses(text, labels, targets)
        return self.score(text, labels[: self.num_labels]), losses


class HiMatchForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiMatch: `loss = BCE + lambda_joint * joint + lambda_match * match` (equation 8).

    The label embeddings start from the labels' texts when `from_text_encoder` gets a tokenizer, else call
    [`~HiMatchForHierarchicalTextClassification.set_label_texts`]; without either they start at random.

    Example:

    ```python
    model = HiMatchForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, tokenizer=tokenizer, train_labels=labels
    )
    ```
    """

    config: HiMatchConfig

    def __init__(self, config):
        super().__init__(config)
        width = label_embedding_size(self, config.label_source)
        by_product = config.prediction == "dot_product"
        self.classifier = (DotProductClassifier if by_product else MatchingClassifier)(config, width)
        self.post_init()

    @classmethod
    def from_text_encoder(cls, name_or_path, hierarchy, tokenizer=None, *args, **kwargs):
        """As [`~HTCPreTrainedModel.from_text_encoder`]; with a `tokenizer` the label embeddings start from the labels' texts."""
        model = super().from_text_encoder(name_or_path, hierarchy, tokenizer, *args, **kwargs)
        if tokenizer is not None:
            model.set_label_texts(tokenizer)
        elif model.config.has_matching():
            logger.warning(
                "The label embeddings start at random: pass the `tokenizer`, or call `model.set_label_texts(tokenizer)`, so that "
                "they start from the labels' texts."
            )
        return model

    @torch.no_grad()
    def set_label_texts(self, tokenizer, texts=None, batch_size=64):
        """
        Starts the label embeddings from texts, by the text encoder as it is now; `config.label_source` says how.

        Args:
            tokenizer (`PreTrainedTokenizer`): The encoder's.
            texts (`list[str]` or `dict[str, str]`, *optional*): One a label or a node, in id order, or by name; what is left out
                or empty has the hierarchy's own (`config.label_text`). Words that tell a label's documents from others are made
                by `hf_htc.training.label_descriptions`.
            batch_size (`int`, *optional*, defaults to 64): Texts at a time.

        Raises:
            `ValueError`: a list of another length, an unknown name. `TypeError`: something that is no text.
        """
        texts = complete_texts(texts, self.config.get_hierarchy(), self.config.label_text)
        if self.classifier.matching is not None:
            embeddings = embed_label_texts(self, tokenizer, texts, self.config.label_source, batch_size)
            self.classifier.matching.label_embeddings.copy_(embeddings)

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
            [`HTCOutput`] with `losses` `bce`, `joint` and `match`, and `recursive_regularization` where the config has it.
        """
        encoded, text = self.encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_attentions, output_hidden_states
        )
        targets = None if labels is None else self.label_targets(labels)
        logits, matching = self.classifier(text, targets)
        logits = at_least_float32(logits)  # (B, N)
        losses = {}
        if targets is not None:
            losses = {"bce": self.classification_loss(logits, targets), **matching}
            if self.config.recursive_regularization and self.config.prediction == "classifier":
                penalty = recursive_regularization(self.classifier.out_weight, self.classifier.label_edges)
                losses["recursive_regularization"] = self.config.recursive_regularization * penalty
        return self.output(logits, losses, encoded, return_dict)
