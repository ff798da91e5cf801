"""Splits: a validation split where none is given, checks that one split is one split, a fingerprint of the content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, DatasetDict

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.label_sets import as_csr, ids_of_names

from .arrow_columns import arrow_column, column_csr, from_arrow, is_list, is_text, to_arrow


if TYPE_CHECKING:
    from hf_htc.annotations import Csr, LabelClosure, LabelSets, Splits
    from hf_htc.models.hierarchy import LabelHierarchy


logger = get_logger(__name__)


def as_split(dataset: Splits, split: str) -> Dataset:
    """
    One split of a data set.

    Args:
        dataset (`Dataset` or `DatasetDict`): A `Dataset` is taken as the split itself.
        split (`str`): e.g. `"train"`.

    Raises:
        `ValueError`: the `DatasetDict` has no such split; its splits are named.
        `TypeError`: neither of the two kinds.
    """
    if isinstance(dataset, Dataset):
        return dataset
    if not isinstance(dataset, DatasetDict):
        raise HTCTypeError(f"Expected a `Dataset` or a `DatasetDict`, got {type(dataset).__name__}.")
    if split not in dataset:
        raise HTCError(f"The data set has no split {split!r}; its splits are {list(dataset)}.")
    return dataset[split]


def check_is_split(dataset: Any, argument: str = "train_dataset") -> Any:
    """
    Returns `dataset`, which must be one split.

    Raises:
        `TypeError`: it is a `DatasetDict` (its splits are named) or a tuple of data set and hierarchy.
    """
    if isinstance(dataset, dict):
        splits = list(dataset)
        example = "train" if "train" in splits or not splits else splits[0]
        raise HTCTypeError(
            f"`{argument}` got a DatasetDict with the splits {splits}; pass one split, e.g. `dataset[{example!r}]`."
        )
    if isinstance(dataset, tuple):
        raise HTCTypeError(
            f"`{argument}` got a tuple. `load_htc_dataset` gives data set and hierarchy: `dataset, "
            "hierarchy = load_htc_dataset(...)`, then pass one split, e.g. `dataset['train']`."
        )
    return dataset


def split_validation(train: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """
    Takes a validation split from the training split.

    The documents with the smallest keyed hash of their text go: the choice depends on texts and seed only, not on the
    order of rows, and equal texts stay together.

    Args:
        train (`Dataset`): With a column `text`.
        fraction (`float`): Share of `train`, in (0, 1).
        seed (`int`)

    Returns:
        `tuple[Dataset, Dataset]`: train, validation, rows in their old order; `validation` is `None` when too few rows.
    """
    size = round(len(train) * fraction)
    if not 0 < size < len(train):
        return train, None
    key = str(seed).encode()
    hashes = []
    for batch in train.select_columns("text").with_format("arrow").iter(batch_size=10_000):
        for text in batch.column("text").to_pylist():
            hashes.append(int.from_bytes(hashlib.blake2b((text or "").encode(), digest_size=7, key=key).digest(), "big"))
    hashes = np.asarray(hashes, dtype=np.int64)
    chosen = hashes <= np.partition(hashes, size - 1)[size - 1]
    if chosen.all():
        return train, None
    return train.select(np.flatnonzero(~chosen)), train.select(np.flatnonzero(chosen))


def label_closure(label_sets: Splits | LabelSets, hierarchy: LabelHierarchy) -> LabelClosure:
    """
    Whether label sets hold all ancestors of their labels.

    Args:
        label_sets (`Dataset`, `DatasetDict`, `list[list[int]]` or CSR pair): Training labels; of a `DatasetDict` the
            split `train` counts.
        hierarchy ([`LabelHierarchy`])

    Returns:
        `str`: `"closed"` or `"as_given"`, the values of `config.label_closure`.
    """
    if isinstance(label_sets, (Dataset, DatasetDict)):
        label_sets = label_csr(as_split(label_sets, "train"), hierarchy)
    return "closed" if hierarchy.is_closed(label_sets) else "as_given"


def label_csr(dataset: Dataset, hierarchy: LabelHierarchy | None = None) -> Csr:
    """
    CSR pair `(indptr, indices)` of the `labels` column of a split, int64.

    The column has any allowed form: lists of label ids, of names, multi-hot lists of floats or booleans, one id or name per row.
    Columns of `ClassLabel`s are read by their names.

    Args:
        dataset (`Dataset`): With a column `labels`.
        hierarchy ([`LabelHierarchy`], *optional*): Needed for names; with it ids and the width of multi-hot rows are checked.

    Raises:
        `ValueError`: an id or name that is no label, an id twice in a row (0/1 integers are label ids, never multi-hot),
        multi-hot rows of another width; the row is named. `TypeError`: names without `hierarchy`, other values.
    """
    column = arrow_column(dataset, "labels")
    classes = class_names(dataset)
    if hierarchy is None or classes is None or classes == hierarchy.label_names:
        return column_csr(column, hierarchy)
    indptr, indices = column_csr(column)
    as_csr((indptr, indices), len(classes))
    used, first, codes = np.unique(indices, return_index=True, return_inverse=True)
    rows = (np.searchsorted(indptr, first, side="right") - 1).tolist()
    return indptr, ids_of_names([classes[i] for i in used], rows, hierarchy)[codes]


def class_names(dataset: Dataset) -> list[str] | None:
    """The names of a `labels` column of `ClassLabel`s, otherwise `None`."""
    feature = (dataset.features or {}).get("labels")
    feature = getattr(feature, "feature", feature)
    return feature.names if isinstance(feature, ClassLabel) else None


def with_label_ids(dataset: Dataset, hierarchy: LabelHierarchy) -> Dataset:
    """
    A split whose labels models and collator can read: names and `ClassLabel`s of another order become label ids; ids and
    multi-hot rows stay as they are. The given split is not changed.

    Raises:
        As [`label_csr`].
    """
    if dataset.features is None or "labels" not in dataset.features:
        return dataset
    kind = arrow_column(dataset.select(range(min(1, len(dataset)))), "labels").type
    kind = kind.value_type if is_list(kind) else kind
    classes = class_names(dataset)
    if not (pa.types.is_dictionary(kind) or is_text(kind)) and classes in (None, hierarchy.label_names):
        return dataset
    labels = to_arrow(*label_csr(dataset, hierarchy))
    others = dataset.remove_columns("labels")
    return others.add_column("labels", labels) if others.column_names else Dataset(pa.table({"labels": labels}))


def dataset_fingerprint(dataset: Splits, hierarchy: LabelHierarchy) -> str:
    """
    A short digest of texts, labels and taxonomy.

    Equal content gives an equal fingerprint on every machine, whatever the cache paths, file formats, other columns or
    Arrow chunks; one changed character, label, row order or split gives another.

    Args:
        dataset (`Dataset` or `DatasetDict`): With columns `text` and `labels` (ids of `hierarchy`).
        hierarchy ([`LabelHierarchy`])

    Returns:
        `str`: 16 hex digits.
    """
    digest = hashlib.sha256(hierarchy.fingerprint().encode())
    splits = dataset if isinstance(dataset, dict) else {"": dataset}
    for name in sorted(splits):
        missing = {"text", "labels"} - set(splits[name].column_names)
        if missing:
            raise HTCError(
                f"The split {name!r} has no column {sorted(missing)[0]!r}; take the fingerprint before `tokenize_dataset`."
            )
        digest.update(f"\0{name}\0{len(splits[name])}\0".encode())
        for part in _content_hashes(splits[name]):
            digest.update(part.digest())
    return digest.hexdigest()[:16]


def _content_hashes(split):
    """Hashes of text lengths, text bytes, label counts and label ids: streams, so chunk borders leave no trace."""
    lengths, texts, counts, ids = parts = [hashlib.sha256() for _ in range(4)]
    for batch in split.select_columns(["text", "labels"]).with_format("arrow").iter(batch_size=10_000):
        array = batch.column("text").cast(pa.large_string()).combine_chunks()
        lengths.update(pc.binary_length(array).fill_null(-1).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
        if array.buffers()[2] is not None:
            offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
            texts.update(memoryview(array.buffers()[2])[offsets[0] : offsets[-1]])
        indptr, indices = from_arrow(batch.column("labels"))
        counts.update(np.diff(indptr).astype("<i8").tobytes())
        ids.update(indices.astype("<i8").tobytes())
    return parts
