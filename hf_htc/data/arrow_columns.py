"""Columns of `datasets` as Arrow arrays and as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from datasets.fingerprint import generate_random_fingerprint

from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.label_sets import csr_of_values, ids_of_names

from .columns import number_text


def table_dataset(table):
    """A `Dataset` of an Arrow table. Left to itself, `datasets` would pickle the whole table to name it."""
    return Dataset(table, fingerprint=generate_random_fingerprint())


def arrow_column(dataset, name):
    """A column as a `pa.ChunkedArray`, in the order of the rows (a selection or shuffle is followed)."""
    return dataset.select_columns(name).with_format("arrow")[:].column(name)


def to_arrow(indptr, indices):
    """CSR pair to an Arrow list column of int32."""
    return pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(indices, pa.int32()))


def from_arrow(column):
    """Arrow list column of integers to a CSR pair, int64."""
    # A selection of rows comes as one chunk a row; one array is a hundred times faster.
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return indptr, array.flatten().to_numpy(zero_copy_only=False).astype(np.int64)


def encoded(array):
    """Codes `(S,)`, -1 for null, and the different values."""
    found = array.dictionary_encode()
    return found.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), found.dictionary.to_pylist()


def plain_array(column):
    """A chunked column as one array, without a dictionary."""
    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    return array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array


def as_strings(dataset, column):
    """A column of one value per row as strings; whole numbers without a fraction, NaN as null."""
    array = plain_array(arrow_column(dataset, column))
    if is_text(array.type):
        return array
    if is_list(array.type) or pa.types.is_struct(array.type):
        raise HTCTypeError(
            f"Column {column!r} holds {array.type}; labels are names or lists of names, and a column of one level has one name "
            "per row."
        )
    feature = dataset.features[column]
    names = feature.names if isinstance(feature, ClassLabel) else None
    values = array.to_pylist()
    if names is not None:
        return pa.array([None if v is None or v < 0 else names[v] for v in values], pa.string())
    return pa.array([None if v is None or v != v else number_text(v) for v in values], pa.string())


def is_list(kind):
    """Whether an Arrow type is a list."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind):
    """Whether an Arrow type is text."""
    views = getattr(pa.types, "is_string_view", lambda kind: False)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or views(kind)


def column_csr(column, hierarchy=None):
    """
    An Arrow column of labels in any allowed form as one CSR pair; what [`~hf_htc.models.label_sets.labels_csr`] is for Python
    objects and tensors. No Python loop over rows: a million of them take a second.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`): Lists of label ids, of names, or multi-hot lists of floats or booleans; or one
            id or one name per row. A missing row has no labels.
        hierarchy ([`LabelHierarchy`], *optional*): Needed for names; with it ids and the width of multi-hot rows are checked.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `indptr`, `indices`, both int64.

    Raises:
        As [`labels_csr`].
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if is_list(array.type):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = array.flatten()
    else:
        lengths, flat = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64), array.drop_null()
    if flat.null_count:
        place = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        raise HTCError(f"Row {_row_of(place, lengths)} of the labels has an empty value among its labels.")
    if not len(flat):
        return csr_of_values(lengths, np.empty(0, dtype=np.int64))
    if pa.types.is_dictionary(flat.type) or is_text(flat.type):
        dictionary = flat if pa.types.is_dictionary(flat.type) else flat.dictionary_encode()
        if hierarchy is None:
            raise HTCTypeError(
                f"The labels are names such as {dictionary[0].as_py()!r}; they become ids with the taxonomy: `hierarchy.encode` "
                "or `load_htc_dataset`."
            )
        codes = dictionary.indices.to_numpy(zero_copy_only=False)
        used, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        names = dictionary.dictionary.take(pa.array(used)).to_pylist()
        values = ids_of_names(names, [_row_of(place, lengths) for place in first], hierarchy)[codes]
    else:
        values = flat.to_numpy(zero_copy_only=False)
        if not is_list(array.type) and values.dtype.kind in "fb":
            raise HTCTypeError(f"The labels are single numbers such as {values[0]!r}; one label per row is an id or a name.")
    return csr_of_values(lengths, values, None if hierarchy is None else hierarchy.num_labels)


def _row_of(place, lengths):
    return int(np.searchsorted(np.cumsum(lengths), place, side="right"))
