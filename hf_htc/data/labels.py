"""Label columns of any form to label ids, column-wise.

Legend: `S` rows of a split, `K` labels of all rows together, `U` different names among them.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel

from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.label_sets import csr_of_values, ids_of_names


logger = logging.getLogger(__name__)


@dataclass
class NameSets:
    """
    The labels of a split before they are looked up in a hierarchy.

    Attributes:
        indptr (`np.ndarray` of shape `(S + 1,)`, int64), codes (`np.ndarray` of shape `(K,)`, int64): Row `s` holds the
            names `names[codes[indptr[s]:indptr[s + 1]]]`.
        names (`list[str]` of length `U`): Different names; joined paths when labels are paths.
        is_path (`bool`): Whether the data itself shows that labels are paths (lists of lists, a column a level).
    """

    indptr: np.ndarray
    codes: np.ndarray
    names: list
    is_path: bool = False

    def rows_with(self, code):
        """Rows that hold a name, ascending."""
        return np.searchsorted(self.indptr, np.flatnonzero(self.codes == code), side="right") - 1


def name_sets(dataset, label_columns, origin, log, label_separator=None, path_separator=None, id_names=None):
    """
    Reads the label column or columns of a split.

    Args:
        dataset (`datasets.Dataset`): A raw split.
        label_columns (`list[str]`): One column of labels, or one column a level.
        label_separator, path_separator (`str`, *optional*): As in [`load_htc_dataset`].
        id_names (`list[str]`, *optional*): Names of integer labels.

    Returns:
        [`NameSets`]
    """
    if len(label_columns) > 1:
        return _from_level_columns(dataset, label_columns, origin, log, path_separator or "/")
    column = label_columns[0]
    feature = dataset.features[column]
    array = arrow_column(dataset, column).combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    lengths, values = _flatten(array, column, label_separator)
    while hasattr(feature, "feature"):
        feature = feature.feature
    is_path = _is_list(values.type)
    if is_path:
        values = _joined_paths(values, path_separator or "/", origin, log)
    elif pa.types.is_integer(values.type):
        values = _named_ids(values, feature, id_names, column)
    elif not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if not pa.types.is_null(values.type):
            raise HTCTypeError(
                f"Column {column!r} of {origin.name} holds {array.type}; labels are names "
                "(strings), lists of names, or separated strings with `label_separator`."
            )
        values = values.cast(pa.string())
    encoded = values.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    sets = NameSets(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), codes, names, is_path)
    _refuse_empty_names(sets, origin, log)
    if path_separator or is_path:
        _normalize_paths(sets, path_separator or "/", origin, log)
    return sets


def _is_list(kind):
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _flatten(array, column, label_separator):
    """Number of labels a row, `(S,)` int64, and all labels one behind the other."""
    if _is_list(array.type):
        if label_separator is not None:
            raise HTCError(
                f"`label_separator={label_separator!r}` is for strings, but column {column!r} holds lists. Leave it out."
            )
        return pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), array.flatten()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        if label_separator is not None:
            parts = pc.split_pattern(array.fill_null(""), label_separator)
            lengths = pc.list_value_length(parts).to_numpy(zero_copy_only=False).astype(np.int64)
            array = parts.flatten()
        else:
            lengths = np.ones(len(array), dtype=np.int64)
        array = pc.utf8_trim_whitespace(array)
        # A trailing separator and an empty cell stand for no label, not for a label without a name.
        filled = pc.fill_null(pc.not_equal(array, ""), False)
        keep = filled.to_numpy(zero_copy_only=False)
        rows = np.repeat(np.arange(len(lengths)), lengths)
        return np.bincount(rows[keep], minlength=len(lengths)).astype(np.int64), array.filter(filled)
    keep = array.is_valid()
    return keep.to_numpy(zero_copy_only=False).astype(np.int64), array.filter(keep)


def _named_ids(values, feature, id_names, column):
    names = feature.names if isinstance(feature, ClassLabel) else id_names
    if names is None:
        raise HTCTypeError(
            f"Column {column!r} holds integers, and what they stand for is unknown. Give label names, or pass the "
            "`LabelHierarchy` whose ids they are as `taxonomy`."
        )
    ids = values.fill_null(-1)
    wrong = ids.filter(pc.or_(pc.less(ids, 0), pc.greater_equal(ids, len(names))))
    if len(wrong):
        raise HTCError(f"Column {column!r} holds the label id {wrong[0].as_py()}; the taxonomy's ids are 0 to {len(names) - 1}.")
    return pa.array(names, pa.string()).take(ids)


def _refuse_empty_names(sets, origin, log):
    wrong = np.asarray([not name.strip() for name in sets.names] + [True])[sets.codes]
    if not wrong.any():
        return
    rows = np.unique(np.searchsorted(sets.indptr, np.flatnonzero(wrong), side="right") - 1)
    log.error(
        "empty_label",
        f"{origin.at(rows[0])}: a label is empty ({len(rows)} such rows). Remove empty strings and nulls from the label lists.",
        len(rows),
        [origin.at(row) for row in rows],
    )
    _drop(sets, wrong)


def _drop(sets, wrong):
    """Takes entries out of the sets."""
    rows = np.repeat(np.arange(len(sets.indptr) - 1), np.diff(sets.indptr))[~wrong]
    sets.codes = sets.codes[~wrong]
    sets.indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(sets.indptr) - 1))]).astype(np.int64)


def _joined_paths(values, separator, origin, log):
    """Paths as inner lists to strings; empty paths and segments become empty strings, which are refused later."""
    segments = values.flatten().dictionary_encode().dictionary.to_pylist()
    bad = next((s for s in segments if s is not None and separator in s), None)
    if bad is not None:
        raise HTCError(
            f"{origin.name}: the path segment {bad!r} holds the path separator {separator!r}; choose another `path_separator`."
        )
    return pc.fill_null(pc.binary_join(values.cast(pa.list_(pa.string())), separator), "")


def _from_level_columns(dataset, columns, origin, log, separator):
    """One column a level: the filled cells of a row, first column first, are one path."""
    levels = []
    for column in columns:
        values = [None if v is None else str(v).strip() for v in dataset[column][:]]
        bad = next((v for v in values if v and separator in v), None)
        if bad is not None:
            raise HTCError(
                f"{origin.name}: {bad!r} in column {column!r} holds the path "
                f"separator {separator!r}; choose another `path_separator`."
            )
        levels.append(values)
    paths = []
    for row, cells in enumerate(zip(*levels)):
        filled = [bool(cell) for cell in cells]
        depth = sum(filled)
        if any(filled[depth:]):
            log.error(
                "broken_path",
                f"{origin.at(row)}: the path {list(cells)} has a gap. Levels must be filled from the first column on.",
            )
        paths.append(separator.join(cell for cell in cells if cell) or None)
    array = pa.array(paths, pa.string())
    encoded = array.dictionary_encode()
    lengths = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
    codes = encoded.indices.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    return NameSets(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), codes, encoded.dictionary.to_pylist(), True)


def _normalize_paths(sets, separator, origin, log):
    """Strips blanks around the segments of paths; a path with an empty segment is refused."""
    bad = []
    for code, name in enumerate(sets.names):
        segments = [segment.strip() for segment in name.split(separator)]
        if all(segments):
            sets.names[code] = separator.join(segments)
        else:
            bad.append(code)
    for code in bad:
        rows = sets.rows_with(code)
        if len(rows):
            log.error(
                "broken_path",
                f"{origin.at(rows[0])}: the path {sets.names[code]!r} has an empty segment. Write it like 'A{separator}B'.",
                len(rows),
            )
    if bad:
        _drop(sets, np.isin(sets.codes, bad))


def build_hierarchy(taxonomy, sets, path_separator, log):
    """
    The hierarchy of a data set.

    Args:
        taxonomy ([`LabelHierarchy`], `str` or `os.PathLike`, *optional*): `None` infers it: from the paths, or, without
            paths, a flat list of the labels that occur.
        sets (`list[NameSets]`): Of all splits.
        path_separator (`str`, *optional*): What joins the labels if they are paths.
        log ([`ProblemLog`]): Takes an unusable taxonomy file.
    """
    if isinstance(taxonomy, LabelHierarchy):
        return taxonomy
    if taxonomy is not None:
        try:
            return LabelHierarchy.from_file(taxonomy, separator=path_separator)
        except OSError:  # a missing file is no matter of its content
            raise
        except (TypeError, ValueError) as error:
            log.error("bad_taxonomy", f"The taxonomy {str(taxonomy)!r} cannot be used: {error}")
    names = sorted({s.names[code] for s in sets for code in np.unique(s.codes)})
    if not names:
        raise HTCError("No row has a label, so no taxonomy can be inferred. Check `label_column`, or pass `taxonomy`.")
    if path_separator:
        return LabelHierarchy.from_paths(names, path_separator)
    logger.warning(
        f"There is no taxonomy: the {len(names)} labels are taken as flat. Pass `taxonomy` (a "
        "file of `parent<TAB>child` lines), or `path_separator` if the labels are paths."
    )
    return LabelHierarchy(names, [[] for _ in names])


def _node_of_path(name, separator, hierarchy):
    """Id of the node that a path leads to when the taxonomy names its nodes by segments; `None` if there is none."""
    nodes = []
    for segment in name.split(separator):
        if segment not in hierarchy:
            return None
        nodes.append(hierarchy.id(segment))
    linked = all(parent in hierarchy.parents[child] for parent, child in zip(nodes, nodes[1:]))
    return nodes[-1] if linked else None


def label_ids(sets, hierarchy, origin, split, log, path_separator=None):
    """
    Looks the names of a split up.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: CSR pair `(indptr, indices)` of label ids, int64, ascending and unique in a
        row.

    Raises:
        `ValueError` (strict log): an unknown name, a structure-only node; the row, the name and close names are given.
    """
    table = np.full(len(sets.names) + 1, -1, dtype=np.int64)
    known = {name: i for i, name in enumerate(hierarchy.names)}
    for code, name in enumerate(sets.names):
        node = known.get(name)
        if node is None and path_separator:
            node = _node_of_path(name, path_separator, hierarchy)
        if node is not None:
            table[code] = node
    ids = table[sets.codes]
    wrong = (ids < 0) | (ids >= hierarchy.num_labels)
    if wrong.any():
        _report_unknown(sets, ids, wrong, hierarchy, origin, split, log, path_separator)
    rows = np.repeat(np.arange(len(sets.indptr) - 1, dtype=np.int64), np.diff(sets.indptr))[~wrong]
    # Sorting beats the hashing of `np.unique` on keys that are nearly in order.
    keys = np.sort(rows * hierarchy.num_labels + ids[~wrong])
    keys = keys[np.diff(keys, prepend=-1) > 0]
    rows = keys // hierarchy.num_labels
    indptr = np.searchsorted(rows, np.arange(len(sets.indptr), dtype=np.int64)).astype(np.int64)
    return indptr, keys % hierarchy.num_labels


def _report_unknown(sets, ids, wrong, hierarchy, origin, split, log, path_separator):
    codes = np.unique(sets.codes[wrong])
    if wrong.all():
        log.error(
            "taxonomy_mismatch",
            f"No label of the split {split!r} is in the taxonomy: the data has {[sets.names[c] for c in codes[:5]]}, "
            f"the taxonomy {hierarchy.label_names[:5]}. They do not belong together, or the labels are "
            "written in another form: see `path_separator` and `label_separator`.",
            len(codes),
        )
        return
    # The first wrong entry comes first, so that a strict reader names the first row of the file.
    first_entry = {int(code): int(np.flatnonzero(wrong & (sets.codes == code))[0]) for code in codes[:1000]}
    for code, entry in sorted(first_entry.items(), key=lambda pair: pair[1]):
        name, rows = sets.names[code], np.unique(sets.rows_with(code))
        where = f"{origin.at(rows[0])}: "
        if ids[entry] >= hierarchy.num_labels:
            message = f"{name!r} is a structure-only node of the taxonomy, not a label."
        else:
            message = f"unknown label {name!r}." + _advice(name, hierarchy, path_separator)
        others = f" {len(rows)} rows have it." if len(rows) > 1 else ""
        others += f" {len(codes) - 1} other names are unknown too." if len(codes) > 1 and log.strict else ""
        log.error("unknown_label", where + message + others, len(rows), [origin.at(row) for row in rows[:10]])


def _advice(name, hierarchy, path_separator):
    for separator in (";", "|", ",", "\t"):
        parts = [part.strip() for part in name.split(separator) if part.strip()]
        if len(parts) > 1 and all(part in hierarchy for part in parts):
            return f" It looks like several labels: pass `label_separator={separator!r}`."
    if path_separator and all(segment in hierarchy for segment in name.split(path_separator)):
        return " Its segments are nodes of the taxonomy, but not each the parent of the next."
    close = difflib.get_close_matches(name, hierarchy.label_names, n=3)
    return (f" Close names: {close}." if close else "") + " Add it to the taxonomy or correct the data."


def arrow_column(dataset, name):
    """A column as a `pa.ChunkedArray`, in the order of the rows (a selection or shuffle is followed)."""
    return dataset.select_columns(name).with_format("arrow")[:].column(name)


def to_arrow(indptr, indices):
    """CSR pair to an Arrow list column of int32."""
    return pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(indices, pa.int32()))


def from_arrow(column):
    """Arrow list column of integers to a CSR pair, int64."""
    # A selection of rows comes as one chunk a row; one array is a hundred times faster.
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return indptr, array.flatten().to_numpy(zero_copy_only=False).astype(np.int64)


def column_csr(column, hierarchy=None):
    """
    An Arrow column of labels in any allowed form as one CSR pair; what [`~hf_htc.models.label_sets.labels_csr`] is for Python
    objects and tensors. No Python loop over rows: a million of them take a second.

    Args:
        column (`pa.Array` or `pa.ChunkedArray`): Lists of label ids, of names, or multi-hot lists of floats or booleans; or one
            id or one name per row. A missing row has no labels.
        hierarchy ([`LabelHierarchy`], *optional*): Needed for names; with it ids and the width of multi-hot rows are checked.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `indptr`, `indices`, both int64.

    Raises:
        As [`labels_csr`].
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if is_list(array.type):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        flat = array.flatten()
    else:
        lengths, flat = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64), array.drop_null()
    if flat.null_count:
        place = int(np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))[0])
        raise HTCError(f"Row {_row_of(place, lengths)} of the labels has an empty value among its labels.")
    if not len(flat):
        return csr_of_values(lengths, np.empty(0, dtype=np.int64))
    if pa.types.is_dictionary(flat.type) or is_text(flat.type):
        encoded = flat if pa.types.is_dictionary(flat.type) else flat.dictionary_encode()
        if hierarchy is None:
            raise HTCTypeError(
                f"The labels are names such as {encoded[0].as_py()!r}; they become ids with the taxonomy: `hierarchy.encode`, or "
                "`load_htc_dataset`."
            )
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        used, first, codes = np.unique(codes, return_index=True, return_inverse=True)
        names = encoded.dictionary.take(pa.array(used)).to_pylist()
        values = ids_of_names(names, [_row_of(place, lengths) for place in first], hierarchy)[codes]
    else:
        values = flat.to_numpy(zero_copy_only=False)
        if not is_list(array.type) and values.dtype.kind in "fb":
            raise HTCTypeError(f"The labels are single numbers such as {values[0]!r}; one label per row is an id or a name.")
    return csr_of_values(lengths, values, None if hierarchy is None else hierarchy.num_labels)


def is_list(kind):
    """Whether an Arrow type holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind):
    """Whether an Arrow type holds strings."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _row_of(place, lengths):
    return int(np.searchsorted(np.cumsum(lengths), place, side="right"))
