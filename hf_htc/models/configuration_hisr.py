"""Configuration of HiSR (Zhou et al., COLING 2025)."""

from huggingface_hub.dataclasses import strict

from .configuration_hiagm import HiAGMConfig
from .errors import HTCError


@strict
class HiSRConfig(HiAGMConfig):
    """
    Configuration of [`HiSRForHierarchicalTextClassification`]: HiAGM's, whose options are all here too, and the ranking losses.

    `structure_encoder="none"` is the paper's ablation without the GCN, `ranking_weight=0` the one without the ranking losses.

    Args:
        ranking_weight (`float`, *optional*, defaults to 0.01): Alpha, the weight of both ranking losses (Eq. 12). 0 leaves
            HiAGM, with `bce_reduction="mean"` to the last digit.
        positive_margin (`float`, *optional*, defaults to 0.5): By how much the ground truth should be more probable than a
            sequence (Eq. 7).
        negative_margin (`float`, *optional*, defaults to 0.15): By how much a sequence should be more probable than one a rank
            below it (Eq. 8).
        max_rank_distance (`int`, *optional*): Ranks that at most are counted in the margins of Eq. 8. `None`: all, as printed;
            from a distance of 7 on, no probabilities can then satisfy the margin.
        ranking_sign (`str`, *optional*, defaults to `"corrected"`): `"corrected"`: the ground truth and the better sequence are
            to be more probable, as the text of the paper says; `"printed"`: less probable, as its Eq. 7 and 8 say.
        ranking_positive (`str`, *optional*, defaults to `"mean_of_labels"`): The probability of the ground truth: the mean over
            the document's labels, or `"mean_of_paths"`, the mean over the sequences of its most specific labels.
        ranking_candidates (`str`, *optional*, defaults to `"without_sequences_inside_gold"`): The sequences that are ranked:
            without those that hold only labels of the document; `"without_f1_equal_1"`, without the one that is the ground
            truth; or `"all_sequences"`.
        ranking_negatives (`str`, *optional*, defaults to `"all"`): The sequences that the ground truth is compared with: `"all"`
            candidates (Eq. 7), a sum that grows with the labels; or `"selected"`, the most probable one of each F1, as in Eq. 8.
        bce_reduction (`str`, *optional*, defaults to `"sum"`): The binary cross-entropy is the sum over the labels of a document
            (Eq. 11), or their `"mean"`, as in HiAGM; the same alpha then weighs as many times more as there are labels.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): an unknown choice, or a value out of range.
    """

    model_type = "htc_hisr"
    pretrained_learning_rates = {"learning_rate": 1e-4, "classifier_learning_rate": 1e-3}
    attribute_map = {
        "sign": "ranking_sign",
        "positive": "ranking_positive",
        "candidates": "ranking_candidates",
        "negatives": "ranking_negatives",
    }  # names of 0.1.0

    ranking_weight: float | int = 0.01
    positive_margin: float | int = 0.5
    negative_margin: float | int = 0.15
    max_rank_distance: int | None = None
    ranking_sign: str = "corrected"
    ranking_positive: str = "mean_of_labels"
    ranking_candidates: str = "without_sequences_inside_gold"
    ranking_negatives: str = "all"
    bce_reduction: str = "sum"

    def validate_hisr(self):
        for key in ("ranking_weight", "positive_margin", "negative_margin"):
            if not getattr(self, key) >= 0:
                raise HTCError(f"`{key}` is {getattr(self, key)}; it is at least 0.")
        if self.max_rank_distance is not None and self.max_rank_distance < 1:
            raise HTCError(f"`max_rank_distance` is {self.max_rank_distance}; it is at least 1, or None for no limit.")
        for key, allowed in (
            ("ranking_sign", ("corrected", "printed")),
            ("ranking_positive", ("mean_of_labels", "mean_of_paths")),
            ("ranking_candidates", ("all_sequences", "without_sequences_inside_gold", "without_f1_equal_1")),
            ("ranking_negatives", ("all", "selected")),
            ("bce_reduction", ("sum", "mean")),
        ):
            if getattr(self, key) not in allowed:
                raise HTCError(f"`{key}` is {getattr(self, key)!r}; allowed are {', '.join(map(repr, allowed))}.")
