"""`load_htc_dataset`: built-in data sets, folders, Hub repositories and own files as texts, label ids and a
hierarchy."""

from __future__ import annotations

import json
import logging
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, DatasetInfo, Features, List, Value, concatenate_datasets

from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.whole_files import new_folder

from .labels import arrow_column, build_hierarchy, label_ids, name_sets, to_arrow
from .problems import ProblemLog
from .readers import quiet_unless_big
from .sources import open_source
from .splits import dataset_fingerprint, label_closure, split_validation


logger = logging.getLogger(__name__)


class HTCDataset(NamedTuple):
    """
    A data set for hierarchical text classification; unpacks as `dataset, hierarchy = load_htc_dataset(...)`.

    Attributes:
        dataset (`DatasetDict`): Splits with the columns `text` (`str`), `labels` (list of label ids of `hierarchy`,
            int32, ascending, unique) and whatever else the source has.
        hierarchy ([`LabelHierarchy`])
    """

    dataset: DatasetDict
    hierarchy: LabelHierarchy

    @property
    def label_closure(self):
        """`"closed"` or `"as_given"`, measured on the training labels (on all splits without a training split)."""
        if "train" in self.dataset:
            return label_closure(self.dataset, self.hierarchy)
        closed = all(label_closure(split, self.hierarchy) == "closed" for split in self.dataset.values())
        return "closed" if closed else "as_given"

    @property
    def fingerprint(self):
        """[`dataset_fingerprint`] of both parts."""
        return dataset_fingerprint(self.dataset, self.hierarchy)

    def save(self, folder):
        """
        Writes the Hub's layout: `data/<split>.parquet` with label names, `taxonomy.tsv` (and `taxonomy.json` where the
        lines would lose something) and, if there is none, a `README.md` that declares the splits.

        [`load_htc_dataset`] reads the folder back with equal ids and fingerprint. Written beside `folder` first, so an
        interrupted run leaves nothing half-written.

        Raises:
            `FileExistsError`: `folder` exists and is not empty.
        """
        with new_folder(folder) as partial:
            (partial / "data").mkdir()
            for split, dataset in self.dataset.items():
                with quiet_unless_big(dataset.data.nbytes):
                    named(dataset, self.hierarchy).to_parquet(str(partial / "data" / f"{split}.parquet"))
            self._save_taxonomy(partial)
            (partial / "README.md").write_text(self._readme(), encoding="utf-8")

    def _save_taxonomy(self, folder):
        plain = {"names", "parents", "num_labels"}
        try:
            self.hierarchy.save(folder / "taxonomy.tsv")
            whole = True
        except ValueError:  # a name that lines cannot hold, such as one with a tab
            whole = False
        if not whole or set(self.hierarchy.to_dict()) - plain or self.hierarchy.num_labels < self.hierarchy.num_nodes:
            self.hierarchy.save(folder / "taxonomy.json")

    def _readme(self):
        files = [{"split": split, "path": f"data/{split}.parquet"} for split in self.dataset]
        return (
            "---\ntask_categories:\n- text-classification\nconfigs:\n- config_name: default\n"
            + f"  data_files: {json.dumps(files)}\n---\n\n"
            + "Hierarchical text classification: `text`, `labels` (names); the taxonomy stands in `taxonomy.tsv`.\n"
        )


def named(dataset, hierarchy):
    """A split with label names in place of label ids."""
    names = pa.array(hierarchy.label_names, pa.string())

    def rename(batch):
        labels = batch.column("labels").combine_chunks()
        labels = pa.concat_arrays(labels.chunks) if isinstance(labels, pa.ChunkedArray) else labels
        lengths = pc.list_value_length(labels).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        renamed = pa.ListArray.from_arrays(offsets, names.take(labels.flatten()))
        return batch.set_column(batch.column_names.index("labels"), "labels", renamed)

    features = Features({**dataset.features, "labels": List(Value("string"))})
    return dataset.with_format("arrow").map(rename, batched=True, features=features, keep_in_memory=True).with_format(None)


