"""Sparse label sets: many sets of label ids as one CSR pair, the reader of labels in any form, and the set operations that the
hierarchy needs.

Legend: `S` sets, `K` ids in all sets together, `N` labels, `B` documents. A CSR pair is `(indptr, indices)`: set `s` holds
`indices[indptr[s]:indptr[s + 1]]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from .errors import HTCError, HTCTypeError


if TYPE_CHECKING:
    from .hierarchy import LabelHierarchy


# A CSR pair `(indptr, indices)`, and what else sets of label ids may be given as.
Csr = tuple[np.ndarray, np.ndarray]
LabelSets = Sequence[Sequence[int]] | Csr
# The kind of sets that came in goes out.
SetsT = TypeVar("SetsT", Sequence[Sequence[int]], Csr)


# Padding of rows of label ids: no label.
IGNORED = -100


def labels_csr(labels: Any, hierarchy: LabelHierarchy) -> Csr:
    """
    Labels of documents, in any allowed form, as one CSR pair. All labels that a user gives are read here or, where they stand in
    an Arrow column, by `hf_htc.data.label_csr`, which shares [`csr_of_values`].

    Args:
        labels: One of

            * rows of label ids, whole numbers; the padding -100 is ignored. Lists, arrays, tensors or a CSR pair of arrays;
            * one label id per document, `(B,)`;
            * rows of label names, or one name per document;
            * multi-hot rows of floats or booleans, `(B, N)`; a soft target above 0.5 counts as given.
        hierarchy ([`LabelHierarchy`]): The taxonomy.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `indptr (B + 1,)` and `indices`, both int64; ids keep their order inside a row.

    Raises:
        `ValueError`: an id or a name that is no label, an id twice in a row (0/1 integers are label ids, never multi-hot),
        multi-hot rows of another width or outside [0, 1]; the row is named. `TypeError`: no labels at all.
    """
    if is_csr_pair(labels):
        indptr, indices, _ = as_csr(labels, hierarchy.num_labels)
        return csr_of_values(np.diff(indptr), indices, hierarchy.num_labels)
    lengths, values = flat_labels(labels)
    if values.dtype.kind == "U":
        names, first, codes = np.unique(values, return_index=True, return_inverse=True)
        rows = np.repeat(np.arange(len(lengths)), lengths)[first]
        values = ids_of_names(names.tolist(), rows.tolist(), hierarchy)[codes]
    return csr_of_values(lengths, values, hierarchy.num_labels)


def is_csr_pair(labels: object) -> bool:
    """Whether labels are given as a tuple `(indptr, indices)` of two arrays."""
    return isinstance(labels, tuple) and len(labels) == 2 and all(isinstance(x, np.ndarray) and x.ndim == 1 for x in labels)


def flat_labels(labels: Any) -> Csr:
    """
    The values of all rows behind each other.

    Args:
        labels: As for [`labels_csr`]; no CSR pair.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `lengths (B,)` int64, and the values, with the dtype that says which form they have.
    """
    labels = labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels
    if isinstance(labels, np.ndarray) and labels.dtype.kind != "O":
        if labels.ndim == 2:
            return np.full(len(labels), labels.shape[1], dtype=np.int64), labels.ravel()
        if labels.ndim != 1 or labels.dtype.kind in "fb":
            raise HTCError(f"Labels have the shape {labels.shape} ({labels.dtype}); give rows of labels, one row per document.")
        return np.ones(len(labels), dtype=np.int64), labels
    rows: list[Any] = [row.detach().cpu().numpy() if hasattr(row, "detach") else row for row in labels]
    single = [isinstance(row, str) or not hasattr(row, "__len__") or getattr(row, "ndim", 1) == 0 for row in rows]
    rows = [[row.item() if hasattr(row, "item") else row] if one else row for row, one in zip(rows, single)]
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        kinds = {row.dtype.kind for row in rows if row.size}
        values = np.concatenate([row.reshape(-1) for row in rows])
    else:
        flat = [value for row in rows for value in row]
        kinds = {np.dtype(kind).kind for kind in set(map(type, flat))}
        values = np.asarray(flat)
    if kinds - set("iufbU"):
        raise HTCTypeError("The labels hold values that are neither label ids, nor names, nor multi-hot floats or booleans.")
    if any(single) and kinds & set("fb"):
        raise HTCTypeError("The labels hold single numbers with a decimal point; one label per document is an id or a name.")
    if len(kinds) > 1 and not (kinds <= set("iu") or kinds <= set("fb")):
        raise HTCTypeError("The labels mix forms; they must all be label ids, all names, or all multi-hot rows of floats.")
    return lengths, values if len(values) else values.astype(np.int64)


def ids_of_names(names: Sequence[str], rows: Sequence[int], hierarchy: LabelHierarchy) -> np.ndarray:
    """`(len(names),)` int64: label ids of different names; `rows` says where each stands first. Raises `ValueError` naming it."""
    known = {name: label for label, name in enumerate(hierarchy.label_names)}
    for name, row in sorted(zip(names, rows), key=lambda pair: pair[1]):
        if name not in known:
            hierarchy.encode([[]] * row + [[name]])  # says what is wrong with it
    return np.asarray([known[name] for name in names], dtype=np.int64)


def csr_of_values(lengths: np.ndarray, values: np.ndarray, num_labels: int | None = None) -> Csr:
    """
    One CSR pair of rows of label ids or multi-hot rows.

    Args:
        lengths (`np.ndarray` of shape `(B,)`), values (`np.ndarray`): The rows' lengths, and their values behind each other:
            whole numbers are label ids, floats and booleans are multi-hot.
        num_labels (`int`, *optional*): `N`; without it ids have no upper limit, and the first row says how wide multi-hot is.

    Raises:
        As [`labels_csr`].
    """
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if len(values) and values.dtype.kind in "fb":
        return _of_multi_hot(indptr, lengths, values, num_labels)
    if len(values) and values.dtype.kind not in "iu":
        raise HTCTypeError(f"Labels hold values such as {values[0]!r}; they are label ids, label names or multi-hot floats.")
    values = values.astype(np.int64)
    rows, real = row_ids(indptr), values != IGNORED
    if not real.all():
        rows, values = rows[real], values[real]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(lengths)))]).astype(np.int64)
    limit = np.iinfo(np.int64).max if num_labels is None else num_labels
    as_csr((indptr, values), limit)  # names an id out of range
    # Ids that rise inside every row, as they mostly do, are not repeated, and need no sorting.
    if ((rows[1:] == rows[:-1]) & (values[1:] <= values[:-1])).any():
        order = np.lexsort((values, rows))
        again = (rows[order][1:] == rows[order][:-1]) & (values[order][1:] == values[order][:-1])
        if again.any():
            place = order[1:][again][0]
            _refuse_repeated(int(rows[place]), values[indptr[rows[place]] : indptr[rows[place] + 1]], values[place], num_labels)
    return indptr, values


def _refuse_repeated(row, ids, again, num_labels):
    shown = str(ids[:12].tolist())[:-1] + (", ...]" if len(ids) > 12 else "]")
    if set(ids.tolist()) <= {0, 1} and num_labels in (None, len(ids)):
        raise HTCError(
            f"Row {row} of the labels is {shown}: a multi-hot row of integers, but integers are label ids. Multi-hot rows must "
            "be floats or booleans: cast them, e.g. `[float(x) for x in row]`."
        )
    raise HTCError(
        f"Row {row} of the labels has a label id twice ({again} in {shown}). Give each id once; multi-hot rows must be floats or "
        "booleans."
    )


def _of_multi_hot(indptr, lengths, values, num_labels):
    width = int(lengths[0]) if num_labels is None else num_labels
    check_multi_hot(lengths, values, width)
    rows, labels = np.divmod(np.flatnonzero(values > 0.5), width)
    return np.searchsorted(rows, np.arange(len(lengths) + 1)).astype(np.int64), labels.astype(np.int64)


def check_multi_hot(lengths: np.ndarray, values: np.ndarray, width: int) -> None:
    """Raises `ValueError` for multi-hot rows of another width, or with values outside [0, 1]; the row is named."""
    wrong = np.flatnonzero(lengths != width)
    if len(wrong):
        raise HTCError(
            f"Row {wrong[0]} of the multi-hot labels has {lengths[wrong[0]]} values; it needs one for each of the {width} "
            "labels. (Numbers with a decimal point are multi-hot; label ids must be whole numbers.)"
        )
    if values.dtype.kind == "f":
        outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(outside):
            raise HTCError(
                f"Row {outside[0] // width} of the multi-hot labels holds {values[outside[0]].item()!r}; values lie in [0, 1]."
            )


def as_csr(label_sets: LabelSets, num_ids: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """
    Brings label sets into one CSR pair and checks the ids.

    Args:
        label_sets (`list[list[int]]` or `tuple[np.ndarray, np.ndarray]`): Rows of ids, or a CSR pair `(indptr, indices)`.
        num_ids (`int`): Ids must lie in `[0, num_ids)`.

    Returns:
        `tuple[np.ndarray, np.ndarray, bool]`: `indptr` of shape `(S + 1,)`, `indices` of shape `(K,)`, both int64, and
        whether a CSR pair was given.

    Raises:
        `ValueError`: an id is out of range (the set and the id are named), or `indptr` does not describe `indices`.
        `TypeError`: ids that are no whole numbers.
    """
    is_csr = isinstance(label_sets, tuple) and len(label_sets) == 2 and all(isinstance(x, np.ndarray) for x in label_sets)
    if is_csr:
        indptr, indices = cast(Csr, label_sets)
        _check_whole_numbers(indices)
        indptr, indices = indptr.astype(np.int64), indices.astype(np.int64)
        if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
            raise HTCError("Label sets given as (indptr, indices) need indptr to rise from 0 to len(indices).")
    else:
        rows: list[Any] = list(label_sets)  # read twice below
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        indices = np.asarray([label for row in rows for label in row])
        _check_whole_numbers(indices)
        indices = indices.astype(np.int64)
    wrong = np.flatnonzero((indices < 0) | (indices >= num_ids))
    if len(wrong):
        row = int(np.searchsorted(indptr, wrong[0], side="right")) - 1
        raise HTCError(f"Label set {row} holds the id {indices[wrong[0]]}; label ids are 0 to {num_ids - 1}.")
    return indptr, indices, is_csr


def _check_whole_numbers(ids):
    if len(ids) and ids.dtype.kind not in "iu":
        raise HTCTypeError(
            f"Label sets hold values such as {ids[0].item()!r}; they are rows of label ids, whole numbers (names become ids by "
            "`hierarchy.encode`)."
        )


def from_csr(indptr: np.ndarray, indices: np.ndarray, is_csr: bool) -> Any:
    """The inverse of [`as_csr`]: the kind of label sets that the caller gave."""
    if is_csr:
        return indptr, indices
    flat, bounds = indices.tolist(), indptr.tolist()
    return [flat[a:b] for a, b in zip(bounds, bounds[1:])]


def row_ids(indptr: np.ndarray) -> np.ndarray:
    """`(K,)` int64: the set that each entry belongs to."""
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))


def gather_rows(indptr: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> Csr:
    """Concatenates the given rows of a CSR table: `(lengths, values)`, with `len(lengths) == len(rows)`."""
    starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
    # Position of every value: its row's start plus a running number inside the row.
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return lengths, indices[offsets + np.arange(lengths.sum(), dtype=np.int64)]


def from_keys(keys: np.ndarray, num_sets: int, num_ids: int) -> Csr:
    """CSR pair of sorted unique keys `set * num_ids + id`."""
    rows = keys // num_ids
    indptr = np.searchsorted(rows, np.arange(num_sets + 1, dtype=np.int64)).astype(np.int64)
    return indptr, keys - rows * num_ids


def sorted_unique(keys: np.ndarray) -> np.ndarray:
    """Sorted keys, each once. (`np.unique` hashes integers, which is many times slower than sorting them.)"""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def contains(sorted_keys: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """`(len(keys),)` bool: which keys occur in the sorted array."""
    if len(sorted_keys) == 0:
        return np.zeros(len(keys), dtype=bool)
    position = np.searchsorted(sorted_keys, keys)
    position[position == len(sorted_keys)] = 0
    return sorted_keys[position] == keys
