"""Calibration of conformal sets on held-out documents, and what they give on others.

Legend: `S` documents, `N` labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_htc.models.errors import HTCError
from hf_htc.models.label_sets import as_csr, row_ids
from hf_htc.models.prediction_conformal import KINDS, SURE, ConformalSets, LabelTree, back_off, nested_labels


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets
    from hf_htc.models.hierarchy import LabelHierarchy


# Documents that are looked at together; they bound the memory.
_DOCUMENTS = 256


def calibrate(
    logits: np.ndarray,
    gold: LabelSets,
    hierarchy: LabelHierarchy,
    kind: Literal["back_off", "risk"] = "back_off",
    coverage: float = 0.9,
) -> dict[str, Any]:
    """
    Calibrates label sets so that, over documents like these, they hold on average at least `coverage` of what they promise.

    * `"back_off"`, for documents with a single path in a tree: one label per document, as deep as certainty allows; right when
      the document's most specific label is it or lies below it. Split conformal prediction over the nested labels from the best
      leaf to the root.
    * `"risk"`, for any documents: all labels above one score, such that on average at most `1 - coverage` of a document's labels
      are missed. Conformal risk control (Angelopoulos et al., 2024).

    Args:
        logits (`np.ndarray` of shape `(S, N)`): Of held-out documents that nothing was trained or chosen on; may lie in a file
            (`np.memmap`), of which a few documents are read at a time.
        gold (`list[list[int]]` or CSR pair): Their label ids.
        hierarchy ([`LabelHierarchy`]).
        kind (`str`, *optional*, defaults to `"back_off"`), coverage (`float`, *optional*, defaults to 0.9): In (0, 1).

    Returns:
        `dict`: `kind`, `coverage`, `num_documents` and `quantile` (`"back_off"`: a logit; `SURE` where only the root will do) or
        `boundary` (`"risk"`: a logit, `None` where all labels are needed).

    Raises:
        `ValueError`: an unknown kind, a coverage outside (0, 1), no documents, a document without or with several paths for
        `"back_off"`.
    """
    check_kind(kind, gold, hierarchy)
    if not 0 < coverage < 1:
        raise HTCError(f"`coverage` is {coverage}; it lies in (0, 1).")
    logits = np.asarray(logits)
    indptr, indices, _ = as_csr(gold, hierarchy.num_labels)
    expected = (len(indptr) - 1, hierarchy.num_labels)
    if logits.shape != expected or not len(logits):
        raise HTCError(f"`logits` have the shape {logits.shape}; expected {expected}, with at least one document.")
    result: dict[str, Any] = {"kind": kind, "coverage": coverage, "num_documents": len(logits)}
    if kind == "back_off":
        scores = needed_sureness(logits, path_ends(indptr, indices, hierarchy), hierarchy)
        rank = int(np.ceil((len(scores) + 1) * coverage))
        result["quantile"] = float(np.sort(scores)[rank - 1]) if rank <= len(scores) else SURE
        return result
    boundary = risk_boundary(logits, indptr, indices, 1 - coverage)
    result["boundary"] = None if np.isneginf(boundary) else boundary  # JSON has no infinity
    return result


def fitting_kind(gold, hierarchy):
    """`"back_off"` where every document has a single path and every label a single parent, else `"risk"`."""
    try:
        check_kind("back_off", gold, hierarchy)
    except ValueError:
        return "risk"
    return "back_off"


def check_kind(kind, gold, hierarchy):
    """Raises `ValueError` where a kind of calibration is none, or does not fit label sets, without needing any logits."""
    if kind not in KINDS:
        raise HTCError(f"`kind` is {kind!r}; allowed are {', '.join(map(repr, KINDS))}.")
    if kind == "back_off":
        LabelTree(hierarchy)
        path_ends(*as_csr(gold, hierarchy.num_labels)[:2], hierarchy)


def path_ends(indptr, indices, hierarchy):
    """The most specific label of every document with a single path, `(S,)`. Raises `ValueError` naming the first other one."""
    ends = np.full(len(indptr) - 1, -1, dtype=np.int64)
    for row, (a, b) in enumerate(zip(indptr, indptr[1:])):
        labels = indices[a:b].tolist()
        above = {x for label in labels for x in hierarchy.ancestors(label)}
        found = [label for label in labels if label not in above]
        if len(found) != 1:
            raise HTCError(
                f"Document {row} has {len(found)} paths; backing off to an ancestor needs exactly one. Use `kind='risk'`."
            )
        ends[row] = found[0]
    return ends


def needed_sureness(logits, ends, hierarchy):
    """How sure the last wrong label is on the way from the best leaf to the root, `(S,)`: a set is right where nothing that is no
    surer is predicted. `-SURE` where the best leaf itself is right."""
    tree, needed = LabelTree(hierarchy), []
    for start in range(0, len(logits), _DOCUMENTS):
        chain, sureness = nested_labels(logits[start : start + _DOCUMENTS], tree)
        first = np.argmax(tree.holds(chain, ends[start : start + _DOCUMENTS, None]), axis=1)
        needed.append(np.where(first > 0, sureness[np.arange(len(chain)), np.maximum(first - 1, 0)], -SURE))
    return np.concatenate(needed)


def risk_boundary(logits, indptr, indices, alpha):
    """
    The largest logit at which `(S mean share of missed labels + 1) / (S + 1) <= alpha`; -inf, all labels, where there is none.
    Documents without labels miss nothing.
    """
    rows, counts = row_ids(indptr), np.diff(indptr)
    values, weights = logits[rows, indices].astype(np.float64), 1 / np.maximum(counts, 1)[rows]
    # A label is missed when its logit is not above the boundary: missed shares, by rising logit.
    order = np.argsort(values, kind="stable")
    values, missed = values[order], np.cumsum(weights[order])
    allowed = alpha * (len(counts) + 1) - 1
    if allowed < 0:
        return -np.inf
    number = int(np.searchsorted(missed, allowed + 1e-12, side="right"))  # so many may be missed
    if number == len(values):
        return float(values[-1]) if len(values) else 0.0
    # Just below the first that may not be missed.
    return float(np.nextafter(values[number], -np.inf))


def coverage_of(logits: np.ndarray, gold: LabelSets, hierarchy: LabelHierarchy, calibration: dict[str, Any]) -> dict[str, float]:
    """
    What calibrated sets give on other documents.

    Returns:
        `dict`: `coverage`, the mean over documents of what is promised, and `size`, the mean number of leaves (`"back_off"`) or
        of labels (`"risk"`) of a set.
    """
    logits = np.asarray(logits, dtype=np.float64)
    indptr, indices, _ = as_csr(gold, hierarchy.num_labels)
    if calibration["kind"] == "back_off":
        tree = LabelTree(hierarchy)
        label, size = back_off(logits, tree, calibration["quantile"])
        right = tree.holds(label, path_ends(indptr, indices, hierarchy))
        return {"coverage": float(right.mean()), "size": float(size.mean())}
    chosen, size = ConformalSets(hierarchy, calibration)(logits)
    rows, counts = row_ids(indptr), np.diff(indptr)
    found = np.bincount(rows, weights=chosen[rows, indices], minlength=len(counts))
    share = np.where(counts > 0, found / np.maximum(counts, 1), 1.0)
    return {"coverage": float(share.mean()), "size": float(size.mean())}
