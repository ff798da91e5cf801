"""`load_htc_dataset`: built-in data sets, folders, Hub repositories and own files as texts, label ids and a hierarchy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, Features, List, Value

from hf_htc.logging import get_logger
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.whole_files import new_folder

from .options import ReadOptions
from .plausibility import look_over
from .preparing import check_choices, prepare, skipped_kinds, with_labels
from .problems import ProblemLog
from .readers import quiet_unless_big
from .splits import dataset_fingerprint, label_closure, split_validation


if TYPE_CHECKING:
    from hf_htc.annotations import Frame, LabelClosure, Source, StrPath


logger = get_logger(__name__)


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
    def label_closure(self) -> LabelClosure:
        """`"closed"` or `"as_given"`, measured on the training labels (on all splits without a training split)."""
        if "train" in self.dataset:
            return label_closure(self.dataset, self.hierarchy)
        closed = all(label_closure(split, self.hierarchy) == "closed" for split in self.dataset.values())
        return "closed" if closed else "as_given"

    @property
    def fingerprint(self) -> str:
        """[`dataset_fingerprint`] of both parts."""
        return dataset_fingerprint(self.dataset, self.hierarchy)

    def save(self, folder: StrPath) -> None:
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


def named(dataset: Dataset, hierarchy: LabelHierarchy) -> Dataset:
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
    name_or_path: StrPath | DatasetDict | Dataset | Frame | dict[str, Any] | None = None,
    *,
    train_file: Source | None = None,
    validation_file: Source | None = None,
    test_file: Source | None = None,
    taxonomy: LabelHierarchy | StrPath | None = None,
    text_column: str | list[str] = "text",
    label_column: str | list[str] | list[list[str]] = "labels",
    label_separator: str | None = None,
    path_separator: str | bool | None = None,
    class_names: StrPath | None = None,
    labels: Literal["all", "used"] = "all",
    closure: Literal["up"] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Literal["quotes", "none"] | None = None,
    header: Literal["yes", "no"] | None = None,
    missing_values: list[str] | str | None = None,
    level_gaps: Literal["refuse", "close"] = "refuse",
    skip_bad_rows: bool = False,
    skip_empty_texts: bool = False,
    allow_unlabelled: bool = False,
    language: str | None = None,
    keep_root: bool = False,
    unknown_labels: Literal["refuse", "missed"] = "refuse",
    validation_fraction: float = 0.1,
    seed: int = 42,
    config_name: str | None = None,
    data_dir: StrPath | None = None,
    cache_dir: StrPath | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> HTCDataset:
    r"""
    Loads texts, labels and taxonomy.

    Args:
        name_or_path (`str`, `os.PathLike`, `DatasetDict`, `Dataset`, frame, or `dict` of these by split, *optional*): A built-in
            data set, a folder in the Hub's layout (`train.parquet` or `data/train-*.parquet`, or what the README's `configs`
            say, beside `taxonomy.tsv`), a folder of `save_to_disk`, the id of a Hub data set, or what is in memory; a `Dataset`
            or a frame of pandas or polars is the training split. Built-in are `"python_docs"`, which every Python brings along,
            and the data sets of the papers, made from their owners' files in `data_dir`: `"eurlex57k"`, `"wos"`, `"rcv1"`,
            `"nyt"`, `"bgc"`, `"bugs"`, `"amazon5x5"`, `"newsgroups20"`, `"clinc150"`; `hf_htc.dataset_scripts` has a page of
            each. Write `"./bgc"` for a folder that is named like a built-in data set.
        train_file, validation_file, test_file (`str`, `os.PathLike`, `Dataset` or frame, *optional*): Own files instead, of any
            kind that `docs/your_data.md` lists, told by their content: CSV and other tables, JSON lines, JSON, fastText
            lines, exports of Label Studio and doccano, Parquet, Arrow, Excel; also packed.
        taxonomy ([`LabelHierarchy`], `str` or `os.PathLike`, *optional*): A file as [`LabelHierarchy.from_file`] reads
            it, also the name of one in the folder or repository. Defaults to the `taxonomy.json` or `taxonomy.tsv`
            there; without one it is inferred from the paths, and without paths the labels are flat, with a warning. Labels of
            the data may be names, ids, texts, alternative names, paths or unambiguous last segments of its nodes.
        text_column (`str` or `list[str]`, *optional*, defaults to `"text"`): Column of the texts; `"title,body"` or a list
            names several, which are joined line by line. Lists of tokens are joined by blanks.
        label_column (`str`, `list[str]` or `list[list[str]]`, *optional*, defaults to `"labels"`): Column of the labels: lists
            of names, also written as text, or strings (one label, or several with `label_separator`). Several columns,
            `"a,b"` or `["a", "b"]`, are the levels of one path, first level first; columns of 0 and 1 are one label each;
            `"topic_*"` names all columns that fit. Several groups, `"a1,a2;b1,b2"` or `[["a1", "a2"], ["b1", "b2"]]`, give
            a path each. Integers are ids of a `ClassLabel` feature, of the [`LabelHierarchy`] or the taxonomy file given, or
            numbers in `class_names`.
        label_separator (`str`, *optional*): Splits strings into labels: `"sport;politics"`.
        path_separator (`str` or `bool`, *optional*): The labels are paths, `"sport/football"`. A path stands for its last node
            only; pass `closure="up"` for its ancestors too. A given taxonomy may name its nodes by path or by segment.
            Without a taxonomy paths are recognised, which a warning says; `"none"` or `False`: they are no paths.
        class_names (`str` or `os.PathLike`, *optional*): A file with the names of labels that are numbers: a line each, from 0;
            a JSON list or object; a table of number and name.
        delimiter, encoding, quoting, header (*optional*): Of text tables, where they are not recognised rightly: a character or
            `"tab"`, `"comma"`, ...; Python's name of an encoding; `"quotes"` or `"none"` (quotes are characters like others);
            `"yes"` or `"no"` (columns are then called `"1"`, `"2"`, ...).
        missing_values (`list[str]` or `str`, *optional*): What stands for a missing level beside an empty cell, compared without
            case; a string is split at commas. Defaults to [`~hf_htc.data.options.MISSING_VALUES`]: `nan`, `N/A`, `unknown`, ...
            In a column by itself only `nan`, `null`, `<NA>` and `#N/A` are taken so; a name of the taxonomy never is.
        level_gaps (`str`, *optional*, defaults to `"refuse"`): `"close"`: an empty level between filled ones is left out.
        skip_bad_rows, skip_empty_texts (`bool`, *optional*, defaults to `False`): Leave out rows that cannot be read or whose
            labels are malformed, and rows without a text, with a warning that counts and lists them.
        allow_unlabelled (`bool`, *optional*, defaults to `False`): Keep rows without labels, as empty lists; validation and test
            files need no column of labels then.
        language (`str`, *optional*): Of the texts of the taxonomy's nodes, where it has several.
        keep_root (`bool`, *optional*, defaults to `False`): Keep a node above all others of a taxonomy file as a label.
        unknown_labels (`str`, *optional*, defaults to `"refuse"`): `"missed"`: labels that the taxonomy lacks become labels of
            their own behind its labels, which no model predicts: they count as missed.
        labels (`str`, *optional*, defaults to `"all"`): Which nodes of the taxonomy are labels. `"all"`: every node (or
            those that a `LabelHierarchy` says). `"used"`: those that occur in any split, after `closure`; their other
            ancestors become structure-only nodes. Take `"used"` where the taxonomy is much larger than the data.
        closure (`str`, *optional*): `"up"` adds all ancestors that are labels; `None` leaves the labels as given.
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
    repository = {"config_name": config_name, "data_dir": data_dir, "revision": revision, "token": token}
    options = ReadOptions(
        text_column=text_column,
        label_column=label_column,
        label_separator=label_separator,
        path_separator=path_separator,
        class_names=class_names,
        delimiter=delimiter,
        encoding=encoding,
        quoting=quoting,
        header=header,
        missing_values=missing_values,
        level_gaps=level_gaps,
        skip_bad_rows=skip_bad_rows,
        skip_empty_texts=skip_empty_texts,
        allow_unlabelled=allow_unlabelled,
        language=language,
        keep_root=keep_root,
    )
    check_choices(labels, closure, unknown_labels, validation_fraction)
    log = ProblemLog(strict=True, skipped=skipped_kinds(options))
    prepared = prepare(
        name_or_path, files, taxonomy, options, log, labels, closure, cache_dir, repository, unknown_labels == "missed"
    )
    look_over(prepared, log)
    log.warn_to(logger)
    hierarchy = prepared.hierarchy
    dataset = DatasetDict(
        {split: with_labels(part.rows, part.csr, part.text_column, part.label_columns) for split, part in prepared.splits.items()}
    )
    dataset = _with_validation(dataset, validation_fraction, seed)
    if prepared.is_path and closure is None and "train" in dataset and label_closure(dataset, hierarchy) == "as_given":
        logger.warning("Each path stands for its last node only. Pass `closure='up'` to give the documents its ancestors too.")
    return HTCDataset(dataset, hierarchy)


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
