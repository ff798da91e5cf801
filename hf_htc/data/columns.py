"""Columns of files as Arrow arrays: which are meant, texts, labels, and whatever else is there."""

from __future__ import annotations

import difflib
import json

import pyarrow as pa
import pyarrow.compute as pc

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError, reason_of

from .json_files import labels_of_value
from .problems import RowProblems
from .sniffing import TEXT_WORDS


logger = get_logger(__name__)

LABEL_FORMS = "Labels of a row are a list of names, one string, or (paths) a list of lists of names, in all rows the same way"
# Where the default names are missing: what doccano and others call these columns.
OTHER_NAMES = {"text": ("Text", "TEXT", "data"), "labels": ("label", "Label", "Labels", "LABEL", "LABELS")}
# Columns that hold neither texts nor labels; compared without case.
ID_NAMES = frozenset(["id", "ids", "_id", "index", "idx", "uid", "uuid", "guid", "row", "number", "nr", "no", "no.", "column 1"])


def find_columns(columns, options, name, table=None, unlabelled=False):
    """
    The columns of texts and labels in a file.

    Args:
        columns (`Sequence[str]`): What the file has.
        options ([`ReadOptions`]).
        name (`str`): For messages.
        table ([`TableFacts`], *optional*): Of a text table; without a header its columns are found by their texts.
        unlabelled (`bool`): Whether columns of labels may be missing.

    Returns:
        `tuple[list[str], list[list[str]]]`: columns of the text, groups of columns of labels; no groups where they are missing
        and may be.

    Raises:
        [`HTCError`]: a missing column; those that exist are named.
    """
    columns = list(columns)
    texts, groups = options.text_names(columns), options.label_groups(columns)
    if table is not None and not table.header and not any(column in columns for column in options.wanted()):
        return _by_position(columns, options, name, table)
    is_open = groups == [["labels"]] and "labels" not in columns
    if is_open:
        groups = [_other_name("labels", columns, texts) or ["labels"]]
    texts = text_columns(columns, options, [column for group in groups for column in group])
    if is_open and groups == [["labels"]] and not unlabelled and all(column in columns for column in texts):
        groups = [_only_other("labels", columns, texts, but=TEXT_WORDS) or ["labels"]]
    labels = [column for group in groups for column in group]
    missing = [column for column in [*texts, *labels] if column not in columns]
    if not missing:
        return texts, groups
    if unlabelled and missing == labels:
        return texts, []
    close = difflib.get_close_matches(missing[0], columns, n=1, cutoff=0.5)
    raise HTCError(
        f"{name} has no column {missing[0]!r}; its columns are {columns}. Name the right ones with `text_column` and "
        "`label_column`"
        + (f", e.g. {close[0]!r}." if close else ".")
        + (" Where a file has no labels, pass `allow_unlabelled=True`." if missing[0] in labels and texts[0] in columns else "")
    )


def text_columns(columns, options, taken=()):
    """
    The columns of the text; where the default name is missing, another usual one, or the only other column, which is said.

    Args:
        columns (`list[str]`): What there is.
        options ([`ReadOptions`]).
        taken (`list[str]`): Columns of labels.

    Returns:
        `list[str]`: some may be missing in `columns`.
    """
    texts = options.text_names(columns)
    if texts != ["text"] or "text" in columns:
        return texts
    labels = ("labels", *map(str.lower, OTHER_NAMES["labels"]))
    return _other_name("text", columns, taken) or _only_other("text", columns, taken, but=labels) or texts


def _other_name(default, columns, taken):
    found = [name for name in OTHER_NAMES[default] if name in columns and name not in taken]
    if len(found) != 1:
        return None
    logger.info(f"There is no column {default!r}; {found[0]!r} is taken.")
    return found


def _only_other(default, columns, taken, but=()):
    """The only column beside those that are taken, ids and names in `but`; `None` where there are several or none."""
    found = [name for name in columns if name not in taken and name.lower() not in ID_NAMES]
    if len(found) != 1 or default in columns or found[0].lower() in but:
        return None
    logger.info(f"There is no column {default!r}; {found[0]!r} is taken, the only other one.")
    return found


def _by_position(columns, options, name, table):
    """Text and labels of a table without a header: of two columns the one with the longer cells is the text."""
    lengths = [sum(len(row[i]) for row in table.sampled if i < len(row)) for i in range(len(columns))]
    if options.wanted() == ["text", "labels"] and len(columns) == 2 and max(lengths) > 1.2 * min(lengths):
        text = lengths.index(max(lengths))
        logger.info(f"{name} has no header: column {text + 1} is taken as the text, column {2 - text} as the labels.")
        return [columns[text]], [[columns[1 - text]]]
    first = [cell[:30] for cell in table.sampled[0]]
    raise HTCError(
        f"{name} has no column {options.wanted()[0]!r}: its first line, {first}, is no header. Name the columns by their "
        "numbers, e.g. `text_column='1'`, `label_column='2'`, or pass `header=True` if it is one."
    )


