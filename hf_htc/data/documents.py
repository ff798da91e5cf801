"""Documents to predict, read as training reads them, one after the other; and files of predictions by their ending."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError, reason_of, refusing
from hf_htc.models.whole_files import whole_file

from .columns import short, text_columns
from .json_files import UNREADABLE, parse_line, read_json
from .options import ReadOptions
from .problems import ProblemLog
from .readers import LABEL_MARK, check_file, packed_arrow, recognise
from .recognise import Recognised
from .sniffing import BY_SUFFIX, sniff_table
from .tables import name_columns, read_xlsx, table_rows


if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hf_htc.annotations import Records, StrPath


logger = get_logger(__name__)

# Endings of prediction files.
LINE_SUFFIXES = (".jsonl", ".ndjson")
OUTPUT_SUFFIXES = (*LINE_SUFFIXES, ".csv", ".tsv", ".parquet")


class Document(NamedTuple):
    """
    A document of an input file.

    Attributes:
        line (`int`): Its line, or its row in a file without lines, from 1.
        id: What stands in the column `id`, otherwise its number, from 0.
        text (`str`): Its text; empty where there is none.
    """

    line: int
    id: object
    text: str


def read_documents(
    path: StrPath, text_column: str | list[str] = "text", id_column: str = "id", **options: Any
) -> Iterator[Document]:
    """
    Reads documents one after the other, whatever the form of the file: JSON lines, JSON, CSV and other tables, Parquet, Arrow,
    Excel, fastText lines (whose labels are left out), or one text per line.

    Args:
        path (`str` or `os.PathLike`): The file; an ending such as `.txt` is read as one text per line unless it is a table with
            the column of the texts.
        text_column (`str` or `list[str]`, *optional*, defaults to `"text"`): Column of the texts, or several, which are joined.
        id_column (`str`, *optional*, defaults to `"id"`): Column that identifies a document, where there is one.
        options: `delimiter`, `encoding`, `quoting`, `header`, as in [`load_htc_dataset`].

    Yields:
        [`Document`]: those without a text too, with an empty one.

    Raises:
        `FileNotFoundError`: no such file. [`HTCError`]: an unreadable row, a missing column; [`HTCTypeError`]: a text that is no
        string. File and line are named.
    """
    path = check_file(path, "input file")
    # A document needs no labels; the name is one that no column has.
    options = ReadOptions(text_column=text_column, label_column="\0", **options)
    found = recognise(path, options.encoding)
    facts = found if isinstance(found, Recognised) else found.facts
    if facts.kind == "jsonl":
        rows = _json_lines(found)
    elif facts.kind == "json":
        columns, numbers = read_json(found, ProblemLog())
        rows = _rows(columns, numbers)
    elif facts.kind == "fasttext":
        return _fasttext(found)
    elif facts.kind == "xlsx":
        rows = _rows(*read_xlsx(path, facts, options))
    elif facts.kind in ("parquet", "arrow"):
        rows = _arrow_rows(path, facts)
    else:
        table = _table(found, options)
        if table is None:
            facts.kind = "lines"
            logger.info(facts.describe())
            return _lines(found)
        facts.table = table
        rows = _table_rows(found, table, options)
    logger.info(facts.describe())
    return _documents(rows, facts.name, options, id_column)


def _documents(rows, name, options, id_column):
    """[`Document`]s of `(line, dict)` rows."""
    texts = None
    for number, (line, row) in enumerate(rows):
        if texts is None:
            texts = _text_columns(list(row), options, name)
        place = f"{name}, line {line}"
        missing = [column for column in texts if column not in row]
        if missing:
            raise HTCError(f"{place}: there is no {missing[0]!r}; it has {sorted(map(str, row))}. Pass `text_column`.")
        parts = [_text(row[column], place) for column in texts]
        own = row.get(id_column)
        yield Document(line, number if own is None or own == "" else own, "\n".join(part for part in parts if part.strip()))


def _text(value, place):
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(token, str) for token in value):
        return " ".join(value)
    if not isinstance(value, str):
        raise HTCTypeError(f"{place}: the text is a {type(value).__name__}, {short(value)}; it must be a string.")
    return value


def _text_columns(columns, options, name):
    texts = text_columns(columns, options)
    missing = next((column for column in texts if column not in columns), None)
    if missing is not None:
        raise HTCError(f"{name} has no column {missing!r}; its columns are {columns}. Name the right one with `text_column`.")
    return texts


def _json_lines(file):
    for number, line in file.lines():
        if not line.strip():
            continue
        try:
            row = parse_line(line, file)
        except UNREADABLE as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else reason_of(error)
            raise HTCError(f"{file.name}, line {number} cannot be read: {reason}.") from error
        if not isinstance(row, dict):
            raise HTCError(f"{file.name}, line {number} is a JSON {type(row).__name__}; each line must be an object.")
        yield number, row


def _rows(columns, numbers):
    lists = [values.to_pylist() if isinstance(values, pa.ChunkedArray) else values for values in columns.values()]
    numbers = itertools.count(1) if numbers is None else numbers.tolist()
    for number, values in zip(numbers, zip(*lists)):
        yield number, dict(zip(columns, values))


def _fasttext(file):
    logger.info(file.facts.describe())
    number = 0
    for line_number, line in file.lines():
        if line.strip():
            words = [word for word in line.split(" ") if not word.strip().startswith(LABEL_MARK)]
            yield Document(line_number, number, " ".join(words).strip())
            number += 1


def _arrow_rows(path, facts):
    what = f"{path.name!r} cannot be read as {facts.kind.title()}"
    with refusing(what, (pa.ArrowException, OSError), mend="Write the file again."):
        if facts.kind == "parquet" and facts.compression is None:
            batches = pq.ParquetFile(path).iter_batches(batch_size=1024)
        else:
            batches = iter(packed_arrow(path, facts).to_batches(max_chunksize=1024))
    number = 0
    while True:
        with refusing(what, (pa.ArrowException, OSError), mend="Write the file again."):
            batch = next(batches, None)
        if batch is None:
            return
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _table(file, options):
    """[`TableFacts`] of a text table with the column of the texts; `None` for one text per line."""
    sample, whole = file.sample()
    named = file.suffix in BY_SUFFIX
    settings = options.delimiter, options.quoting, options.header
    try:
        facts = sniff_table(sample, file.name, *settings, options.text_names(), file.suffix, file.facts.newline, whole)
    except HTCError:
        if named or any(setting is not None for setting in settings):
            raise
        return None
    has_texts = all(name in facts.columns for name in options.text_names(facts.columns))
    if not named and not has_texts and not any(setting is not None for setting in settings):
        return None
    if len(facts.columns) == 1 and not has_texts and not facts.header:
        logger.info(f"{file.name} has no header; its only column is taken as the text.")
        options.text_column = "1"
    name_columns(facts, file.facts)
    return facts


def _table_rows(file, table, options):
    for line, rows, problem in table_rows(file, table, options):
        if problem is not None:
            raise HTCError(f"{file.name}, line {line}{problem[1]}")
        for place, row in enumerate(rows):
            yield line + place, dict(zip(table.columns, row))


def _lines(file):
    """One text per line; an empty line between others is a document without a text."""
    number, empty = 0, 0
    for line_number, line in file.lines():
        if not line.strip():
            empty += 1
            continue
        for before in range(empty if number else 0, 0, -1):
            yield Document(line_number - before, number, "")
            number += 1
        empty = 0
        yield Document(line_number, number, line.strip())
        number += 1


# ---------------------------------------------------------------- predictions


def check_output(path: StrPath) -> str:
    """The ending of a prediction file, lower-cased. Raises [`HTCError`] for one that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in OUTPUT_SUFFIXES:
        raise HTCError(
            f"The output {str(path)!r} ends in {suffix or 'nothing'!r}; predictions are written as {', '.join(OUTPUT_SUFFIXES)}."
        )
    return suffix


