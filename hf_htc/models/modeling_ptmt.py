"""PTMTTaxoFormer: labels as tokens that a masked language model fills in, one slot a level behind learnable prompts (Vasantha,
Nguyen and Zhang, "Prompt-Tuned Multi-Task Taxonomic Transformer"). The settings and every point that the paper leaves open:
model_cards/ptmt.md.

Legend: `B` documents, `T` tokens, `D` hidden size, `E` embedding size, `N` labels, `L` levels, `P` positions behind a text,
`U` units of the batch (a level of a document), `K` entries (labels of all units).
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init

from .coherence import PathPruning
from .configuration_ptmt import PTMTTaxoFormerConfig
from .errors import HTCError
from .labels import label_log_odds
from .modeling_htc import HTCOutput
from .modeling_prompts import PromptPreTrainedModel
from .modules import HTCModule, at_least_float32
from .prompt_masked_lm import MaskedLMHead, embedding_size
from .prompt_slots import LabelSlots, mean_word_vectors
from .unit_losses import asymmetric_loss, decision_logits, prior_scores, single_label_asymmetric_loss, unit_loss
from .units import BoundNetwork, Units


def count_loss(surplus, units, scope):
    """
    The L1 loss of the number of predicted labels: `|sum of probabilities - number of labels|`, summed over the units of a
    document, then the mean over documents.

    Args:
        surplus (`torch.Tensor` of shape `(U,)`): That difference in every unit.
        units ([`Units`]).
        scope (`str`): `"document"` takes the difference over the whole document instead.

    Returns:
        `torch.Tensor`: a scalar.
    """
    if scope == "document":
        return surplus.new_zeros(units.num_documents).index_add(0, units.document, surplus).abs().mean()
    return units.mean_over_documents(surplus.abs(), "sum")


def only_units(units, keep):
    """
    Some of the units.

    Args:
        units ([`Units`]), keep (`torch.BoolTensor` of shape `(U,)`).

    Returns:
        `tuple`: which entries are left, `(K,)` bool, and their [`Units`].
    """
    kept = keep[units.unit]
    number = keep.long().cumsum(0) - 1
    return kept, Units(number[units.unit[kept]], units.document[keep], units.num_documents)


@dataclass
class SlotScores:
    """
    What the slots say.

    Args:
        scores (`torch.Tensor` of shape `(B, N)`): Scores of the labels.
        none (`torch.Tensor` of shape `(B, L)`, *optional*): Scores of "no label on this level".
        bounds (`torch.Tensor` of shape `(B, L)`, *optional*): HBM's bounds.
    """

    scores: torch.Tensor
    none: torch.Tensor | None
    bounds: torch.Tensor | None


class PTMTClassifier(HTCModule):
    """
    Prompts, the mask of the slots, label tokens: `score_n = h_i . e_n + b_n`, `h_i` the transformed state at the slot of label
    `n`'s level, `e_n` its token. With `level_problem="single_label"` every level has a token and a bias for "none".

    Args:
        config ([`PTMTTaxoFormerConfig`]).
    """

    def __init__(self, config):
        super().__init__()
        size, num_levels = embedding_size(config.text_config), config.get_hierarchy().num_levels
        self.config = config
        self.mlm = MaskedLMHead(config, has_bias=config.mlm_alpha > 0)
        self.prompts = nn.Parameter(torch.empty(config.num_prompts, size))
        self.mask = nn.Parameter(torch.empty(size))
        self.separator = nn.Parameter(torch.empty(size)) if config.has_separator else None
        tokens = torch.empty(config.num_labels, size)
        if config.train_label_tokens:
            self.label_tokens = nn.Parameter(tokens)
        else:
            self.register_buffer("label_tokens", tokens)
        self.out_bias = nn.Parameter(torch.empty(config.num_labels))
        is_single = config.level_problem == "single_label"
        self.none_tokens = nn.Parameter(torch.empty(num_levels, size)) if is_single else None
        self.none_bias = nn.Parameter(torch.empty(num_levels)) if is_single else None
        self.dropout = nn.Dropout(config.text_dropout)
        self.bounds = BoundNetwork(size) if config.uses_bounds else None
        self.slots = LabelSlots(config)
        self.pruning = PathPruning(config)

    def init_weights(self, config):
        for vectors in (self.prompts, self.mask, self.separator, self.label_tokens, self.none_tokens):
            if vectors is not None:
                init.normal_(vectors, std=config.initializer_range)
        for bias in (self.out_bias, self.none_bias):
            if bias is not None:
                init.zeros_(bias)

    @torch.no_grad()
    def start_from_encoder(self, model, tokenizer):
        """
        Begins with what the tokenizer's words mean: [MASK] (the mean of all words where there is none), [SEP] or the end of a
        text, random words as prompts, the words of the label texts.

        Args:
            model ([`PTMTTaxoFormerForHierarchicalTextClassification`]), tokenizer (`PreTrainedTokenizer`).
        """
        embedding, config = model.get_input_embeddings(), model.config
        mask_id = tokenizer.mask_token_id
        self.mask.copy_(embedding.weight.mean(0) if mask_id is None else model.word_vectors_of(mask_id))
        end_id = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        if self.separator is not None and end_id is not None:
            self.separator.copy_(model.word_vectors_of(end_id))
        if config.prompt_init == "words":
            special = set(tokenizer.all_special_ids)
            words = torch.tensor([word for word in range(len(tokenizer)) if word not in special] or [0])
            drawn = words[torch.randint(len(words), (config.num_prompts,))]
            self.prompts.copy_(embedding(drawn.to(embedding.weight.device)))
        if config.label_init == "names":
            texts = config.get_hierarchy().texts[: config.num_labels]
            self.label_tokens.copy_(mean_word_vectors(embedding, tokenizer, texts))

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        if self.none_bias is None:
            log_odds = prior_scores(self.config, label_log_odds(statistics))
            init.copy_(self.out_bias, log_odds.to(self.out_bias))
            return
        # Log shares of the classes of a softmax.
        counts, total = torch.as_tensor(statistics["counts"], dtype=torch.float64), statistics["num_documents"]
        level = self.slots.level.cpu()
        rest = (total - counts.new_zeros(len(self.none_bias)).index_add(0, level, counts)).clamp(min=0)
        init.copy_(self.out_bias, torch.log((counts + 0.5) / total).to(self.out_bias))
        init.copy_(self.none_bias, torch.log((rest + 0.5) / total).to(self.none_bias))

    # ------------------------------------------------------------------ what stands behind a text

    def draw_slots(self, targets):
        """
        Which slots are masked in a training step: a slot without an answer always, others with the probability `p_label`.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`).

        Returns:
            `tuple`: whether a slot is masked, `(B, L)` bool, and what the slots hold, `(B, L, E)`.
        """
        gold, counts = self.slots.means(targets, self.label_tokens)
        is_masked = (torch.rand(counts.shape, device=counts.device) < self.config.label_mask_probability) | (counts == 0)
        return is_masked, torch.where(is_masked.unsqueeze(-1), self.mask, gold)

    def positions_behind(self, slots=None):
        """
        Args:
            slots (`torch.Tensor` of shape `(B, L, E)`, *optional*): What the slots hold; all are masked otherwise.

        Returns:
            `torch.Tensor` of shape `(P, E)`, or `(B, P, E)`.
        """
        if slots is None:
            slots = self.mask.expand(len(self.slots.sizes), -1)
        parts = [self.prompts, slots]
        if self.separator is not None:
            parts.insert(1 if self.config.prompt_template == "appendix" else 2, self.separator.unsqueeze(0))
        if slots.dim() == 3:
            parts = [part if part.dim() == 3 else part.expand(len(slots), -1, -1) for part in parts]
        return torch.cat(parts, -2)

    def slot_places(self, places):
        """Where the slots stand, `(B, L)`, among the positions `(B, P)` behind a text."""
        first = len(self.prompts) + (self.config.prompt_template == "appendix")
        return places[:, first : first + len(self.slots.sizes)]

    # ------------------------------------------------------------------ scores

    def forward(self, states):
        """
        Args:
            states (`torch.Tensor` of shape `(B, L, D)`): The encoder's at the slots.

        Returns:
            [`SlotScores`]
        """
        states = self.mlm(states) if self.config.use_mlm_transform else states  # (B, L, E)
        bounds = None if self.bounds is None else self.bounds(states)
        states = self.dropout(states)
        scores = self.slots.scores(states, self.label_tokens) + self.out_bias
        none = None if self.none_tokens is None else (states * self.none_tokens).sum(-1) + self.none_bias
        return SlotScores(scores, none, bounds)


class PTMTTaxoFormerForHierarchicalTextClassification(PromptPreTrainedModel):
    """
    `loss = alpha * MLM + (1 - alpha) * (WASL + alpha_l1 * L1)` (Eq. 3); see [`PTMTTaxoFormerConfig`] for every part of it.

    In eval mode every slot is masked and no word is, and the loss has no MLM part. With `inputs_embeds` there is none either. The
    `losses` are `mlm`, the one under the name of the unit loss, and `l1`. Units have no entry for the class "none".

    Example:

    ```python
    model = PTMTTaxoFormerForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, tokenizer=tokenizer, train_labels=labels
    )
    ```
    """

    config: PTMTTaxoFormerConfig

    def __init__(self, config):
        super().__init__(config)
        del self.text_dropout  # the classifier has its own, behind the transformation
        self.classifier = PTMTClassifier(config)
        self.post_init()

    def mask_vector(self):
        return self.classifier.mask if self.training and self.config.mlm_alpha else None

    def prompts_behind(self, targets=None):
        is_learning = self.training and targets is not None
        masked_slots = slots = None
        if is_learning and self.classifier.mlm.is_random and self.config.label_mask_probability < 1:
            masked_slots, slots = self.classifier.draw_slots(targets)
        return self.classifier.positions_behind(slots), masked_slots

    def logits_and_losses(self, encoded, targets=None, output_units=False):
        classifier, config, states = self.classifier, self.config, encoded.states
        places = classifier.slot_places(encoded.places).unsqueeze(-1)
        found = classifier(states.gather(1, places.expand(-1, -1, states.shape[-1])))
        losses = {}
        if encoded.masked is not None:
            classes = ()
            if config.mlm_classes == "words_and_labels":
                classes = classifier.label_tokens, classifier.out_bias
            losses["mlm"] = config.mlm_alpha * self.masked_word_loss(encoded, *classes)
        if targets is not None:
            losses |= self.classification_losses(found, targets, encoded.masked_slots)
        units = None
        if output_units:  # not of the class "none"
            units = classifier.slots.units_output(at_least_float32(found.scores), targets, found.bounds)
        return HTCOutput(logits=self._decide(found), losses=losses, units=units)

    # ------------------------------------------------------------------ decisions

    def _decide(self, found):
        """The logits of the contract, `(B, N)`."""
        if found.none is not None:
            logits = self.classifier.slots.margins(at_least_float32(found.scores), at_least_float32(found.none))
        else:
            bounds = None if found.bounds is None else self.classifier.slots.of_labels(found.bounds)
            logits = decision_logits(self.config, found.scores, bounds)
        return self.classifier.pruning(logits) if self.config.prunes else logits

    # ------------------------------------------------------------------ losses

    def classification_losses(self, found, targets, is_masked=None):
        """
        The loss on units, under the name of `config.unit_loss`, and `l1`, both weighted.

        Args:
            found ([`SlotScores`]).
            targets (`torch.Tensor` of shape `(B, N)`).
            is_masked (`torch.BoolTensor` of shape `(B, L)`, *optional*): Slots that were masked; `None` is all.

        Returns:
            `dict[str, torch.Tensor]`

        Raises:
            `ValueError`: two labels on a level with `level_problem="single_label"`.
        """
        config, level, num_levels = self.config, self.classifier.slots.level, len(self.classifier.slots.sizes)
        scores, group = at_least_float32(found.scores), level
        is_label = torch.ones_like(targets, dtype=torch.bool)
        if found.none is not None:
            counts = targets.new_zeros(len(targets), num_levels).index_add(1, level, targets)
            if not torch.compiler.is_compiling() and bool((counts > 1).any()):
                row, where = (counts > 1).nonzero()[0].tolist()
                raise HTCError(
                    f"Document {row} of the batch has {int(counts[row, where])} labels on level {where + 1}; "
                    "`level_problem='single_label'` takes at most one a level, use 'multi_label'."
                )
            scores = torch.cat([scores, at_least_float32(found.none)], 1)
            group = torch.cat([level, torch.arange(num_levels, device=level.device)])
            targets = torch.cat([targets, 1 - counts], 1)
            is_label = torch.cat([is_label, torch.zeros_like(counts, dtype=torch.bool)], 1)
        units = Units.of_groups(group, num_levels, len(targets))
        bounds = None if found.bounds is None else at_least_float32(found.bounds).flatten()
        entries = (scores.flatten(), targets.flatten(), is_label.flatten(), (group + 1).repeat(len(targets)))
        if is_masked is not None and config.wasl_slots == "masked":
            kept, units = only_units(units, is_masked.flatten())
            entries = tuple(values[kept] for values in entries)
            bounds = None if bounds is None else bounds[is_masked.flatten()]
        scores, targets, is_label, levels = entries
        if found.none is not None and config.unit_loss == "asl":
            loss = single_label_asymmetric_loss(
                scores, targets, units, config.asl_gamma_positive, config.asl_gamma_negative, reduction=config.loss_reduction
            )
        elif config.unit_loss == "bce":  # a sum as WASL is, or the L1 loss would outweigh it
            loss = asymmetric_loss(scores, targets, units, 0, 0, 0, reduction=config.loss_reduction)
        else:
            loss = unit_loss(config, scores, targets, units, bounds, levels)
        weight = 1 - config.mlm_alpha
        losses = {config.unit_loss: weight * loss}
        if config.l1_weight:
            if found.none is not None:
                top = units.max(scores.detach(), torch.finfo(scores.dtype).min)
                powers = torch.exp(scores - top[units.unit])
                chances = powers / units.sum(powers)[units.unit]
            else:
                chances = torch.sigmoid(decision_logits(config, scores, None if bounds is None else bounds[units.unit]))
            surplus = units.sum(torch.where(is_label, chances - targets, 0))  # (U,)
            losses["l1"] = weight * config.l1_weight * count_loss(surplus, units, config.l1_scope)
        return losses
