"""JSON lines, JSON documents and the exports of annotation tools as columns, with the line of every row where there is one."""

from __future__ import annotations

import json
import re

import numpy as np

from hf_htc.models.errors import HTCError, reason_of

from .lines import split_lines
from .problems import RowProblems


# Keys under which services put the list of rows.
ROW_KEYS = ("data", "rows", "records", "items", "examples", "documents", "results", "instances", "train", "validation", "test")
# What `json` raises for what it cannot read: a depth beyond Python's stack, a number of too many digits.
UNREADABLE = (ValueError, RecursionError)
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class TwinKeyError(HTCError):
    """An object of a JSON text has a key twice, `key`; `json` would keep the last value only."""

    def __init__(self, key):
        super().__init__(f"the key {key!r} stands twice in one object")
        self.key = key


def parse_json(text):
    """
    The value of a JSON text.

    Raises:
        `ValueError`, `RecursionError`: no JSON; an object with a key twice, of which one value would be lost
        ([`TwinKeyError`]); half of a surrogate pair, which is no character.
    """
    value = json.loads(text, object_pairs_hook=_object)
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise HTCError(f"it holds half of a character, \\u{ord(error.object[error.start]):04x}") from error
    return value


def parse_line(line, file):
    """As [`parse_json`], of a line of a [`TextFile`]; bytes that are no text, in it as lone surrogates, are refused."""
    if file.facts.bad_lines:
        try:
            line.encode()
        except UnicodeEncodeError as error:
            byte = ord(error.object[error.start]) - 0xDC00
            raise HTCError(f"it is not UTF-8 (byte 0x{byte:02x} at character {error.start + 1})") from error
    return parse_json(line)


