"""Thresholds tuned on validation data: one for all labels, one per level, one per label.

Legend: `S` documents, `N` labels, `P` entries (documents x labels) that are right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_htc.models.errors import HTCError
from hf_htc.models.label_sets import as_csr, row_ids, sorted_unique


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets
    from hf_htc.models.hierarchy import LabelHierarchy


KINDS = ("global", "level", "label")
# Entries and labels that are looked at together; they bound the memory.
_ENTRIES, _COLUMNS = 1 << 20, 64


def tune_thresholds(
    logits: np.ndarray,
    gold: LabelSets,
    hierarchy: LabelHierarchy,
    kind: Literal["global", "per_label"] = "global",
    least_support: int = 5,
) -> float | list[float]:
    """
    Thresholds with the largest F1 on validation documents: of all labels together (micro-F1), of the labels of each level
    together, or of every label by itself (which is macro-F1).

    Args:
        logits (`np.ndarray` or `torch.Tensor` of shape `(S, N)`): The model's on the validation documents; may lie in a file
            (`np.memmap`), of which a few documents are read at a time.
        gold (`list[list[int]]` or CSR pair `(indptr, indices)`): Their label ids, closed where the labels are.
        hierarchy ([`LabelHierarchy`]).
        kind (`str`, *optional*, defaults to `"global"`): `"global"`, `"level"` or `"label"`.
        least_support (`int`, *optional*, defaults to 5): With `"label"`, a label with fewer validation documents keeps the
            threshold of all labels: a few documents say little.

    Returns:
        `float` for `"global"`, else `list[float]` with one threshold per label, each in [0, 1], as `config.thresholds` takes
        them.

    Raises:
        `ValueError`: an unknown kind, no documents, logits of another shape or not finite.
    """
    if kind not in KINDS:
        raise HTCError(f"`kind` is {kind!r}; allowed are {', '.join(map(repr, KINDS))}.")
    logits = np.asarray(logits.cpu() if hasattr(logits, "cpu") else logits)
    num_labels = hierarchy.num_labels
    indptr, indices, _ = as_csr(gold, num_labels)
    expected = (len(indptr) - 1, num_labels)
    if logits.shape != expected or len(logits) == 0:
        raise HTCError(f"`logits` have the shape {logits.shape}; expected {expected}, with at least one document.")
    if not all(np.isfinite(block).all() for block in blocks_of(logits)):
        raise HTCError("`logits` hold NaN or infinite values.")
    rows, labels = np.divmod(sorted_unique(row_ids(indptr) * num_labels + indices), num_labels)
    right = logits[rows, labels].astype(np.float64)
    whole = best_cut(right, blocks_of(logits))
    if kind == "global":
        return whole
    thresholds = np.full(num_labels, whole)
    if kind == "level":
        for level in hierarchy.level_units():
            inside = np.isin(labels, level)
            if inside.any():
                thresholds[level] = best_cut(right[inside], blocks_of(logits, level))
        return thresholds.tolist()
    order = np.argsort(labels, kind="stable")
    of_label = np.split(right[order], np.searchsorted(labels[order], np.arange(1, num_labels)))
    wanted = np.flatnonzero([len(values) >= max(1, least_support) for values in of_label])
    for start in range(0, len(wanted), _COLUMNS):
        some = wanted[start : start + _COLUMNS]
        for label, column in zip(some, logits[:, some].astype(np.float64).T):
            thresholds[label] = best_cut(of_label[label], [column])
    return thresholds.tolist()


def blocks_of(logits, labels=None):
    """Yields the float64 entries of a few documents after the other, so that no second copy of all is made."""
    step = max(1, _ENTRIES // logits.shape[1])
    for start in range(0, len(logits), step):
        block = logits[start : start + step]
        yield np.asarray(block if labels is None else block[:, labels], dtype=np.float64).ravel()


def best_cut(right, blocks):
    """
    The threshold of the largest F1, half-way in logits between the last entry above it and the next one. 0.5 where nothing is
    right.

    F1 falls with every wrong entry that is predicted too: the best cut lies behind one that is right. So the entries are counted
    between those that are right, and are neither sorted nor kept.

    Args:
        right (`np.ndarray` of shape `(P,)`): The logits of the entries that are right.
        blocks (`Iterable[np.ndarray]`): The logits of all entries, those that are right included.

    Returns:
        `float` in [0, 1].
    """
    if not len(right):
        return 0.5
    values, hits = np.unique(right, return_counts=True)
    # Of the entries from one value up to the next: how many, and the largest.
    counts, largest = np.zeros(len(values) + 1, dtype=np.int64), np.full(len(values) + 1, -np.inf)
    for block in blocks:
        place = np.searchsorted(values, block, side="right")
        counts += np.bincount(place, minlength=len(counts))
        np.maximum.at(largest, place, block)
    # Entries with the same logit are predicted together; among equal F1 the highest threshold.
    found, predicted = np.cumsum(hits[::-1]), np.cumsum(counts[:0:-1])
    last = len(values) - 1 - int(np.argmax(2 * found / (predicted + len(right))))
    below = largest[last] if np.isfinite(largest[last]) else values[last] - 1.0
    return float(1 / (1 + np.exp(-(values[last] + below) / 2)))