def text_array(values, origin, log, bad=None):
    """Texts as an Arrow array: strings, or lists of tokens, which blanks join. The set `bad` takes rows of a wrong type."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    tokens = [value for value in values if isinstance(value, list)]
    if tokens and all(value is None or isinstance(value, list) and set(map(type, value)) <= {str} for value in values):
        logger.info(f"{origin.name}: the texts are lists of tokens; blanks join them.")
        return pa.array([None if value is None else " ".join(value) for value in values], pa.large_string())
    try:
        return pa.array(values, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        problems = RowProblems(log)
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, str):
                problems.add(
                    "wrong_type",
                    origin.at(row),
                    f": the text is a {type(value).__name__}, {short(value)}; it must be a string.",
                    HTCTypeError,
                )
                values[row] = None
                if bad is not None:
                    bad.add(row)
        problems.report()
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError as error:
        raise HTCError(f"{origin.name}: a text holds half of a character ({reason_of(error)}).") from error


def _label_form(value):
    """`"string"`, `"number"`, `"strings"`, `"integers"`, `"paths"`; `None` for no labels; `False` for a wrong type."""
    if value is None or value == []:
        return None
    if isinstance(value, float):
        return "number" if value == value and abs(value) != float("inf") else False
    kinds = {str: "string", int: "number", bool: "number"}
    if not isinstance(value, list):
        return kinds.get(type(value), False)
    types = set(map(type, value))
    if types == {list} and all(isinstance(name, str) for path in value for name in path):
        return "paths"
    return {str: "strings", int: "integers"}.get(types.pop(), False) if len(types) == 1 else False


def label_array(values, name, origin, log, in_group=False, bad=None):
    """
    Labels as an Arrow array of one form; a row of another form is named.

    Args:
        values (`list`): Python values, one per row.
        in_group (`bool`): Whether the column is one of several: a level may mix numbers and strings.
        bad (`set[int]`, *optional*): Takes the rows of another form.
    """
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    values = [
        labels_of_value(value) if isinstance(value, dict) and labels_of_value(value) is not None else value for value in values
    ]
    first, problems = None, RowProblems(log)
    for row, value in enumerate(values):
        form = _label_form(value)
        if form is None:
            continue
        if form is not False and (first in (None, form) or in_group and {first, form} == {"string", "number"}):
            first = first if first == "string" else form
            continue
        problems.add(
            "wrong_type",
            origin.at(row),
            f": column {name!r} holds {short(value)}"
            + (f", unlike the rows above ({first})" if form and first else "")
            + f". {LABEL_FORMS}.",
            HTCTypeError,
        )
        values[row] = None
        if bad is not None:
            bad.add(row)
    problems.report()
    if first in ("string", "number"):
        values = [None if value == [] else value for value in values]
    if first == "string":
        values = [value if value is None or isinstance(value, str) else number_text(value) for value in values]
    if first == "number":
        whole = all(value is None or type(value) is int for value in values)  # Arrow takes no boolean for an integer
        values = values if whole else [None if value is None else number_text(value) for value in values]
        first = "integer" if whole else "string"
    types = {"string": pa.string(), "integer": pa.int64(), "integers": pa.list_(pa.int64())}
    types["paths"] = pa.list_(pa.list_(pa.string()))
    try:
        return pa.array(values, types.get(first, pa.list_(pa.string())))
    except OverflowError:  # codes of more digits than an integer has
        texts = [
            value if value is None else [str(v) for v in value] if isinstance(value, list) else str(value) for value in values
        ]
        return pa.array(texts, pa.list_(pa.string()) if first == "integers" else pa.string())


def number_text(value):
    """A number as the name of a label: whole numbers without a fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def other_array(values, name, file):
    """Any other column; what mixes types is kept as JSON."""
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        logger.warning(f"Column {name!r} of {file} mixes types; its values are kept as JSON strings.")
        return pa.array([None if value is None else json.dumps(value, ensure_ascii=False) for value in values])


def joined_texts(arrays):
    """Several columns of text as one: what is filled, one below the other."""
    arrays = [pc.fill_null(array.cast(pa.large_string()), "") for array in arrays]
    whole = arrays[0]
    for array in arrays[1:]:
        both = pc.and_(pc.not_equal(pc.utf8_trim_whitespace(whole), ""), pc.not_equal(pc.utf8_trim_whitespace(array), ""))
        between = pc.if_else(both, pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string()))
        whole = pc.binary_join_element_wise(whole, between, array, pa.scalar("", pa.large_string()))
    return whole


def short(value):
    """A value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
