"""Thresholds tuned on validation data: one for all labels, one a level, one a label.

Legend: `S` documents, `N` labels, `K` entries (documents x labels).
"""

import numpy as np

from hf_htc.models.errors import HTCError
from hf_htc.models.label_sets import as_csr, row_ids


KINDS = ("global", "level", "label")


def tune_thresholds(logits, gold, hierarchy, kind="global", least_support=5):
    """
    Thresholds with the largest F1 on validation documents: of all labels together (micro-F1), of the labels of each level
    together, or of every label by itself (which is macro-F1).

    Args:
        logits (`np.ndarray` or `torch.Tensor` of shape `(S, N)`): The model's on the validation documents.
        gold (`list[list[int]]` or CSR pair `(indptr, indices)`): Their label ids, closed where the labels are.
        hierarchy ([`LabelHierarchy`]).
        kind (`str`, *optional*, defaults to `"global"`): `"global"`, `"level"` or `"label"`.
        least_support (`int`, *optional*, defaults to 5): With `"label"`, a label with fewer validation documents keeps the
            threshold of all labels: a few documents say little.

    Returns:
        `float` for `"global"`, else `list[float]` with one threshold a label, each in [0, 1], as `config.thresholds` takes them.

    Raises:
        `ValueError`: an unknown kind, no documents, logits of another shape or not finite.
    """
    if kind not in KINDS:
        raise HTCError(f"`kind` is {kind!r}; allowed are {', '.join(map(repr, KINDS))}.")
    logits = np.asarray(logits.cpu() if hasattr(logits, "cpu") else logits, dtype=np.float64)
    indptr, indices, _ = as_csr(gold, hierarchy.num_labels)
    expected = (len(indptr) - 1, hierarchy.num_labels)
    if logits.shape != expected or len(logits) == 0:
        raise HTCError(f"`logits` have the shape {logits.shape}; expected {expected}, with at least one document.")
    if not np.isfinite(logits).all():
        raise HTCError("`logits` hold NaN or infinite values.")
    holds = np.zeros(logits.shape, dtype=bool)
    holds[row_ids(indptr), indices] = True
    whole = best_threshold(logits.ravel(), holds.ravel())
    if kind == "global":
        return whole
    thresholds = np.full(hierarchy.num_labels, whole)
    if kind == "level":
        for labels in hierarchy.level_units():
            if len(labels) and holds[:, labels].any():
                thresholds[labels] = best_threshold(logits[:, labels].ravel(), holds[:, labels].ravel())
    else:
        for label in np.flatnonzero(holds.sum(0) >= max(1, least_support)):
            thresholds[label] = best_threshold(logits[:, label], holds[:, label])
    return thresholds.tolist()


def best_threshold(logits, holds):
    """
    The threshold of the largest F1 of entries `logits (K,)` of which `holds (K,)` are right; half-way to the next entry in
    logits. 0.5 where nothing holds.

    Returns:
        `float` in [0, 1].
    """
    if not holds.any():
        return 0.5
    order = np.argsort(-logits, kind="stable")
    logits, hits = logits[order], np.cumsum(holds[order])
    f1 = 2 * hits / (np.arange(1, len(logits) + 1) + hits[-1])
    # Entries with the same logit are predicted together.
    f1[:-1][logits[1:] == logits[:-1]] = -1
    last = int(np.argmax(f1))
    below = logits[last + 1] if last + 1 < len(logits) else logits[last] - 1.0
    return float(1 / (1 + np.exp(-(logits[last] + below) / 2)))
