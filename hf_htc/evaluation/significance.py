"""Is one model really better than another? A paired bootstrap over the documents of a test set.

Legend: `S` documents, `N` labels, `R` resamples.
"""

import numpy as np

from hf_htc.models.label_sets import as_csr, row_ids, sorted_unique


def paired_bootstrap(gold, first, second, num_labels, num_resamples=2000, seed=0):
    """
    Draws the test documents again and again with replacement, and scores both models on the same drawn documents.

    Args:
        gold (`list[list[int]]` or CSR pair): Gold label ids of the `S` documents, closed as the scores are to be.
        first, second (`list` of what `gold` may be): Predicted label ids, one entry a run (say, a seed); a model's score is the
            mean over its runs.
        num_labels (`int`): `N`.
        num_resamples (`int`, *optional*, defaults to 2000): `R`.
        seed (`int`, *optional*, defaults to 0): Of the drawing.

    Returns:
        `dict`: for `micro_f1` and `macro_f1` each a dict with `first` and `second` (scores in [0, 1]), `difference` (first minus
        second), `interval` (the middle 95 % of the resampled differences) and `p_value`: twice the smaller share of resamples
        on either side of 0, at most 1.

    Raises:
        `ValueError`: no runs, predictions of another number of documents than `gold`, a label id out of range.
        `ImportError`: scipy is missing.
    """
    gold = _keys(gold, num_labels)
    for name, runs in (("first", first), ("second", second)):
        if not runs:
            raise ValueError(f"`{name}` has no runs; give a list of the predictions of at least one run.")
    sides = [[_keys(run, num_labels) for run in runs] for runs in (first, second)]
    num_documents = gold[1]
    for name, runs in zip(("first", "second"), sides):
        for place, (_, count) in enumerate(runs):
            if count != num_documents:
                raise ValueError(f"Run {place} of `{name}` has {count:,} documents, `gold` has {num_documents:,}.")
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(num_documents, np.full(num_documents, 1 / num_documents), size=num_resamples)
    weights = np.concatenate([np.ones((1, num_documents)), weights])  # the first row is the test set itself
    scores = [np.mean([_scores(gold[0], run, weights, num_labels) for run, _ in runs], axis=0) for runs in sides]  # (2, R + 1)
    result = {}
    for name, one, other in zip(("micro_f1", "macro_f1"), *scores):
        differences = one[1:] - other[1:]
        p_value = 2 * min(np.mean(differences <= 0), np.mean(differences >= 0))
        result[name] = {
            "first": float(one[0]),
            "second": float(other[0]),
            "difference": float(one[0] - other[0]),
            "interval": [float(x) for x in np.quantile(differences, [0.025, 0.975])],
            "p_value": float(min(1.0, p_value)),
        }
    return result


def _keys(label_sets, num_labels):
    """Sorted `document * N + label`, each once, and the number of documents."""
    indptr, indices, _ = as_csr(label_sets, num_labels)
    return sorted_unique(row_ids(indptr) * num_labels + indices), len(indptr) - 1


def _scores(gold, predicted, weights, num_labels):
    """Micro- and macro-F1 of every row of document weights, `(2, R + 1)`. A label without gold and predictions has F1 0."""
    hits = np.intersect1d(gold, predicted, assume_unique=True)
    hits, found, wanted = (_label_counts(keys, weights, num_labels) for keys in (hits, predicted, gold))
    micro = 2 * hits.sum(1) / np.maximum(found.sum(1) + wanted.sum(1), 1)
    macro = (2 * hits / np.maximum(found + wanted, 1)).mean(1)
    return np.stack([micro, macro])


def _label_counts(keys, weights, num_labels):
    """`(R + 1, N)`: documents of each label, each document counted as often as it was drawn."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise ImportError("The paired bootstrap needs scipy: pip install 'hf_htc[baseline]'.") from error
    shape = (weights.shape[1], num_labels)
    pairs = csr_matrix((np.ones(len(keys)), (keys // num_labels, keys % num_labels)), shape=shape)
    return (pairs.T @ weights.T).T
