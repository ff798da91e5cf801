"""Tables: text tables of any delimiter, and Excel sheets, as columns of strings with the line of every row."""

from __future__ import annotations

import csv
import datetime
import itertools

import numpy as np
import pyarrow as pa

from hf_htc.models.errors import HTCError, HTCImportError, refusing

from .problems import RowProblems
from .sniffing import DELIMITERS, TableFacts, long_fields, sniff_table, split_rows, swallows


ROWS_PER_CHUNK = 20_000


def read_table(file, options, log, bar):
    """
    Reads a text table.

    Args:
        file ([`TextFile`]), options ([`ReadOptions`]), log ([`ProblemLog`]).
        bar: A progress bar; counts characters.

    Returns:
        `tuple[dict[str, pa.ChunkedArray], np.ndarray]`: columns of strings, and the first line of each row. `file.facts.table`
        says what was recognised.
    """
    sample, whole = file.sample()
    facts = sniff_table(
        sample,
        file.name,
        options.delimiter,
        options.quoting,
        options.header,
        options.wanted(),
        file.suffix,
        file.facts.newline,
        whole,
    )
    name_columns(facts, file.facts)
    file.facts.table = facts
    problems, table = RowProblems(log), _Chunks(facts.columns)
    for line, rows, problem in table_rows(file, facts, options, bar.update):
        if problem is None:
            table.extend(rows, line)
        else:
            problems.add(problem[0], f"{file.name}, line {line}", problem[1])
    problems.report()
    return table.finish(file.name, facts.header)


def table_rows(file, table, options, count=lambda size: None):
    """
    The rows of a text table, the header left out.

    Args:
        file ([`TextFile`]), table ([`TableFacts`]), options ([`ReadOptions`]).
        count (`Callable[[int], None]`, *optional*): Told the characters of each line.

    Yields:
        `(line, rows, problem)`: rows that stand in consecutive lines, the first of them, and `None`; or one row in `rows` with
        the kind of its problem and what it is.
    """
    with long_fields(), file.stream() as stream:
        for _ in range(table.skip):
            stream.readline()
        number, is_header = table.skip, table.header  # `number` lines were read
        while True:
            lines = list(itertools.islice(stream, 1 if is_header else ROWS_PER_CHUNK))
            if not lines:
                return
            count(sum(map(len, lines)))
            rows = None if is_header or file.facts.bad_lines else _one_row_per_line(lines, table)
            if rows is not None:
                yield number + 1, rows, None
                number += len(lines)
                continue
            for line, last, row, own in _slow_rows(lines, stream, number, table, count):
                number = last
                if row and is_header:
                    is_header = False
                elif row:
                    yield line, [row], _problem_of(row, own, last, file, table, options)


def _one_row_per_line(lines, table):
    """The rows of lines each of which is a whole row, split at once; `None` where one is not."""
    if table.quoting == "none":
        rows = [line.rstrip("\r\n").split(table.delimiter) for line in lines]
    else:
        try:
            rows = list(csv.reader(lines, delimiter=table.delimiter, strict=True))
        except csv.Error:
            return None
    width = len(table.columns)
    is_whole = len(rows) == len(lines) and all(len(row) == width for row in rows)
    return rows if is_whole and (width > 1 or all(lines[i].strip() for i in range(len(lines)))) else None


def _slow_rows(lines, stream, number, table, count):
    """
    Rows of lines, one by one, and of so many lines of the stream behind them as the last row needs.

    Yields:
        `(first, last, row, lines)`: numbers of a row's lines, the row as [`split_rows`] gives it, the lines.
    """
    held = []
    own = iter(lines)

    def source():
        for line in own:
            held.append(line)
            yield line
        for line in stream:  # only as far as the last row goes
            count(len(line))
            held.append(line)
            yield line

    for first, last, row in split_rows(source(), table.delimiter, table.quoting):
        kept = held[:]
        held.clear()
        yield number + first, number + last, row, kept
        if last >= len(lines):
            return


def _problem_of(row, lines, last, file, table, options):
    """Kind and message of what is wrong with a row, or `None`."""
    if file.facts.bad_lines and not _encodable(lines):
        return "unreadable_row", ": not UTF-8 text, though other lines are; give the `encoding` of the file."
    if isinstance(row, str):
        return (
            "unreadable_row",
            f" cannot be read: {row}. Look for a stray quote; a quote inside a quoted field is written twice. Where quotes are "
            "characters like others, pass `quoting='none'`.",
        )
    if len(row) != len(table.columns):
        sign = DELIMITERS.get(table.delimiter, repr(table.delimiter))
        return (
            "ragged_row",
            f" has {len(row)} fields where the {'header' if table.header else 'first row'} has {len(table.columns)} "
            f"({table.columns}). Put fields that hold a {sign} or a line break in double quotes.",
        )
    is_open = options.quoting is None and not table.all_quoted  # whether quotes may be characters
    if len(lines) > 1 and is_open and swallows(lines, table.delimiter, len(table.columns)):
        return (
            "unreadable_row",
            f" to {last} would be one row: a quote opens a field there that runs over several lines, though every line is a "
            "row by itself. Pass `quoting='none'` if quotes are characters, `quoting='quotes'` if it is meant.",
        )
    return None


