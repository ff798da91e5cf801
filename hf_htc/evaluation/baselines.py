"""The baseline to beat: TF-IDF and a linear support vector machine, one classifier a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCImportError


if TYPE_CHECKING:
    from datasets import DatasetDict

    from hf_htc.annotations import Closure
    from hf_htc.models.hierarchy import LabelHierarchy


def svm_baseline(
    dataset: DatasetDict,
    hierarchy: LabelHierarchy,
    closure: Closure = "none",
    splits: Sequence[str] = ("validation", "test"),
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """
    Scores of a linear SVM on TF-IDF features (words and word pairs that occur at least twice, sublinear counts), one-vs-rest.

    Args:
        dataset (`DatasetDict`): `text` and `labels` (ids).
        hierarchy ([`LabelHierarchy`]): The taxonomy.
        closure (`str`, *optional*, defaults to `"none"`): Closure of the scores.
        splits (`tuple[str]`, *optional*): What is scored.
        seed (`int`, *optional*): Of the solver.

    Returns:
        `dict[str, dict]`: the scores of [`HierarchicalScorer.compute`] by split.

    Raises:
        `ImportError`: scikit-learn is missing.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise HTCImportError("The SVM baseline needs scikit-learn: pip install 'hf_htc[baseline]'.") from error
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2, max_features=300_000, dtype=np.float32)
    features = vectorizer.fit_transform(dataset["train"]["text"])
    gold = dataset["train"]["labels"]
    rows_of: list[list[int]] = [[] for _ in range(hierarchy.num_labels)]
    for row, labels in enumerate(gold):
        for label in labels:
            rows_of[label].append(row)
    inputs = {split: vectorizer.transform(dataset[split]["text"]) for split in splits if split in dataset}
    predicted: dict[str, list[list[int]]] = {split: [[] for _ in range(len(dataset[split]))] for split in inputs}
    for label, rows in enumerate(rows_of):
        if not rows:
            continue  # a label without training data is never predicted
        targets = np.zeros(features.shape[0], dtype=np.int8)
        targets[rows] = 1
        if targets.all():
            hits = {split: range(len(dataset[split])) for split in inputs}
        else:
            machine = LinearSVC(random_state=seed).fit(features, targets)
            hits = {split: np.flatnonzero(machine.decision_function(x) > 0) for split, x in inputs.items()}
        for split, found in hits.items():
            for row in found:
                predicted[split][row].append(label)
    scores = {}
    for split in inputs:
        scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=closure, names=hierarchy.names)
        scorer.add(predicted[split], dataset[split]["labels"])
        scores[split] = scorer.compute()
    return scores
