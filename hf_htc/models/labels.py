"""Labels as models need them: targets in any allowed form, and what the training labels tell before training starts.

Legend: `B` documents, `M` nodes, `N` labels, `K` label ids in a row, `E` edges of the hierarchy.
"""

import numpy as np
import torch

from .errors import HTCError, HTCTypeError
from .label_sets import contains, gather_rows, labels_csr, row_ids, sorted_unique


def label_statistics(train_labels, hierarchy):
    """
    Counts over the training documents.

    Args:
        train_labels: Labels of every training document, in any form that [`labels_csr`] takes.
        hierarchy ([`LabelHierarchy`]): The taxonomy.

    Returns:
        `dict`: `counts` int64 `(N,)`, documents of each label; `node_counts` int64 `(M,)`, documents with a label at or
        below each node; `edge_counts` int64 `(E,)`, documents that carry both ends of each edge of `hierarchy.edges` (0 where an
        end is no label); `num_documents`; `closed`, whether every document carries all ancestor labels of its labels.
    """
    indptr, indices = labels_csr(train_labels, hierarchy)
    num_documents, num_labels = len(indptr) - 1, hierarchy.num_labels
    if num_documents == 0:
        raise HTCError("`train_labels` has no documents.")
    keys = sorted_unique(row_ids(indptr) * num_labels + indices)
    counts = np.bincount(keys % num_labels, minlength=num_labels)
    edge_counts = np.zeros(len(hierarchy.edges), dtype=np.int64)
    # Per child label: its documents, then which of them carry the parent too.
    by_label = np.argsort(keys % num_labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    documents = keys[by_label] // num_labels
    for number, (parent, child) in enumerate(hierarchy.edges.tolist()):
        if parent < num_labels and child < num_labels:
            rows = documents[starts[child] : starts[child + 1]]
            edge_counts[number] = contains(keys, rows * num_labels + parent).sum()
    return {
        "counts": counts,
        "node_counts": _node_counts(keys // num_labels, keys % num_labels, hierarchy),
        "edge_counts": edge_counts,
        "num_documents": num_documents,
        "closed": hierarchy.is_closed((indptr, indices)),
    }


def _node_counts(documents, labels, hierarchy):
    lengths, above = gather_rows(*hierarchy.ancestor_table, labels)
    documents = np.concatenate([documents, np.repeat(documents, lengths)])
    keys = sorted_unique(documents * hierarchy.num_nodes + np.concatenate([labels, above]))
    return np.bincount(keys % hierarchy.num_nodes, minlength=hierarchy.num_nodes)


def label_log_odds(statistics):
    """`torch.Tensor` of shape `(N,)`: log-odds of each label among the training documents, with half a document added to
    both sides."""
    counts = torch.as_tensor(statistics["counts"], dtype=torch.float64)
    return torch.log((counts + 0.5) / (statistics["num_documents"] - counts + 0.5)).float()


def multi_hot(labels, num_labels):
    """
    Targets of labels in any allowed form.

    Args:
        labels (`torch.Tensor`): float or bool multi-hot `(B, N)`; or integer label ids, `(B, K)` padded with -100, or `(B,)`
            with one label each.
        num_labels (`int`): `N`.

    Returns:
        `torch.FloatTensor` of shape `(B, N)`: 0 or 1 (soft float targets in [0, 1] are kept).

    Raises:
        `ValueError`: a multi-hot of the wrong width or outside [0, 1]; integer rows that repeat an id or leave `[0, N)`.
        `TypeError`: another type.
    """
    if not isinstance(labels, torch.Tensor):
        raise HTCTypeError(
            f"`labels` is a {type(labels).__name__}; give a tensor: float multi-hot (B, N) or integer label ids padded with -100."
        )
    check = not torch.compiler.is_compiling()
    if labels.is_floating_point() or labels.dtype == torch.bool:
        if labels.dim() != 2 or labels.shape[1] != num_labels:
            raise HTCError(f"Multi-hot `labels` have the shape {tuple(labels.shape)}; expected (B, {num_labels}).")
        targets = labels.float()
        if check and targets.numel() and not bool(((targets >= 0) & (targets <= 1)).all()):
            raise HTCError("Multi-hot `labels` hold values outside [0, 1] (or NaN).")
        return targets
    ids = labels.unsqueeze(1) if labels.dim() == 1 else labels
    if ids.dim() != 2:
        raise HTCError(
            f"Integer `labels` have the shape {tuple(labels.shape)}; expected (B, K) label ids padded with -100, or (B,)."
        )
    real = ids != -100
    safe = torch.where(real, ids, 0).long()
    if check and ids.numel():
        outside = real & ((ids < 0) | (ids >= num_labels))
        ordered = torch.where(real, ids, -100).sort(dim=1).values
        repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != -100)
        if bool(outside.any() | repeated.any()):
            what = (
                f"the id {int(ids[outside][0])}"
                if bool(outside.any())
                else f"the id {int(ordered[:, 1:][repeated][0])} twice in a row"
            )
            raise HTCError(
                f"Integer `labels` are label ids in [0, {num_labels}), each once a row, padded with -100; got {what}. "
                "Multi-hot must be float: pass `labels.float()`."
            )
    targets = torch.zeros(ids.shape[0], num_labels, dtype=torch.float32, device=ids.device)
    return targets.scatter_add(1, safe.clamp(0, num_labels - 1), real.float()).clamp(max=1)
