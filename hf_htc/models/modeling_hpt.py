"""HPT: hierarchy-aware prompt tuning (Wang et al., EMNLP 2022). Behind the text stand a prompt and a slot for every level; the
slot's state is compared with the embeddings of the labels of its level. Differences from the authors' code are in
model_cards/hpt.md.

Legend: `B` documents, `T` tokens, `D` hidden size, `E` embedding size, `M` nodes, `N` labels, `L` levels, `K` label ids in a row.
"""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_hpt import HPTConfig
from .hpt_label_graph import LabelGraph
from .labels import label_log_odds
from .modeling_prompts import PromptPreTrainedModel
from .modules import CachingModule, at_least_float32
from .prompt_masked_lm import MaskedLMHead, embedding_size, masked_lm_loss, whole_weight
from .prompt_slots import LabelSlots, mean_word_vectors
from .unit_losses import decision_logits, prior_scores, unit_loss
from .units import BoundNetwork, Units


class HPTClassifier(CachingModule):
    """
    The prompts, the label embeddings and what compares them with the slots.

    Args:
        config ([`HPTConfig`]).
    """

    def __init__(self, config):
        super().__init__()
        size, num_nodes = embedding_size(config.text_config), config.num_hierarchy_nodes()
        num_levels = config.get_hierarchy().num_levels
        uses_mlm = config.mlm_weight > 0
        self.config = config
        self.label_embeddings = nn.Parameter(torch.empty(num_nodes, size))
        self.level_embeddings = nn.Parameter(torch.empty(num_levels, size))
        self.slot_embedding = nn.Parameter(torch.empty(size))
        self.graph = LabelGraph(config, size)
        self.mlm = MaskedLMHead(config, has_bias=uses_mlm)
        self.slots = LabelSlots(config)
        self.out_bias = nn.Parameter(torch.empty(config.num_labels))
        self.bound = BoundNetwork(size) if config.uses_bounds else None
        if uses_mlm:  # [MASK], and the biases of the labels, levels and the slot as classes of a masked word
            self.mask_embedding = nn.Parameter(torch.empty(size))
            self.class_bias = nn.Parameter(torch.empty(num_nodes + num_levels + 1))

    def init_weights(self, config):
        for parameter in (self.label_embeddings, self.level_embeddings, self.slot_embedding):
            init.normal_(parameter, std=config.initializer_range)
        init.zeros_(self.out_bias)
        if config.mlm_weight > 0:
            init.normal_(self.mask_embedding, std=config.initializer_range)
            init.zeros_(self.class_bias)

    @torch.no_grad()
    def start(self, model, tokenizer):
        """Label embeddings from the labels' texts, slot and mask from the tokenizer's [MASK]."""
        config = model.config
        if config.label_init != "random":
            special = config.label_init == "names_with_special_tokens"
            texts = config.get_hierarchy().texts
            self.label_embeddings.copy_(mean_word_vectors(model.get_input_embeddings(), tokenizer, texts, special))
        if tokenizer.mask_token_id is not None:
            vector = model.word_vectors_of(tokenizer.mask_token_id)
            self.slot_embedding.copy_(vector)
            if config.mlm_weight > 0:
                self.mask_embedding.copy_(vector)

    def prompts(self):
        """What stands behind every text, `(2 L, E)`: each level's prompt and its slot. At inference computed once."""
        return self.computed_once(self._make_prompts, self._prompt_sources())

    def _prompt_sources(self):
        graph = (*self.graph.parameters(), *self.graph.buffers())
        return self.label_embeddings, self.level_embeddings, self.slot_embedding, *graph

    def _make_prompts(self):
        levels = self.graph(self.label_embeddings, self.level_embeddings)
        slots = self.slot_embedding.to(levels.dtype).expand_as(levels)
        return torch.stack([levels, slots], 1).flatten(0, 1)

    def forward(self, states):
        """
        Args:
            states (`torch.Tensor` of shape `(B, L, D)`): The encoder's at the slots.

        Returns:
            `tuple`: scores `(B, N)`, and HBM's bounds `(B, L)` or `None`.
        """
        states = self.mlm(states)
        num_labels = len(self.out_bias)
        scores = self.slots.scores(states, self.label_embeddings[:num_labels]) + self.out_bias
        bounds = None if self.bound is None else at_least_float32(self.bound(states))
        return at_least_float32(scores), bounds

    def class_vectors(self):
        """Vectors of the classes that a masked word may be beside the words, `(M + L + 1, E)`."""
        return torch.cat([self.label_embeddings, self.level_embeddings, self.slot_embedding.unsqueeze(0)])

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        init.copy_(self.out_bias, prior_scores(self.config, label_log_odds(statistics)).to(self.out_bias))


