"""Label sets of many documents as sorted integer keys, and closure, pruning and path ends on them.

A block of documents is one sorted array of unique keys `document * N + label`: set operations over all documents at
once are then merges of sorted arrays, and no documents x labels array ever exists.

Letters: `B` documents, `N` labels, `K` (document, label) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Literal, cast, get_args

import numpy as np

from .errors import MetricError, MetricTypeError
from .taxonomy import Taxonomy


Closure = Literal["none", "up", "prune"]
CLOSURES = get_args(Closure)
# A CSR pair `(indptr, indices)`, and what else label sets may be given as.
Csr = tuple[np.ndarray, np.ndarray]
LabelSets = Sequence[Sequence[int]] | np.ndarray | Csr

# Bytes of a look-up table for every key that is looked up in it, at most.
_TABLE_BYTES = 32


def to_csr(rows: LabelSets, taxonomy: Taxonomy, what: str = "predictions") -> Csr:
    """
    Label sets as a CSR pair, with every id checked.

    Args:
        rows (`list[list[int]]`, `np.ndarray` of shape `(B, K)` or a tuple of two arrays):
            Label ids of each document (lists, tuples, sets or integer arrays), or the CSR pair `(indptr, indices)`: a
            **tuple** of two `np.ndarray`, of shapes `(B + 1,)` and `(K,)`.
        taxonomy ([`Taxonomy`]): says which ids are labels.
        what (`str`): how messages call the rows.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: int64 `indptr` of shape `(B + 1,)` and `indices` of shape `(K,)`.

    Raises:
        TypeError: for a row that is no list of integers (0/1 booleans, floats, names), naming row and value.
        ValueError: for an id that is no label, naming row and id; for a malformed CSR pair; for 0/1 rows.
    """
    if isinstance(rows, tuple) and len(rows) == 2 and all(isinstance(part, np.ndarray) for part in rows):
        indptr, indices = _checked_csr(*cast(Csr, rows), what)
    else:
        indptr, indices = _flatten(rows, what)
    _refuse_multi_hot(indptr, indices, taxonomy, what)
    wrong = np.flatnonzero((indices < 0) | (indices >= taxonomy.num_labels))
    if wrong.size:
        position = int(wrong[0])
        row = int(np.searchsorted(indptr, position, side="right")) - 1
        node = int(indices[position])
        if taxonomy.num_labels <= node < taxonomy.num_nodes:
            kind = f"the structure-only node {taxonomy.describe(node)}"
        else:
            kind = f"the unknown label id {node}"
        raise MetricError(
            f"{what} row {row} has {kind}; label ids lie in [0, {taxonomy.num_labels}). Drop padding and ancestors "
            "that are no labels first."
        )
    return indptr, indices


def multi_hot_to_csr(
    rows: Sequence[Sequence[int]] | np.ndarray, taxonomy: Taxonomy, what: str = "predictions", block_size: int = 1 << 24
) -> Csr:
    """
    0/1 rows as a CSR pair.

    Args:
        rows (`list[list[int]]` or `np.ndarray` of shape `(B, N)`): 0/1 (or boolean) rows, one column a label.
        taxonomy ([`Taxonomy`]): gives `N`.
        what (`str`): how messages call the rows.
        block_size (`int`): how many cells are looked at in one go; bounds the memory for lists of lists.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: int64 `indptr` of shape `(B + 1,)` and `indices` of shape `(K,)`.

    Raises:
        ValueError: for a row that has not `N` columns or a cell that is neither 0 nor 1, naming it.
    """
    num_labels = taxonomy.num_labels
    for row, values in enumerate(rows):
        if not hasattr(values, "__len__") or isinstance(values, (str, bytes)):
            raise MetricError(f"{what} row {row} is {values!r}, not a row of {num_labels} zeros and ones.")
        if len(values) != num_labels:
            raise MetricError(
                f"{what} row {row} has {len(values)} columns; the taxonomy has {num_labels} labels, and a 0/1 row has "
                "one column a label, in id order. Leave structure-only nodes out by `num_labels`."
            )
    step = max(1, block_size // num_labels)
    lengths, indices = [], []
    for start in range(0, len(rows), step):
        block = np.asarray(rows[start : start + step])
        wrong = np.argwhere((block != 0) & (block != 1))
        if wrong.size:
            row, column = (int(value) for value in wrong[0])
            raise MetricError(
                f"{what} row {start + row}, column {taxonomy.describe(column)} is {block[row, column].item()!r}; only "
                "0 and 1 are allowed. Compare scores with a threshold first."
            )
        documents, labels = np.nonzero(block)
        lengths.append(np.bincount(documents, minlength=len(block)))
        indices.append(labels)
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    if lengths:
        np.cumsum(np.concatenate(lengths), out=indptr[1:])
    return indptr, np.concatenate(indices).astype(np.int64) if indices else np.zeros(0, dtype=np.int64)


def to_keys(indptr: np.ndarray, indices: np.ndarray, start: int, stop: int, num_labels: int) -> np.ndarray:
    """Sorted unique keys `(document - start) * N + label` of the documents `start..stop-1` of a CSR pair."""
    documents = np.repeat(np.arange(stop - start, dtype=np.int64), np.diff(indptr[start : stop + 1]))
    return sorted_unique(documents * num_labels + indices[indptr[start] : indptr[stop]])


def sorted_unique(keys: np.ndarray) -> np.ndarray:
    """The distinct values, ascending: `np.unique`, which may go through a hash table that is many times slower here."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])] if keys.size else keys


