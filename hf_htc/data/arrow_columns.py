"""Columns of `datasets` as Arrow arrays and as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from datasets.fingerprint import generate_random_fingerprint

from hf_htc.models.errors import HTCTypeError

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
        raise HTCTypeError(f"Column {column!r} holds {array.type}; a column of one level has one value per row.")
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
