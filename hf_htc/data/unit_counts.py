"""How large the units of a data set are, and how many labels hold in them: the numbers of Table 1 of the HBM paper.

Legend: `S` documents, `M` nodes, `U` units of a document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_htc.models.errors import HTCError

from ..models.label_sets import as_csr, gather_rows, row_ids, sorted_unique


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets
    from hf_htc.models.hierarchy import LabelHierarchy


def unit_statistics(
    hierarchy: LabelHierarchy, label_sets: LabelSets | None = None, kind: Literal["level", "parent"] = "parent"
) -> dict[str, float]:
    """
    Statistics of the units of a hierarchy and, with documents, of theirs.

    Args:
        hierarchy ([`LabelHierarchy`]).
        label_sets (`list[list[int]]` or CSR pair `(indptr, indices)`, *optional*): Label ids of every document.
        kind (`str`, *optional*, defaults to `"parent"`): `"level"`: a unit is all nodes of a level, and every document has all
            units (HPT, PTMTTaxoFormer); `"parent"`: a unit is the children of a node, and [END] where the node is a label; a
            document has those of the root and of all inner nodes among its labels and their ancestors (HiDEC).

    Returns:
        `dict` of floats: `num_units`, `unit_size`, the mean over the units of the hierarchy; with documents also
        `labels_per_document`, `units_per_document` and, means over the units of all documents, `document_unit_size`,
        `positives` and `negatives`. (The paper's average of negatives is `unit_size` minus its average of positives.)

    Raises:
        `ValueError`: an unknown kind, no documents, or ids that are no labels.
    """
    if kind not in ("level", "parent"):
        raise HTCError(f"`kind` is {kind!r}; allowed are 'level', 'parent'.")
    N, M = hierarchy.num_labels, hierarchy.num_nodes
    num_children = np.array([len(row) for row in hierarchy.children])
    is_inner = num_children > 0
    if kind == "level":
        num_units, size = hierarchy.num_levels, M
    else:
        num_units = 1 + int(is_inner.sum())
        size = len(hierarchy.top_nodes) + int(num_children.sum()) + int(is_inner[:N].sum())
    result = {"num_units": float(num_units), "unit_size": size / num_units}
    if label_sets is None:
        return result
    indptr, indices, _ = as_csr(label_sets, N)
    num_documents = len(indptr) - 1
    if num_documents == 0:
        raise HTCError("`label_sets` has no documents.")
    labels = sorted_unique(row_ids(indptr) * M + indices)
    if kind == "level":
        units, entries, positives = num_units * num_documents, M * num_documents, len(labels)
    else:
        documents, held = labels // M, labels % M
        lengths, above = gather_rows(*hierarchy.ancestor_table, held)
        nodes = sorted_unique(np.concatenate([labels, np.repeat(documents, lengths) * M + above])) % M  # the sub-hierarchies
        num_parents = np.array([max(1, len(row)) for row in hierarchy.parents])  # the root is one
        inner = nodes[is_inner[nodes]]
        units = len(inner) + num_documents
        entries = len(hierarchy.top_nodes) * num_documents + num_children[inner].sum() + (inner < N).sum()
        positives = num_parents[nodes].sum() + is_inner[held].sum()  # all parents of a node of a sub-hierarchy are in it
    result["labels_per_document"] = len(labels) / num_documents
    result["units_per_document"] = units / num_documents
    result["document_unit_size"] = float(entries / units)
    result["positives"] = float(positives / units)
    result["negatives"] = float((entries - positives) / units)
    return result
