"""Labels of documents that a checkpoint does not know: they count as missed.

Legend: `N` labels of the checkpoint.
"""

from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError


def known_only(dataset, num_labels):
    """
    A split without the labels that a checkpoint does not know.

    Args:
        dataset (`datasets.Dataset`): With label ids, of which those from `num_labels` on are unknown to the checkpoint.
        num_labels (`int`): `N`.

    Returns:
        `datasets.Dataset`
    """
    labels = [[i for i in row if i < num_labels] for row in dataset["labels"]]
    return dataset.remove_columns("labels").add_column("labels", labels, feature=dataset.features["labels"])


def count_missed(result, labels, hierarchy, num_labels):
    """
    Counts an evaluation again with all labels of the documents, those too that the checkpoint does not know.

    Args:
        result ([`EvaluationResult`]): Of the same documents. Its scores are replaced; its counts by label stay those of the
            labels that the checkpoint has.
        labels (`list[list[int]]`): All label ids of each document.
        hierarchy ([`LabelHierarchy`]): The checkpoint's, with the unknown labels behind its own.
        num_labels (`int`): `N`.

    Returns:
        `int`: how many labels of documents are unknown.

    Raises:
        [`HTCError`]: other documents than those of the result.
    """
    if len(labels) != len(result.records):
        raise HTCError(f"There are {len(labels)} documents with labels and {len(result.records)} with predictions.")
    scorer = HierarchicalScorer(hierarchy.parents, hierarchy.num_labels, closure=result.scores["closure"], names=hierarchy.names)
    scorer.add(hierarchy.encode([record["labels"] for record in result.records]), [list(row) for row in labels])
    result.scores = scorer.compute()
    return sum(i >= num_labels for row in labels for i in row)