def load_htc_dataset(
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
    labels="all",
    closure=None,
    allow_unlabelled=False,
    validation_fraction=0.1,
    seed=42,
    config_name=None,
    data_dir=None,
    cache_dir=None,
    revision=None,
    token=None,
):
    r"""
    Loads texts, labels and taxonomy.

    Args:
        name_or_path (`str` or `os.PathLike`, *optional*): A built-in data set, a folder in the Hub's layout
            (`train.parquet` or `data/train-*.parquet`, or what the README's `configs` say, beside `taxonomy.tsv`), or the id
            of a Hub data set. Built-in are `"python_docs"`, which every Python brings along, and the data sets of the papers,
            made from their owners' files in `data_dir`: `"eurlex57k"`, `"wos"`, `"rcv1"`, `"nyt"`, `"bgc"`, `"bugs"`,
            `"amazon5x5"`, `"newsgroups20"`, `"clinc150"`; `hf_htc.dataset_scripts` has a page of each. Write `"./bgc"` for a
            folder that is named like a built-in data set.
        train_file, validation_file, test_file (`str` or `os.PathLike`, *optional*): Own files instead: `.jsonl`,
            `.json`, `.csv`, `.tsv` (with a header) or `.parquet`, UTF-8.
        taxonomy ([`LabelHierarchy`], `str` or `os.PathLike`, *optional*): A file as [`LabelHierarchy.from_file`] reads
            it, also the name of one in the folder or repository. Defaults to the `taxonomy.json` or `taxonomy.tsv`
            there; without one it is inferred from the paths, and without paths the labels are flat, with a warning.
        text_column (`str`, *optional*, defaults to `"text"`): Column of the texts.
        label_column (`str` or `list[str]`, *optional*, defaults to `"labels"`): Column of the labels: lists of names,
            or strings (one label, or several with `label_separator`). Several columns are the levels of one path, first
            level first. Integers are ids of a `ClassLabel` feature or of the [`LabelHierarchy`] given as `taxonomy`.
        label_separator (`str`, *optional*): Splits strings into labels: `"sport;politics"`.
        path_separator (`str`, *optional*): The labels are paths, `"sport/football"`. A path stands for its last node
            only; pass `closure="up"` for its ancestors too. A given taxonomy may name its nodes by path or by segment.
        labels (`str`, *optional*, defaults to `"all"`): Which nodes of the taxonomy are labels. `"all"`: every node (or
            those that a `LabelHierarchy` says). `"used"`: those that occur in any split, after `closure`; their other
            ancestors become structure-only nodes. Take `"used"` where the taxonomy is much larger than the data.
        closure (`str`, *optional*): `"up"` adds all ancestors that are labels; `None` leaves the labels as given.
        allow_unlabelled (`bool`, *optional*, defaults to `False`): Keep rows without labels, as empty lists.
        validation_fraction (`float`, *optional*, defaults to 0.1): Share of the training split that becomes the
            validation split where there is none, in [0, 1); 0 makes none. The test split is never touched.
        seed (`int`, *optional*, defaults to 42): Of that choice.
        config_name (`str`, *optional*): Variant of a built-in data set (`"145"` of `"wos"`), or configuration of a folder or
            Hub repository.
        data_dir (`str`, *optional*): Folder or archive with the original files of a built-in data set, or sub-folder of a
            folder or Hub repository.
        revision, token (*optional*): Revision and access token of a Hub repository.
        cache_dir (`str`, *optional*): Cache of `datasets`.

    Returns:
        [`HTCDataset`]: `(dataset, hierarchy)`.

    Raises:
        `ValueError`: contradictory options; an unreadable or ragged line, an empty text, a row without labels, an
        unknown label (file, row, name and close names are given); a missing column; data and taxonomy that do not
        match. `TypeError`: texts or labels of a wrong type. `FileNotFoundError`: no such file, folder or Hub data set.

    Example:

    ```python
    >>> from hf_htc.data import load_htc_dataset
    >>> dataset, hierarchy = load_htc_dataset("python_docs")  # doctest: +SKIP
    >>> dataset, hierarchy = load_htc_dataset("wos", data_dir="WebOfScience", config_name="141")  # doctest: +SKIP
    >>> dataset, hierarchy = load_htc_dataset(  # doctest: +SKIP
    ...     train_file="train.csv", test_file="test.csv", label_column="category", path_separator=" > ", closure="up"
    ... )
    ```
    """
    files = {"train": train_file, "validation": validation_file, "test": test_file}
    files = {split: path for split, path in files.items() if path is not None}
    repository = {"config_name": config_name, "data_dir": data_dir, "revision": revision, "token": token}
    label_columns = check_options(name_or_path, files, repository, text_column, label_column, label_separator, path_separator)
    if labels not in ("all", "used"):
        raise HTCError(f"`labels` is {labels!r}; it must be 'all' or 'used'.")
    if closure not in (None, "up"):
        raise HTCError(f"`closure` is {closure!r}; it must be None (labels as given) or 'up' (ancestors added).")
    if not 0 <= validation_fraction < 1:
        raise HTCError(
            f"`validation_fraction` is {validation_fraction!r}; it must lie in [0, 1), where 0 makes no validation split."
        )
    log = ProblemLog(strict=True)
    splits, hierarchy, is_path = read_labelled(
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
    for dataset, origin, (indptr, _) in splits.values():
        report_empty_texts(dataset, text_column, origin, log)
        if not allow_unlabelled:
            report_unlabelled(indptr, origin, log)
    sets = {split: csr for split, (_, _, csr) in splits.items()}
    if closure == "up":
        sets = {split: hierarchy.close(csr) for split, csr in sets.items()}
    if labels == "used":
        hierarchy, sets = _used_only(hierarchy, sets)
    dataset = DatasetDict({split: with_labels(splits[split][0], csr, text_column, label_columns) for split, csr in sets.items()})
    dataset = _with_validation(dataset, validation_fraction, seed)
    if is_path and closure is None and "train" in dataset and label_closure(dataset, hierarchy) == "as_given":
        logger.warning("Each path stands for its last node only. Pass `closure='up'` to give the documents its ancestors too.")
    return HTCDataset(dataset, hierarchy)


def check_options(name_or_path, files, repository, text_column, label_column, label_separator, path_separator):
    """Refuses contradictory options; returns the label columns as a list."""
    if (name_or_path is None) == (not files):
        raise HTCError(
            "Pass either `name_or_path` or files (`train_file`, `validation_file`, `test_file`)"
            + (f"; got {str(name_or_path)!r} and {sorted(files)}." if files else "; got neither.")
        )
    extra = [name for name, value in repository.items() if value is not None]
    if files and extra:
        raise HTCError(f"`{extra[0]}` belongs to a folder or Hub repository, but own files are given. Leave it out.")
    label_columns = [label_column] if isinstance(label_column, str) else list(label_column)
    if not label_columns or len(set(label_columns)) < len(label_columns):
        raise HTCError(f"`label_column` is {label_column!r}; name one column, or one different column a level.")
    if text_column in label_columns:
        raise HTCError(f"`text_column` and `label_column` both name {text_column!r}; they must differ.")
    for name, value in (("label_separator", label_separator), ("path_separator", path_separator)):
        if value == "":
            raise HTCError(f"`{name}` is an empty string; give a character such as '{';' if name[0] == 'l' else '/'}', or None.")
    if label_separator is not None and label_separator == path_separator:
        raise HTCError(
            f"`label_separator` and `path_separator` are both {label_separator!r}; labels and segments need different ones."
        )
    if label_separator is not None and len(label_columns) > 1:
        raise HTCError(f"`label_separator` is for one column of labels; {label_columns} are the levels of one path.")
    return label_columns


def read_labelled(
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
):
    """
    Reads splits and hierarchy and looks the labels up, raising or collecting problems as `log` says.

    Returns:
        `tuple[dict, LabelHierarchy, bool]`: split -> (raw `Dataset`, [`Origin`], CSR pair of label ids), the hierarchy,
        and whether labels are paths.
    """
    source = open_source(name_or_path, files, taxonomy, text_column, label_columns, log, cache_dir=cache_dir, **repository)
    id_names = source.taxonomy.label_names if isinstance(source.taxonomy, LabelHierarchy) else None
    sets = {
        split: name_sets(dataset, label_columns, origin, log, label_separator, path_separator, id_names)
        for split, (dataset, origin) in source.splits.items()
    }
    # Several columns, and lists of lists, are paths without a separator in the data; "/" joins them.
    is_path = path_separator is not None or len(label_columns) > 1 or any(s.is_path for s in sets.values())
    joint = path_separator or ("/" if is_path else None)
    hierarchy = build_hierarchy(source.taxonomy, list(sets.values()), joint, log)
    splits = {
        split: (dataset, origin, label_ids(sets[split], hierarchy, origin, split, log, joint))
        for split, (dataset, origin) in source.splits.items()
    }
    return splits, hierarchy, is_path


def report_empty_texts(dataset, text_column, origin, log):
    """Refuses or collects rows whose text is null or blank."""
    column = arrow_column(dataset, text_column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise HTCTypeError(f"Column {text_column!r} of {origin.name} holds {kind}; texts are strings.")
    blank = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0), True)
    rows = np.flatnonzero(blank.to_numpy())
    if len(rows):
        log.error(
            "empty_text",
            f"{origin.at(rows[0])}: the text is empty ({len(rows)} such rows). Remove the row or fill in its text.",
            len(rows),
            [origin.at(row) for row in rows[:10]],
        )


