"""Data sets that are in memory already: `DatasetDict`, `Dataset`, frames of pandas and polars."""

from __future__ import annotations

import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hf_htc.models.errors import HTCError, HTCTypeError, refusing

from .arrow_columns import table_dataset


def is_frame(value):
    """Whether a value is a frame of pandas or polars, told without importing them."""
    return type(value).__name__ == "DataFrame" and type(value).__module__.split(".")[0] in ("pandas", "polars")


def in_memory(value):
    """Whether a value is a data set or frame, or several of them by split, and no name or path."""
    return isinstance(value, (Dataset, dict, IterableDataset, pa.Table)) or is_frame(value)


def as_dataset(value, name):
    """
    A `Dataset` of a frame, an Arrow table or a data set.

    Raises:
        [`HTCTypeError`]: anything else. [`HTCError`]: a column that Arrow cannot hold.
    """
    if isinstance(value, Dataset):
        return value
    if isinstance(value, pa.Table):
        return table_dataset(value)
    if is_frame(value):
        mixed = (pa.ArrowException, TypeError, ValueError, OverflowError)
        with refusing(
            f"The frame {name!r} has a column that mixes types", mixed, mend="Make its values strings, lists or numbers."
        ):
            if type(value).__module__.startswith("polars"):
                return table_dataset(_plain_types(value.to_arrow()))
            columns = [str(column) for column in value.columns]
            if len(set(columns)) < len(columns):
                raise HTCError(f"The frame {name!r} has two columns of one name; they are {columns}.")
            table = pa.Table.from_pandas(value, preserve_index=False)
            return table_dataset(_plain_types(table.replace_schema_metadata(None)))
    if isinstance(value, (IterableDataset, IterableDatasetDict)):
        raise HTCTypeError(f"{name!r} is a stream; load it whole, without `streaming=True`.")
    raise HTCTypeError(f"{name!r} is a {type(value).__name__}; give a `Dataset`, a frame of pandas or polars, or a path.")


def _plain_types(table):
    """The table without string views and other types that `datasets` does not know."""
    fields = [pa.field(field.name, _plain_type(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _plain_type(kind):
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def as_splits(value):
    """`Dataset`s by split of what [`in_memory`] knows; a single one is the training split."""
    if isinstance(value, dict):  # a DatasetDict is one
        if not value:
            raise HTCError("The data set has no split.")
        return DatasetDict({str(split): as_dataset(rows, split) for split, rows in value.items()})
    return DatasetDict(train=as_dataset(value, "train"))