def _object(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        raise TwinKeyError(next(name for name, _ in pairs if name in seen or seen.add(name)))
    return found


def is_lines(sample, whole, suffix=""):
    """Whether a text that begins with an object is JSON lines: the first line is a whole object, or it is not the only one."""
    lines = [line for line in split_lines(sample) if line.strip()]
    if len(lines) == 1:
        # One object: a row, unless it holds lists of rows or columns.
        try:
            value = parse_json(lines[0])
        except UNREADABLE:
            return not whole or suffix in (".jsonl", ".ndjson")
        return isinstance(value, dict) and (suffix in (".jsonl", ".ndjson") or not _holds_rows(value))
    for line in lines[:3]:
        try:
            if isinstance(parse_json(line), dict):
                return True
        except UNREADABLE:
            continue
    # A broken line that begins and ends like an object is one of several.
    return all(line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines[:3])


def _holds_rows(value):
    rows = next((value[key] for key in ROW_KEYS if isinstance(value.get(key), list)), None)
    if rows and isinstance(rows[0], (dict, list)):
        return True
    return len(value) > 1 and all(isinstance(part, list) for part in value.values())


def read_jsonl(file, log, bar):
    """
    Columns (`dict` of lists, `None` where a row lacks the key) and line numbers of JSON lines.

    Args:
        file ([`TextFile`]), log ([`ProblemLog`]).
        bar: A progress bar; counts characters.
    """
    rows, lines, problems = [], [], RowProblems(log)
    for number, line in file.lines():
        bar.update(len(line) + 1)
        if not line.strip():
            continue
        try:
            row = parse_line(line, file)
            if not isinstance(row, dict):
                raise HTCError(f"a JSON {type(row).__name__} where an object is needed")
        except UNREADABLE as error:
            problems.add(
                "unreadable_row",
                f"{file.name}, line {number}",
                f" cannot be read: {_reason(error)}. Each line must be one JSON object, like "
                '{"text": "...", "labels": ["A", "B"]}.',
            )
            continue
        rows.append(row)
        lines.append(number)
    problems.report()
    return _columns(rows, np.asarray(lines), file.name, log)


def _reason(error):
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "not UTF-8 text, though other lines are; give the `encoding` of the file"
    return reason_of(error)


def read_json(file, log):
    """
    Columns and no line numbers of a JSON document: a list of objects; an object with such a list, or with a list per column; the
    forms `split`, `index` and `columns` of pandas; an export of Label Studio.
    """
    text = file.read()
    try:
        content = parse_json(text)
    except UNREADABLE as error:
        raise HTCError(f"{file.name} starts with {text.lstrip()[:1]!r} but is no JSON: {_reason(error)}.") from error
    rows = _rows_of(content, file)
    if isinstance(rows, dict):
        return rows, None
    problems = RowProblems(log)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            problems.add(
                "unreadable_row", f"{file.name}, row {number}", f" is a {type(row).__name__}; every element must be an object."
            )
    problems.report()
    numbers = np.asarray([number for number, row in enumerate(rows, 1) if isinstance(row, dict)])
    columns, numbers = _columns([row for row in rows if isinstance(row, dict)], numbers, file.name, log)
    return columns, None if len(numbers) == len(rows) else numbers


def _rows_of(content, file):
    """The list of rows, or a `dict` of columns, in a JSON value."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise HTCError(f"{file.name} is a JSON {type(content).__name__}; rows are objects in a list, or one per line.")
    listed = {key: value for key, value in content.items() if isinstance(value, list)}
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # pandas, orient="split"
        names = [str(name) for name in content["columns"]]
        ragged = next(
            (i for i, row in enumerate(content["data"], 1) if not isinstance(row, list) or len(row) != len(names)), None
        )
        if ragged is not None:
            raise HTCError(f'{file.name}, row {ragged} of "data" has not the {len(names)} values that "columns" names.')
        return [dict(zip(names, row)) for row in content["data"]]
    rows = {key: value for key, value in listed.items() if value and all(isinstance(row, dict) for row in value)}
    if len(rows) == 1:
        key = next(iter(rows))
        file.facts.notes.append(f"The rows stand under {key!r}.")
        return rows[key]
    if len(rows) > 1:
        raise HTCError(f"{file.name} holds several lists of rows ({', '.join(map(repr, rows))}). Give each in a file of its own.")
    if listed and len(listed) == len(content):
        sizes = {key: len(value) for key, value in listed.items()}
        if len(set(sizes.values())) > 1:
            raise HTCError(f"{file.name} has columns of different lengths: {sizes}.")
        file.facts.notes.append("It has a list per column.")
        return listed
    objects = [value for value in content.values() if isinstance(value, dict)]
    if objects and len(objects) == len(content):
        keys = [set(value) for value in objects]
        if all(set(key_set) == keys[0] for key_set in keys) and all(re.fullmatch(r"\d+", key) for key in keys[0]):
            order = sorted(keys[0], key=int)  # pandas, orient="columns"
            return {name: [value[key] for key in order] for name, value in content.items()}
        return objects  # pandas, orient="index"; or rows by their id
    raise HTCError(
        f"{file.name} is a JSON object with the keys {list(content)[:8]}, in which no rows are found. Give a list of objects, "
        '{"data": [...]}, a list per column, or JSON lines.'
    )


def _columns(rows, numbers, name, log):
    if not rows:
        raise HTCError(f"{name} holds no readable row.")
    if is_label_studio(rows[0]):
        rows, kept = _label_studio_rows(rows, numbers, name, log)
        numbers = numbers[kept]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, numbers


def is_label_studio(row):
    """Whether a row is a task of Label Studio: the text under `data`, what was chosen under `annotations`."""
    return isinstance(row.get("data"), dict) and isinstance(row.get("annotations", row.get("completions")), list)


def _label_studio_rows(tasks, numbers, name, log):
    """Rows of an export of Label Studio: the columns of `data`, and the choices of each control; one control is `labels` too."""
    rows, kept, problems, controls = [], [], RowProblems(log), {}
    for place, task in enumerate(tasks):
        where = f"{name}, row {numbers[place]}"
        if not is_label_studio(task):
            problems.add("unreadable_row", where, " is no task of Label Studio, as the rows above are.")
            continue
        found = [chosen(annotation) for annotation in task.get("annotations", task.get("completions")) if _counts(annotation)]
        truth = [chosen(a) for a in task.get("annotations", ()) if _counts(a) and a.get("ground_truth")]
        found = truth[:1] or found
        if any(other != found[0] for other in found[1:]):
            problems.add("several_annotations", where, " has several annotations that differ. Keep one, or mark the true one.")
            continue
        row = dict(task["data"])
        row.setdefault("id", task.get("id"))
        for control, labels in (found[0] if found else {}).items():
            controls[control] = None
            row[control] = labels
        rows.append(row)
        kept.append(place)
    problems.report()
    if len(controls) == 1 and not any("labels" in row for row in rows):
        only = next(iter(controls))
        rows = [{**row, "labels": row.get(only) or []} for row in rows]
    texts = {key for row in rows for key, value in row.items() if isinstance(value, str) and key not in ("id", "labels")}
    if len(texts) == 1 and "text" not in texts:
        only = texts.pop()
        rows = [{**row, "text": row.get(only)} for row in rows]
    return rows, np.asarray(kept, dtype=np.int64)


def _counts(annotation):
    return isinstance(annotation, dict) and not annotation.get("was_cancelled") and not annotation.get("skipped")


def chosen(annotation):
    """What an annotation of Label Studio says, by control: choices as names, taxonomies as paths."""
    found = {}
    for result in annotation.get("result") or []:
        value = result.get("value") if isinstance(result, dict) else None
        labels = labels_of_value(value)
        if labels is not None:
            found.setdefault(str(result.get("from_name", "labels")), []).extend(labels)
    return found


def labels_of_value(value):
    """Choices or paths in a value of Label Studio, `{"choices": [...]}` or `{"taxonomy": [[...]]}`; `None` in any other."""
    if not isinstance(value, dict):
        return None
    for key in ("choices", "taxonomy"):
        if isinstance(value.get(key), list):
            return value[key]
    return None
