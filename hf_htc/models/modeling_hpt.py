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
from .modeling_htc import HTCOutput
from .modeling_prompts import PromptPreTrainedModel
from .modules import CachingModule, at_least_float32
from .prompt_masked_lm import MaskedLMHead, embedding_size
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
        # `bounds` in the other unit methods. Checkpoints and adapters have weights of this name, and transformers renames none
        # for code that came with a checkpoint.
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
    def start_from_encoder(self, model, tokenizer):
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
    masked language modelling on the text in training: the `losses` under the name of the unit loss, and `mlm`.

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

    @property
    def last_stays(self):
        return self.config.prompt_template == "released"

    def mask_vector(self):
        wanted = self.config.mlm_weight > 0 and (self.training or self.config.mlm_in_eval)
        return self.classifier.mask_embedding if wanted else None

    def prompts_behind(self, targets=None):
        return self.classifier.prompts(), None

    def logits_and_losses(self, encoded, targets=None, output_units=False):
        classifier, config = self.classifier, self.config
        slots = encoded.places[:, 1::2, None].expand(-1, -1, encoded.states.shape[-1])
        scores, bounds = classifier(self.text_dropout(encoded.states.gather(1, slots)))  # (B, N), (B, L)
        of_labels = None if bounds is None else classifier.slots.of_labels(bounds)
        losses = {}
        if targets is not None:
            losses[config.unit_loss] = self._level_loss(scores, targets, bounds, of_labels)
        if encoded.masked is not None:
            losses["mlm"] = config.mlm_weight * self.masked_word_loss(encoded, classifier.class_vectors(), classifier.class_bias)
        units = classifier.slots.units_output(scores, targets, bounds) if output_units else None
        return HTCOutput(logits=decision_logits(config, scores, of_labels), losses=losses, units=units)

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
