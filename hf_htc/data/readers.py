"""Readers of own files: JSONL, JSON, CSV and TSV with the line of every error; Parquet through `datasets`."""

from __future__ import annotations

import csv
import json
import logging
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from datasets.utils import tqdm
from datasets.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCTypeError

from .problems import Origin


logger = logging.getLogger(__name__)

# Smaller inputs are read in a moment; a bar would only be noise.
PROGRESS_BYTES = 50_000_000
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def check_file(path, what="file"):
    """`path` as a `Path`. Raises `FileNotFoundError` or `ValueError` for a missing file or an unknown kind of file."""
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.iterdir() if p.suffix in SUFFIXES) if path.parent.is_dir() else []
        raise HTCFileNotFoundError(
            f"There is no {what} {str(path)!r}."
            + (f" The folder holds {near[:10]}." if near else " The folder does not exist." if not path.parent.is_dir() else "")
            + " Correct the path."
        )
    if path.suffix.lower() not in SUFFIXES:
        raise HTCError(f"{path.name!r} is of no known kind; give a file that ends in one of {', '.join(SUFFIXES)}.")
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


def read_files(paths, text_column, label_columns, log, cache_dir=None):
    """
    Reads the file or files of one split.

    Args:
        paths (`list[Path]`): Files of one kind; several for Parquet shards only.
        text_column (`str`), label_columns (`list[str]`): Columns that must be there and whose types are checked.
        log ([`ProblemLog`]): Takes unreadable lines.
        cache_dir (`str`, *optional*): Cache of `datasets`, for Parquet.

    Returns:
        `tuple[Dataset, Origin]`: Parquet is memory-mapped from the cache of `datasets`; text files are in memory.
    """
    size = sum(path.stat().st_size for path in paths)
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {".parquet"}:
        return _read_parquet(paths, text_column, label_columns, size, cache_dir)
    if len(paths) > 1:
        raise HTCError(f"One split has the files {[p.name for p in paths]}; only Parquet may come in several files.")
    path = paths[0]
    with (
        quiet_unless_big(size),
        tqdm(total=size, unit="B", unit_scale=True, desc=f"Reading {path.name}", leave=False) as bar,
    ):
        if kinds <= {".csv", ".tsv"}:
            columns, lines = _read_csv(path, log, bar)
        else:
            columns, lines = _read_json(path, log, bar)
    check_columns(columns, [text_column, *label_columns], path.name)
    origin = Origin(path.name, lines)
    arrays = {}
    for name, values in columns.items():
        if name == text_column:
            arrays[name] = _text_array(values, origin, log)
        elif name in label_columns:
            arrays[name] = _label_array(values, name, origin, log)
        else:
            arrays[name] = _other_array(values, name, path)
    return Dataset(pa.table(arrays)), origin


def check_columns(columns, needed, name):
    """Raises `ValueError` naming the first missing column and those that exist."""
    columns = list(columns)
    for column in needed:
        if column not in columns:
            raise HTCError(
                f"{name} has no column {column!r}; its columns are {columns}. Name "
                "the right ones with `text_column` and `label_column`."
            )


