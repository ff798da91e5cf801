"""How data are read: the options of [`load_htc_dataset`] that say what the files hold, checked once."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, field

from hf_htc.models.errors import HTCError

from .encodings import encoding_name
from .sniffing import QUOTINGS, delimiter_sign


# What people and programs write where a level has no value, compared without case.
MISSING_VALUES = (
    "nan",
    "na",
    "n/a",
    "#n/a",
    "<na>",
    "n.a.",
    "null",
    "none",
    "nil",
    "-",
    "--",
    "?",
    "unknown",
    "missing",
    "undefined",
    "not available",
    "not applicable",
    "(blank)",
)
LEVEL_GAPS = ("refuse", "close")
# What `skip_bad_rows` leaves out.
BAD_ROWS = ("unreadable_row", "ragged_row", "wrong_type", "broken_path", "empty_label", "several_annotations")


@dataclass
class ReadOptions:
    """
    The options of [`load_htc_dataset`] that say how files are read, as it documents them.

    Attributes:
        text_column (`str` or `list[str]`), label_column (`str`, `list[str]` or `list[list[str]]`).
        label_separator, path_separator (`str`, *optional*): `path_separator` is `False` where labels are said to be no paths.
        class_names (`str` or `os.PathLike`, *optional*).
        delimiter, encoding, quoting (`str`, *optional*), header (`bool`, *optional*): `None` where they are recognised.
        missing_values (`list[str]`): Compared without case.
        level_gaps (`str`): `"refuse"` or `"close"`.
        skip_bad_rows, skip_empty_texts, allow_unlabelled (`bool`).
        language (`str`, *optional*), keep_root (`bool`): Of the taxonomy.
    """

    text_column: str | list = "text"
    label_column: str | list = "labels"
    label_separator: str | None = None
    path_separator: str | bool | None = None
    class_names: str | os.PathLike | None = None
    delimiter: str | None = None
    encoding: str | None = None
    quoting: str | None = None
    header: bool | str | None = None
    missing_values: list[str] | str | None = field(default_factory=lambda: list(MISSING_VALUES))
    level_gaps: str = "refuse"
    skip_bad_rows: bool = False
    skip_empty_texts: bool = False
    allow_unlabelled: bool = False
    language: str | None = None
    keep_root: bool = False

    def __post_init__(self):
        """Raises [`HTCError`] for what contradicts itself or is none of the allowed values."""
        if self.missing_values is None:
            self.missing_values = list(MISSING_VALUES)
        if isinstance(self.missing_values, str):
            self.missing_values = self.missing_values.split(",")
        self.missing_values = [str(value).strip().lower() for value in self.missing_values]
        if isinstance(self.header, str):
            known = {"yes": True, "true": True, "no": False, "false": False, "none": False}
            if self.header.lower() not in known:
                raise HTCError(f"`header` is {self.header!r}; it is 'yes' or 'no'.", field="header", value=self.header)
            self.header = known[self.header.lower()]
        if self.delimiter is not None:
            self.delimiter = delimiter_sign(self.delimiter)
        if self.encoding is not None:
            self.encoding = encoding_name(self.encoding)
        if self.quoting not in (None, *QUOTINGS):
            raise HTCError(f"`quoting` is {self.quoting!r}; it is 'quotes' or 'none'.", field="quoting", value=self.quoting)
        if self.level_gaps not in LEVEL_GAPS:
            raise HTCError(f"`level_gaps` is {self.level_gaps!r}; it is 'refuse' or 'close' (the filled cells are the path).")
        if self.path_separator in (False, "none"):
            self.path_separator = False
        self._check_columns()
        self._check_separators()

    def _check_columns(self):
        texts, groups = self.text_names(), self.label_groups()
        flat = [column for group in groups for column in group]
        if not flat or not all(flat) or len(set(flat)) < len(flat):
            raise HTCError(
                f"`label_column` is {self.label_column!r}; name one column, or one different column per level.",
                field="label_column",
                value=self.label_column,
            )
        if not texts or not all(texts) or len(set(texts)) < len(texts):
            raise HTCError(f"`text_column` is {self.text_column!r}; name one column, or several different ones.")
        both = [column for column in texts if column in flat]
        if both:
            raise HTCError(f"`text_column` and `label_column` both name {both[0]!r}; they must differ.")

    def _check_separators(self):
        for name in ("label_separator", "path_separator"):
            if getattr(self, name) == "":
                example = ";" if name == "label_separator" else "/"
                raise HTCError(f"`{name}` is an empty string; give a character such as '{example}', or None.")
        if self.label_separator is not None and self.label_separator == self.path_separator:
            raise HTCError(
                f"`label_separator` and `path_separator` are both {self.label_separator!r}; labels and segments need "
                "different ones."
            )
        levels = [group for group in self.label_groups() if len(group) > 1]
        if self.label_separator is not None and levels:
            raise HTCError(f"`label_separator` is for one column of labels; {levels[0]} are the levels of one path.")

    @property
    def joint(self):
        """The path separator that was given, or `None`."""
        return self.path_separator or None

    def text_names(self, columns=None):
        """Columns of the text, in order; `"title,body"` names two, unless one of `columns` is called so."""
        return _names(self.text_column, columns)

    def label_groups(self, columns=None):
        """
        Groups of columns, each the levels of one path or one column of labels.

        `"a,b"` and `["a", "b"]` are one group, `"a,b;c,d"` and `[["a", "b"], ["c", "d"]]` two; `"topic_*"` names all columns that
        fit, as far as `columns` are known.
        """
        value = self.label_column
        if isinstance(value, str):
            value = [value] if columns and value in columns else value.split(";")
        elif value and all(isinstance(name, str) for name in value):
            value = [value] if not any(mark in name for name in value for mark in ",;") else list(value)
        groups = [_names(group, columns) for group in value or []]
        texts = self.text_names(columns)
        return [_expanded(group, columns, texts) for group in groups]

    def wanted(self):
        """All columns that are named, for a reader that has not seen the columns yet."""
        return [*self.text_names(), *(column for group in self.label_groups() for column in group)]


def _names(value, columns):
    if not isinstance(value, str):
        return [str(name) for name in value]
    if columns and value in columns:
        return [value]
    return [name.strip() for name in value.split(",")]


def _expanded(group, columns, texts):
    if not columns or not any("*" in name for name in group):
        return group
    expanded = []
    for name in group:
        found = [column for column in columns if fnmatch.fnmatchcase(column, name) and column not in texts]
        expanded += found if "*" in name and name not in columns and found else [name]
    return list(dict.fromkeys(expanded))
