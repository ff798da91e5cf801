"""Scores of groups of labels: leaves, branches, labels by their frequency in the training data; numpy only.

Letters: `N` labels, `M` nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from .errors import MetricError
from .scorers import checked_zero_division, mean, precision_recall_f
from .taxonomy import Taxonomy


if TYPE_CHECKING:
    from .hierarchical_scores import HierarchicalScorer


def leaf_labels(taxonomy: Taxonomy) -> np.ndarray:
    """Ids of the labels that are an ancestor of no other label, ascending."""
    return np.setdiff1d(np.arange(taxonomy.num_labels), taxonomy.ancestor_indices)


def branches(taxonomy: Taxonomy) -> dict:
    """
    The labels at or below every first-level node.

    Args:
        taxonomy ([`Taxonomy`]): The hierarchy. In a DAG a label can be in several branches: they overlap.

    Returns:
        `dict[str, np.ndarray]`: name of the first-level node (`"node_<id>"` where names are not known) -> label ids.
        First-level nodes without labels at or below them are left out.
    """
    tops: list[frozenset] = [frozenset()] * taxonomy.num_nodes
    members: dict[int, list[int]] = {}
    for node in np.argsort(taxonomy.levels, kind="stable").tolist():
        above = taxonomy.parents[node]
        tops[node] = frozenset().union(*(tops[parent] for parent in above)) if above else frozenset([node])
    for label in range(taxonomy.num_labels):
        for top in tops[label]:
            members.setdefault(top, []).append(label)
    names = taxonomy.names or ()
    return {
        names[top] if top < len(names) else f"node_{top}": np.array(labels, dtype=np.int64)
        for top, labels in sorted(members.items())
    }


def frequency_groups(label_counts: Sequence[int] | np.ndarray, bounds: Sequence[int] = (0, 50)) -> dict:
    """
    Labels by the number of training documents.

    Args:
        label_counts (`np.ndarray` of shape `(N,)`): Training documents of each label.
        bounds (`tuple[int]`, *optional*, defaults to `(0, 50)`): Largest counts of all groups but the last, ascending.

    Returns:
        `dict[str, np.ndarray]`: group -> label ids; no label is in two groups, and groups may be empty. With the default
        bounds the groups of EURLEX57K (Chalkidis et al., 2019): `zero`, `few` (1 to 50) and `frequent` (more than 50). Others
        are named by their counts: `0`, `1-10`, `>10`.

    Raises:
        ValueError: for counts below 0 or that are no whole numbers, and bounds that do not rise.
    """
    counts = np.asarray(label_counts)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise MetricError("`label_counts` must hold one whole number, 0 or more, a label: its training documents.")
    bounds = tuple(int(bound) for bound in bounds)
    if not bounds or bounds[0] < 0 or any(a >= b for a, b in zip(bounds, bounds[1:])):
        raise MetricError(f"`bounds` must be rising counts from 0 on, e.g. (0, 50); got {bounds}.")
    if bounds == (0, 50):
        names = ["zero", "few", "frequent"]
    else:
        starts = [0, *(bound + 1 for bound in bounds[:-1])]
        names = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, bounds)] + [f">{bounds[-1]}"]
    groups = np.searchsorted(np.array(bounds), counts)
    return {name: np.flatnonzero(groups == place) for place, name in enumerate(names)}


def group_scores(
    scorer: HierarchicalScorer,
    groups: Mapping[str, np.ndarray],
    labels: Literal["all", "supported"] = "all",
    zero_division: float = 0.0,
) -> dict:
    r"""
    Precision, recall and F of some labels at a time, from the counts of a [`HierarchicalScorer`].

    $$F_{group} = \frac{(1 + \beta^2) \sum_{v} tp_v}{\beta^2 \sum_v support_v + \sum_v predicted_v}$$

    with sums over the labels of the group. With `closure="up"` that is the hierarchical F of the group: of a branch, say.

    Args:
        scorer ([`HierarchicalScorer`]): Its closure and `beta` hold.
        groups (`dict[str, list[int]]`): Name of each group -> its label ids; from [`branches`], [`frequency_groups`], or
            `{"leaf": leaf_labels(scorer.taxonomy)}`. Groups may overlap.
        labels (`str`, *optional*, defaults to `"all"`): What macro averages divide by: `"all"` labels of the group, or the
            `"supported"` ones, which occur in a gold or predicted set.
        zero_division (`float`, *optional*, defaults to 0.0): The value of 0 / 0: 0.0, 1.0, or nan = not part of a mean.

    Returns:
        `dict`: `<group>_micro_precision`, `<group>_micro_recall`, `<group>_micro_f1`, `<group>_macro_f1`, in [0, 1], and
        `<group>_num_labels`, for every group; `closure`, `beta` and `labels`. (`fbeta` for `f1` where `beta` is not 1.)

    Raises:
        ValueError: for an id that is no label, naming the group; an unknown `labels` or `zero_division`; no documents.

    Example:

    ```py
    >>> from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer, group_scores, leaf_labels

    >>> scorer = HierarchicalScorer([[], [0], [0], []], closure="up")
    >>> scorer.add(predictions=[[1], [3]], references=[[2], [3]])
    >>> group_scores(scorer, {"leaf": leaf_labels(scorer.taxonomy)})["leaf_micro_f1"]
    0.5

    ```
    """
    if labels not in ("all", "supported"):
        raise MetricError(f"`labels` must be 'all' or 'supported'; got {labels!r}.")
    if not scorer.num_documents:
        raise MetricError("There is nothing to score: no document was added. Call `add` first.")
    zero_division = checked_zero_division(zero_division)
    f = "f1" if scorer.beta == 1 else "fbeta"
    table = scorer.per_label(zero_division)
    counts = [table[name] for name in ("tp", "predicted", "support")]
    occurs = counts[1] + counts[2] > 0
    scores = {}
    for name, members in groups.items():
        members = np.asarray(members, dtype=np.int64)
        if members.size and not 0 <= members.min() <= members.max() < scorer.num_labels:
            raise MetricError(f"The group {name!r} has ids outside [0, {scorer.num_labels}); give label ids.")
        sums = [count[members].sum(keepdims=True) for count in counts]
        for what, value in zip(
            ("precision", "recall", f), precision_recall_f(sums[0], sums[1], sums[2], scorer.beta, zero_division)
        ):
            scores[f"{name}_micro_{what}"] = float(value[0])
        counted = members if labels == "all" else members[occurs[members]]
        scores[f"{name}_macro_{f}"] = mean(table[f][counted], zero_division)
        scores[f"{name}_num_labels"] = int(members.size)
    return {**scores, "closure": scorer.closure, "beta": scorer.beta, "labels": labels}
