"""Readers of own files: what a file is, is told by its content; every error names file and line."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils import tqdm
from datasets.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, refusing

from .arrow_columns import table_dataset
from .columns import find_columns, joined_texts, label_array, other_array, text_array
from .json_files import UNREADABLE, is_lines, parse_json, read_json, read_jsonl
from .lines import split_lines
from .problems import Origin, RowProblems
from .recognise import Recognised, TextFile, markup_of, open_binary, open_text
from .sniffing import BY_SUFFIX
from .tables import read_table, read_xlsx


logger = get_logger(__name__)

# Smaller inputs are read in a moment; a bar would only be noise.
PROGRESS_BYTES = 50_000_000
# In a folder, data files are told by these endings; of several kinds the first wins.
SUFFIXES = (".parquet", ".arrow", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".xlsx")
PACKED = (".gz", ".zip", ".zst", ".bz2", ".xz")
BINARY_SUFFIXES = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Arrow", ".xlsx": "Excel"}
LABEL_MARK = "__label__"


@dataclass
class RawSplit:
    """
    A split as it was read.

    Attributes:
        dataset (`datasets.Dataset`): All columns; the text in one of them.
        origin ([`Origin`]): Where its rows come from.
        text_column (`str`), label_groups (`list[list[str]]`): Columns; no groups where a split has no labels.
        bad (`set[int]`): Rows with a text or labels of a wrong type, which are null now.
    """

    dataset: Dataset
    origin: Origin
    text_column: str
    label_groups: list
    bad: set = field(default_factory=set)


def data_suffix(name):
    """The ending that tells the kind of a data file, without that of its packing; `None` for other files."""
    path = Path(name.lower())
    suffix = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    return suffix if suffix in SUFFIXES else None


def check_file(path, what="file"):
    """`path` as a `Path`. Raises `FileNotFoundError` for a missing file; those that the folder holds are named."""
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.iterdir() if data_suffix(p.name)) if path.parent.is_dir() else []
        raise HTCFileNotFoundError(
            f"There is no {what} {str(path)!r}."
            + (f" The folder holds {near[:10]}." if near else " The folder does not exist." if not path.parent.is_dir() else "")
            + " Correct the path."
        )
    return path


@contextmanager
def quiet_unless_big(size):
    """Turns the progress bars of `datasets` off for small inputs, and back to what they were."""
    if size >= PROGRESS_BYTES or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def recognise(path, encoding=None):
    """
    What a data file is.

    Returns:
        [`TextFile`] with `facts.kind`, `"table"`, `"jsonl"`, `"json"` or `"fasttext"`; or, for what is no text, its facts alone
        ([`Recognised`]), of the kind `"parquet"`, `"arrow"` or `"xlsx"`.
    """
    path = Path(path)
    with open_binary(path) as (raw, packed):
        start = raw.read(1024)
    facts = Recognised(path.name, compression=packed[0], member=packed[1])
    if start.startswith(b"PAR1"):
        facts.kind = "parquet"
    elif start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        facts.kind = "arrow"
    elif start.startswith(b"PK"):  # what `open_binary` leaves packed
        facts.kind = "xlsx"
    if facts.kind is not None:
        return facts
    named = BINARY_SUFFIXES.get(path.suffix.lower())
    if named is not None:
        raise HTCError(f"{path.name!r} cannot be read as {named}: its first bytes are others. Write the file again.")
    file = open_text(path, encoding, strict=False)
    sample, whole = file.sample(1 << 16)
    begin = sample.lstrip("\ufeff \t\r\n")
    if not begin:
        raise HTCError("is empty.", file=file.name, mend="Give a file with rows.")
    if markup_of(begin):
        raise HTCError(
            f"is {markup_of(begin)}, which is not read as data.", file=file.name, mend="Export it as CSV, JSON lines or Parquet."
        )
    named = file.suffix in BY_SUFFIX and not _is_object(begin)
    if LABEL_MARK in begin[:2000] and not named and _is_fasttext(begin):
        file.facts.kind = "fasttext"
    elif not named and (begin[0] in "[{" or file.suffix in (".json", ".jsonl", ".ndjson")):
        file.facts.kind = "json" if begin[0] == "[" and not _is_list_per_line(begin, file.suffix) else "jsonl"
        if begin[0] == "{" and not is_lines(begin, whole, file.suffix):
            file.facts.kind = "json"
    else:
        file.facts.kind = "table"
    return file


def _is_object(begin):
    """Whether the first line of a text is a JSON object, which no row of a table is, whatever the file is called."""
    try:
        return begin[0] == "{" and isinstance(parse_json(split_lines(begin)[0]), dict)
    except UNREADABLE:
        return False


def _is_list_per_line(begin, suffix):
    """Whether a file of JSON lines begins with a list, which its reader then refuses by its line."""
    lines = split_lines(begin)
    return suffix in (".jsonl", ".ndjson") and len(lines) > 1 and lines[0].rstrip().endswith("]")


def _is_fasttext(begin):
    lines = [line for line in split_lines(begin) if line.strip()][:50]
    return 2 * sum(any(word.startswith(LABEL_MARK) for word in line.split()) for line in lines) > len(lines)


def read_files(paths, options, log, cache_dir=None, needs_labels=True):
    """
    Reads the file or files of one split.

    Args:
        paths (`list[Path]`): One file of any kind, or several of Parquet.
        options ([`ReadOptions`]), log ([`ProblemLog`]).
        cache_dir (`str`, *optional*): Cache of `datasets`, for Parquet.
        needs_labels (`bool`): Whether columns of labels must be there.

    Returns:
        [`RawSplit`]: Parquet is memory-mapped from the cache of `datasets`; everything else is in memory.
    """
    found = recognise(paths[0], options.encoding)
    facts = found.facts if isinstance(found, TextFile) else found
    if len(paths) > 1 and not all(path.suffix == ".parquet" for path in paths):
        raise HTCError(f"One split has the files {[p.name for p in paths]}; only Parquet may come in several files.")
    if facts.kind in ("parquet", "arrow"):
        if facts.kind == "parquet" and facts.compression is None:
            dataset = _read_parquet(paths, cache_dir)
        else:
            dataset = table_dataset(packed_arrow(paths[0], facts))
        logger.info(facts.describe())
        name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more files"
        return raw_split(dataset, Origin(name), options, log, needs_labels=needs_labels)
    columns, lines = _read_columns(paths[0], found, facts, options, log)
    logger.info(facts.describe())
    texts, groups = find_columns(columns, options, facts.name, facts.table, not needs_labels)
    origin = Origin(facts.name, lines, "row" if facts.kind in ("json", "xlsx") else "line")
    labels = {column: len(group) for group in groups for column in group}
    arrays, bad = {}, set()
    for name, values in columns.items():
        if name in texts:
            arrays[name] = text_array(values, origin, log, bad)
        elif name in labels:
            arrays[name] = label_array(values, name, origin, log, in_group=labels[name] > 1, bad=bad)
        else:
            arrays[name] = other_array(values, name, facts.name)
    return _with_one_text(pa.table(arrays), texts, groups, origin, bad)


def _read_columns(path, found, facts, options, log):
    """`(columns, lines)` of a text file or an Excel sheet."""
    if facts.kind == "xlsx":
        return read_xlsx(path, facts, options)
    with (
        quiet_unless_big(found.size),
        tqdm(total=found.size, unit="B", unit_scale=True, desc=f"Reading {path.name}", leave=False) as bar,
    ):
        if facts.kind == "table":
            return read_table(found, options, log, bar)
        if facts.kind == "fasttext":
            return _read_fasttext(found, log, bar)
        return read_jsonl(found, log, bar) if facts.kind == "jsonl" else read_json(found, log)


def raw_split(dataset, origin, options, log, needs_labels=True):
    """[`RawSplit`] of a `Dataset` whose columns are to be found."""
    texts, groups = find_columns(dataset.column_names, options, origin.name, unlabelled=not needs_labels)
    kinds = [dataset.features[name] for name in texts]
    if len(texts) == 1 and not hasattr(kinds[0], "feature"):
        return RawSplit(dataset, origin, texts[0], groups)
    rows = dataset.with_format("arrow")[:]
    tokens = {
        name: text_array(rows.column(name).to_pylist(), origin, log)
        for name, kind in zip(texts, kinds)
        if hasattr(kind, "feature")
    }
    for name, values in tokens.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    return _with_one_text(rows, texts, groups, origin)


def _with_one_text(table, texts, groups, origin, bad=()):
    if len(texts) > 1:
        with refusing(f"The columns {texts} cannot be joined", (pa.ArrowInvalid, pa.ArrowNotImplementedError), file=origin.name):
            whole = joined_texts([table.column(name) for name in texts])
        labels = [column for group in groups for column in group]
        if "text" in labels:
            raise HTCError(
                "`text_column` names several columns, whose text would replace the labels of 'text'. Rename that column."
            )
        table = table.drop_columns([name for name in table.column_names if name in texts or name == "text"])
        table = table.add_column(0, "text", whole)
    return RawSplit(table_dataset(table), origin, texts[0] if len(texts) == 1 else "text", groups, set(bad))


def _read_fasttext(file, log, bar):
    """Columns `text` and `labels` of lines `__label__A __label__B words of the text`."""
    texts, labels, lines, problems = [], [], [], RowProblems(log)
    for number, line in file.lines():
        bar.update(len(line) + 1)
        words = line.split(" ")
        marked = [word.strip() for word in words if word.strip().startswith(LABEL_MARK)]
        if not line.strip():
            continue
        if any(mark == LABEL_MARK for mark in marked):
            problems.add(
                "empty_label", f"{file.name}, line {number}", ": a label is empty, `__label__` without a name behind it."
            )
            continue
        texts.append(" ".join(word for word in words if not word.strip().startswith(LABEL_MARK)).strip())
        labels.append([mark[len(LABEL_MARK) :] for mark in marked])
        lines.append(number)
    problems.report()
    return {"text": texts, "labels": labels}, np.asarray(lines)


def _read_parquet(paths, cache_dir):
    for path in paths:
        with refusing(f"{path.name!r} cannot be read as Parquet", (pa.ArrowException, OSError), mend="Write the file again."):
            pq.read_schema(path)
    size = sum(path.stat().st_size for path in paths)
    errors = (DatasetGenerationError, pa.ArrowException, ValueError, TypeError)
    with quiet_unless_big(size), refusing(f"{paths[0].name!r} cannot be read as Parquet", errors, mend="Write the file again."):
        # One call a split: a single call would force the columns of the first split on the others.
        return load_dataset("parquet", data_files={"rows": [str(p) for p in paths]}, split="rows", cache_dir=cache_dir)


def packed_arrow(path, facts):
    """The `pa.Table` of an Arrow file or stream, or of a packed Parquet file."""
    with open_binary(path) as (raw, _), io.BytesIO() as whole:
        shutil.copyfileobj(raw, whole)
        content = whole.getvalue()
    with refusing(f"{path.name!r} cannot be read as {facts.kind.title()}", (pa.ArrowException, OSError), mend="Write it again."):
        if facts.kind == "parquet":
            return pq.read_table(pa.BufferReader(content))
        if content.startswith(b"ARROW1"):
            return pa.ipc.open_file(pa.BufferReader(content)).read_all()
        return pa.ipc.open_stream(pa.BufferReader(content)).read_all()
