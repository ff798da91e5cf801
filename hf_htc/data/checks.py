"""Checks of a data set before it costs a training run: on loaded data, or on raw files that the loader would refuse."""

# Legend: D documents of all splits together.

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_htc.models.errors import HTCError, HTCTypeError

from .arrow_columns import arrow_column, from_arrow, label_ids, name_sets
from .loading import check_options, read_labelled, report_empty_texts, report_unlabelled
from .problems import Origin, ProblemLog
from .report import DatasetReport


def check_dataset(dataset, hierarchy):
    """
    Checks a loaded data set.

    Args:
        dataset (`DatasetDict` or `Dataset`): Columns `text` and `labels`, label ids of `hierarchy` or label names. A
            single `Dataset` counts as `train`.
        hierarchy ([`LabelHierarchy`])

    Returns:
        [`DatasetReport`]: unknown labels, missing ancestors, empty texts, duplicates within and across splits (case and
        white space aside), equal texts with different labels, labels without training data, and statistics.

    Raises:
        `TypeError`: neither kind of data set. `ValueError`: a split lacks `text` or `labels`.

    Example:

    ```python
    >>> print(check_dataset(*load_htc_dataset("python_docs")))  # doctest: +SKIP
    ```
    """
    if not isinstance(dataset, (Dataset, DatasetDict)):
        raise HTCTypeError(f"`dataset` must be a `DatasetDict` or a `Dataset`, got {type(dataset).__name__}.")
    log = ProblemLog(strict=False)
    splits = {}
    for name, rows in ({"train": dataset} if isinstance(dataset, Dataset) else dataset).items():
        missing = [column for column in ("text", "labels") if column not in rows.column_names]
        if missing:
            raise HTCError(f"The split {name!r} has no column {missing[0]!r}; its columns are {rows.column_names}.")
        splits[name] = (rows, Origin(name), _looked_up(rows, name, hierarchy, log))
    return _report(splits, hierarchy, "text", log)


