"""Taxonomies in tables: by the names of the columns, or, without them, by what the columns hold."""

from __future__ import annotations

import re
from collections import Counter

from hf_htc.models.errors import HTCError

from .taxonomies_codes import code_parents
from .taxonomies_draft import NO_PARENT, ROOT_WORDS, Draft
from .taxonomies_tables import HELP, Table, by_names, codes_of, edges_of, tree_numbers, wide, with_parents


def read_table(table, separator=None, tabs=False, language=None):
    """
    The [`Draft`] of a table.

    Args:
        table ([`Table`]).
        separator (`str`, *optional*): Joins the segments of paths.
        tabs (`bool`): Whether tabs split the columns, as in HiAGM's files.
        language (`str`, *optional*): Of the names, where a column per language has them.

    Raises:
        [`HTCError`]: no way to read the table fits; it is named with what helps.
    """
    if table.header:
        draft = by_names(table, separator, language)
        if draft is not None:
            draft.language = table.language
            return draft
    return _by_content(table, separator, tabs)


def _by_content(table, separator, tabs):
    """Without names the columns must fit one way of reading."""
    if table.width == 2 and min(table.widths) == 2 or table.width == 2 and not tabs:
        return _two_columns(table)
    draft = None if table.header else _id_parent_name(table, tabs)
    if draft is not None:
        return draft
    if tabs and not table.header and _is_hiagm(table):
        return children_lines(table)
    groups = _groups(table)
    if groups is not None:
        return wide(table, groups, separator)
    for code in range(table.width):
        draft = codes_of(table, code, next((i for i in range(table.width) if i != code), None))
        if draft is not None:
            return draft
    if tabs and not table.header:
        return children_lines(table)
    raise HTCError(
        f"is {table.what} of {table.width} columns that fit no form of a taxonomy; its first line is {table.rows[0]!r}.",
        file=table.file,
        line=table.lines[0],
        mend=HELP,
    )


def _two_columns(table):
    first, second = table.column(0), table.column(1)
    seconds = set(second)
    linked = {value for value in first if value in seconds}
    roots = any(value.lower() in ROOT_WORDS or not value for value in first + second)
    others = set(first) - {""}
    if not roots and len(linked) < 0.5 * len(others):
        turned = code_parents(second) if len(seconds) == len(second) else None
        if (
            turned is not None
            and len(set(first)) < len(first)
            or turned is not None
            and code_parents(list(dict.fromkeys(first))) is None
        ):
            draft = tree_numbers(table, 0, 1, [])
            if draft is not None:
                return draft
        draft = codes_of(table, 0, 1)
        if draft is not None:
            return draft
    if not roots and not linked and len(first) > 3 and max(Counter(first).values()) == 1 and max(Counter(second).values()) == 1:
        raise HTCError(
            f"has two columns that share no value ({first[0]!r} and {second[0]!r} in its first line): a table of ids and names "
            "without a hierarchy, or single pairs.",
            file=table.file,
            line=table.lines[0],
            mend=HELP + " `format='edges'` takes the first column for the parents.",
        )
    return edges_of(table, 0, 1, "edge list")


def _id_parent_name(table, tabs):
    """Three columns or more: ids, their parents' ids, names."""
    if min(table.widths) < 3:
        return None
    for i in range(table.width):
        ids = table.column(i)
        if len(set(ids)) < len(ids) or not all(ids):
            continue
        known = set(ids)
        for j in range(table.width):
            parents = [value for value in table.column(j) if value]
            foreign = {value for value in parents if value not in known}
            inside = [value for value in parents if value in known]
            if j == i or len(foreign) > 1 or not inside or len(foreign) == 1 and len(inside) == len(parents):
                continue
            if foreign and not (next(iter(foreign)).lower() in NO_PARENT | ROOT_WORDS | {"0", "-1"} or len(inside) > 1):
                continue
            if tabs and j < i and not all(any(c.isdigit() for c in value) for value in ids):
                continue  # `parent<TAB>child<TAB>child`
            rest = [k for k in range(table.width) if k not in (i, j)]
            titles = [k for k in rest if not all(re.fullmatch(r"[-+]?[\d.]*", value) for value in table.column(k))]
            header = [f"column {k + 1}" for k in range(table.width)]
            header[i], header[j] = "id", "parent"
            header[(titles or rest)[0]] = "name"
            named = Table(table.file, list(zip(table.lines, table.rows)), header)
            draft = with_parents(named, [j])
            draft.form = f"ids in column {i + 1}, their parents in column {j + 1}, names in column {(titles or rest)[0] + 1}"
            return draft
    return None


def _is_hiagm(table):
    """Whether lines are `parent<TAB>child<TAB>child...`: parents are children elsewhere."""
    children = {cell for row in table.rows for cell in row[1:] if cell}
    parents = {row[0] for row in table.rows} - {"", *(row[0] for row in table.rows if row[0].lower() in ROOT_WORDS)}
    if any(row[0].lower() in ROOT_WORDS or not row[0] for row in table.rows):
        return True
    return sum(parent in children for parent in parents) >= 0.3 * len(parents) or len({*table.column(0)}) == len(table.rows)


def children_lines(table):
    draft = Draft(table.file, "lines of a parent and its children", complete=False)
    for line, row, width in zip(table.lines, table.rows, table.widths):
        cells = row[:width]
        while len(cells) > 1 and not cells[-1]:
            cells.pop()
        if len(cells) < 2 or not all(cells[1:]):
            raise HTCError(
                f"is not `parent<TAB>child`: {chr(9).join(cells)!r} (empty name or no tab).",
                file=table.file,
                line=line,
                mend="Write a parent and its child, or children, between tabs.",
            )
        for child in cells[1:]:
            draft.add(child, cells[0] or None, line, top=not cells[0])
    return draft


def _groups(table):
    """Whether columns without names are levels: their first one repeats, or each row fills one; pairs are code and title."""
    numbers = list(range(table.width))
    if table.width < 2:
        return None
    one_each = all(sum(map(bool, row)) == 1 for row in table.rows)
    if one_each and len({next(i for i, cell in enumerate(row) if cell) for row in table.rows}) > 1:
        return [(None, i) for i in numbers]
    first = Counter(table.column(0))
    if max(first.values()) < 2 or "" in first:
        return None
    if len(numbers) % 2 == 0 and len(numbers) > 2:
        codes, titles = numbers[::2], numbers[1::2]

        def coded(i):
            values = [value for value in table.column(i) if value]
            return values and all(re.fullmatch(r"[\w.-]*\d[\w.-]*", value) for value in values)

        if all(coded(i) for i in codes) and not any(coded(i) for i in titles):
            return list(zip(codes, titles))
    return [(None, i) for i in numbers]