def write_predictions(records: Records, path: StrPath) -> None:
    """
    Writes prediction records by the ending of the file: JSON lines, CSV, TSV or Parquet; as a whole or not at all.

    In CSV and TSV lists are JSON, which [`load_htc_dataset`] reads as labels; in Parquet the best labels are a list of `label`
    and `score`.

    Args:
        records (`Iterable[dict]`): Prediction records.
        path (`str` or `os.PathLike`): `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet`.
    """
    suffix = check_output(path)
    with whole_file(path) as partial:
        if suffix in LINE_SUFFIXES:
            with open(partial, "w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        elif suffix == ".parquet":
            _write_parquet(records, partial)
        else:
            _write_table(records, partial, "\t" if suffix == ".tsv" else ",")


def _write_table(records, path, delimiter):
    records = iter(records)
    first = next(records, {})
    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(first), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        for record in itertools.chain([first] if first else [], records):
            writer.writerow(
                {
                    key: json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
                    for key, value in record.items()
                }
            )


def _write_parquet(records, path):
    writer, schema = None, None
    records = iter(records)
    try:
        while True:
            rows = [_typed(record) for record in itertools.islice(records, 10_000)]
            if not rows and writer is not None:
                return
            table = pa.Table.from_pylist(rows, schema=schema)
            if writer is None:
                schema = _without_nulls(table.schema)
                table = pa.Table.from_pylist(rows, schema=schema)
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(table)
            if not rows:
                return
    finally:
        if writer is not None:
            writer.close()


def _typed(record):
    """A record whose values have one type per column: ids are strings, pairs of label and score are objects."""
    typed = {**record, "id": str(record["id"])} if "id" in record else dict(record)
    if "top_k" in typed:
        typed["top_k"] = [{"label": label, "score": float(score)} for label, score in typed["top_k"]]
    return typed


def _without_nulls(schema):
    """Lists that are empty in the first rows have no type: they hold strings, scores hold numbers."""
    fields = []
    for field in schema:
        kind = field.type
        if pa.types.is_list(kind) and pa.types.is_null(kind.value_type):
            kind = pa.list_(pa.float64()) if field.name == "scores" else pa.list_(pa.string())
            kind = pa.list_(pa.list_(pa.string())) if field.name == "paths" else kind
        fields.append(pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)
