"""Ranking scores of the best labels of every document; the counting is [`RankingScorer`]'s.

Legend: `S` documents, `K` ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_htc.metrics.hierarchical_f1 import RankingScorer
from hf_htc.models.errors import HTCError
from hf_htc.models.label_sets import as_csr


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets


def ranking_scores(ranked: LabelSets, gold: LabelSets, num_labels: int, k: int = 5) -> dict[str, float]:
    """
    Recall and normalised discounted cumulative gain at `k`, the mean over the documents that have a label.

    Args:
        ranked (`np.ndarray` of shape `(S, K)`, int): Label ids, best first, at least `min(k, N)` of them.
        gold (`list[list[int]]` or CSR pair `(indptr, indices)`): Label ids of every document.
        num_labels (`int`): `N`.
        k (`int`, *optional*, defaults to 5): Ranks that count.

    Returns:
        `dict`: `recall_at_k`, right labels among the best `k` divided by all right labels; `ndcg_at_k`, the sum over the right
        ones at rank `r` of `1 / log2(r + 1)` divided by the largest such sum. In [0, 1]; 0 without documents.

    Raises:
        `ValueError`: too few ranks, a label that a row repeats, or another number of documents.
    """
    ranked = np.asarray(ranked)
    indptr, indices, _ = as_csr(gold, num_labels)
    if len(ranked) != len(indptr) - 1:
        raise HTCError(f"`ranked` has {len(ranked)} documents, `gold` has {len(indptr) - 1}.")
    best = min(k, num_labels)
    if ranked.ndim != 2 or ranked.shape[1] < best:
        raise HTCError(f"`ranked` has the shape {ranked.shape}; recall at {k} needs {best} labels per document.")
    names = (f"recall_at_{k}", f"ndcg_at_{k}")
    if len(ranked) == 0:
        return dict.fromkeys(names, 0.0)
    scorer = RankingScorer([[]] * num_labels, ks=k)
    scorer.add(ranked, (indptr, indices))
    scores = scorer.compute()
    return {name: scores[name] for name in names}