class HPTForHierarchicalTextClassification(PromptPreTrainedModel):
    """
    HPT. With `h_i` the transformed state of level `i`'s slot and `e_n` the embedding of a label, `l_n = h_level(n) . e_n + b_n`;
    the loss is that of `config.unit_loss` on the labels of each level (ZLPR in the paper, HBM with bounds `t_i` from `h_i`), plus
    masked language modelling on the text in training.

    Example:

    ```python
    model = HPTForHierarchicalTextClassification.from_text_encoder("bert-base-uncased", hierarchy=hierarchy, tokenizer=tokenizer)
    ```
    """

    config: HPTConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = HPTClassifier(config)
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
        output_units=None,
        return_dict=None,
    ):
        """
        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(B, T)`): As the encoder's tokenizer
                gives them, padded left or right.
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, E)`, *optional*): Instead of `input_ids`; without masked language
                modelling.
            labels (`torch.Tensor`, *optional*): float or bool multi-hot `(B, N)`; or integer label ids `(B, K)` padded with
                -100, or `(B,)`.
            output_units (`bool`, *optional*): Whether to return the scores inside the units, see [`HTCOutput`].

        Returns:
            [`HTCOutput`]
        """
        mlm = None
        wants_mlm = self.config.mlm_weight > 0 and (self.training or self.config.mlm_in_eval)
        if labels is not None and input_ids is not None and wants_mlm:
            attention_mask, input_ids, token_type_ids, inputs_embeds, masked = self.mask_words(
                attention_mask, input_ids, token_type_ids, self.classifier.mask_embedding, self.config.template == "released"
            )
            mlm = (masked, input_ids)
        encoded, _, places = self.encode_tokens(
            input_ids if mlm is None else None, attention_mask, token_type_ids, inputs_embeds,
            output_attentions, output_hidden_states, self.classifier.prompts(), self.config.template == "released",
        )  # fmt: skip
        states = self.config.state_scale * encoded.last_hidden_state
        slots = places[:, 1::2, None].expand(-1, -1, states.shape[-1])
        scores, bounds = self.classifier(self.text_dropout(states.gather(1, slots)))  # (B, N), (B, L)
        of_labels = None if bounds is None else self.classifier.slots.of_labels(bounds)
        losses, targets = {}, None
        if labels is not None:
            targets = self.label_targets(labels)
            losses[self.config.unit_loss] = self._level_loss(scores, targets, bounds, of_labels)
        if mlm is not None:
            losses["mlm"] = self.config.mlm_weight * self._mlm_loss(states, *mlm)
        units = self.classifier.slots.units_output(scores, targets, bounds) if output_units else None
        return self.output(decision_logits(self.config, scores, of_labels), losses, encoded, return_dict, units)

    def _mlm_loss(self, states, masked, input_ids):
        words = whole_weight(self.get_input_embeddings())
        return masked_lm_loss(
            states, masked, input_ids, self.classifier.mlm, words, self.classifier.class_vectors(), self.classifier.class_bias
        )

    def _units_of(self, num_documents):
        if self.config.level_loss == "joint":
            return Units.of_groups(torch.zeros_like(self.classifier.slots.level), 1, num_documents)
        return self.classifier.slots.units(num_documents)

    def _level_loss(self, scores, targets, bounds, of_labels):
        units = self._units_of(len(scores))
        if bounds is not None and self.config.level_loss == "joint":  # every label keeps the bound of its level
            scores, bounds = scores - of_labels, None
        levels = (self.classifier.slots.level + 1).repeat(len(scores))
        bounds = None if bounds is None else bounds.flatten()
        return unit_loss(self.config, scores.flatten(), targets.flatten(), units, bounds, levels)
