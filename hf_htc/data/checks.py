"""Checks of a data set before it costs a training run: on loaded data, or on raw files that the loader would refuse."""

# Legend: D documents of all splits together.

from __future__ import annotations

import hashlib
from dataclasses import fields
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset, DatasetDict

from hf_htc.models.errors import HTCError, HTCTypeError

from .arrow_columns import arrow_column, from_arrow
from .labels import label_ids, name_sets
from .options import ReadOptions
from .plausibility import look_over
from .preparing import (
    Prepared,
    PreparedSplit,
    blank_texts,
    check_choices,
    prepare,
    report_empty_texts,
    report_unlabelled,
    skipped_kinds,
)
from .problems import Origin, ProblemLog
from .report import DatasetReport


if TYPE_CHECKING:
    from hf_htc.annotations import Frame, Source, Splits, StrPath
    from hf_htc.models.hierarchy import LabelHierarchy


def check_dataset(dataset: Splits, hierarchy: LabelHierarchy) -> DatasetReport:
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
        origin = Origin(name)
        splits[name] = PreparedSplit(rows, origin, "text", ["labels"], _looked_up(rows, name, hierarchy, log))
        report_empty_texts(blank_texts(rows, "text", origin), origin, log)
        report_unlabelled(splits[name].csr[0], origin, log)
    return _report(Prepared(splits, hierarchy, False, True, None), log)


def check_files(
    name_or_path: StrPath | DatasetDict | Dataset | Frame | dict[str, Any] | None = None,
    *,
    train_file: Source | None = None,
    validation_file: Source | None = None,
    test_file: Source | None = None,
    taxonomy: LabelHierarchy | StrPath | None = None,
    labels: Literal["all", "used"] = "all",
    closure: Literal["up"] | None = None,
    unknown_labels: Literal["refuse", "missed"] = "refuse",
    validation_fraction: float = 0.0,
    config_name: str | None = None,
    data_dir: StrPath | None = None,
    cache_dir: StrPath | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> DatasetReport:
    """
    Checks raw data, without stopping at the first error as [`load_htc_dataset`] does.

    Args:
        The arguments of [`load_htc_dataset`], all with the same meaning; no validation split is made, whatever
        `validation_fraction`: the splits are checked as they are.

    Returns:
        [`DatasetReport`]: as [`check_dataset`], and in addition unreadable lines, ragged rows, wrong types and an
        unusable taxonomy, with file and line. Such rows are left out of the statistics, unknown labels of the label
        counts. Where a later step fails after problems were found, the report holds the problems and the failure.

    Raises:
        What cannot be read at all: `FileNotFoundError` for a missing file, `ValueError` for a missing column,
        contradictory options, or a file without a readable row.
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    repository = {"config_name": config_name, "data_dir": data_dir, "revision": revision, "token": token}
    unknown = sorted(set(options) - {f.name for f in fields(ReadOptions)})
    if unknown:
        raise TypeError(f"check_files() got an unexpected keyword argument {unknown[0]!r}")
    options = ReadOptions(**options)
    check_choices(labels, closure, unknown_labels, validation_fraction)
    log = ProblemLog(strict=False, skipped=skipped_kinds(options))
    try:
        prepared = prepare(
            name_or_path, files, taxonomy, options, log, labels, closure, cache_dir, repository, unknown_labels == "missed"
        )
        return _report(prepared, log)
    except HTCError as error:
        if not log.problems:
            raise
        log.add("stopped", "error", f"The check ends here: {error}")
        return DatasetReport({}, {}, {}, {}, None, log.problems)


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


def _report(prepared, log):
    splits, hierarchy = prepared.splits, prepared.hierarchy
    measured = {name: _measure(arrow_column(part.rows, part.text_column)) for name, part in splits.items()}
    duplicates, inside = _duplicates(splits, measured, log)
    labels = look_over(prepared, log)
    statistics = {
        name: {**_split_statistics(part.csr, hierarchy, *measured[name][:2]), "duplicates": inside[name]}
        for name, part in splits.items()
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
    """Words, characters and a hash of the normalized text of each document, `(documents,)` int64 each; blank texts
    hash to 0."""
    words, characters, hashes = [], [], []
    for chunk in column.chunks:
        for start in range(0, len(chunk), 1000):
            for text in chunk.slice(start, 1000).to_pylist():
                parts = (text or "").split()
                words.append(len(parts))
                characters.append(len(text or ""))
                digest = (
                    hashlib.blake2b(" ".join(parts).lower().encode("utf-8", "surrogatepass"), digest_size=7).digest()
                    if parts
                    else b""
                )
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
        where = " = ".join(splits[name].origin.at(row) for name, row in members[:4])
        held = [name for name in names if any(name == other for other, _ in members)]
        for name in held:
            within[name] += sum(name == other for other, _ in members) - 1
        for pair in combinations(held, 2):
            across["/".join(pair)] = across.get("/".join(pair), 0) + 1
        places["within"] += [where] if len(members) > len(held) else []
        places["across"] += [where] if len(held) > 1 else []
        # A text that stands without labels in one place contradicts nothing.
        if len({tuple(_labels_of(splits[name].csr, row)) for name, row in members} - {()}) > 1:
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
