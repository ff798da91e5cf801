"""The flat classifier: a text encoder and one linear layer, every label for itself.

It knows the hierarchy only at prediction time (closure, paths). It is the baseline that every other method must beat.

Legend: `B` documents, `T` tokens, `D` hidden size, `N` labels.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_flat import FlatConfig
from .labels import label_log_odds
from .modeling_htc import HTCPreTrainedModel
from .modules import at_least_float32
from .text_encoders import text_vector_size


class FlatClassifier(nn.Module):
    """`logits = W t + b`."""

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
    Flat multi-label classification: `loss = mean_b mean_n BCE(logits[b, n], y[b, n])`.

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
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, D)`, *optional*): Instead of `input_ids`.
            labels (`torch.Tensor`, *optional*): float or bool multi-hot `(B, N)`; or integer label ids `(B, K)` padded with
                -100, or `(B,)`.

        Returns:
            [`HTCOutput`]
        """
        encoded, text = self.encode(
            input_ids, attention_mask, token_type_ids, inputs_embeds, output_attentions, output_hidden_states
        )
        logits = at_least_float32(self.classifier(text))  # (B, N)
        losses = {} if labels is None else {"bce": self.classification_loss(logits, self.label_targets(labels))}
        return self.output(logits, losses, encoded, return_dict)
