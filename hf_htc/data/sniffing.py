"""Delimiter, quoting and header of a table, from its first lines."""

from __future__ import annotations

import csv
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field

from hf_htc.models.errors import HTCError


DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", "^": "caret", "\x01": "control-A"}
NAMES = {name: sign for sign, name in DELIMITERS.items()} | {"\\t": "\t"}
# What the ending of a file says of its delimiter, most likely first.
BY_SUFFIX = {".csv": ",;", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
QUOTINGS = ("quotes", "none")
COMMENT_SIGNS = ("#", "%", "//")
# Names of columns that people use; a first line with one of them is a header.
TEXT_WORDS = frozenset([
    "text", "texts", "title", "body", "abstract", "summary", "summaries", "description", "content", "document", "sentence",
])  # fmt: skip
HEADER_WORDS = TEXT_WORDS | frozenset([
    "label", "labels", "category", "categories", "class", "classes", "topic", "topics", "tag", "tags", "target", "targets",
    "level1", "level2", "level3", "parent", "parent_id", "parentid", "child", "child_id", "children", "id", "ids", "code",
    "codes", "name", "names", "label_name", "node", "nodes", "path", "paths", "notation", "uri", "source_id", "level",
    "depth", "order", "definition",
])  # fmt: skip
MAX_ROWS = 2000


@dataclass
class TableFacts:
    """
    How a table is written.

    Attributes:
        delimiter (`str`): One character; empty for a sheet of Excel.
        quoting (`str`): `"quotes"`: a field in double quotes may hold delimiters and line ends, and a quote in it is written
            twice; `"none"`: quotes are characters like others.
        header (`bool`): Whether the first row names the columns.
        columns (`list[str]`): Their names; `"1"`, `"2"`, ... without a header.
        skip (`int`): Lines before the first row: comments, a line `sep=;`.
        comment (`str`, *optional*): With what these comments begin.
        reasons (`list[str]`): Why the header was taken for one, or not.
        sampled (`list[list[str]]`): Rows of the sample, the header first.
        all_quoted (`bool`): Whether the fields of the first row are in quotes, and so probably all.
    """

    delimiter: str
    quoting: str
    header: bool
    columns: list
    skip: int = 0
    comment: str | None = None
    reasons: list = field(default_factory=list)
    sampled: list = field(default_factory=list)
    all_quoted: bool = False

    def describe(self):
        sign = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        shown = ", ".join(self.columns[:6]) + (", ..." if len(self.columns) > 6 else "")
        kind = f"table of {len(self.columns)} columns" if len(self.columns) > 1 else "table of one column"
        kind += f" split by {sign}" if self.delimiter and len(self.columns) > 1 else ""
        head = f"header {shown}" if self.header else f"no header ({'; '.join(self.reasons)})" if self.reasons else "no header"
        quotes = ", quotes taken as characters" if self.quoting == "none" else ""
        comments = f", {self.skip} lines before it left out" if self.skip else ""
        return f"{kind}, {head}{quotes}{comments}"


def delimiter_sign(delimiter):
    """The character that an option names: itself, or `"tab"`, `"comma"`, ... Raises [`HTCError`] for anything else."""
    sign = NAMES.get(delimiter.lower(), delimiter) if isinstance(delimiter, str) else delimiter
    if not isinstance(sign, str) or len(sign) != 1 or sign in '"\r\n':
        raise HTCError(
            f"`delimiter` is {delimiter!r}; it is one character, such as ';', or a name: {', '.join(NAMES)}.",
            field="delimiter",
            value=delimiter,
        )
    return sign


@contextmanager
def long_fields():
    """Lets the `csv` module read fields of more than 131,072 characters, which texts may have."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def split_rows(lines, delimiter, quoting):
    """
    Splits lines into rows.

    Args:
        lines (`Iterable[str]`): With their line ends.
        delimiter (`str`), quoting (`str`): As in [`TableFacts`].

    Yields:
        `(first, last, row)`: numbers of the first and last line of a row, from 1, and its fields; an empty list for an empty
        line, and a string, what is wrong, for a row that cannot be split.
    """
    if quoting == "none":
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\r\n")
            yield number, number, line.split(delimiter) if line else []
        return
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = str(error)
        yield first, reader.line_num, row


def sniff_table(
    sample, name="the file", delimiter=None, quoting=None, header=None, wanted=(), suffix="", newline="\n", whole=True
):
    """
    Recognises delimiter, quoting and header.

    Args:
        sample (`str`): The beginning of a text, whole lines.
        name (`str`): For messages.
        delimiter (`str`, *optional*), quoting (`str`, *optional*), header (`bool`, *optional*): What is known of them.
        wanted (`Iterable[str]`): Columns that must be there: they tell a header, and the delimiter that makes them columns.
        suffix (`str`): The ending of the file, a hint: `".tsv"`.
        newline (`str`): `"\\r"` where lines end so.
        whole (`bool`): Whether the sample is the whole text.

    Returns:
        [`TableFacts`]

    Raises:
        [`HTCError`]: nothing in it; several delimiters fit equally well; no delimiter splits the lines alike.
    """
    if quoting not in (None, *QUOTINGS):
        raise HTCError(f"`quoting` is {quoting!r}; it is 'quotes' or 'none'.", field="quoting", value=quoting)
    given = None if delimiter is None else delimiter_sign(delimiter)
    lines = sample.split("\r") if newline == "\r" else sample.split("\n")
    lines = [line.rstrip("\r") + "\n" for line in (lines[:-1] if lines and not lines[-1] else lines)]
    skip, comment, declared = _before_the_table(lines)
    lines = lines[skip:]
    given = given or declared
    if not any(line.strip() for line in lines):
        raise HTCError("is empty.", file=name, mend="Give a file with rows.")
    with long_fields():
        forms = [_Form(sign, quotes, lines, whole) for sign in ([given] if given else DELIMITERS) for quotes in QUOTINGS]
    forms = _choose_quoting(forms, quoting)
    wanted = list(wanted)
    form = forms[0] if given else _choose_delimiter(forms, wanted, BY_SUFFIX.get(suffix, ""), name)
    rows = [row for row in form.rows if row]
    if header is None:
        header, reasons = _has_header(rows, wanted)
    else:
        reasons = ["as asked"]
    all_quoted = form.quoting == "quotes" and form.all_quoted
    columns = [cell.strip() for cell in rows[0]] if header else [str(i) for i in range(1, form.width + 1)]
    return TableFacts(form.delimiter, form.quoting, header, columns, skip, comment, reasons, rows, all_quoted)


def _before_the_table(lines):
    """`(lines to skip, sign of comments, delimiter)`: comments and Excel's line `sep=;` before the first row."""
    skip, comment, declared = 0, None, None
    filled = [line for line in lines if line.strip()]
    for line in lines:
        text = line.strip()
        found = re.fullmatch(r"sep=(.)", text.lstrip("\ufeff"))
        sign = next((s for s in COMMENT_SIGNS if text.startswith(s)), None)
        if found:
            declared = found.group(1)
        elif sign and skip + 1 < len(filled) and _is_comment(text, lines[skip + 1 :]):
            comment = sign
        elif text or comment is None and declared is None:
            break
        skip += 1
    return skip, comment, declared


def _is_comment(text, others):
    """Whether a line that begins like a comment is one: no delimiter that splits the others splits it alike."""
    for sign in DELIMITERS:
        counts = [line.count(sign) for line in others[:50] if line.strip() and not line.lstrip().startswith(text[:1])]
        if counts and min(counts) > 0 and text.count(sign) == max(set(counts), key=counts.count):
            return False
    return True


class _Form:
    """What a delimiter and a quoting make of the sample."""

    def __init__(self, delimiter, quoting, lines, whole):
        self.delimiter, self.quoting = delimiter, quoting
        self.rows, self.broken, self.swallowed, spans = [], 0, 0, []
        for first, last, row in split_rows(lines, delimiter, quoting):
            if isinstance(row, str):
                # The end of the sample may lie inside a field.
                self.broken += whole or last < len(lines)
            elif row:
                self.rows.append(row)
                spans.append((first, last))
            if len(self.rows) >= MAX_ROWS:
                break
        widths = [len(row) for row in self.rows]
        self.width = max(set(widths), key=lambda w: (widths.count(w), w)) if widths else 1
        self.share = widths.count(self.width) / (len(widths) + self.broken) if widths else 0.0
        self.all_quoted = bool(lines) and all(len(c) > 1 and c[0] == c[-1] == '"' for c in lines[0].rstrip().split(delimiter))
        self.quoted = any(quoted_field(line, delimiter) for line in lines[:MAX_ROWS])
        for first, last in spans:
            if last > first and swallows(lines[first - 1 : last], delimiter, self.width):
                self.swallowed += 1


def swallows(lines, delimiter, width):
    """Whether every one of several lines that a quoted field joins is a whole row by itself: a quote that closes late."""
    return width > 1 and all(len(line.rstrip("\r\n").split(delimiter)) == width for line in lines)


def quoted_field(line, delimiter):
    """Whether a line has a field that begins and ends with a quote."""
    sign = re.escape(delimiter)
    return re.search(rf'(?:^|{sign})"(?:[^"]|"")*"(?:{sign}|\r?\n?$)', line) is not None


def _choose_quoting(forms, quoting):
    """For each delimiter the form whose quoting explains the sample best; usual quoting where there is nothing to tell."""
    chosen = []
    for quotes, plain in zip(forms[::2], forms[1::2]):
        if quoting is not None:
            chosen.append(quotes if quoting == "quotes" else plain)
            continue
        # Who puts the names of columns in quotes puts every field in quotes.
        trouble = quotes.broken + quotes.swallowed > 0 and not (quotes.all_quoted and not quotes.broken)
        fits = plain.share == 1.0 and plain.width >= max(2, quotes.width if quotes.share == 1.0 else 2)
        # With tabs, or where no field stands in quotes, a lone quote is a character.
        better = plain.share >= quotes.share and plain.width > 1 and (not quotes.quoted or quotes.delimiter == "\t")
        chosen.append(plain if trouble and (fits or better) else quotes)
    return chosen


def _choose_delimiter(forms, wanted, hints, name):
    def rank(form):
        head = [cell.strip() for cell in form.rows[0]] if form.rows else []
        # Columns that were asked for decide; then whether all rows are alike.
        return (
            sum(column in head for column in wanted),
            form.width > 1 and form.share == 1.0,
            form.width > 1 and form.share >= 0.9,
        )

    best = max(map(rank, forms))
    if not any(best):
        hinted = [form for sign in hints for form in forms if form.delimiter == sign]
        return _one_column(forms, hinted, name)
    fitting = [form for form in forms if rank(form) == best]
    if best[0] and not best[2]:
        # The columns asked for stand in the first line, whatever the delimiter: a table of one column, or a ragged one.
        hinted = [form for sign in hints for form in fitting if form.delimiter == sign]
        return (hinted or fitting)[0]
    for sign in hints:
        hinted = [form for form in fitting if form.delimiter == sign]
        if hinted:
            return hinted[0]
    if len(fitting) > 1:
        # A sign that texts hold by chance hardly ever stands in the names of columns; one in quotes splits nothing.
        named = [form for form in fitting if _has_header(form.rows, wanted)[0]]
        fitting = named or fitting
    if len(fitting) > 1:
        signs = " and ".join(f"{DELIMITERS[form.delimiter]} ({form.width} columns)" for form in fitting)
        raise HTCError(f"could be split by {signs}.", file=name, mend="Give the `delimiter`.")
    return fitting[0]


def _one_column(forms, hinted, name):
    """No sign splits the rows alike: one column, or a table whose rows differ too much to be read."""
    if hinted and hinted[0].share >= 0.9:
        return hinted[0]
    if all(form.width == 1 and form.share >= 0.9 for form in forms):
        return forms[0]
    raise HTCError(
        f"is no table: no delimiter ({', '.join(DELIMITERS.values())}) splits its lines into equally many fields.",
        file=name,
        mend="Give the `delimiter`, put fields that hold it in double quotes, or write JSON lines.",
    )


def _has_header(rows, wanted=()):
    """`(bool, reasons)`: whether the first row names the columns."""
    if not rows:
        return False, ["it is empty"]
    head, below = [cell.strip() for cell in rows[0]], rows[1:200]
    if any(column in head for column in wanted):
        return True, ["it has the columns that were asked for"]
    if not all(head) and len(head) > 1 and sum(map(bool, head)) < len(head) - 1:
        return False, ["its first line has empty fields"]
    words = [re.findall(r"[^\W_]+", cell.lower()) for cell in head]
    longest = 4 if len(head) > 1 else 2  # in a table of one column the first line may be the first text
    usual = [any(word in HEADER_WORDS for word in row) and len(row) <= longest for row in words]
    if any("_".join(row) in HEADER_WORDS for row in words) or all(usual):
        return True, ["it has usual names of columns"]
    if len(set(head)) < len(head):
        return False, ["its first line has a value twice"]
    columns = list(zip(*(row for row in below if len(row) == len(head))))
    for cell, column in zip(head, columns):
        if cell and cell in map(str.strip, column) and len(set(column)) < len(column):
            return False, [f"its first line holds {cell[:40]!r}, as later lines do"]
        if re.fullmatch(r"[-+]?\d+([.,]\d+)?", cell):
            return False, [f"its first line holds the number {cell}"]
        if len(cell) > 60:
            return False, ["its first line holds a text"]
    for cell, column in zip(head, columns):
        filled = [value.strip() for value in column if value.strip()]
        numbers = sum(bool(re.fullmatch(r"[-+]?\d+([.,]\d+)?", value)) for value in filled)
        if filled and numbers == len(filled):
            return True, [f"below {cell!r} stand numbers"]
        lengths = sorted(map(len, filled))
        if len(filled) >= 3 and len(cell) * 2 < lengths[len(lengths) // 10] and lengths[len(lengths) // 2] > 20:
            return True, [f"{cell!r} is shorter than all texts below it"]
    return False, ["its first line looks like the others"]