def check_files(
    name_or_path=None,
    *,
    train_file=None,
    validation_file=None,
    test_file=None,
    taxonomy=None,
    text_column="text",
    label_column="labels",
    label_separator=None,
    path_separator=None,
    config_name=None,
    data_dir=None,
    cache_dir=None,
    revision=None,
    token=None,
):
    """
    Checks raw data, without stopping at the first error as [`load_htc_dataset`] does.

    Args:
        The sources, columns and separators of [`load_htc_dataset`].

    Returns:
        [`DatasetReport`]: as [`check_dataset`], and in addition unreadable lines, ragged rows, wrong types and an
        unusable taxonomy, with file and line. Such rows are left out of the statistics, unknown labels of the label
        counts.

    Raises:
        What cannot be read at all: `FileNotFoundError` for a missing file, `ValueError` for a missing column,
        contradictory options, or a file without a readable row.
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    files = {split: path for split, path in files.items() if path is not None}
    repository = {"config_name": config_name, "data_dir": data_dir, "revision": revision, "token": token}
    label_columns = check_options(name_or_path, files, repository, text_column, label_column, label_separator, path_separator)
    log = ProblemLog(strict=False)
    splits, hierarchy, _ = read_labelled(
        name_or_path,
        files,
        taxonomy,
        text_column,
        label_columns,
        label_separator,
        path_separator,
        log,
        cache_dir,
        repository,
    )
    return _report(splits, hierarchy, text_column, log)


def _looked_up(rows, split, hierarchy, log):
    """CSR pair of the label ids of a split; wrong ids and names go to the log."""
    column = arrow_column(rows, "labels")
    origin = Origin(split)
    value_type = getattr(column.type, "value_type", None)
    if value_type is None or not pa.types.is_integer(value_type):
        sets = name_sets(rows, ["labels"], origin, log, id_names=hierarchy.label_names)
        return label_ids(sets, hierarchy, origin, split, log)
    indptr, indices = from_arrow(column)
    wrong = (indices < 0) | (indices >= hierarchy.num_labels)
    owners = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    if wrong.any():
        row = owners[wrong][0]
        log.error(
            "unknown_label",
            f"{origin.at(row)}: the label id {indices[wrong][0]} is outside the taxonomy's 0 to {hierarchy.num_labels - 1}.",
            wrong.sum(),
            [origin.at(r) for r in owners[wrong][:10]],
        )
    counts = np.bincount(owners[~wrong], minlength=len(indptr) - 1)
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), indices[~wrong]


def _report(splits, hierarchy, text_column, log):
    measured = {}
    for name, (rows, origin, csr) in splits.items():
        report_empty_texts(rows, text_column, origin, log)
        report_unlabelled(csr[0], origin, log)
        measured[name] = _measure(arrow_column(rows, text_column))
    duplicates, inside = _duplicates(splits, measured, log)
    labels = _label_coverage(splits, hierarchy, log)
    statistics = {
        name: {**_split_statistics(csr, hierarchy, *measured[name][:2]), "duplicates": inside[name]}
        for name, (_, _, csr) in splits.items()
    }
    reference = ["train"] if "train" in splits else list(splits)
    open_documents = {name: row["open_documents"] for name, row in statistics.items() if row["open_documents"]}
    if open_documents:
        log.add(
            "missing_ancestors",
            "note",
            f"Documents lack an ancestor of one of their labels ({open_documents}): the labels are `as_given`. Pass "
            '`closure="up"` to `load_htc_dataset` if the documents should have all ancestors.',
            sum(open_documents.values()),
        )
    return DatasetReport(
        splits=statistics,
        hierarchy=hierarchy.statistics(),
        labels=labels,
        duplicates=duplicates,
        label_closure="as_given" if set(reference) & set(open_documents) else "closed",
        problems=log.problems,
    )


def _measure(column):
    """Words, characters and a hash of the normalized text of each document, `(documents,)` int64 each; blank texts "
    "hash to 0."""
    words, characters, hashes = [], [], []
    for chunk in column.chunks:
        for start in range(0, len(chunk), 1000):
            for text in chunk.slice(start, 1000).to_pylist():
                parts = (text or "").split()
                words.append(len(parts))
                characters.append(len(text or ""))
                digest = hashlib.blake2b(" ".join(parts).lower().encode(), digest_size=7).digest() if parts else b""
                hashes.append(int.from_bytes(digest, "big"))
    return tuple(np.asarray(values, dtype=np.int64) for values in (words, characters, hashes))


def _numbers(values):
    if not len(values):
        return {"mean": 0.0, "median": 0, "p95": 0, "min": 0, "max": 0}
    return {
        "mean": float(values.mean()),
        "median": int(np.median(values)),
        "p95": int(np.percentile(values, 95)),
        "min": int(values.min()),
        "max": int(values.max()),
    }


def _split_statistics(csr, hierarchy, words, characters):
    indptr, indices = csr
    counts = np.diff(indptr)
    owners = np.repeat(np.arange(len(counts)), counts)
    deepest = np.zeros(len(counts), dtype=np.int64)
    np.maximum.at(deepest, owners, hierarchy.levels[indices])
    levels, documents = np.unique(deepest[counts > 0], return_counts=True)
    return {
        "documents": len(counts),
        "unlabelled": int((counts == 0).sum()),
        "empty_texts": int((words == 0).sum()),
        "open_documents": len(np.unique(hierarchy.violations(csr)[:, 0])),
        "labels_seen": len(np.unique(indices)),
        "labels_per_document": _numbers(counts),
        "words": _numbers(words),
        "characters": _numbers(characters),
        "depth": {int(level): int(n) for level, n in zip(levels, documents)},
    }