def contains(keys: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Which of the queries are among the sorted keys; boolean, of the shape of `queries`."""
    if keys.size == 0:
        return np.zeros(queries.shape, dtype=bool)
    if _is_dense(keys, queries):
        table = np.zeros(int(keys[-1]) + 2, dtype=bool)
        table[keys] = True
        return table[np.minimum(queries, table.size - 1)]
    return keys[np.minimum(np.searchsorted(keys, queries), keys.size - 1)] == queries


def _is_dense(keys: np.ndarray, others: np.ndarray) -> bool:
    # Then a table of all possible keys, a byte each, is hardly larger than the keys themselves, and several times faster than a
    # binary search.
    return int(keys[-1]) <= _TABLE_BYTES * (keys.size + others.size)


def ancestor_keys(keys: np.ndarray, taxonomy: Taxonomy) -> Csr:
    """
    The ancestor labels of every pair, as keys of the same document.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `owners`, the position in `keys` each ancestor belongs to, and the ancestors'
        keys; both as long as the sum of the numbers of ancestors.
    """
    labels = keys - keys // taxonomy.num_labels * taxonomy.num_labels  # several times faster than %
    first = taxonomy.ancestor_indptr[labels]
    counts = taxonomy.ancestor_indptr[labels + 1] - first
    owners = np.repeat(np.arange(keys.size), counts)
    offsets = np.arange(owners.size) - np.repeat(np.cumsum(counts) - counts, counts)
    ancestors = taxonomy.ancestor_indices[first[owners] + offsets]
    return owners, (keys - labels)[owners] + ancestors


def close_up(keys: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """The sets with all ancestor labels added."""
    return sorted_unique(np.concatenate([keys, ancestor_keys(keys, taxonomy)[1]]))


def has_all_ancestors(keys: np.ndarray, taxonomy: Taxonomy, ancestors: Csr | None = None) -> np.ndarray:
    """
    Which labels have all their ancestor labels in the same set; boolean of shape `(K,)`.

    The labels that have are at once the pruned set: an ancestor of a kept label has fewer ancestors than that label,
    all of them present, so no second pass is needed. `ancestors` may bring the result of [`ancestor_keys`].
    """
    owners, above = ancestor_keys(keys, taxonomy) if ancestors is None else ancestors
    complete = np.ones(keys.size, dtype=bool)
    complete[owners[~contains(keys, above)]] = False
    return complete


def is_path_end(keys: np.ndarray, taxonomy: Taxonomy, ancestors: Csr | None = None) -> np.ndarray:
    """Which labels are most specific, that is an ancestor of no other label of their set; boolean of shape `(K,)`."""
    above = (ancestor_keys(keys, taxonomy) if ancestors is None else ancestors)[1]
    ends = np.ones(keys.size, dtype=bool)
    if keys.size and _is_dense(keys, above):
        table = np.zeros(int(keys[-1]) + 1, dtype=bool)
        table[above[above < table.size]] = True
        return ~table[keys]
    if keys.size:
        positions = np.minimum(np.searchsorted(keys, above), keys.size - 1)
        ends[positions[keys[positions] == above]] = False
    return ends


def _checked_csr(indptr: np.ndarray, indices: np.ndarray, what: str):
    for name, part in (("indptr", indptr), ("indices", indices)):
        if part.ndim != 1 or (part.dtype.kind not in "iu" and part.size):
            raise MetricTypeError(f"{what}: `{name}` must be a 1-D integer array; got {part.dtype} of shape {part.shape}.")
    if indptr.size == 0 or indptr[0] != 0 or indptr[-1] != indices.size or np.any(np.diff(indptr.astype(np.int64)) < 0):
        raise MetricError(
            f"{what}: `indptr` must rise from 0 to len(indices) = {indices.size}; got {indptr[:3].tolist()} ... "
            f"{indptr[-1:].tolist()}."
        )
    return indptr.astype(np.int64), indices.astype(np.int64)


def _flatten(rows, what: str):
    """List of rows to a CSR pair."""
    if isinstance(rows, (str, bytes)) or not hasattr(rows, "__len__"):
        raise MetricTypeError(f"{what} must be a list with one list of label ids a document; got {type(rows).__name__}.")
    if any(hasattr(row, "__array__") for row in rows):
        rows = [np.asarray(row) for row in rows]
        if any(row.ndim != 1 for row in rows):
            _raise_bad_row(rows, what)
        filled = [row for row in rows if row.size]
        values = np.concatenate(filled) if filled else np.zeros(0, dtype=np.int64)
    else:
        if any(isinstance(row, (str, bytes)) or not hasattr(row, "__len__") for row in rows):
            _raise_bad_row(rows, what)
        try:
            values = np.array(list(chain.from_iterable(rows)))
        except (TypeError, ValueError):
            _raise_bad_row(rows, what)
    if values.size and (values.dtype.kind not in "iu" or values.ndim != 1):
        _raise_bad_row(rows, what)
    indptr = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)), out=indptr[1:])
    return indptr, values.astype(np.int64)


def _raise_bad_row(rows, what: str) -> None:
    """Find the first row that is no list of integers and say so."""
    for row, labels in enumerate(rows):
        if isinstance(labels, (str, bytes)) or not hasattr(labels, "__len__") or getattr(labels, "ndim", 1) != 1:
            raise MetricTypeError(f"{what} row {row} is {labels!r}; every row must be a list of label ids.")
        for label in labels.tolist() if isinstance(labels, np.ndarray) else labels:
            if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
                raise MetricTypeError(
                    f"{what} row {row} holds {label!r} ({type(label).__name__}); label ids must be integers. "
                    "Translate names with `Taxonomy.encode`, and turn 0/1 rows into ids first."
                )
    raise MetricTypeError(f"{what} must hold label ids that fit in 64 bits.")


def _refuse_multi_hot(indptr, indices, taxonomy: Taxonomy, what: str) -> None:
    # A row of N >= 3 ids that are all 0 or 1 must repeat one: as a set of ids it is a mistake, and it would score
    # quietly.
    num_labels = taxonomy.num_labels
    if num_labels < 3 or indices.size == 0 or indices.size != (indptr.size - 1) * num_labels:
        return
    if np.all(np.diff(indptr) == num_labels) and indices.min() >= 0 and indices.max() <= 1:
        raise MetricError(
            f"{what} looks like 0/1 rows ({num_labels} columns of 0 and 1); label ids are expected. Use the config "
            "`multilabel` of the metric, or pass the positions of the ones."
        )
