"""How sure is a score, and is one model really better than another? Resampling over the documents of a test set.

Scores are those of [`HierarchicalScorer`] with its defaults: a label (macro-F1) or a document (samples-F1) without gold and
without predicted labels has an F1 of 0, as in [`EvaluationDetails`].

Legend: `S` documents, `N` labels, `R` resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_htc.models.errors import HTCError, HTCImportError
from hf_htc.models.label_sets import as_csr, contains, row_ids, sorted_unique


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets
    from hf_htc.models.hierarchy import LabelHierarchy


# Numbers of an array of one block of resamples: bounds the memory at any number of documents.
_BLOCK_NUMBERS = 1 << 23


def paired_bootstrap(
    gold: LabelSets,
    first: LabelSets,
    second: LabelSets,
    num_labels: int,
    num_resamples: int = 2000,
    seed: int = 0,
    hierarchy: LabelHierarchy | None = None,
) -> dict[str, Any]:
    """
    Draws the test documents again and again with replacement, and scores both models on the same drawn documents.

    Args:
        gold (`list[list[int]]` or CSR pair): Gold label ids of the `S` documents, closed as the scores are to be.
        first, second (`list` of what `gold` may be): Predicted label ids, one entry a run (say, a seed); a model's score is the
            mean over its runs.
        num_labels (`int`): `N`.
        num_resamples (`int`, *optional*, defaults to 2000): `R`.
        seed (`int`, *optional*, defaults to 0): Of the drawing.
        hierarchy ([`LabelHierarchy`], *optional*): For `hierarchical_f1`, micro-F1 with all ancestors added on both sides.

    Returns:
        `dict`: for `micro_f1`, `macro_f1` (over all labels), `samples_f1` and, with a hierarchy, `hierarchical_f1` each a dict
        with `first` and `second` (scores in [0, 1]), `difference` (first minus second), `interval` (the middle 95 % of the
        resampled differences) and `p_value`: twice the smaller share of resamples on either side of 0, at most 1.

    Raises:
        `ValueError`: no runs, predictions of another number of documents than `gold`, a label id out of range.
        `ImportError`: scipy is missing.
    """
    sides = []
    for name, runs in (("first", first), ("second", second)):
        if not runs:
            raise HTCError(f"`{name}` has no runs; give a list of the predictions of at least one run.")
        sides.append([_Counts(gold, run, num_labels, hierarchy, f"Run {i} of `{name}`") for i, run in enumerate(runs)])
    scores: list[list[Any]] = [[], []]
    for weights in _drawn(sides[0][0], num_resamples, seed):
        for parts, runs in zip(scores, sides):
            parts.append(_mean([_scores(run.weighted(weights)) for run in runs]))
    first, second = (_joined(parts) for parts in scores)
    result = {}
    for name in first:
        differences = first[name][1:] - second[name][1:]
        p_value = 2 * min(np.mean(differences <= 0), np.mean(differences >= 0))
        result[name] = {
            "first": float(first[name][0]),
            "second": float(second[name][0]),
            "difference": float(first[name][0] - second[name][0]),
            "interval": [float(x) for x in np.quantile(differences, [0.025, 0.975])],
            "p_value": float(min(1.0, p_value)),
        }
    return result


def bootstrap_intervals(
    gold: LabelSets,
    predicted: LabelSets,
    num_labels: int,
    num_resamples: int = 2000,
    seed: int = 0,
    hierarchy: LabelHierarchy | None = None,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """
    Percentile intervals of the scores of one model, from test documents drawn again and again with replacement.

    Args:
        gold, predicted (`list[list[int]]` or CSR pair): Label ids of the `S` documents, closed as the scores are to be.
        num_labels (`int`): `N`.
        num_resamples (`int`, *optional*, defaults to 2000): `R`.
        seed (`int`, *optional*, defaults to 0): Of the drawing.
        hierarchy ([`LabelHierarchy`], *optional*): For `hierarchical_f1`, as in [`paired_bootstrap`].
        confidence (`float`, *optional*, defaults to 0.95): Share of the resamples in the interval, in (0, 1).

    Returns:
        `dict`: for `micro_f1`, `macro_f1`, `samples_f1` and, with a hierarchy, `hierarchical_f1` each a dict with `score` and
        `interval`, in [0, 1].

    Raises:
        `ValueError`: predictions of another number of documents than `gold`, a label id or `confidence` out of range.
        `ImportError`: scipy is missing.
    """
    if not 0 < confidence < 1:
        raise HTCError(f"`confidence` is {confidence!r}; it must lie between 0 and 1, e.g. 0.95.")
    counts = _Counts(gold, predicted, num_labels, hierarchy, "`predicted`")
    scores = _joined([_scores(counts.weighted(weights)) for weights in _drawn(counts, num_resamples, seed)])
    edges = [(1 - confidence) / 2, (1 + confidence) / 2]
    return {
        name: {"score": float(values[0]), "interval": [float(x) for x in np.quantile(values[1:], edges)]}
        for name, values in scores.items()
    }


def approximate_randomization(
    gold: LabelSets,
    first: LabelSets,
    second: LabelSets,
    num_labels: int,
    num_resamples: int = 2000,
    seed: int = 0,
    hierarchy: LabelHierarchy | None = None,
) -> dict[str, Any]:
    """
    Swaps the two models' predictions of randomly chosen documents again and again: if the models are alike, the difference of
    the scores is as often larger as smaller than the one that was found (Noreen, 1989).

    Args:
        gold, first, second (`list[list[int]]` or CSR pair): Label ids of the `S` documents, closed as the scores are to be.
        num_labels (`int`): `N`.
        num_resamples (`int`, *optional*, defaults to 2000): `R`.
        seed (`int`, *optional*, defaults to 0): Of the swapping.
        hierarchy ([`LabelHierarchy`], *optional*): For `hierarchical_f1`, as in [`paired_bootstrap`].

    Returns:
        `dict`: for `micro_f1`, `macro_f1`, `samples_f1` and, with a hierarchy, `hierarchical_f1` the two-sided p-value
        `(1 + r) / (1 + R)`, `r` of the resamples with a difference at least as large.

    Raises:
        `ValueError`: predictions of another number of documents than `gold`, a label id out of range.
        `ImportError`: scipy is missing.
    """
    one = _Counts(gold, first, num_labels, hierarchy, "`first`")
    other = _Counts(gold, second, num_labels, hierarchy, "`second`")
    generator, number = np.random.default_rng(seed), one.num_documents
    everything = np.ones((1, number))
    found = _difference(one, other, everything)
    larger = dict.fromkeys(found, 0)
    for size in _blocks(num_resamples, one):
        for name, values in _difference(one, other, generator.integers(0, 2, size=(size, number)).astype(float)).items():
            # Sums in another order differ in the last bits.
            larger[name] += int(np.sum(np.abs(values) >= abs(found[name][0]) - 1e-12))
    return {name: (1 + count) / (1 + num_resamples) for name, count in larger.items()}


class _Counts:
    """
    What the scores of one prediction are sums of, by document.

    Args:
        gold, predicted: Label sets, as in [`paired_bootstrap`].
        num_labels (`int`): `N`.
        hierarchy ([`LabelHierarchy`] or `None`): For the counts of closed sets.
        what (`str`): How messages call the prediction.
    """

    def __init__(self, gold, predicted, num_labels, hierarchy, what):
        try:
            from scipy.sparse import csr_matrix
        except ImportError as error:
            raise HTCImportError("Resampling needs scipy: pip install 'hf_htc[baseline]'.") from error
        gold, predicted = as_csr(gold, num_labels)[:2], as_csr(predicted, num_labels)[:2]
        self.num_documents = len(gold[0]) - 1
        if len(predicted[0]) - 1 != self.num_documents:
            raise HTCError(f"{what} has {len(predicted[0]) - 1:,} documents, `gold` has {self.num_documents:,}.")
        if self.num_documents == 0:
            raise HTCError("There are no documents to draw from.")
        keys = _three(gold, predicted, num_labels)
        shape = (self.num_documents, num_labels)
        # Transposed: sparse matrices multiply from the left.
        self.by_label = [csr_matrix((np.ones(len(k)), (k // num_labels, k % num_labels)), shape=shape).T.tocsr() for k in keys]
        self.by_document = [np.bincount(k // num_labels, minlength=self.num_documents).astype(float) for k in keys]
        hits, found, wanted = self.by_document
        self.f = 2 * hits / np.maximum(found + wanted, 1)
        self.closed = None
        if hierarchy is not None:
            keys = _three(hierarchy.close(gold), hierarchy.close(predicted), num_labels)
            self.closed = [np.bincount(k // num_labels, minlength=self.num_documents).astype(float) for k in keys]

    def weighted(self, weights):
        """Sums with weights `(R, S)`: hits, predicted and gold labels by label, `(R, N)`, and in all, `(R,)`."""
        sums = {"label": [(counts @ weights.T).T for counts in self.by_label]}
        sums["all"] = [weights @ counts for counts in self.by_document]
        sums["samples"] = [weights @ self.f, weights.sum(1)]
        if self.closed is not None:
            sums["closed"] = [weights @ counts for counts in self.closed]
        return sums


def _three(gold, predicted, num_labels):
    """Sorted keys `document * N + label`: of the hits, the predictions and the gold labels."""
    gold, predicted = (sorted_unique(row_ids(indptr) * num_labels + indices) for indptr, indices in (gold, predicted))
    return predicted[contains(gold, predicted)], predicted, gold


def _scores(sums):
    """Scores `(R,)` from weighted sums; a label or document without gold and predicted labels has F1 0."""

    def f1(hits, found, wanted):
        return 2 * hits / np.maximum(found + wanted, 1)

    scores = {"micro_f1": f1(*sums["all"]), "macro_f1": f1(*sums["label"]).mean(1)}
    scores["samples_f1"] = sums["samples"][0] / sums["samples"][1]
    if "closed" in sums:
        scores["hierarchical_f1"] = f1(*sums["closed"])
    return scores


def _difference(one, other, weights):
    """Scores of the one with its own predictions where the weight is 1, minus those of the other, which gets the rest."""
    sides = []
    for mine, theirs in ((one, other), (other, one)):
        own, rest = mine.weighted(weights), theirs.weighted(1 - weights)
        sides.append(_scores({name: [a + b for a, b in zip(own[name], rest[name])] for name in own}))
    return {name: sides[0][name] - sides[1][name] for name in sides[0]}


def _drawn(counts, num_resamples, seed):
    """Blocks of document weights, in all `(R + 1, S)`; the first row is the test set itself."""
    generator, number = np.random.default_rng(seed), counts.num_documents
    yield np.ones((1, number))
    for size in _blocks(num_resamples, counts):
        yield generator.multinomial(number, np.full(number, 1 / number), size=size).astype(float)


def _blocks(num_resamples, counts):
    """Numbers of resamples of each block: of `(R, S)` and `(R, N)` arrays."""
    step = max(1, _BLOCK_NUMBERS // max(counts.by_label[0].shape))
    return [min(step, num_resamples - start) for start in range(0, num_resamples, step)]


def _mean(runs):
    return {name: np.mean([scores[name] for scores in runs], axis=0) for name in runs[0]}


def _joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