def report_unlabelled(indptr, origin, log):
    """Refuses or collects rows without labels."""
    rows = np.flatnonzero(np.diff(indptr) == 0)
    if len(rows):
        log.error(
            "no_labels",
            f"{origin.at(rows[0])}: the row has no labels ({len(rows)} such rows). Label or remove it, or pass "
            "`allow_unlabelled=True` to keep it.",
            len(rows),
            [origin.at(row) for row in rows[:10]],
        )


def _used_only(hierarchy, sets):
    used = np.unique(np.concatenate([indices for _, indices in sets.values()]))
    restricted = hierarchy.restrict(used.tolist())
    new_ids = np.full(hierarchy.num_labels, -1, dtype=np.int64)
    new_ids[used] = np.arange(len(used))
    logger.info(f"{len(used)} of {hierarchy.num_labels} labels of the taxonomy occur and are kept.")
    return restricted, {split: (indptr, new_ids[indices]) for split, (indptr, indices) in sets.items()}


def with_labels(dataset, csr, text_column, label_columns):
    """The raw split with `text` and `labels` (ids) first and its other columns behind."""
    drop = list(label_columns)
    for name, source in (("text", text_column), ("labels", label_columns[0])):
        if name in dataset.column_names and name not in (text_column, *label_columns):
            logger.info(f"The column {name!r} is dropped because the column {source!r} takes its place.")
            drop.append(name)
    dataset = dataset.remove_columns(drop)
    if text_column != "text":
        dataset = dataset.rename_column(text_column, "text")
    others = [name for name in dataset.column_names if name != "text"]
    features = Features({"labels": List(Value("int32"))})
    labels = Dataset(pa.table({"labels": to_arrow(*csr)}), info=DatasetInfo(features=features))
    # Joined side by side, the texts stay memory-mapped and only the label ids are in memory.
    return concatenate_datasets([dataset, labels], axis=1).select_columns(["text", "labels", *others])


def _with_validation(dataset, fraction, seed):
    if "validation" in dataset or "train" not in dataset or fraction == 0:
        return dataset
    train, validation = split_validation(dataset["train"], fraction, seed)
    if validation is None:
        logger.warning(f"There is no validation split, and {len(train)} training rows are too few to take one from.")
        return dataset
    logger.warning(
        f"There is no validation split: {len(validation)} of {len(dataset['train'])} training documents become one "
        f"(validation_fraction={fraction}, seed={seed}); train keeps {len(train)}. The test split is untouched."
    )
    others = {split: rows for split, rows in dataset.items() if split != "train"}
    return DatasetDict({"train": train, "validation": validation, **others})
