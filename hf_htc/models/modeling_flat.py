"""The flat classifier: a text encoder and one linear layer, every label for itself.

It knows the hierarchy only at prediction time (closure, paths). It is the baseline that every other method must beat.

Legend: `B` documents, `T` tokens, `D` hidden size, `N` labels.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_flat import FlatConfig
from .labels import label_log_odds
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import at_least_float32
from .text_encoders import text_vector_size


class FlatClassifier(nn.Module):
    """`logits = W t + b`. A linear layer, to which an adapter can be put, where other methods have the parameters `out_weight`
    and `out_bias`, whose rows they use one by one."""

    def __init__(self, config):
        super().__init__()
        self.out_proj = nn.Linear(text_vector_size(config), config.num_labels)

    def forward(self, text):  # (B, D)
        return self.out_proj(text)  # (B, N)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        init.copy_(self.out_proj.bias, label_log_odds(statistics).to(self.out_proj.bias))


class FlatForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    Flat multi-label classification: `loss = mean_b mean_n BCE(logits[b, n], y[b, n])`, the only one of `losses`, `bce`.

    Example:

    ```python
    model = FlatForHierarchicalTextClassification.from_text_encoder("bert-base-uncased", hierarchy=hierarchy)
    ```
    """

    config: FlatConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = FlatClassifier(config)
        self.post_init()

    def logits_and_losses(self, encoded, targets=None):
        logits = at_least_float32(self.classifier(self.text_vectors(encoded)))  # (B, N)
        losses = {} if targets is None else {"bce": self.classification_loss(logits, targets)}
        return HTCOutput(logits=logits, losses=losses)
