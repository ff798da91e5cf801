"""HiSR: HiAGM whose training also ranks the sequences of the hierarchy's labels (Zhou et al., "A Novel Negative Sample Generation
Method for Contrastive Learning in Hierarchical Text Classification", COLING 2025). The settings and every difference from the
paper: model_cards/hisr.md.

Legend: `B` documents, `N` labels.
"""

from .configuration_hisr import HiSRConfig
from .hisr_ranking import SequenceRanking
from .modeling_hiagm import HiAGMForHierarchicalTextClassification


class HiSRForHierarchicalTextClassification(HiAGMForHierarchicalTextClassification):
    """
    HiAGM, and in training `loss = sum over labels of BCE + ranking_weight * (positive-negative + negative-negative)` beside
    HiAGM's regularization; see [`SequenceRanking`]. Without labels the forward pass is HiAGM's.

    A document is visited once in an epoch, and its most probable sequences are chosen then, by the probabilities of that very
    step: every choice holds for one epoch, as in the paper.

    Example:

    ```python
    model = HiSRForHierarchicalTextClassification.from_text_encoder(
        "bert-base-uncased", hierarchy=hierarchy, train_labels=labels
    )
    ```
    """

    config: HiSRConfig

    def build_classifier(self, config):
        classifier = super().build_classifier(config)
        classifier.ranking = SequenceRanking(config)
        return classifier

    def compute_losses(self, logits, targets, reduction="mean"):
        """As HiAGM's, and, weighted, `positive_negative` and `negative_negative`."""
        losses = super().compute_losses(logits, targets, self.config.bce_reduction)
        weight = self.config.ranking_weight
        if weight:
            # With `coherence="training"` the probabilities are those of the coherent logits, as in the cross-entropy.
            scores = self.coherence(logits) if self.config.coherence == "training" else logits
            positive, negative = self.classifier.ranking(scores, targets)
            losses["positive_negative"] = weight * positive.mean()
            losses["negative_negative"] = weight * negative.mean()
        return losses
