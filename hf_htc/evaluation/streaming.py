"""Metrics of a running evaluation: predictions leave the device as bits, counts are kept, nothing is concatenated.

Legend: `B` documents, `N` labels, `K` label ids in a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCFloatingPointError
from hf_htc.models.label_sets import labels_csr


if TYPE_CHECKING:
    from transformers import EvalPrediction

    from hf_htc.annotations import Closure, Csr
    from hf_htc.models.hierarchy import LabelHierarchy


_BITS = 8


class StreamingMetrics:
    """
    `compute_metrics` and `preprocess_logits_for_metrics` of a Trainer with `batch_eval_metrics=True`.

    Predictions become `ceil(N / 8)` bytes a row before they are gathered, a fixed width, so that processes always agree on
    it; the counts of every batch are added to a [`HierarchicalScorer`].

    Args:
        hierarchy ([`LabelHierarchy`]): The taxonomy.
        boundary (`float` or `torch.Tensor` of shape `(N,)`, *optional*, defaults to 0.0): The logit above which a label is
            predicted, from `model.decision_boundary()`.
        closure (`str`, *optional*, defaults to `"none"`): `"none"`, `"up"` or `"prune"`, applied before counting and echoed.

    [`~StreamingMetrics.reset`] begins a new evaluation; [`HTCTrainer`] and the accelerate loop call it.
    """

    def __init__(self, hierarchy: LabelHierarchy, boundary: float | torch.Tensor = 0.0, closure: Closure = "none") -> None:
        self.hierarchy = hierarchy
        self.boundary = boundary
        self.scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=closure, names=hierarchy.names)

    def preprocess(self, logits: Any, labels: Any) -> torch.Tensor:
        """`(B, N)` logits to `(B, ceil(N / 8))` uint8 on the same device; NaN logits raise."""
        logits = logits[0] if isinstance(logits, (tuple, list)) else logits
        if bool(torch.isnan(logits).any()):
            raise HTCFloatingPointError("The model gave NaN logits; lower the learning rate or train in float32.")
        boundary = self.boundary.to(logits.device) if isinstance(self.boundary, torch.Tensor) else self.boundary
        return pack_bits(logits.float() > boundary)

    def __call__(self, eval_prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        predictions, labels = eval_prediction.predictions, eval_prediction.label_ids
        self.scorer.add(unpack_bits(_numpy(predictions), self.hierarchy.num_labels), labels_csr(_numpy(labels), self.hierarchy))
        if not compute_result:
            return {}
        scores = summary(self.scorer)
        self.reset()
        return scores

    def reset(self) -> None:
        """Begins anew. An evaluation that was broken off would otherwise be counted into the next one."""
        self.scorer.reset()


def score_names(hierarchy: LabelHierarchy) -> list[str]:
    """Names of the scores that an evaluation gives, `list[str]`, without the loss."""
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, names=hierarchy.names)
    scorer.add([[0]], [[0]])
    return [name for name, value in summary(scorer).items() if isinstance(value, (int, float))]


def summary(scorer):
    """The scores that training logs show: micro and macro P/R/F1, samples F1, micro F1 per level, coherence, the policy."""
    scores = scorer.compute(averages=("micro", "macro", "samples"), constrained=False)
    wanted = ("micro_", "macro_", "samples_f1", "exact_match", "consistency", "closure")
    return {k: v for k, v in scores.items() if k.startswith(wanted) or (k.startswith("level_") and k.endswith("micro_f1"))}


def pack_bits(chosen):
    """`(B, N)` bool to `(B, ceil(N / 8))` uint8, label 0 in the lowest bit of byte 0."""
    padded = torch.nn.functional.pad(chosen.to(torch.uint8), (0, -chosen.shape[1] % _BITS))
    weights = 2 ** torch.arange(_BITS, dtype=torch.uint8, device=chosen.device)
    return (padded.view(len(chosen), padded.shape[1] // _BITS, _BITS) * weights).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: np.ndarray, num_labels: int) -> Csr:
    """CSR pair `(indptr, indices)` of the set bits of `(B, ceil(N / 8))` uint8."""
    rows, labels = np.nonzero(np.unpackbits(packed, axis=1, count=num_labels, bitorder="little"))
    return np.searchsorted(rows, np.arange(len(packed) + 1)).astype(np.int64), labels.astype(np.int64)


def _numpy(x):
    return x.cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