def _label_coverage(splits, hierarchy, log):
    """Which labels have training documents; without a training split there is nothing to say."""
    coverage = {"without_training": [], "unseen_in_training": {}, "most_frequent": [], "least_frequent": []}
    if "train" not in splits:
        return coverage
    names = hierarchy.label_names
    train = np.bincount(splits["train"][2][1], minlength=hierarchy.num_labels)
    absent = np.flatnonzero(train == 0)
    coverage["without_training"] = [names[i] for i in absent]
    order = np.argsort(-train, kind="stable")
    coverage["most_frequent"] = [(names[i], int(train[i])) for i in order[:10] if train[i]]
    coverage["least_frequent"] = [(names[i], int(train[i])) for i in order[::-1] if train[i]][:10]
    if len(absent):
        log.add(
            "label_without_training_data",
            "warning",
            f"{len(absent)} of {len(names)} labels have no training document, "
            f"e.g. {names[absent[0]]!r}; no method can learn them. "
            'Pass `labels="used"` to leave out labels that no split has.',
            len(absent),
            coverage["without_training"],
        )
    for split, (_, _, (_, indices)) in splits.items():
        unseen = np.flatnonzero((np.bincount(indices, minlength=len(names)) > 0) & (train == 0)) if split != "train" else []
        if len(unseen):
            coverage["unseen_in_training"][split] = [names[i] for i in unseen]
            log.add(
                "label_unseen_in_training",
                "warning",
                f"{len(unseen)} labels of the split {split!r} never occur in training, "
                f"e.g. {names[unseen[0]]!r}; they count as missed in every score.",
                len(unseen),
                coverage["unseen_in_training"][split],
            )
    return coverage


def _duplicates(splits, measured, log):
    """Equal texts within and across splits; returns the report's `duplicates` and superfluous rows by split."""
    names = list(splits)
    hashes = np.concatenate([measured[name][2] for name in names])
    split_of = np.repeat(np.arange(len(names)), [len(measured[name][2]) for name in names])
    row_of = np.concatenate([np.arange(len(measured[name][2])) for name in names])
    order = np.argsort(hashes, kind="stable")
    order = order[hashes[order] != 0]
    borders = np.flatnonzero(np.diff(hashes[order])) + 1
    sizes = np.diff(np.concatenate([[0], borders, [len(order)]]))
    starts = np.concatenate([[0], borders])[sizes > 1] if len(order) else []
    within, across, conflicting = dict.fromkeys(names, 0), {}, []
    places = {"within": [], "across": [], "conflicting": []}
    for start, size in zip(starts, sizes[sizes > 1]):
        members = [(names[split_of[i]], int(row_of[i])) for i in order[start : start + size]]
        where = " = ".join(splits[name][1].at(row) for name, row in members[:4])
        held = [name for name in names if any(name == other for other, _ in members)]
        for name in held:
            within[name] += sum(name == other for other, _ in members) - 1
        for pair in combinations(held, 2):
            across["/".join(pair)] = across.get("/".join(pair), 0) + 1
        places["within"] += [where] if len(members) > len(held) else []
        places["across"] += [where] if len(held) > 1 else []
        if len({tuple(_labels_of(splits[name][2], row)) for name, row in members}) > 1:
            conflicting.append(where)
    places["conflicting"] = conflicting
    _log_duplicates(within, across, conflicting, places, log)
    return {"within": within, "across": across, "conflicting": len(conflicting)}, within


def _labels_of(csr, row):
    return csr[1][csr[0][row] : csr[0][row + 1]].tolist()


def _log_duplicates(within, across, conflicting, places, log):
    found = {
        "duplicate_within_split": (
            sum(within.values()),
            "Texts stand several times in one split",
            "Remove the copies.",
        ),
        "duplicate_across_splits": (
            sum(across.values()),
            f"Texts stand in several splits ({across})",
            "Scores on them measure memory; remove them from the training split.",
        ),
        "conflicting_labels": (
            len(conflicting),
            "Equal texts have different labels",
            "Merge their labels or decide on one.",
        ),
    }
    for (kind, (count, what, mend)), examples in zip(found.items(), places.values()):
        if count:
            log.add(kind, "warning", f"{what}, {count} in all, e.g. {examples[0]}. {mend}", count, examples)