def name_columns(table, facts):
    """Names for columns without one, and for a first column that only the rows have; a name that stands twice is refused."""
    columns, rows = table.columns, table.sampled
    if not table.header:
        return
    if not any(columns):
        raise HTCError("has no header. The first line must name the columns, e.g. text,labels.", file=facts.name)
    below = rows[1:]
    if below and all(len(row) == len(columns) + 1 for row in below):
        # R names the rows in a first column without a header; some programs end every row with a delimiter.
        last_empty = not any(row[-1].strip() for row in below)
        columns = [*columns, ""] if last_empty else ["", *columns]
        facts.notes.append(f"The rows have one more column than the header, the {'last' if last_empty else 'first'}.")
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise HTCError(f"has the column {repeated[0]!r} twice; its header is {columns}.", file=facts.name, mend="Rename one.")
    table.columns = [name.lstrip("\ufeff") or f"column {i}" for i, name in enumerate(columns, 1)]


def _encodable(lines):
    """Whether lines hold no lone surrogates, which stand for bytes that are not UTF-8."""
    try:
        for line in lines:
            line.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Chunks:
    """Rows that become Arrow arrays as they come, so that a large table is never in memory twice."""

    def __init__(self, columns):
        self.columns, self.rows, self.lines = columns, [], []
        self.arrays = [[] for _ in columns]

    def extend(self, rows, line):
        """Adds rows of consecutive lines."""
        self.rows += rows
        self.lines.append(np.arange(line, line + len(rows)))
        if len(self.rows) >= ROWS_PER_CHUNK:
            self._close()

    def _close(self):
        for arrays, values in zip(self.arrays, zip(*self.rows)):
            arrays.append(pa.array(values, pa.large_string()))
        self.rows = []

    def finish(self, name, header):
        if self.rows:
            self._close()
        if not self.lines:
            raise HTCError(f"{name} holds no readable row{' below its header' if header else ''}.")
        columns = {name: pa.chunked_array(arrays, pa.large_string()) for name, arrays in zip(self.columns, self.arrays)}
        return columns, np.concatenate(self.lines)


def read_xlsx(path, facts, options):
    """
    Reads a sheet of an Excel file: the one with the columns that are wanted, or the only one that holds anything.

    Returns:
        As [`read_table`].
    """
    sheets = excel_sheets(path)
    if not sheets:
        raise HTCError("is empty.", file=path.name)
    wanted = set(options.wanted())
    fitting = [title for title, rows in sheets.items() if wanted <= {cell.strip() for cell in rows[0][1]}]
    if len(sheets) > 1 and len(fitting) != 1:
        raise HTCError(
            f"has the sheets {', '.join(map(repr, sheets))}, and "
            + ("several of them have the columns" if fitting else "none of them has the columns")
            + f" {sorted(wanted)}.",
            file=path.name,
            mend="Save the sheet that you mean as CSV.",
        )
    title = fitting[0] if fitting else next(iter(sheets))
    if len(sheets) > 1:
        facts.notes.append(f"Sheet {title!r} was read.")
    rows = sheets[title]
    width = max(len(row) for _, row in rows)
    header = options.header is not False
    head = [cell.strip() for cell in rows[0][1]] if header else [str(i) for i in range(1, width + 1)]
    head += [""] * (width - len(head))
    facts.table = TableFacts("", "quotes", header, head, sampled=[row for _, row in rows[:200]])
    name_columns(facts.table, facts)
    table = _Chunks(facts.table.columns)
    for number, row in rows[header:]:
        table.extend([[*row, *[""] * (width - len(row))]], number)
    return table.finish(path.name, header)


def excel_sheets(path):
    """
    The sheets of an Excel file that hold anything.

    Returns:
        `dict[str, list]`: by title, `(number, cells as strings)` of the rows that hold anything; empty cells at the end of a row
        are left out.

    Raises:
        [`HTCError`]: a damaged file; [`HTCImportError`]: `openpyxl` is missing.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise HTCImportError(f"Reading {path.name!r} needs openpyxl: pip install 'hf_htc[excel]'.") from error
    with refusing("cannot be read as Excel", Exception, file=path.name, mend="Save it again as .xlsx, or as CSV."):
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = {sheet.title: _sheet_rows(sheet) for sheet in book.worksheets}
        book.close()
    return {title: rows for title, rows in sheets.items() if rows}


def _sheet_rows(sheet):
    rows = []
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        cells = [_cell_text(value) for value in row]
        while cells and not cells[-1].strip():
            cells.pop()
        if cells:
            rows.append((number, cells))
    return rows


def _cell_text(value):
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    # Excel has no integers: 101 comes as 101.0 from some programs.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
