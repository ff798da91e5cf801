"""Taxonomy files: the form is recognised by content, then read by its module, and said in one line of the log.

[`LabelHierarchy.from_file`] is the way in.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import yaml

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, reason_of
from hf_htc.models.hierarchy import LabelHierarchy

from .recognise import markup_of, open_text
from .sniffing import delimiter_sign, long_fields, split_rows
from .tables import excel_sheets
from .taxonomies_codes import code_parents
from .taxonomies_columns import Column, is_header
from .taxonomies_content import children_lines, read_table
from .taxonomies_draft import ROOT_WORDS, Draft
from .taxonomies_json import parse_json, read_json
from .taxonomies_lines import NUMBERED, find_separator, is_indented, read_indented, read_paths
from .taxonomies_rdf import is_obo, rdf_format, read_obo, read_skos
from .taxonomies_tables import Table, edges_of


# Form by the name that the option `format` takes.
FORMATS = {
    "table": "columns told by their names or content: edges, ids with parents, paths, levels, codes, tree numbers",
    "edges": "`parent<TAB>child` lines, or a parent and its children",
    "paths": "`sport/football` lines, or a list of names",
    "indented": "lines indented below their parent",
    "json": "JSON or YAML: nested, adjacency, records, networkx's node-link form, what `save` writes",
    "skos": "SKOS in RDF/XML, Turtle, N-Triples or JSON-LD",
    "obo": "OBO",
}
COMMENTS = ("#", "//", "%")
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
DELIMITERS = {",": "commas", ";": "semicolons", "|": "pipes", "\t": "tabs"}


def read_taxonomy(
    path, labels=None, root=None, separator=None, *, format=None, language=None, encoding=None, delimiter=None, header=None
):
    """
    Reads a taxonomy file, see [`LabelHierarchy.from_file`].

    Returns:
        [`LabelHierarchy`]
    """
    path = Path(path)
    if not path.is_file():
        raise HTCFileNotFoundError(
            f"There is no taxonomy file {str(path)!r}. Give a file with lines `parent<TAB>child`, or another form of one."
        )
    if format is not None and format not in FORMATS:
        raise HTCError(f"`format` is {format!r}; it is one of {', '.join(FORMATS)}.", field="format", value=format)
    if _is_excel(path):
        draft, said = _read_excel(path, separator, language, header), ""
        return _finish(draft, labels, root, language, said)
    file = open_text(path, encoding)
    text = file.read()
    if file.facts.newline == "\r":
        text = text.replace("\r", "\n")
    if not text.strip():
        raise HTCError("is empty.", file=file.name, mend="Give a file with at least one label.")
    draft = _read(text, file.name, file.suffix, format, separator, language, delimiter, header)
    said = "" if file.facts.is_plain else f" ({file.facts.describe().partition(', ')[2].rstrip('.') or file.facts.encoding})"
    return _finish(draft, labels, root, language, said)


def _finish(draft, labels, root, language, said):
    if isinstance(draft, LabelHierarchy):
        hierarchy = draft if language is None else draft.in_language(language)
        return hierarchy if labels is None else hierarchy.with_labels(labels)
    hierarchy = draft.build(labels, root)
    if language is not None and draft.language is None:
        raise HTCError(
            f"has no names in several languages, so {language!r} cannot be chosen.",
            file=draft.file,
            field="language",
            value=language,
            mend="Leave `language` out.",
        )
    draft.say(hierarchy, said)
    return hierarchy


def _read(text, file, suffix, format, separator, language, delimiter, header):
    """The [`Draft`], or a whole [`LabelHierarchy`]."""
    rdf = rdf_format(text) if format in (None, "skos") else None
    if rdf is not None:
        return read_skos(text, rdf, file, language)
    if format == "skos":
        raise HTCError("is no RDF that is known (RDF/XML, Turtle, N-Triples, JSON-LD).", file=file, mend="Leave `format` out.")
    if format == "obo" or format is None and is_obo(text):
        return read_obo(text, file)
    start, end = text.lstrip()[:1], text.rstrip()[-1:]
    is_json = suffix in JSON_SUFFIXES or (start + end in ("{}", "[]") and suffix not in (".tsv", ".csv"))
    if format is None and suffix in (".yaml", ".yml") or format == "json" and start not in "{[":
        return read_json(_parse_yaml(text, file), file, separator, language)
    if format == "json" or format is None and is_json:
        try:
            content = parse_json(text, file)
        except HTCError as error:
            # Lines may begin and end with brackets, too.
            if format is None and start == "[" and suffix not in JSON_SUFFIXES and isinstance(error.__cause__, ValueError):
                return _read_lines(text, file, suffix, format, separator, language, delimiter, header)
            raise
        try:
            return read_json(content, file, separator, language)
        except RecursionError as error:
            raise HTCError("is nested too deeply to be read.", file=file, mend="Write it as `parent<TAB>child` lines.") from error
    markup = markup_of(text[:4000]) if format is None else None
    if markup is not None:
        raise HTCError(
            f"is {markup}, but no RDF of SKOS.",
            file=file,
            mend="Write the taxonomy as `parent<TAB>child` lines, e.g. `sport<TAB>football`, or as SKOS.",
        )
    return _read_lines(text, file, suffix, format, separator, language, delimiter, header)


def _is_excel(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "xl/workbook.xml" in archive.namelist()


def _read_excel(path, separator, language, header):
    """The [`Draft`] of the first sheet that holds anything."""
    sheets = excel_sheets(path)
    if not sheets:
        raise HTCError("is empty.", file=path.name, mend="Give a file with at least one label.")
    first, *others = sheets
    draft = _read_rows(_below_titles(sheets[first]), "", path.name, separator, language, header)
    if others:
        draft.notes.append(f"The sheet {first!r} was read; the others are {', '.join(map(repr, others))}.")
    return draft


def _below_titles(rows):
    """`(number, cells)`, equally many cells per row, without a title above the table, which stands alone in its row."""
    used = max(len(cells) for _, cells in rows)
    rows = [(number, [cell.strip() for cell in cells] + [""] * (used - len(cells))) for number, cells in rows]
    while len(rows) > 2 and sum(map(bool, rows[0][1])) == 1 and sum(map(bool, rows[1][1])) > 1:
        rows.pop(0)
    return rows


def _parse_yaml(text, file):
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise HTCError(f"is not valid YAML: {reason_of(error)}.", file=file, line=mark and mark.line + 1) from error


def _read_lines(text, file, suffix, format, separator, language, delimiter, header):
    lines, comments, titles = _without_comments(text, header)
    lines = _Lines(lines, text)
    if not lines:
        raise HTCError("holds comments only.", file=file, mend="Give a file with at least one label.")
    draft = _read_numbered(lines, file, suffix, format, separator, language, delimiter, header, titles)
    if comments and isinstance(draft, Draft):
        draft.notes.append(f"{comments} comment line{'s' if comments > 1 else ''} left out.")
    return draft


class _Lines(list):
    """Lines with their numbers, without comments and blank ones; `raw` has those too from the first line on, for quoted cells."""

    def __init__(self, kept, text):
        super().__init__(kept)
        self.raw = list(enumerate(text.split("\n"), 1))[kept[0][0] - 1 :] if kept else []


def _read_numbered(lines, file, suffix, format, separator, language, delimiter, header, titles):
    if format == "indented":
        return read_indented(lines, file, separator)
    if format == "paths":
        bodies = [line.strip() for _, line in lines]
        return read_paths(lines, file, separator or find_separator(bodies) or "/")
    if format == "edges" and delimiter is None:
        delimiter = "\t"
    sign = delimiter_sign(delimiter) if delimiter is not None else _delimiter(lines, file, suffix, separator)
    if sign is not None:
        rows = _rows(lines, sign, file)
        if titles is not None and len(titles.split(sign)) == len(rows[0][1]):
            rows, header = [(lines[0][0], titles.split(sign)), *rows], True
        return _read_rows(rows, sign, file, separator, language, header, format)
    if format == "table":
        raise HTCError(
            "is no table: no sign splits its lines into equally many columns.", file=file, mend="Give the `delimiter`."
        )
    if suffix == ".csv" and any(line.startswith('"') for _, line in lines):  # one column, in quotes where it holds a comma
        rows = _rows(lines, ",", file)
        if all(len(cells) == 1 for _, cells in rows):
            lines = [(number, cells[0]) for number, cells in rows]
    bodies = [line.strip() for _, line in lines]
    found = find_separator(bodies)
    if separator is None and found is None or not any(mark in body for body in bodies for mark in (separator, found) if mark):
        if is_indented(lines):
            return read_indented(lines, file, separator)
        coded = [NUMBERED.match(body) for body in bodies]
        if all(coded) and find_separator([match.group(3) for match in coded]) is None:
            rows = [(number, [match.group(1), match.group(3)]) for (number, _), match in zip(lines, coded)]
            if code_parents([cells[0] for _, cells in rows]) is not None:
                return read_table(Table(file, rows, what="lines of a code and a title"))
        if code_parents(bodies) is not None:
            return read_table(Table(file, [(number, [body]) for (number, _), body in zip(lines, bodies)], ["code"]))
    elif is_indented(lines) and _share_of(bodies, separator or found) < 0.5:
        return read_indented(lines, file, separator)
    titled = header or header is None and len(lines) > 2 and _is_title(bodies, found or separator)
    draft = read_paths(lines[1:] if titled else lines, file, separator)
    if titled:
        draft.notes.append(
            f"Its first line, {bodies[0]!r}, is taken as the name of the column (`header=False` takes it as a node)."
        )
    return draft


def _share_of(bodies, separator):
    return sum(separator in body for body in bodies) / len(bodies)


def _is_title(bodies, separator):
    """Whether the first line of one column names it: 'category_path' above 'A > B'."""
    if separator is None or separator in bodies[0] or Column(bodies[0]).role is None and not Column(bodies[0]).is_level:
        return False
    return not any(body == bodies[0] or body.startswith(bodies[0] + separator) for body in bodies[1:])


def _without_comments(text, header):
    """
    Takes comments and blank lines out.

    Returns:
        `tuple`: the other lines with their numbers; how many comments; the last one above all lines if it names columns.
    """
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    kept, dropped, titles, used = [], 0, None, None
    for number, line in numbered:
        sign = next((sign for sign in COMMENTS if line.lstrip().startswith(sign)), None)
        if sign is None:
            kept.append((number, line))
            continue
        if used is None:
            used = {cell.strip() for _, other in numbered for cell in other.split("\t")[1:]}
        first = line.split("\t")[0].strip()
        # A node may be called '#1': a parent by that name is a child elsewhere.
        if "\t" in line and (first in used or line.split("\t")[1].strip()[:1] in COMMENTS):
            kept.append((number, line))
            continue
        dropped += 1
        words = line.lstrip()[len(sign) :].strip()
        if not kept:
            titles = words if any(s in words and any(Column(c).role for c in words.split(s)) for s in DELIMITERS) else None
    if dropped and len(kept) < dropped and not kept:
        return [], dropped, None
    return kept, dropped, titles if header is not False else None


def _delimiter(lines, file, suffix, separator):
    """What splits the lines into columns, or `None` for lines that are no table."""
    if any("\t" in line for _, line in lines):
        if is_indented(lines):
            return None
        return "\t"
    fitting = []
    for sign in (",", ";", "|"):
        if separator is not None and separator.strip() == sign:
            continue
        widths = {len(cells) for _, cells in _rows(lines, sign, file, strict=False)}
        if len(widths) == 1 and widths != {1}:
            fitting.append((sign, widths.pop()))
    if suffix == ".csv" and not fitting:
        for sign in (",", ";"):
            rows = _rows(lines, sign, file, strict=False)
            if len(rows[0][1]) > 1 and is_header(rows[0][1], [cells for _, cells in rows[1:]]):
                fitting.append((sign, len(rows[0][1])))
    if len(fitting) > 1:
        named = [pair for pair in fitting if is_header(*_split_head(_rows(lines, pair[0], file, strict=False)))]
        fitting = named or [pair for pair in fitting if suffix == ".csv" and pair[0] in ",;"][:1] or fitting
    if len(fitting) > 1:
        signs = " and ".join(f"{DELIMITERS[sign]} ({width} columns)" for sign, width in fitting)
        raise HTCError(f"could be split by {signs}.", file=file, mend="Give the `delimiter`.")
    if not fitting:
        return None
    sign = fitting[0][0]
    bodies = [line.strip() for _, line in lines]
    found = find_separator(bodies)
    if sign == "|" and found is not None and found.strip() == "|" and not is_header(*_split_head(_rows(lines, sign, file))):
        return None  # paths
    return sign


def _split_head(rows):
    return rows[0][1], [cells for _, cells in rows[1:]]


def _rows(lines, sign, file, strict=True):
    """Rows with their lines; quotes count with tabs only where every field stands in them."""
    quoting = "quotes"
    if sign == "\t":
        fields = [cell for _, line in lines[:200] for cell in line.strip("\r\n").split("\t") if cell]
        quoting = "quotes" if all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in fields) else "none"
    source = lines if quoting == "none" else lines.raw
    rows = []
    with long_fields():
        for first, _, row in split_rows([line + "\n" for _, line in source], sign, quoting):
            number = source[min(first, len(source)) - 1][0]
            if isinstance(row, str):
                if not strict:
                    return [(1, [""])]
                raise HTCError(
                    f"cannot be split into columns: {row}.",
                    file=file,
                    line=number,
                    mend='Double the quotes inside a quoted field: "a ""b"" c".',
                )
            if any(cell.strip() for cell in row):
                rows.append((number, row))
    if source is not lines:
        # A comment between rows; one in quotes is a name.
        kept = {number for number, _ in lines}
        rows = [(number, row) for number, row in rows if number in kept or len(row) == len(rows[0][1]) > 1]
    return rows


def _read_rows(rows, sign, file, separator, language, header, format=None):
    head, below = _split_head(rows)
    named = header if header is not None else is_header(head, below) if below else all(Column(cell).role for cell in head)
    if named and len(rows) < 2:
        raise HTCError("holds a header only.", file=file, mend="Give a file with at least one label.")
    tabs = sign == "\t"
    if tabs and not named:
        for number, cells in rows:
            while len(cells) > 1 and not cells[-1].strip():
                cells.pop()
            if len(cells) < 2:
                raise HTCError(
                    f"is not `parent<TAB>child`: {cells[0]!r} (no tab).",
                    file=file,
                    line=number,
                    mend="Write a parent and its child, or children, between tabs.",
                )
    table = Table(
        file,
        rows[1:] if named else rows,
        [cell.strip() for cell in head] if named else None,
        f"a table split by {DELIMITERS.get(sign, repr(sign))}" if sign else "a sheet",
    )
    if format == "edges":
        return edges_of(table, 0, 1, "edge list", told=True) if table.width == 2 else children_lines(table)
    if not named:
        draft = _ids_and_paths(table, separator)
        if draft is not None:
            return draft
    draft = read_table(table, separator, tabs, language)
    if sign != "\t":
        draft.form += f", split by {DELIMITERS.get(sign, repr(sign))}" if sign else ", in Excel"
    return draft


def _ids_and_paths(table, separator):
    """Two columns of which one holds paths and the other one an id for each."""
    if table.width != 2:
        return None
    for ids, paths in ((0, 1), (1, 0)):
        own, cells = table.column(ids), table.column(paths)
        if len(set(own)) < len(own) or not all(own) or set(own) & set(cells) or any(value.lower() in ROOT_WORDS for value in own):
            continue
        if separator is not None and any(separator in cell for cell in cells) or find_separator(cells) is not None:
            if not all(any(c.isdigit() for c in value) and " " not in value for value in own):
                continue
            header = ["id", "path"] if ids == 0 else ["path", "id"]
            return read_table(Table(table.file, list(zip(table.lines, table.rows)), header), separator)
    return None
