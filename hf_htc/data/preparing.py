"""From a source to splits with label ids and a hierarchy: what the loader and the checks have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetInfo, Features, List, Value, concatenate_datasets

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.hierarchy import LabelHierarchy
from hf_htc.models.hierarchy_identity import PATH_SEPARATORS

from .arrow_columns import arrow_column, is_text, to_arrow
from .cells import LabelForms, report_missing
from .labels import infer_hierarchy, label_ids, load_taxonomy, name_sets, numbered_names, recognise_paths
from .options import BAD_ROWS
from .problems import Origin
from .resolving import LabelResolver, read_class_names
from .sources import open_source


logger = get_logger(__name__)


@dataclass
class PreparedSplit:
    """
    A split whose labels are looked up.

    Attributes:
        rows (`datasets.Dataset`): The raw columns.
        origin ([`Origin`]): Where its rows come from.
        text_column (`str`), label_columns (`list[str]`): Columns of the text and of the labels.
        csr (`tuple[np.ndarray, np.ndarray]`): CSR pair of label ids.
        missed (`list[tuple[int, str]]`): Rows and labels that the taxonomy lacks, where they are kept.
        faulty (`set[int]`): Rows of which another problem was told already: malformed or unknown labels, a wrong type.
    """

    rows: Dataset
    origin: Origin
    text_column: str
    label_columns: list
    csr: tuple
    missed: list = field(default_factory=list)
    faulty: set = field(default_factory=set)

    def take(self, rows):
        """The split with these rows only."""
        indptr, indices = self.csr
        lengths = np.diff(indptr)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths) + np.repeat(indptr[:-1][rows], lengths)
        place = {int(row): number for number, row in enumerate(rows)}
        missed = [(place[row], name) for row, name in self.missed if row in place]
        faulty = {place[row] for row in self.faulty if row in place}
        parts = self.rows.select(rows), self.origin.take(rows), self.text_column, self.label_columns
        return PreparedSplit(*parts, (starts, indices[places]), missed, faulty)


@dataclass
class Prepared:
    """
    Splits and hierarchy of a data set.

    Attributes:
        splits (`dict[str, PreparedSplit]`), hierarchy ([`LabelHierarchy`]).
        is_path (`bool`): Whether labels are paths.
        is_given (`bool`): Whether the hierarchy was given, not inferred.
        separator (`str`, *optional*): What joins the segments of the labels.
    """

    splits: dict
    hierarchy: LabelHierarchy
    is_path: bool
    is_given: bool
    separator: str | None


def check_choices(labels, closure, unknown_labels, validation_fraction):
    """Raises [`HTCError`] for a value that is none of the allowed ones."""
    if labels not in ("all", "used"):
        raise HTCError(f"`labels` is {labels!r}; it must be 'all' or 'used'.")
    if closure not in (None, "up"):
        raise HTCError(f"`closure` is {closure!r}; it must be None (labels as given) or 'up' (ancestors added).")
    if unknown_labels not in ("refuse", "missed"):
        raise HTCError(f"`unknown_labels` is {unknown_labels!r}; it must be 'refuse' or 'missed'.")
    if not 0 <= validation_fraction < 1:
        raise HTCError(
            f"`validation_fraction` is {validation_fraction!r}; it must lie in [0, 1), where 0 makes no validation split."
        )


def skipped_kinds(options):
    """Kinds of problems whose rows are left out as asked."""
    return [*(BAD_ROWS if options.skip_bad_rows else ()), *(("empty_text",) if options.skip_empty_texts else ())]


def prepare(name_or_path, files, taxonomy, options, log, labels, closure, cache_dir, repository, keep_unknown=False):
    """
    Reads splits and hierarchy and looks the labels up, raising or collecting problems as `log` says.

    Args:
        name_or_path, taxonomy, labels, closure, cache_dir: As in [`load_htc_dataset`].
        files (`dict`): Split -> file or `None`.
        options ([`ReadOptions`]), log ([`ProblemLog`]).
        repository (`dict`): The options of folders and repositories.
        keep_unknown (`bool`): Whether unknown labels become labels behind those of the taxonomy.

    Returns:
        [`Prepared`]
    """
    files = {split: path for split, path in files.items() if path is not None}
    _check_source(name_or_path, files, repository)
    source = open_source(name_or_path, files, taxonomy, options, log, cache_dir=cache_dir, **repository)
    prepared = _looked_up(source, options, log, keep_unknown)
    for split, part in prepared.splits.items():
        blank = np.setdiff1d(blank_texts(part.rows, part.text_column, part.origin), sorted(part.faulty))
        report_empty_texts(blank, part.origin, log)
        if options.skip_empty_texts and len(blank):
            prepared.splits[split] = part = part.take(np.setdiff1d(np.arange(len(part.rows)), blank))
        if not options.allow_unlabelled:
            report_unlabelled(part.csr[0], part.origin, log, part.faulty)
    if keep_unknown:
        _keep_unknown(prepared)
    if closure == "up":
        for part in prepared.splits.values():
            part.csr = prepared.hierarchy.close(part.csr)
    if labels == "used":
        _used_only(prepared)
    return prepared


def _check_source(name_or_path, files, repository):
    if (name_or_path is None) == (not files):
        raise HTCError(
            "Pass either `name_or_path` or files (`train_file`, `validation_file`, `test_file`)"
            + (f"; got {str(name_or_path)[:60]!r} and {sorted(files)}." if files else "; got neither.")
        )
    extra = [name for name, value in repository.items() if value is not None]
    if files and extra:
        raise HTCError(f"`{extra[0]}` belongs to a folder or Hub repository, but own files are given. Leave it out.")


def _looked_up(source, options, log, keep_unknown):
    """[`Prepared`] from raw splits: what labels are, the hierarchy, and the ids."""
    given = load_taxonomy(source.taxonomy, options, log)
    is_object = isinstance(source.taxonomy, LabelHierarchy)
    class_names = read_class_names(options.class_names) if options.class_names is not None else {}
    known = {*given.names, *given.texts, *filter(None, given.ids or ())} if given is not None else ()
    numbered = bool(class_names) or (given is not None and not is_object)
    raw = source.splits
    forms = LabelForms.of([(part.dataset, part.label_groups) for part in raw.values()], options, known, numbered)
    id_names = given.label_names if is_object and not class_names else None
    sets = {
        split: name_sets(part.dataset, part.label_groups, part.origin, log, options, forms, id_names)
        for split, part in raw.items()
    }
    report_missing(forms, log)
    if class_names:
        _name_numbers(sets.values(), class_names, options.class_names)
    # Several columns, and lists of lists, are paths without a separator in the data.
    separator = options.joint or (forms.joint if any(s.is_path for s in sets.values()) else None)
    if given is None and separator is None:
        separator = recognise_paths(list(sets.values()), forms, log, [part.origin for part in raw.values()])
    hierarchy = given if given is not None else infer_hierarchy(list(sets.values()), separator)
    numbers = numbered_names(list(sets.values()), hierarchy, source.taxonomy) if given is not None and not class_names else {}
    resolver = LabelResolver(hierarchy, separator, numbers, is_object)
    splits = {}
    for split, part in raw.items():
        unknown = "keep" if keep_unknown else "refuse"
        found = label_ids(sets[split], hierarchy, part.origin, split, log, resolver, unknown)
        csr, missed = found if keep_unknown else (found, [])
        columns = [column for group in part.label_groups for column in group]
        bad = part.bad | sets[split].bad
        held = np.flatnonzero((np.diff(sets[split].indptr) > 0) & (np.diff(csr[0]) == 0))
        splits[split] = PreparedSplit(part.dataset, part.origin, part.text_column, columns, csr, missed, bad | set(held.tolist()))
        if options.skip_bad_rows and bad:
            splits[split] = splits[split].take(np.setdiff1d(np.arange(len(part.dataset)), sorted(bad)))
    resolver.report(log)
    return Prepared(splits, hierarchy, separator is not None, given is not None, separator)


def _name_numbers(sets, class_names, path):
    """Replaces numbers by what they stand for."""
    for part in sets:
        for code in np.unique(part.codes):
            name = part.names[code]
            if name in class_names:
                part.names[code] = class_names[name]
            elif name.isdecimal():
                raise HTCError(
                    f"The labels hold the number {name}, which `class_names` ({str(path)!r}) does not name; it has "
                    f"{len(class_names)}."
                )


def blank_texts(dataset, text_column, origin):
    """Rows whose text is null or blank. Raises [`HTCTypeError`] where texts are no strings."""
    column = arrow_column(dataset, text_column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if not is_text(kind):
        raise HTCTypeError(f"Column {text_column!r} of {origin.name} holds {kind}; texts are strings.")
    blank = pc.fill_null(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0), True)
    return np.flatnonzero(blank.to_numpy())


def report_empty_texts(rows, origin, log):
    """Refuses or collects rows whose text is null or blank."""
    if len(rows):
        log.error(
            "empty_text",
            f"{origin.at(rows[0])}: the text is empty ({len(rows)} such rows). Remove the row or fill in its text, or pass "
            "`skip_empty_texts=True` (`--skip_empty_texts`) to leave such rows out.",
            len(rows),
            [origin.at(row) for row in rows[:10]],
        )


def report_unlabelled(indptr, origin, log, faulty=()):
    """Refuses or collects rows without labels; `faulty` rows, of which another problem was told, are not among them."""
    rows = np.setdiff1d(np.flatnonzero(np.diff(indptr) == 0), sorted(faulty))
    if len(rows):
        log.error(
            "no_labels",
            f"{origin.at(rows[0])}: the row has no labels ({len(rows)} such rows). Label or remove it, or pass "
            "`allow_unlabelled=True` (`--allow_unlabelled`) to keep it.",
            len(rows),
            [origin.at(row) for row in rows[:10]],
        )


def _keep_unknown(prepared):
    """Adds the labels that the taxonomy lacks, behind its labels and before its structure-only nodes."""
    old = prepared.hierarchy
    names = list(dict.fromkeys(name for part in prepared.splits.values() for _, name in part.missed))
    if not names:
        return
    prepared.hierarchy = with_more_labels(old, names, prepared.separator)
    new_id = {name: old.num_labels + number for number, name in enumerate(names)}
    for part in prepared.splits.values():
        num_rows = len(part.csr[0]) - 1
        rows = np.concatenate([np.repeat(np.arange(num_rows), np.diff(part.csr[0])), [row for row, _ in part.missed]])
        ids = np.concatenate([part.csr[1], [new_id[name] for _, name in part.missed]])
        keys = np.unique(rows.astype(np.int64) * prepared.hierarchy.num_labels + ids.astype(np.int64))
        rows = keys // prepared.hierarchy.num_labels
        part.csr = np.searchsorted(rows, np.arange(num_rows + 1)).astype(np.int64), keys % prepared.hierarchy.num_labels
    logger.warning(
        f"{sum(len(part.missed) for part in prepared.splits.values())} labels of documents are unknown to the taxonomy and "
        f"count as missed: {', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''} ({len(names)} names)."
    )


def with_more_labels(hierarchy, names, separator=None):
    """
    A hierarchy with further labels behind its own, whose ids stay.

    Args:
        names (`list[str]`): New labels; a path whose beginning is a node hangs below that node, others are first-level nodes.
        separator (`str`, *optional*): What joins the segments of a path.
    """
    N, count = hierarchy.num_labels, len(names)

    def moved(node):
        return node if node < N else node + count

    parents = [[moved(p) for p in row] for row in hierarchy.parents]
    above = []
    for name in names:
        sign = separator or next((sign for sign in PATH_SEPARATORS if sign in name), None)
        found = hierarchy.find_all(name.rsplit(sign, 1)[0]) if sign and sign in name else []
        above.append([moved(found[0])] if len(found) == 1 else [])
    return LabelHierarchy(
        [*hierarchy.names[:N], *names, *hierarchy.names[N:]], [*parents[:N], *above, *parents[N:]], num_labels=N + count
    )


def _used_only(prepared):
    hierarchy = prepared.hierarchy
    used = np.unique(np.concatenate([part.csr[1] for part in prepared.splits.values()]))
    prepared.hierarchy = hierarchy.restrict(used.tolist())
    new_ids = np.full(hierarchy.num_labels, -1, dtype=np.int64)
    new_ids[used] = np.arange(len(used))
    logger.info(f"{len(used)} of {hierarchy.num_labels} labels of the taxonomy occur and are kept.")
    for part in prepared.splits.values():
        part.csr = part.csr[0], new_ids[part.csr[1]]


def with_labels(dataset, csr, text_column, label_columns):
    """The raw split with `text` and `labels` (ids) first and its other columns behind."""
    drop = list(label_columns)
    for name, source in (("text", text_column), ("labels", label_columns[0] if label_columns else None)):
        if name in dataset.column_names and name not in (text_column, *label_columns):
            logger.info(f"The column {name!r} is dropped because the column {source!r} takes its place.")
            drop.append(name)
    dataset = dataset.remove_columns(drop)
    if text_column != "text":
        dataset = dataset.rename_column(text_column, "text")
    others = [name for name in dataset.column_names if name != "text"]
    features = Features({"labels": List(Value("int32"))})
    labels = Dataset(pa.table({"labels": to_arrow(*csr)}), info=DatasetInfo(features=features))
    # Joined side by side, the texts stay memory-mapped and only the label ids are in memory.
    return concatenate_datasets([dataset, labels], axis=1).select_columns(["text", "labels", *others])
