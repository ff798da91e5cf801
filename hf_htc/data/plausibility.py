"""Whether data and taxonomy look as they are meant: one pass over names and counts, for the checks and for every load.

Legend: `N` labels.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import numpy as np

from .options import MISSING_VALUES
from .resolving import NUMBER, guess_path_separator, unicode_key


SHOWN = 5


def look_over(prepared, log):
    """
    Adds what looks wrong to the log: names that are lists or hold line breaks, names that are all numbers 0 and 1, the same
    name on two levels, near-duplicates, placeholders, a label of every document, labels of the first level only, labels without
    training documents and labels that training never sees.

    Args:
        prepared ([`Prepared`]): Splits with label ids, and the hierarchy.
        log ([`ProblemLog`]).

    Returns:
        `dict`: the label coverage of [`DatasetReport`].
    """
    hierarchy = prepared.hierarchy
    splits = {name: part.csr for name, part in prepared.splits.items()}
    counts = sum(np.bincount(indices, minlength=hierarchy.num_labels) for _, indices in splits.values())
    # Names of nodes that no document has and no document's label hangs below are the taxonomy's own matter.
    held = np.flatnonzero(counts)
    names = hierarchy.names if not prepared.is_given else [hierarchy.names[i] for i in held]
    _odd_names(names, log)
    _numbers(names, log)
    _near_duplicates(hierarchy, log)
    if not prepared.is_given and prepared.separator is not None:
        _two_levels(hierarchy, log)
        _deepest_first(hierarchy, log)
    if not prepared.is_given and prepared.separator is None:
        _unread_paths(names, log)
    _placeholders(hierarchy, held, log)
    _everywhere(hierarchy, splits, counts, log)
    _first_level_only(hierarchy, held, log)
    return label_coverage(splits, hierarchy, log)


def _add(log, kind, message, found, severity="warning"):
    log.add(kind, severity, message, len(found), found)


def _shown(names):
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def _odd_names(names, log):
    lists = [name for name in names if re.fullmatch(r"\s*[\[({].*[\])}]\s*", name, re.DOTALL)]
    if lists:
        _add(
            log,
            "list_as_name",
            f"{len(lists)} labels look like lists: {_shown(lists)}. Write them as lists of names, or with a `label_separator`.",
            lists,
        )
    breaks = [name for name in names if re.search(r"[\n\r\x0b\x0c\u2028\u2029]", name)]
    if breaks:
        _add(log, "line_break_in_name", f"{len(breaks)} labels hold line breaks: {_shown(breaks)}. Look at these rows.", breaks)
    long = [name for name in names if len(name) > 200]
    if long:
        _add(log, "long_name", f"{len(long)} labels have more than 200 characters: {long[0][:80]!r}. Are they texts?", long)
    known = set(names)
    for sign in (";", "|", ","):
        several = [name for name in names if sign in name and all(part.strip() in known for part in name.split(sign))]
        if several:
            _add(
                log,
                "several_labels_as_one",
                f"{len(several)} labels hold other labels between {sign!r}: {_shown(several)}. If they are several labels, pass "
                f"`label_separator={sign!r}`.",
                several,
            )


def _numbers(names, log):
    names = {name.split("/")[-1] for name in names}
    if names and names <= {"0", "1"}:
        _add(
            log,
            "zero_and_one",
            "All labels are called 0 or 1. If columns hold 1 where a document has a label, name all of them as `label_column`.",
            sorted(names),
        )


def _near_duplicates(hierarchy, log):
    same = defaultdict(list)
    for name in hierarchy.names:
        same[unicode_key(name)].append(name)
    groups = [names for names in same.values() if len(names) > 1]
    if groups:
        pairs = [" and ".join(map(repr, names)) for names in groups]
        _add(
            log,
            "near_duplicate_labels",
            f"{len(groups)} groups of labels differ only in case, blanks, Unicode forms or a fraction: {'; '.join(pairs[:SHOWN])}"
            f"{'; ...' if len(pairs) > SHOWN else ''}. Write each in one way.",
            pairs,
        )


def _two_levels(hierarchy, log):
    levels = defaultdict(set)
    for node, text in enumerate(hierarchy.texts):
        levels[str(text)].add(int(hierarchy.levels[node]))
    # A name that stands below itself, "Other > Other", is usual.
    tops = {str(hierarchy.texts[node]) for node in hierarchy.top_nodes}
    found = sorted(text for text, held in levels.items() if len(held) > 1 and text in tops and not NUMBER.fullmatch(text))
    if found:
        example = ", ".join(map(str, sorted(levels[found[0]])))
        _add(
            log,
            "name_on_two_levels",
            f"{len(found)} names stand on several levels: {_shown(found)} ({found[0]!r} on the levels {example}). If the "
            "columns are the levels of several paths, give them in groups: `--label_column a1,a2 --label_column b1,b2`.",
            found,
        )


def _deepest_first(hierarchy, log):
    """Several first levels with one label each below them, and the same one: the levels stand upside down."""
    tops = [node for node in hierarchy.top_nodes if hierarchy.children[node]]
    below = [[str(hierarchy.texts[child]) for child in hierarchy.children[node]] for node in tops]
    if len(tops) < 3 or any(len(texts) > 1 for texts in below):
        return
    shared = Counter(texts[0] for texts in below).most_common(1)[0]
    if shared[1] > 1:
        found = [hierarchy.names[node] for node in tops]
        _add(
            log,
            "deepest_level_first",
            f"Every label of the first level has a single one below it, {shared[1]} of them {shared[0]!r}: {_shown(found)}. "
            "Does the deepest level come first? Name the columns in the other order.",
            found,
        )


def _unread_paths(names, log):
    for separator in (".", "-", ":", "_", ","):
        split = [name.split(separator) for name in names]
        if len(names) > 3 and all(len(row) > 1 and all(row) for row in split) and len({row[0] for row in split}) < len(names) / 2:
            if guess_path_separator(names) is None:
                _add(
                    log,
                    "labels_like_paths",
                    f"All labels hold {separator!r} and share their beginnings: {_shown(names)}. If they are paths, pass "
                    f"`path_separator={separator!r}`.",
                    [],
                    "note",
                )
            return


def _placeholders(hierarchy, held, log):
    found = [hierarchy.names[i] for i in held if str(hierarchy.texts[i]).strip().lower() in (*MISSING_VALUES, "", "nan")]
    if found:
        _add(
            log,
            "placeholder_label",
            f"{len(found)} labels look like placeholders for a missing value: {_shown(found)}. If they are none, all is well; "
            "otherwise empty these cells.",
            found,
        )


def _everywhere(hierarchy, splits, counts, log):
    total = sum(len(indptr) - 1 for indptr, _ in splits.values())
    found = [hierarchy.names[i] for i in np.flatnonzero(counts == total)] if total > 1 and hierarchy.num_labels > 1 else []
    if found:
        _add(
            log,
            "label_on_every_document",
            f"Every document has the label {_shown(found)}, which then says nothing. Leave it out, e.g. as the root of the "
            "taxonomy.",
            found,
        )


def _first_level_only(hierarchy, held, log):
    below = [node for node in held if hierarchy.children[node]]
    if len(held) and hierarchy.num_levels > 1 and (hierarchy.levels[held] == 1).all() and below:
        names = [hierarchy.names[node] for node in below]
        _add(
            log,
            "first_level_only",
            f"All labels of documents are on the first level, though {len(below)} of them have descendants, which no document "
            f"has: {_shown(names)}. Is the column of the deepest level meant?",
            names,
        )


def label_coverage(splits, hierarchy, log):
    """Which labels have training documents; without a training split there is nothing to say."""
    coverage = {"without_training": [], "unseen_in_training": {}, "most_frequent": [], "least_frequent": []}
    if "train" not in splits:
        return coverage
    names = hierarchy.label_names
    train = np.bincount(splits["train"][1], minlength=hierarchy.num_labels)
    absent = np.flatnonzero(train == 0)
    coverage["without_training"] = [names[i] for i in absent]
    order = np.argsort(-train, kind="stable")
    coverage["most_frequent"] = [(names[i], int(train[i])) for i in order[:10] if train[i]]
    coverage["least_frequent"] = [(names[i], int(train[i])) for i in order[::-1] if train[i]][:10]
    if len(absent):
        log.add(
            "label_without_training_data",
            "warning",
            f"{len(absent)} of {len(names)} labels have no training document, "
            f"e.g. {names[absent[0]]!r}; no method can learn them. "
            'Pass `labels="used"` to leave out labels that no split has.',
            len(absent),
            coverage["without_training"],
        )
    for split, (_, indices) in splits.items():
        unseen = np.flatnonzero((np.bincount(indices, minlength=len(names)) > 0) & (train == 0)) if split != "train" else []
        if len(unseen):
            coverage["unseen_in_training"][split] = [names[i] for i in unseen]
            log.add(
                "label_unseen_in_training",
                "warning",
                f"{len(unseen)} labels of the split {split!r} never occur in training, "
                f"e.g. {names[unseen[0]]!r}; they count as missed in every score.",
                len(unseen),
                coverage["unseen_in_training"][split],
            )
    return coverage
