"""Sparse label sets: many sets of label ids as one CSR pair, and the set operations that the hierarchy needs.

Legend: `S` sets, `K` ids in all sets together. A CSR pair is `(indptr, indices)`: set `s` holds
`indices[indptr[s]:indptr[s + 1]]`.
"""

import numpy as np

from .errors import HTCError, HTCTypeError


def as_csr(label_sets, num_ids):
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
        indptr, indices = label_sets
        _check_whole_numbers(indices)
        indptr, indices = indptr.astype(np.int64), indices.astype(np.int64)
        if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
            raise HTCError("Label sets given as (indptr, indices) need indptr to rise from 0 to len(indices).")
    else:
        label_sets = list(label_sets)  # read twice below
        lengths = np.fromiter((len(row) for row in label_sets), dtype=np.int64)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        indices = np.asarray([label for row in label_sets for label in row])
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


def from_csr(indptr, indices, is_csr):
    """The inverse of [`as_csr`]: the kind of label sets that the caller gave."""
    if is_csr:
        return indptr, indices
    flat, bounds = indices.tolist(), indptr.tolist()
    return [flat[a:b] for a, b in zip(bounds, bounds[1:])]


def row_ids(indptr):
    """`(K,)` int64: the set that each entry belongs to."""
    return np.repeat(np.arange(len(indptr) - 1, dtype=np.int64), np.diff(indptr))


def gather_rows(indptr, indices, rows):
    """Concatenates the given rows of a CSR table: `(lengths, values)`, with `len(lengths) == len(rows)`."""
    starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
    # Position of every value: its row's start plus a running number inside the row.
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return lengths, indices[offsets + np.arange(lengths.sum(), dtype=np.int64)]


def from_keys(keys, num_sets, num_ids):
    """CSR pair of sorted unique keys `set * num_ids + id`."""
    rows = keys // num_ids
    indptr = np.searchsorted(rows, np.arange(num_sets + 1, dtype=np.int64)).astype(np.int64)
    return indptr, keys - rows * num_ids


def sorted_unique(keys):
    """Sorted keys, each once. (`np.unique` hashes integers, which is many times slower than sorting them.)"""
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


def contains(sorted_keys, keys):
    """`(len(keys),)` bool: which keys occur in the sorted array."""
    if len(sorted_keys) == 0:
        return np.zeros(len(keys), dtype=bool)
    position = np.searchsorted(sorted_keys, keys)
    position[position == len(sorted_keys)] = 0
    return sorted_keys[position] == keys
