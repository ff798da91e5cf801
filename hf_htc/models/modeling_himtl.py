"""HiMTL: the hierarchy split at its root, a hierarchy-aware classifier for each branch on one text encoder ("HiMTL:
Hierarchy-aware Multi-Task Learning for Hierarchical Text Classification"). The settings and every difference from the paper:
model_cards/himtl.md.

Legend: `B` documents, `T` tokens, `H` size of the text vector, `N` labels, `K` copies of labels, one in each branch.
"""

import torch
from torch import nn
from transformers import initialization as init

from .coherence import coherent_bce
from .configuration_himtl import HiMTLConfig
from .himtl_branches import BranchCoherentMax, BranchCombination
from .himtl_hiagm import BranchPropagation
from .himtl_hitin import BranchTrees
from .labels import label_log_odds
from .losses import multi_label_bce
from .modeling_htc import HTCOutput, HTCPreTrainedModel
from .modules import HTCModule, at_least_float32


class HiMTLClassifier(HTCModule):
    """The classifiers of all branches, their biases, and the combination of what they give."""

    _no_split_modules = ["BranchGCN"]

    def __init__(self, config):
        super().__init__()
        self.config = config
        branches = config.get_branches()
        self.branch_heads = (BranchPropagation if config.branch_method == "hiagm" else BranchTrees)(config, branches)
        self.out_bias = nn.Parameter(torch.empty(branches.num_label_copies))
        self.combination = BranchCombination(branches, config.branch_combine)
        self.coherence = BranchCoherentMax(config) if config.coherence == "training" else None

    @torch.no_grad()
    def init_weights(self, config):
        init.zeros_(self.out_bias)

    @torch.no_grad()
    def set_label_statistics(self, statistics):
        # Every branch that covers a label starts at its prior; so does their maximum and their mean.
        log_odds = label_log_odds(statistics).to(self.out_bias.device)
        self.out_bias.copy_(self.combination.to_copies(log_odds[None])[0])
        self.branch_heads.set_label_statistics(statistics, self.config)

    def forward(self, text):  # (B, H)
        return self.branch_heads(text) + self.out_bias  # (B, K)


class HiMTLForHierarchicalTextClassification(HTCPreTrainedModel):
    """
    A classifier of the method `config.branch_method` for each branch at the root. The logits of a label are combined over the
    branches that it lies in; the losses are not: `loss = sum over branches r of BCE_r + l2_regularization * ||W_r||^2 +
    recursive_regularization * sum over edges of 0.5 ||w_parent - w_child||^2` (Eq. 5; Eq. 1 corrected). The `losses` `bce`,
    `l2_regularization` and `recursive_regularization` are sums over the branches.

    Call [`~HTCPreTrainedModel.set_label_statistics`] (or give `train_labels` to `from_text_encoder`; `build_trainer` does it)
    so that the edges start at the prior probabilities of the training labels.

    Example:

    ```python
    model = HiMTLForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, train_labels=labels
    )
    ```
    """

    config: HiMTLConfig

    def __init__(self, config):
        super().__init__(config)
        self.classifier = HiMTLClassifier(config)
        self.post_init()

    def logits_and_losses(self, encoded, targets=None):
        branch_logits = at_least_float32(self.classifier(self.text_vectors(encoded)))  # (B, K)
        logits = self.classifier.combination(branch_logits)  # (B, N)
        losses = {}
        if targets is not None:
            config, heads, combination = self.config, self.classifier.branch_heads, self.classifier.combination
            weights = combination.label_weights(config.bce_mean, branch_logits.dtype)
            losses["bce"] = self.classification_loss(branch_logits, combination.to_copies(targets), weights)
            if config.l2_regularization:
                losses["l2_regularization"] = config.l2_regularization * heads.l2_regularization()
            if config.recursive_regularization:
                losses["recursive_regularization"] = config.recursive_regularization * heads.recursive_regularization()
        return HTCOutput(logits=logits, losses=losses)

    def classification_loss(self, logits, targets, reduction="mean"):
        """As [`~HTCPreTrainedModel.classification_loss`], of the branches' logits and targets `(B, K)`; the max constraint of
        `config.coherence="training"` holds inside each branch, where all descendants of a label are."""
        if self.config.coherence == "training":
            return coherent_bce(logits, targets, self.classifier.coherence, reduction)
        return multi_label_bce(logits, targets, reduction)