def _read_parquet(paths, text_column, label_columns, size, cache_dir):
    for path in paths:
        try:
            names = pq.read_schema(path).names
        except (pa.ArrowInvalid, OSError) as error:
            raise HTCError(f"{path.name!r} cannot be read as Parquet: {error}. Write the file again.") from error
        check_columns(names, [text_column, *label_columns], path.name)
    with quiet_unless_big(size):
        # One call a split: a single call would force the columns of the first split on the others.
        dataset = load_dataset("parquet", data_files={"rows": [str(p) for p in paths]}, split="rows", cache_dir=cache_dir)
    return dataset, Origin(paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more files")


def _decode(raw, path, number):
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise HTCError(f"not UTF-8 text (byte {error.start}: 0x{raw[error.start]:02x}); save {path.name} as UTF-8") from error


def _read_json(path, log, bar):
    """Columns (`dict` of lists, `None` where a row lacks the key) and line numbers of a JSONL file or a JSON list."""
    with open(path, "rb") as file:
        start = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")
        file.seek(0)
        if start[:1] == b"[":
            rows, lines = _json_list(path, file.read(), log), None
        else:
            rows, lines = [], []
            for number, raw in enumerate(file, 1):
                bar.update(len(raw))
                if not raw.strip():
                    continue
                try:
                    row = json.loads(_decode(raw, path, number))
                    if not isinstance(row, dict):
                        raise HTCError(f"a JSON {type(row).__name__} where an object is needed")
                except ValueError as error:
                    log.error(
                        "unreadable_row",
                        f"{path.name}, line {number} cannot be read: {error}. Each line must be one JSON object, like "
                        '{"text": "...", "labels": ["A", "B"]}.',
                    )
                    continue
                rows.append(row)
                lines.append(number)
    if not rows:
        raise HTCError(f"{path.name} holds no readable row.")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, None if lines is None else np.asarray(lines)


def _json_list(path, raw, log):
    try:
        rows = json.loads(_decode(raw, path, 1))
    except ValueError as error:
        raise HTCError(f"{path.name} starts with '[' but is no JSON list: {error}.") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            log.error(
                "unreadable_row",
                f"{path.name}, row {number} is a {type(row).__name__}; every element must be an object.",
            )
    return [row for row in rows if isinstance(row, dict)]


def _read_csv(path, log, bar):
    """Columns of strings (`dict` of lists) and line numbers of a CSV or TSV file with a header."""
    tabs = path.suffix.lower() == ".tsv"

    def lines_of(file):
        for number, raw in enumerate(file, 1):
            bar.update(len(raw))
            yield _decode(raw, path, number)

    rows, lines = [], []
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses texts above 131,072 characters
    try:
        with open(path, "rb") as file:
            reader = csv.reader(lines_of(file), delimiter="\t" if tabs else ",", strict=True)
            header = next(reader, None)
            if not header or not any(name.strip() for name in header):
                raise HTCError(f"{path.name} has no header. The first line must name the columns, e.g. text,labels.")
            header = [name.strip() for name in header]
            repeated = sorted({name for name in header if header.count(name) > 1})
            if repeated:
                raise HTCError(f"{path.name} has the column {repeated[0]!r} twice; its header is {header}. Rename one.")
            while True:
                start = reader.line_num + 1
                try:
                    row = next(reader, None)
                except ValueError as error:  # not UTF-8: the rest of the file cannot be split into rows
                    log.error("unreadable_row", f"{path.name}, line {start}: {error}.")
                    break
                except csv.Error as error:
                    log.error(
                        "unreadable_row",
                        f"{path.name}, line {start} cannot be read: {error}. Look for a stray "
                        "quote; a quote inside a quoted field is written twice.",
                    )
                    continue
                if row is None:
                    break
                if not row:
                    continue
                if len(row) != len(header):
                    log.error(
                        "ragged_row",
                        f"{path.name}, line {start} has {len(row)} fields where the header "
                        f"has {len(header)} ({header}). Put fields that hold "
                        f"{'a tab' if tabs else 'a comma'} or a line break in double quotes.",
                    )
                    continue
                rows.append(row)
                lines.append(start)
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise HTCError(f"{path.name} holds no readable row below its header.")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}, np.asarray(lines)


def _text_array(values, origin, log):
    try:
        return pa.array(values, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, str):
                log.error(
                    "wrong_type",
                    f"{origin.at(row)}: the text is a {type(value).__name__}, {_short(value)}; it must be a string.",
                    exception=HTCTypeError,
                )
                values[row] = None
        return pa.array(values, pa.large_string())


LABEL_FORMS = "Labels of a row are a list of names, one string, or (paths) a list of lists of names, in all rows the same way"


def _label_form(value):
    """`"string"`, `"integer"`, `"strings"`, `"integers"`, `"paths"`; `None` for no labels; `False` for a wrong type."""
    if value is None or value == []:
        return None
    kinds = {str: "string", int: "integer"}
    if not isinstance(value, list):
        return kinds.get(type(value), False)
    types = set(map(type, value))
    if types == {list} and all(isinstance(name, str) for path in value for name in path):
        return "paths"
    return kinds[types.pop()] + "s" if len(types) == 1 and types <= set(kinds) else False


def _label_array(values, name, origin, log):
    """An Arrow array of one form; a row of another form is named."""
    first = None
    for row, value in enumerate(values):
        form = _label_form(value)
        if form is None:
            continue
        if form is not False and first in (None, form):
            first = form
            continue
        log.error(
            "wrong_type",
            f"{origin.at(row)}: column {name!r} holds {_short(value)}"
            + (f", unlike the rows above ({first})" if form and first else "")
            + f". {LABEL_FORMS}.",
            exception=HTCTypeError,
        )
        values[row] = None
    if first in ("string", "integer"):
        values = [None if value == [] else value for value in values]
    types = {"string": pa.string(), "integer": pa.int64(), "integers": pa.list_(pa.int64())}
    types["paths"] = pa.list_(pa.list_(pa.string()))
    return pa.array(values, types.get(first, pa.list_(pa.string())))


def _other_array(values, name, path):
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        logger.warning(f"Column {name!r} of {path.name} mixes types; its values are kept as JSON strings.")
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
