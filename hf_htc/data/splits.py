"""Splits: a validation split where none is given, checks that one split is one split, a fingerprint of the content."""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict

from hf_htc.models.errors import HTCError, HTCTypeError

from .labels import arrow_column, from_arrow


logger = logging.getLogger(__name__)


def as_split(dataset, split):
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


def check_is_split(dataset, argument="train_dataset"):
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


def split_validation(train, fraction, seed):
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


def label_closure(label_sets, hierarchy):
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
        label_sets = label_csr(as_split(label_sets, "train"))
    return "closed" if hierarchy.is_closed(label_sets) else "as_given"


def label_csr(dataset):
    """CSR pair `(indptr, indices)` of the `labels` column of a split, int64."""
    return from_arrow(arrow_column(dataset, "labels"))


def dataset_fingerprint(dataset, hierarchy):
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
