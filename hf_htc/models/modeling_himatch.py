"""HiMatch: texts and labels meet in a joint embedding (Chen et al., "Hierarchy-aware Label Semantics Matching Network for
Hierarchical Text Classification", ACL 2021). The settings and every difference from the authors' code: model_cards/himatch.md.

Legend: `B` documents, `T` tokens, `H` hidden size of the text encoder, `M` nodes, `N` labels, `D` node dimension, `K` labels to
score, `J` size of the joint embedding.
"""

import math
from contextlib import nullcontext

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import logging

from .configuration_himatch import HiMatchConfig
from .errors import HTCError, HTCTypeError
from .himatch_label_texts import complete_texts, embed_label_texts, embed_label_tokens, label_embedding_size, tokenize_label_texts
from .himatch_matching import LabelMatching
from .losses import regularization
from .modeling_hiagm import TextPropagation
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import HTCModule, at_least_float32
from .prediction import check_texts
from .text_encoders import text_vector_size


logger = logging.get_logger(__name__)

# A product of vectors of length 1 lies in [-1, 1]; a label that one document in a thousand has begins at a logit of -7.
UNIT_SCALE = 20.0


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
            matching = self.matching
            losses = matching.losses(self._semantics_of(nodes), matching.label_semantics(), targets)
        return self.classify(nodes), losses

    def _semantics_of(self, nodes):
        """`Phi_t (B, J)` of node states `(B, M, D)`."""
        features = nodes.flatten(1) if self.node_weights is None else (nodes * self.node_weights).sum(1)
        return self.matching.text_semantics(features)

    def text_semantics(self, text):
        """`Phi_t (B, J)` of text vectors `(B, H)`, which matching compares with the labels'; nothing else needs it to predict."""
        return self._semantics_of(self.propagate(text))


class DotProductClassifier(HTCModule):
    """
    The form without a classifier: `logits_n = e^scale * Phi_t . Phi_n + bias`.

    One bias for all labels, as one of their own would keep down those without training documents. It starts at the log-odds of
    the mean label frequency, the factor at 20 for semantics of length 1, else at 1.
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
        init.constant_(self.out_scale, math.log(UNIT_SCALE) if config.normalize_joint else 0.0)
        init.zeros_(self.out_bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        counts = torch.as_tensor(statistics["counts"], dtype=torch.float64)
        share = (counts.mean() + 0.5) / (statistics["num_documents"] + 1)
        self.out_bias.fill_(torch.logit(share))
        self.matching.set_label_statistics(statistics)

    def text_semantics(self, text):
        """`Phi_t (B, J)` of text vectors `(B, H)`."""
        return self.matching.text_semantics(text)

    def score(self, text, labels):
        """Logits `(B, K)` of text semantics `(B, J)` and label semantics `(K, J)`, in float32: in half precision the best of
        thousands of labels would have the same score."""
        kind = text.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            products = at_least_float32(text) @ at_least_float32(labels).T
            return torch.exp(at_least_float32(self.out_scale)) * products + at_least_float32(self.out_bias)

    def forward(self, text, targets=None):
        """As [`MatchingClassifier`]'s."""
        text, labels = self.text_semantics(text), self.matching.label_semantics()
        losses = {} if targets is None else self.matching.losses(text, labels, targets)
        return self.score(text, labels[: self.num_labels]), losses


class HiMatchForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    HiMatch: `loss = BCE + lambda_joint * joint + lambda_match * match` (equation 8), the `losses` `bce`, `joint` and `match`; and
    `recursive_regularization` where the config has it.

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

    def start_from_encoder(self, extras, tokenizer):
        if tokenizer is not None:
            self.set_label_texts(tokenizer)
        elif self.config.has_matching():
            logger.warning(
                "The label embeddings start at random: pass the `tokenizer`, or call `model.set_label_texts(tokenizer)`, so that "
                "they start from the labels' texts."
            )

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
            # Kept for `label_refresh_steps`; not with the checkpoint, whose embeddings are as old as its weights.
            self.classifier.matching.label_tokens = tokenize_label_texts(self, tokenizer, texts, self.config.label_source)
            self._embed_labels(batch_size)

    @torch.no_grad()
    def _refresh_labels(self):
        """Counts a training step; makes the label embeddings anew before it where they are as old as `label_refresh_steps`."""
        matching, steps = self.classifier.matching, self.config.label_refresh_steps
        if not steps or matching is None:
            return
        if matching.label_tokens is None:  # texts do not travel with a checkpoint
            logger.warning_once(
                f"`label_refresh_steps` is {steps}, but this model does not know its labels' texts: the label embeddings stay "
                "as they are. Call `model.set_label_texts(tokenizer)` to have them follow the encoder."
            )
            return
        if int(matching.label_age) >= steps:
            self._embed_labels()
        matching.label_age += 1

    def _embed_labels(self, batch_size=64):
        matching = self.classifier.matching
        vectors = embed_label_tokens(self, *matching.label_tokens, self.config.label_source, batch_size)
        matching.set_label_embeddings(vectors)

    def encode(self, *inputs, targets=None, **kwargs):
        """As [`~HTCPreTrainedModel.encode`]; in training the labels' texts too, every `label_refresh_steps`."""
        if self.training and targets is not None:
            self._refresh_labels()
        return super().encode(*inputs, targets=targets, **kwargs)

    def logits_and_losses(self, encoded, targets=None):
        logits, losses = self.classifier(self.text_vectors(encoded), targets)
        logits = at_least_float32(logits)  # (B, N)
        if targets is not None:
            losses = {"bce": self.classification_loss(logits, targets, self.config.bce_reduction), **losses}
            if self.config.prediction == "classifier":
                losses |= regularization(self.config.recursive_regularization, self.classifier)
        return HTCOutput(logits=logits, losses=losses)

    # ------------------------------------------------------------------ labels by name

    @torch.no_grad()
    def score_labels(self, texts, tokenizer, labels, parents=None, batch_size=32, show_progress_bar=None):
        """
        Scores of labels by name, also of labels that are not in the hierarchy. For `prediction="dot_product"`.

        A name of the hierarchy has its node's semantics, whether it occurred in training or not, structure-only nodes too. Any
        other string is a new label: the text encoder embeds it as it did the others (`config.label_source`; a description
        is as good as a name), and the label GCN tells it of its `parents`. Without parents it stands alone, as a first-level
        label without children would. The new labels change nothing about the known ones.

        Args:
            texts (`str` or `list[str]`): As for `predict`.
            tokenizer (`PreTrainedTokenizer`): The checkpoint's tokenizer.
            labels (`list[str]`): `K` names of nodes, or names or descriptions of new labels.
            parents (`dict[str, list[str]]`, *optional*): By new label, the names of its parents in the hierarchy.
            batch_size (`int`, *optional*, defaults to 32): Texts a forward pass.
            show_progress_bar (`bool`, *optional*): Defaults to a bar for long work in a terminal.

        Returns:
            `list[dict]`, or one `dict` for a single `str`: `labels`, all of them, best first, and `scores`, in [0, 1]. A label
            scores above 0.5 where the model would predict it.

        Raises:
            `ValueError`: another `prediction`; no labels, an empty one or one twice; an unknown parent, or parents of a label
            that is not new. `TypeError`: labels that are no list of strings.

        Example:

        ```python
        >>> model.score_labels("The match went to penalties.", tokenizer, ["sport/football", "handball", "tax"])
        {'labels': ['sport/football', 'handball', 'tax'], 'scores': [0.91, 0.34, 0.01]}
        ```
        """
        single = isinstance(texts, str)
        texts = [texts] if single else list(texts)
        check_texts(texts)
        semantics = self._semantics_by_name(tokenizer, labels, parents)
        results = [None] * len(texts)
        for rows, scores in self._label_scores(texts, tokenizer, semantics, batch_size, show_progress_bar):
            for row, values in zip(rows, scores.tolist()):
                order = sorted(range(len(labels)), key=lambda k: -values[k])
                results[row] = {"labels": [labels[k] for k in order], "scores": [round(values[k], 6) for k in order]}
        return results[0] if single else results

    def _label_scores(self, texts, tokenizer, semantics, batch_size, show_progress_bar):
        """Yields rows of `texts` and the scores of the labels whose semantics `(K, J)` are given."""
        classifier, seen = self.classifier, {}
        # `iter_logits` cuts, batches and pads as for every prediction; what it computes for the known labels is little beside.
        handle = classifier.matching.text_ffn.register_forward_hook(lambda module, inputs, output: seen.update(text=output))
        try:
            for rows, _ in self.iter_logits(texts, tokenizer, batch_size, show_progress_bar):
                text = classifier.matching.scaled(seen["text"])
                yield rows, torch.sigmoid(at_least_float32(classifier.score(text, semantics)))
        finally:
            handle.remove()

    def _semantics_by_name(self, tokenizer, labels, parents):
        """`Phi (K, J)` of node names and of new labels."""
        if self.config.prediction != "dot_product":
            raise HTCError(
                "`score_labels` compares texts with labels by name; train with `prediction='dot_product'`. A model with a "
                "classifier knows the labels it was trained on only: use `predict`."
            )
        hierarchy, parents = self.config.get_hierarchy(), parents or {}
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
            raise HTCTypeError(f"`labels` is {labels!r}; give a list of strings.")
        if not labels or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
            raise HTCError("`labels` must hold at least one label, none of them empty or twice.")
        new = [label for label in labels if label not in hierarchy]
        for label in parents:
            if label not in new:
                known = "is no new label" if label in hierarchy else "is not in `labels`"
                raise HTCError(f"`parents` names {label!r}, which {known}; it gives new labels their place.")
        was_training = self.training
        self.eval()
        try:
            matching = self.classifier.matching
            semantics = matching.label_semantics()
            if new:
                embeddings = embed_label_texts(self, tokenizer, new, self.config.label_source)
                above = [[hierarchy.id(name) for name in parents.get(label, ())] for label in new]
                semantics = torch.cat([semantics, matching.semantics_of(embeddings, above)])
        finally:
            self.train(was_training)
        place = {label: hierarchy.num_nodes + k for k, label in enumerate(new)}
        rows = [place[label] if label in place else hierarchy.id(label) for label in labels]
        return semantics[torch.tensor(rows, device=semantics.device)]
