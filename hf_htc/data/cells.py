"""What stands in the cells of label columns: lists, levels of paths, ones and zeros, numbers, placeholders."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter

from hf_htc.logging import get_logger

from .arrow_columns import arrow_column, as_strings, encoded, is_list
from .json_files import UNREADABLE, labels_of_value
from .options import ReadOptions
from .resolving import NUMBER, WHOLE_NUMBER, clean_name


logger = get_logger(__name__)

# What joins the levels of a path; the first that no level holds.
JOINTS = ("/", " > ", " | ", " :: ", " -> ", "\x1f")
# Columns of one label each: what stands where a row has it, and where not; compared without case.
MARKS = (
    (frozenset(["1", "1.0", "true"]), frozenset(["0", "0.0", "false", ""])),
    (frozenset(["yes", "y"]), frozenset(["no", "n", ""])),
    (frozenset(["x", "✓", "✔"]), frozenset([""])),
)
HELD = frozenset().union(*(held for held, _ in MARKS))
BRACKETS = {"[": "]", "(": ")", "{": "}"}
NUMPY_LIST = re.compile(r"""\[\s*(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:\s+(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))*\s*\]""")
# In a column by itself these stand for no value; in a column of levels all of `missing_values` do.
NEVER_NAMES = frozenset(["nan", "#n/a", "<na>", "null"])


class LabelForms:
    """
    What the label columns of all splits hold.

    Attributes:
        options ([`ReadOptions`]).
        joint (`str`): What joins the levels of a path.
        path_separator (`str`, *optional*): What joins the segments of labels that are paths, given or recognised.
        numbers_are_names (`bool`): Whether integers are looked up like names, in a taxonomy file or a list of classes.
        missing (`Counter`): Which placeholders were taken as missing, and how often they were found among different cells.
    """

    def __init__(self, options=None, known=()):
        self.options = options or ReadOptions()
        self.path_separator, self.joint = self.options.joint, self.options.joint or "/"
        self.numbers_are_names = False
        self.known = frozenset(known)
        self.missing = Counter()
        self._one_hot, self._lists, self._paths, self._codes = set(), set(), set(), set()

    @classmethod
    def of(cls, splits, options=None, known=(), numbers_are_names=False):
        """
        Looks at the label columns of all splits.

        Args:
            splits (`list[tuple[Dataset, list[list[str]]]]`): Splits and their groups of label columns.
            options ([`ReadOptions`], *optional*).
            known (`Iterable[str]`): Names of a taxonomy, which are never placeholders.
        """
        forms = cls(options, known)
        forms.numbers_are_names = numbers_are_names
        values = {}
        for dataset, groups in splits:
            for group in groups:
                for column in group:
                    if len(group) > 1 or not is_list(arrow_column(dataset, column).type):
                        values.setdefault((tuple(group), column), Counter()).update(_counted(dataset, column))
        for group in dict.fromkeys(group for group, _ in values):
            columns = {column: values[group, column] for column in group if (group, column) in values}
            cells = {cell.strip().lower() for found in columns.values() for cell in found}
            if len(group) > 1 and any(cells <= held | other for held, other in MARKS):
                forms._one_hot.add(group)
                shown = " and ".join(sorted(filter(None, cells)))
                more = ", ..." if len(group) > 6 else ""
                logger.info(f"The columns {', '.join(group[:6])}{more} hold {shown}: one per label.")
                continue
            for column, found in columns.items():
                forms._look_at(column, found, in_levels=len(group) > 1)
        forms._choose_joint(values)
        return forms

    def _look_at(self, column, found, in_levels):
        filled = [cell for cell in found if cell and not self.is_missing(cell, in_levels)]
        numbers = [cell for cell in filled if NUMBER.fullmatch(cell) and ("." not in cell or WHOLE_NUMBER.fullmatch(cell))]
        fractions = [cell for cell in numbers if "." in cell]
        if fractions and len(numbers) == len(filled):
            self._codes.add(column)
            logger.info(f"Column {column!r} holds whole numbers written like {fractions[0]!r}: the fraction is left out.")
        if filled and not in_levels and all(_looks_like_list(cell) for cell in filled):
            lists = [list_of_cell(cell) for cell in filled]
            if any(entry is not None for entry in lists):
                self._lists.add(column)
                logger.info(f"Column {column!r} holds lists written as text, such as {filled[0][:60]}.")
            if any(entry and isinstance(entry[0], list) for entry in lists):
                self._paths.add(column)

    def _choose_joint(self, values):
        if self.options.joint is not None:
            return
        levels = [found for (group, _), found in values.items() if len(group) > 1 and group not in self._one_hot]
        cells = {cell for found in levels for cell in found if not self.is_missing(cell, in_levels=True)}
        self.joint = next(joint for joint in JOINTS if not any(joint in cell for cell in cells) or joint == JOINTS[-1])
        if self.joint != "/":
            logger.info(f"Levels hold '/': their paths are joined by {self.joint!r}.")

    def is_one_hot(self, group):
        """Whether a group of columns holds 0 and 1, yes and no, or crosses: one column per label."""
        return tuple(group) in self._one_hot

    def holds_lists(self, column):
        """Whether the cells of a column are lists written as text."""
        return column in self._lists

    def holds_paths(self, column):
        """Whether these lists are lists of paths."""
        return column in self._paths

    def code(self, column, name):
        """A name without the fraction that a program gave to whole numbers."""
        return name[: name.index(".")] if column in self._codes and WHOLE_NUMBER.fullmatch(name) else name

    def is_missing(self, cell, in_levels):
        """Whether a cell is a placeholder for no value. A name of the taxonomy never is one."""
        if cell in self.known:
            return False
        lowered = cell.strip().lower()
        return lowered in self.options.missing_values and (in_levels or lowered in NEVER_NAMES)


def _counted(dataset, column):
    return encoded(as_strings(dataset, column))[1]


def clean_cells(names, forms, column, level=False):
    """Different cells as clean names; an empty string for what stands for no value, which is noted."""
    cells = []
    for name in names:
        cell = clean_name(name)
        if cell and forms.is_missing(cell, level):
            forms.missing[cell] += 1
            cell = ""
        cells.append(cell)
    return cells


def report_missing(forms, log):
    """Says which placeholders were taken as missing."""
    if forms.missing:
        shown = ", ".join(repr(cell) for cell in sorted(forms.missing))
        log.add(
            "missing_value",
            "warning",
            f"Taken as missing, not as labels: {shown}. `missing_values` sets which are.",
            len(forms.missing),
            sorted(forms.missing),
        )


def _looks_like_list(cell):
    return len(cell) > 1 and BRACKETS.get(cell[0]) == cell[-1]


def list_of_cell(cell):
    """
    The labels of a list that is written as text: as Python or JSON writes it, as NumPy prints it, as Label Studio exports it.

    Returns:
        `list`, or `None` for what is no such list.
    """
    if not _looks_like_list(cell):
        return None
    try:
        value = json.loads(cell)
    except UNREADABLE:
        if NUMPY_LIST.fullmatch(cell):  # Python would join strings that no comma parts
            return [_unquoted(part) for part in re.findall(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", cell)]
        try:
            value = ast.literal_eval(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return _bare_list(cell)
    if isinstance(value, dict):
        value = labels_of_value(value)
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if not isinstance(value, (list, tuple)):
        return None
    if value and all(isinstance(part, (list, tuple)) for part in value):
        return [[clean_name(str(name)) for name in part] for part in value]
    if any(isinstance(part, (list, tuple, dict)) or part is None for part in value):
        return None
    return [clean_name(str(part)) for part in value]


def _unquoted(text):
    return clean_name(ast.literal_eval(text))


def _bare_list(cell):
    """`[a, b]` without quotes, as some programs print lists."""
    inner = cell[1:-1]
    if cell[0] != "[" or any(sign in inner for sign in "[]{}'\""):
        return None
    return [clean_name(part) for part in inner.split(",") if part.strip()]


def path_of_levels(cells):
    """The filled cells of a row of levels, and whether one that is empty stands before one that is filled."""
    filled = [bool(cell) for cell in cells]
    return [cell for cell in cells if cell], any(filled[sum(filled) :])
