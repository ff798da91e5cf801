"""Label columns of any form to label ids, column-wise.

Whatever is done to a label is done once per different cell of a column, not per row.

Legend: `S` rows of a split, `K` labels of all rows together, `U` different names among them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.hierarchy import LabelHierarchy

from .arrow_columns import arrow_column, as_strings, encoded, is_list, is_text, plain_array
from .arrow_columns import from_arrow as from_arrow
from .arrow_columns import to_arrow as to_arrow
from .cells import HELD, LabelForms, clean_cells, list_of_cell, path_of_levels
from .columns import number_text
from .problems import RowProblems
from .resolving import LabelResolver, class_lines, clean_name, guess_path_separator


logger = get_logger(__name__)

# How many unknown labels are told one by one.
MAX_NAMES = 20


@dataclass
class NameSets:
    """
    The labels of a split before they are looked up in a hierarchy.

    Attributes:
        indptr (`np.ndarray` of shape `(S + 1,)`, int64), codes (`np.ndarray` of shape `(K,)`, int64): Row `s` holds the
            names `names[codes[indptr[s]:indptr[s + 1]]]`.
        names (`list[str]` of length `U`): Names; joined paths when labels are paths. One name may stand for several codes.
        is_path (`bool`): Whether the data itself shows that labels are paths (lists of lists, a column per level).
        numbers (`bool`): Whether the column holds numbers.
        bad (`set[int]`): Rows with labels that cannot be used.
    """

    indptr: np.ndarray
    codes: np.ndarray
    names: list
    is_path: bool = False
    numbers: bool = False
    bad: set = field(default_factory=set)

    def rows_with(self, code):
        """Rows that hold a name, ascending."""
        return np.searchsorted(self.indptr, np.flatnonzero(self.codes == code), side="right") - 1

    def used(self):
        """The different names that rows hold."""
        return {self.names[code] for code in np.unique(self.codes)}

    def drop(self, wrong):
        """Takes entries out, `wrong` of shape `(K,)`."""
        rows = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))[~wrong]
        self.codes = self.codes[~wrong]
        self.indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(self.indptr) - 1))]).astype(np.int64)


def name_sets(dataset, label_columns, origin, log, options=None, forms=None, id_names=None):
    """
    Reads the label columns of a split.

    Args:
        dataset (`datasets.Dataset`): A raw split.
        label_columns (`list[str]` or `list[list[str]]`): Groups of columns, see [`ReadOptions`]; a list of names is one group.
        options ([`ReadOptions`], *optional*).
        forms ([`LabelForms`], *optional*): What was recognised in the columns of all splits.
        id_names (`list[str]`, *optional*): Names of integer labels.

    Returns:
        [`NameSets`]
    """
    groups = [label_columns] if label_columns and isinstance(label_columns[0], str) else label_columns
    if forms is None:
        forms = LabelForms.of([(dataset, groups)], options)
    parts = []
    for group in groups:
        if len(group) == 1:
            parts.append(_one_column(dataset, group[0], origin, log, forms, id_names))
        elif forms.is_one_hot(group):
            parts.append(_from_one_hot(dataset, group))
        else:
            parts.append(_from_levels(dataset, group, origin, log, forms))
    sets = parts[0] if len(parts) == 1 else _side_by_side(parts, len(dataset))
    _refuse_empty_names(sets, origin, log)
    separator = forms.joint if sets.is_path else forms.path_separator
    if separator:
        _normalize_paths(sets, separator, origin, log)
    return sets


def _side_by_side(parts, num_rows):
    """Label sets of several groups of columns as one."""
    if not parts:
        return NameSets(np.zeros(num_rows + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), [])
    rows, codes, names = [], [], []
    for part in parts:
        rows.append(np.repeat(np.arange(num_rows), np.diff(part.indptr)))
        codes.append(part.codes + len(names))
        names += part.names
    rows, codes = np.concatenate(rows), np.concatenate(codes)
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))]).astype(np.int64)
    bad = set().union(*(part.bad for part in parts))
    return NameSets(indptr, codes[order], names, any(p.is_path for p in parts), all(p.numbers for p in parts), bad)


def _one_column(dataset, column, origin, log, forms, id_names):
    feature = dataset.features[column]
    array = plain_array(arrow_column(dataset, column))
    while hasattr(feature, "feature"):
        feature = feature.feature
    if not is_list(array.type):
        return _from_cells(array, column, feature, origin, log, forms, id_names)
    if forms.options.label_separator is not None:
        raise HTCError(
            f"`label_separator={forms.options.label_separator!r}` is for strings, but column {column!r} holds lists. Leave it "
            "out."
        )
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = array.flatten()
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    if is_list(values.type):
        values, is_path = _joined_paths(values, forms.joint, origin, log), True
    elif pa.types.is_integer(values.type):
        _refuse_multi_hot(values, lengths, column, origin)
        values, is_path = _named_ids(values, feature, id_names, column, forms), False
    elif not is_text(values.type):
        _refuse_type(array.type, column, origin)
        values, is_path = values.cast(pa.string()), False
    else:
        is_path = False
    codes, names = encoded(values)
    return NameSets(indptr, codes, [clean_name(name) for name in names], is_path)


def _refuse_multi_hot(values, lengths, column, origin):
    """Lists of ids hold an id once: equally long lists of 0 and 1 that repeat one are multi-hot rows, not ids."""
    width = int(lengths.max(initial=0))
    if width > 2 and (lengths[lengths > 0] == width).all() and set(pc.unique(values).to_pylist()) <= {0, 1}:
        raise HTCTypeError(
            f"Column {column!r} of {origin.name} holds lists of {width} times 0 or 1, which look like multi-hot rows; integers "
            "are label ids. Give the ids or the names of a document's labels, or one column per label."
        )


def _from_cells(array, column, feature, origin, log, forms, id_names):
    """Labels of a column whose cells are names, lists written as text, or numbers."""
    numbers = pa.types.is_integer(array.type)
    if numbers:
        array = _named_ids(array, feature, id_names, column, forms)
    elif not is_text(array.type):
        if pa.types.is_floating(array.type) or pa.types.is_boolean(array.type):
            array = pa.array([None if v is None or v != v else number_text(v) for v in array.to_pylist()], pa.string())
            numbers = True
        else:
            _refuse_type(array.type, column, origin)
            array = array.cast(pa.string())
    codes, names = encoded(array)
    cells, problems = clean_cells(names, forms, column), {}
    labels, table = [], {}
    for number, cell in enumerate(cells):
        found = [] if not cell else [cell]
        if cell and forms.holds_lists(column):
            found = list_of_cell(cell)
            if found is None:
                problems[number] = f": the labels {cell[:60]!r} begin like a list but are none, as in other rows."
                found = []
        elif cell and forms.options.label_separator is not None:
            found = [clean_name(part) for part in cell.split(forms.options.label_separator)]
        is_path = bool(found) and isinstance(found[0], list)
        if is_path:
            found = [forms.joint.join(map(str, path)) for path in found]
        found = [forms.code(column, name) for name in found if name]
        labels.append([table.setdefault(name, len(table)) for name in found])
    _report_cells(problems, codes, origin, log, "wrong_type", HTCTypeError)
    bad = _rows_of(codes, problems)
    counts = np.asarray([len(row) for row in labels] + [0], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    flat = np.asarray([code for row in labels for code in row] or [0], dtype=np.int64)
    lengths = counts[codes]
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(indptr[-1]) - np.repeat(indptr[:-1], lengths) + np.repeat(starts[codes], lengths)
    return NameSets(indptr, flat[places], list(table), forms.holds_paths(column), numbers, bad)


def _from_one_hot(dataset, group):
    """One column per label: a mark such as 1 where a row has it. Empty cells count as 0."""
    rows, codes = [], []
    for code, column in enumerate(group):
        cell_codes, names = encoded(as_strings(dataset, column))
        held = np.asarray([name.strip().lower() in HELD for name in names] + [False])
        found = np.flatnonzero(held[cell_codes])
        rows.append(found)
        codes.append(np.full(len(found), code))
    rows, codes = np.concatenate(rows), np.concatenate(codes)
    order = np.argsort(rows, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dataset)))]).astype(np.int64)
    return NameSets(indptr, codes[order].astype(np.int64), [clean_name(column) for column in group])


def _from_levels(dataset, group, origin, log, forms):
    """One column per level: the filled cells of a row, first column first, are one path."""
    columns, levels, keys = [], [], np.zeros(len(dataset), dtype=np.int64)
    for column in group:
        codes, names = encoded(as_strings(dataset, column))
        cells = [forms.code(column, cell) for cell in clean_cells(names, forms, column, level=True)]
        bad = next((cell for cell in cells if cell and forms.joint in cell), None)
        if bad is not None:
            raise HTCError(
                f"{origin.name}: {bad!r} in column {column!r} holds the path separator {forms.joint!r}; choose another "
                "`path_separator`."
            )
        columns.append([*cells, ""])
        levels.append(codes)
        keys = keys * (len(names) + 1) + np.where(codes < 0, len(names), codes)
        keys = np.unique(keys, return_inverse=True)[1]  # so that many levels cannot overflow
    _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
    names, problems, table = [], {}, {}
    for number, row in enumerate(first):
        cells = [values[code[row]] for values, code in zip(columns, levels)]
        path, gap = path_of_levels(cells)
        if gap and forms.options.level_gaps == "refuse":
            problems[number] = (
                f": the path {cells} has a gap. Levels must be filled from the first column on; pass `level_gaps='close'` to "
                "take the filled cells as the path."
            )
            path = []
        names.append(table.setdefault(forms.joint.join(path), len(table)) if path else -1)
    _report_cells(problems, codes, origin, log, "broken_path", HTCError)
    row_codes = np.asarray(names, dtype=np.int64)[codes]
    lengths = (row_codes >= 0).astype(np.int64)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return NameSets(indptr, row_codes[row_codes >= 0], list(table), True, bad=_rows_of(codes, problems))


def _rows_of(codes, problems):
    return set(np.flatnonzero(np.isin(codes, list(problems))).tolist()) if problems else set()


def _report_cells(problems, codes, origin, log, kind, exception):
    """One problem for all rows whose cell is among `problems`, named by the first of them."""
    if not problems:
        return
    rows = np.flatnonzero(np.isin(codes, list(problems)))
    found = RowProblems(log)
    for row in rows:
        found.add(kind, origin.at(row), problems[int(codes[row])], exception)
    found.report()


def _refuse_type(kind, column, origin):
    if not pa.types.is_null(kind) and not (is_list(kind) and pa.types.is_null(kind.value_type)):
        raise HTCTypeError(
            f"Column {column!r} of {origin.name} holds {kind}; labels are names (strings), lists of names, or separated "
            "strings with `label_separator`."
        )


def _named_ids(values, feature, id_names, column, forms):
    names = feature.names if isinstance(feature, ClassLabel) else id_names
    if names is None and forms.numbers_are_names:
        return values.cast(pa.string())
    if names is None:
        raise HTCTypeError(
            f"Column {column!r} holds integers, and what they stand for is unknown. Give label names, a file with the names "
            "of the numbers as `class_names`, a taxonomy with these ids, or the `LabelHierarchy` whose ids they are as "
            "`taxonomy`."
        )
    if isinstance(feature, ClassLabel):  # -1 stands for no label there
        values = pc.if_else(pc.equal(values, -1), pa.scalar(None, values.type), values)
    valid = values.drop_null()
    wrong = valid.filter(pc.or_(pc.less(valid, 0), pc.greater_equal(valid, len(names))))
    if len(wrong):
        raise HTCError(f"Column {column!r} holds the label id {wrong[0].as_py()}; the taxonomy's ids are 0 to {len(names) - 1}.")
    return pa.array(names, pa.string()).take(values)


def _refuse_empty_names(sets, origin, log):
    wrong = np.asarray([not name.strip() for name in sets.names] + [True])[sets.codes]
    if not wrong.any():
        return
    rows = np.unique(np.searchsorted(sets.indptr, np.flatnonzero(wrong), side="right") - 1)
    log.error(
        "empty_label",
        f"{origin.at(rows[0])}: a label is empty ({len(rows)} such rows). Remove empty strings and nulls from the label lists.",
        len(rows),
        [origin.at(row) for row in rows[:10]],
    )
    sets.bad.update(rows.tolist())
    sets.drop(wrong)


def _joined_paths(values, separator, origin, log):
    """Paths as inner lists to strings; empty paths and segments become empty strings, which are refused later."""
    segments = values.flatten().dictionary_encode().dictionary.to_pylist()
    bad = next((s for s in segments if s is not None and separator in s), None)
    if bad is not None:
        raise HTCError(
            f"{origin.name}: the path segment {bad!r} holds the path separator {separator!r}; choose another `path_separator`."
        )
    return pc.fill_null(pc.binary_join(values.cast(pa.list_(pa.string())), separator), "")


def _normalize_paths(sets, separator, origin, log):
    """Strips blanks around segments, and separators around a path; a path with an empty segment inside is refused."""
    bad, sign = {}, separator.strip() or separator
    for code, name in enumerate(sets.names):
        segments = [clean_name(segment) for segment in name.split(sign)]
        while segments and not segments[0]:
            segments.pop(0)
        while segments and not segments[-1]:
            segments.pop()
        if segments and all(segments):
            sets.names[code] = separator.join(segments)
        else:
            bad[code] = f": the path {name!r} has an empty segment. Write it like 'A{separator}B'."
    used = sorted(set(bad) & set(np.unique(sets.codes).tolist()))
    if used:
        wrong = np.isin(sets.codes, used)
        rows = np.searchsorted(sets.indptr, np.flatnonzero(wrong), side="right") - 1
        problems = RowProblems(log)
        for row, code in zip(rows, sets.codes[wrong]):
            problems.add("broken_path", origin.at(row), bad[int(code)])
        problems.report()
        sets.bad.update(rows.tolist())
        sets.drop(wrong)


# ---------------------------------------------------------------- hierarchy and ids


def load_taxonomy(taxonomy, options, log):
    """
    A hierarchy that was given, as an object or as a file; `None` without one, or when the log took the problem of the file.

    Args:
        taxonomy ([`LabelHierarchy`], `str` or `os.PathLike`, *optional*).
        options ([`ReadOptions`]): `path_separator`, `language`, `keep_root`.
        log ([`ProblemLog`]): Takes an unusable taxonomy file.
    """
    if taxonomy is None:
        return None
    if isinstance(taxonomy, LabelHierarchy):
        return taxonomy if options.language is None else taxonomy.in_language(options.language)
    try:
        root = False if options.keep_root else None
        return LabelHierarchy.from_file(taxonomy, separator=options.joint, root=root, language=options.language)
    except (OSError, ImportError):  # a missing file or package is no matter of its content
        raise
    except (TypeError, ValueError) as error:
        log.error("bad_taxonomy", f"The taxonomy {str(taxonomy)!r} cannot be used: {error}")
        return None


def infer_hierarchy(sets, path_separator):
    """The hierarchy of label sets without a taxonomy: from the paths, or a flat list of the labels that occur."""
    names = sorted(set().union(*(s.used() for s in sets)))
    if not names:
        raise HTCError("No row has a label, so no taxonomy can be inferred. Check `label_column`, or pass `taxonomy`.")
    if path_separator:
        return LabelHierarchy.from_paths(names, path_separator)
    logger.warning(
        f"There is no taxonomy: the {len(names)} labels are taken as flat. Pass `taxonomy` (a "
        "file of `parent<TAB>child` lines), or `path_separator` if the labels are paths."
    )
    return LabelHierarchy(names, [[] for _ in names])


def recognise_paths(sets, forms, log, origins):
    """Takes labels as paths that look like paths, where nothing was said of them; returns the separator."""
    if forms.options.path_separator is not None or any(s.is_path for s in sets):
        return None
    separator = guess_path_separator(sorted(set().union(*(s.used() for s in sets))))
    if separator is not None:
        logger.warning(
            f"The labels look like paths joined by {separator!r}, and are taken so. Pass `path_separator={separator!r}` to "
            "say it, or `path_separator='none'` if they are no paths."
        )
        for part, origin in zip(sets, origins):
            _normalize_paths(part, separator, origin, log)
    return separator


def numbered_names(sets, hierarchy, taxonomy):
    """Class names of labels that are numbers, from a taxonomy file that is a plain list of classes; empty where they are none."""
    names = set().union(*(s.used() for s in sets))
    if not names or not isinstance(taxonomy, (str, Path)) or not all(name.isdecimal() for name in names):
        return {}
    if any(hierarchy.find_all(name) for name in names):
        return {}
    found = class_lines(taxonomy, names)
    if found:
        logger.info(
            f"The labels are numbers: they are taken as the lines of {Path(taxonomy).name}, {next(iter(found))} the first."
        )
    return found or {}


def label_ids(sets, hierarchy, origin, split, log, resolver=None, unknown="refuse"):
    """
    Looks the names of a split up.

    Args:
        resolver ([`LabelResolver`], *optional*): Finds the node of a name.
        unknown (`str`, *optional*, defaults to `"refuse"`): `"keep"`: unknown names are given back and no problem.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: CSR pair `(indptr, indices)` of label ids, int64, ascending and unique in a
        row. With `unknown="keep"` also such names, by row: `list[tuple[int, str]]`.

    Raises:
        `ValueError` (strict log): an unknown name, a structure-only node; the row, the name and close names are given.
    """
    resolver = resolver or LabelResolver(hierarchy)
    table = np.full(len(sets.names) + 1, -1, dtype=np.int64)
    ambiguous, used = {}, np.unique(sets.codes)
    for code in used:
        found = resolver.find(sets.names[code])
        if len(found) == 1:
            table[code] = found[0]
        elif found:
            ambiguous[int(code)] = found
    ids = table[sets.codes]
    wrong = (ids < 0) | (ids >= hierarchy.num_labels)
    rows = np.repeat(np.arange(len(sets.indptr) - 1, dtype=np.int64), np.diff(sets.indptr))
    missed = [(int(row), sets.names[code]) for row, code in zip(rows[wrong], sets.codes[wrong])] if unknown == "keep" else []
    if wrong.any() and unknown != "keep":
        _report_unknown(sets, ids, wrong, hierarchy, origin, split, log, resolver, ambiguous)
    # Sorting beats the hashing of `np.unique` on keys that are nearly in order.
    keys = np.sort(rows[~wrong] * hierarchy.num_labels + ids[~wrong])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    rows = keys // hierarchy.num_labels
    indptr = np.searchsorted(rows, np.arange(len(sets.indptr), dtype=np.int64)).astype(np.int64)
    csr = indptr, keys % hierarchy.num_labels
    return (csr, missed) if unknown == "keep" else csr


def _report_unknown(sets, ids, wrong, hierarchy, origin, split, log, resolver, ambiguous):
    codes = np.unique(sets.codes[wrong])
    if wrong.all() and not ambiguous and not (ids >= hierarchy.num_labels).any():
        log.error(
            "taxonomy_mismatch",
            f"No label of the split {split!r} is in the taxonomy: the data has {[sets.names[c] for c in codes[:5]]}, "
            f"the taxonomy {hierarchy.label_names[:5]}. They do not belong together, or the labels are "
            "written in another form: see `path_separator` and `label_separator`."
            + _if_separated(sets.names[codes[0]], resolver),
            len(codes),
        )
        return
    # The first wrong entry comes first, so that a strict reader names the first row of the file.
    places = np.flatnonzero(wrong)
    _, first = np.unique(sets.codes[wrong], return_index=True)
    first_entry = sorted(zip(codes.tolist(), places[first].tolist()), key=lambda pair: pair[1])
    for code, entry in first_entry[:MAX_NAMES]:
        name, rows = sets.names[code], np.unique(sets.rows_with(code))
        where = f"{origin.at(rows[0])}: "
        if ids[entry] >= hierarchy.num_labels:
            message = f"{name!r} is a structure-only node of the taxonomy, not a label."
        else:
            what = "ambiguous" if code in ambiguous else "unknown"
            message = f"{what} label {name!r}." + resolver.advice(name, ambiguous.get(code, ()))
        others = f" {len(rows)} rows have it." if len(rows) > 1 else ""
        others += f" {len(codes) - 1} other names are unknown too." if len(codes) > 1 and log.strict else ""
        log.error("unknown_label", where + message + others, len(rows), [origin.at(row) for row in rows[:10]])
    if len(codes) > MAX_NAMES:
        rest = [sets.names[code] for code, _ in first_entry[MAX_NAMES:]]
        log.error("unknown_label", f"{len(rest)} more labels of {origin.name} are unknown, e.g. {rest[:5]}.", len(rest), rest)


def _if_separated(name, resolver):
    if name.isdecimal():
        return " Labels that are numbers need their names: `class_names`, a file with a name per line."
    advice = resolver.advice(name)
    return advice if "label_separator=" in advice else ""
