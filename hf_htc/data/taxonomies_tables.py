"""Taxonomies in tables whose columns are known: edge lists, ids with parents, paths, levels in columns, codes, tree numbers."""

from __future__ import annotations

import json
import re
from collections import Counter

from hf_htc.models.errors import HTCError

from .taxonomies_codes import code_parents
from .taxonomies_columns import Column
from .taxonomies_draft import NO_PARENT, ROOT_WORDS, Draft
from .taxonomies_lines import add_paths, find_separator, split_path


# What joins several values in a cell.
IN_CELL = ("|", ";", ", ", ",", " ")
HELP = (
    "Name the columns in a header line, e.g. `parent` and `child`, or `id`, `parent` and `name`; or write two columns "
    "`parent<TAB>child`."
)


class Table:
    """
    Rows of cells with the lines where they stand.

    Args:
        file (`str`): Name of the file.
        rows (`list[tuple[int, list[str]]]`): Without the header.
        header (`list[str]`, *optional*): The names of the columns.
        what (`str`): What kind of table it is, in words for messages.
    """

    def __init__(self, file, rows, header=None, what="a table"):
        self.file, self.what, self.language = file, what, None
        self.width = max([len(cells) for _, cells in rows] + ([len(header)] if header else []))
        self.lines = [line for line, _ in rows]
        self.widths = [len(cells) for _, cells in rows]
        self.rows = [[cell.strip() for cell in cells] + [""] * (self.width - len(cells)) for _, cells in rows]
        header = header and header + [f"column {i + 1}" for i in range(len(header), self.width)]
        self.header = header
        self.columns = [Column(name) for name in header] if header else []

    def column(self, number):
        return [row[number] for row in self.rows]

    def having(self, *roles):
        """Numbers of the columns with these roles."""
        return [i for role in roles for i, column in enumerate(self.columns) if column.role == role and column.language is None]

    def named(self, numbers):
        return ", ".join(repr(self.header[i]) for i in numbers)

    def facts(self, row, used, text=None):
        """What a row says of its node beside id, parents and text: by role, and under its name for any other column."""
        facts = {"alternatives": [], "translations": {}, "attributes": {}}
        for i, column in enumerate(self.columns):
            value = row[i]
            if i in used or not value:
                continue
            if column.language is not None and column.role in ("name", "text"):
                facts["translations"][column.language] = value
            elif column.role == "alternative":
                facts["alternatives"] += [word.strip() for word in split_cell(value) if word.strip()]
            elif column.role == "description" and "description" not in facts:
                facts["description"] = value
            elif column.role == "is label":
                facts["is_label"] = value.lower() not in ("0", "false", "no")
            elif column.name == "attributes" and value.startswith("{"):  # as `taxonomies_writing` writes them
                facts["attributes"].update(json.loads(value))
            elif column.name:
                facts["attributes"][column.name] = value
        return facts


def split_cell(value):
    """The words in a cell: a JSON list, or joined by `|` or `;`."""
    if value.startswith("["):
        try:
            found = json.loads(value)
            return [str(word) for word in found]
        except (ValueError, TypeError):
            pass
    sign = "|" if "|" in value else ";"
    return value.split(sign)


def by_names(table, separator, language):
    if language is not None:
        _choose_language(table, language)
    _promote_language(table)
    parents = table.having("parent")
    if not parents and table.having("source") and table.having("target"):
        parents, child = table.having("source")[:1], table.having("target")[:1]
        return edges_of(table, parents[0], child[0], "edge list")
    if parents:
        return with_parents(table, parents)
    keys = table.having("id", "name") or [i for i, column in enumerate(table.columns) if column.role is None]
    if keys and table.having("children"):
        return _with_children(table, keys[0], table.having("children")[0])
    if keys and table.having("child"):
        return edges_of(table, keys[0], table.having("child")[0], "edge list", told=True)
    if table.having("path"):
        draft = _with_path(table, table.having("path")[0], separator)
        if draft is not None:
            return draft
    ids, names = table.having("id"), table.having("name", "text")
    if table.having("numbers"):
        keys = names or ids
        if keys:
            return tree_numbers(table, keys[0], table.having("numbers")[0], ids if names else [])
    draft = _levels(table, separator)
    if draft is not None:
        return draft
    depths = table.having("level")
    if ids and (names or table.width == 1 or len(ids) == 1):
        for i in ids:
            draft = codes_of(table, i, names[0] if names else _other(table, [i, *depths]))
            if draft is not None:
                return draft
    if depths and (names or ids):
        return _depths(table, depths[0], ids, names, separator)
    for i in [*names, *(i for i, column in enumerate(table.columns) if column.role is None)]:
        draft = _with_path(table, i, separator)
        if draft is not None:
            return draft
    if ids and names:
        raise HTCError(
            f"is a table of ids and names ({table.named([ids[0], names[0]])}) without a hierarchy: it has no column of "
            "parents, and its ids are no codes whose beginning is the parent.",
            file=table.file,
            mend="Add a column `parent`, or one column per level.",
        )
    return None


def _choose_language(table, language):
    """Makes the names in this language the names, those of the others translations."""
    chosen = [c for c in table.columns if c.role in ("name", "text") and (c.language or "").lower() == language.lower()]
    if not chosen:
        tags = sorted({c.language for c in table.columns if c.language})
        raise HTCError(
            f"has no column of names in the language {language!r}" + (f"; it has {', '.join(tags)}." if tags else "."),
            file=table.file,
            field="language",
            value=language,
        )
    for column in table.columns:
        if column.role in ("name", "text") and column.language is None:
            column.role = None
    chosen[0].language, table.language = None, language


def _other(table, used):
    return next((i for i in range(table.width) if i not in used and table.columns[i].language is None), None)


def _promote_language(table):
    """Where only columns per language have names, the first one has the names."""
    if not table.having("name", "text"):
        translated = [c for c in table.columns if c.role == "name" and c.language]
        column = next((c for c in translated if c.language.lower() == "en"), translated[0] if translated else None)
        if column is not None:
            table.language, column.language = column.language, None


def with_parents(table, parents):
    candidates = table.having("child", "id", "name", "text")
    candidates += [i for i, column in enumerate(table.columns) if column.role is None]
    if not candidates:
        raise HTCError(f"has a column of parents ({table.named(parents)}) but none of the nodes.", file=table.file, mend=HELP)
    sets = {i: set(table.column(i)) - {""} for i in candidates}

    def fit(parent, key):
        values = {value for value in table.column(parent) if value.lower() not in NO_PARENT}
        known = sum(value in sets[key] or all(part.strip() in sets[key] for part in _parts(value, sets[key])) for value in values)
        return known / len(values) if values else 0

    def rank(pair):
        named = table.columns[pair[0]].base  # "id" of "parent_id", "name" of "parent_name"
        column = table.columns[pair[1]]
        told = named != "" and (Column(named).role == column.role or column.role == "child" and column.base == named)
        # Beside "parentLabel", "parent" holds the ids, which count more than names.
        ids = Column(named).role == "id" if named else len(parents) > 1 and column.role not in ("name", "text")
        told = told + ids if named else 2 * ids
        return told, round(fit(*pair), 2), all(table.column(pair[1])), -candidates.index(pair[1])

    pairs = [(p, k) for p in parents for k in candidates]
    # What the names say counts, unless the values say otherwise.
    parent, key = max((pair for pair in pairs if fit(*pair) > 0.5), key=rank, default=None) or max(pairs, key=rank)
    key_role = table.columns[key].role
    ids = [i for i in table.having("id") if i != key] if key_role != "id" else []
    names = [i for i in table.having("name") if i != key]
    names += [i for i in table.having("child") if i != key and Column(table.columns[i].base).role == "name"]
    texts = [i for i in table.having("text") if i != key]
    if key_role == "child":
        names = [i for i in names if table.columns[i].base in ("", "child") or table.columns[i].role == "child"]
    if key_role == "id":
        own, name, text = key, (names[0] if names and texts else None), (texts or names or [None])[0]
    elif key_role in (None, "child") and names and not ids:
        own, name, text = key, None, names[0]
    else:
        own, name, text = (ids or [None])[0], key, (texts or [None])[0]
    used = {i for i in (parent, key, own, name, text, *parents) if i is not None}
    said = f"edge list, columns {table.named([parent])} and {table.named([key])}" + (
        f", names in {table.named([text])}" if text is not None else ""
    )
    # An edge list gives a node only its edges; rows with more are one per node.
    complete = (
        own is not None
        or text is not None
        or all(count == 1 for count in Counter(table.column(key)).values())
        and fit(parent, key) > 0.99
    )
    draft = Draft(table.file, said, "ids" if own is not None and name is None else "texts", complete=complete)
    zero = "0" not in sets[key] and "-1" not in sets[key]
    for line, row in zip(table.lines, table.rows):
        if not row[key]:
            if not any(row):
                continue
            raise HTCError(
                "the node has an empty name.", file=table.file, line=line, mend=f"Fill the column {table.header[key]!r}."
            )
        facts = table.facts(row, used)
        node = {"id": row[own] if own is not None else None, "text": row[text] if text is not None else None}
        if name is not None:
            facts["name"] = row[name]
        cell = row[parent]
        no_parent = (cell.lower() in NO_PARENT and cell not in sets[key]) or (zero and cell in ("0", "-1")) or cell == row[key]
        above = [] if no_parent else [part.strip() for part in _parts(cell, sets[key])]
        if no_parent:
            draft.add(row[key], None, line, top=not complete or cell == "", **node, **_given(facts))
        for number, part in enumerate(above):
            draft.add(row[key], part, line, **(node if number == 0 else {}), **(_given(facts) if number == 0 else {}))
    _add_parent_names(draft, table, parents, parent, key_role)
    return draft


def _given(facts):
    return {what: value for what, value in facts.items() if value not in (None, "", [], {})}


def _parts(cell, known):
    """The parents in a cell: itself, or several where all of them are nodes."""
    if cell in known:
        return [cell]
    if cell.endswith(".0") and cell[:-2] in known:  # numbers with gaps become floats in many programs
        return [cell[:-2]]
    if cell.startswith("["):
        return split_cell(cell)
    for sign in IN_CELL:
        parts = [part.strip() for part in cell.split(sign) if part.strip()]
        if len(parts) > 1 and all(part in known for part in parts):
            return parts
    return [cell]


def _add_parent_names(draft, table, parents, parent, key_role):
    """Where an edge list has ids and names of both ends, a parent without a row of its own gets its name."""
    named = [i for i in parents if i != parent and Column(table.columns[i].base).role == "name"]
    if key_role not in ("id", "child", None) or not named:
        return
    names = {row[parent]: (row[named[0]], line) for line, row in zip(table.lines, table.rows) if row[parent] and row[named[0]]}
    for key in [key for key in draft.mentioned if key not in draft.nodes]:
        if key in names and str(key).lower() not in ROOT_WORDS:
            draft.add(key, None, names[key][1], id=key, text=names[key][0])


def _with_children(table, key, children):
    names = [i for i in table.having("name") if i != key]
    is_id = table.columns[key].role == "id"
    draft = Draft(
        table.file, f"adjacency table, columns {table.named([key, children])}", "ids" if is_id else "texts", complete=False
    )
    used = {key, children, *names[:1]}
    for line, row in zip(table.lines, table.rows):
        facts = {
            "id": row[key] if is_id else None,
            "text": row[names[0]] if names else row[key],
            **_given(table.facts(row, used)),
        }
        draft.add(row[key], None, None if row[key] in draft.nodes else line, **facts)
        cell = row[children]
        for child in split_cell(cell) if cell[:1] == "[" or "|" in cell or ";" in cell else cell.split(","):
            if child.strip():
                draft.add(child.strip(), row[key], line)
    return draft


def edges_of(table, parent, child, form, told=False):
    """An edge list; where names do not tell the order of its columns, their values do."""
    if not told and _is_turned(table, parent, child):
        parent, child = child, parent
    draft = Draft(table.file, f"{form}, column {parent + 1} the parent and {child + 1} the child", "texts", complete=False)
    used = {parent, child}
    for line, row in zip(table.lines, table.rows):
        if not row[child]:
            raise HTCError(
                f"is not `parent, child`: {row!r} (empty name).", file=table.file, line=line, mend="Give every node a name."
            )
        facts = _given(table.facts(row, used))
        if row[parent].lower() in NO_PARENT and row[parent] != "-":
            draft.add(row[child], None, line, top=True, **facts)
        else:
            draft.add(row[child], row[parent], line, **facts)
    return draft


def _is_turned(table, parent, child):
    """Whether the children stand first: each value of that column stands there once, and the other ones repeat."""
    first, second = Counter(table.column(parent)), Counter(table.column(child))
    roots = {value for value in second if value.lower() in ROOT_WORDS or not value}
    if any(value.lower() in ROOT_WORDS or not value for value in first):
        return False
    return bool(roots) or (len(table.rows) > 2 and max(first.values()) == 1 and max(second.values()) > 1)


def _with_path(table, path, separator):
    cells = [cell for cell in table.column(path) if cell]
    chosen = separator if separator is not None and any(separator in cell for cell in cells) else find_separator(cells)
    if chosen is None:
        return None
    ids, names = table.having("id"), table.having("name", "text")
    segments = [split_path(cell, chosen) for cell in table.column(path)]
    if ids and sum(part in set(table.column(ids[0])) for parts in segments for part in parts) > 0.9 * sum(map(len, segments)):
        draft = Draft(table.file, f"paths of ids in {table.named([path])}", "ids")
        for line, row, parts in zip(table.lines, table.rows, segments):
            above = [part for part in parts if part != row[ids[0]]]
            draft.add(
                row[ids[0]],
                above[-1] if above else None,
                line,
                id=row[ids[0]],
                text=row[names[0]] if names else None,
                **_given(table.facts(row, {path, *ids, *names})),
            )
        return draft
    draft = Draft(
        table.file,
        f"paths joined by {chosen!r} in {table.named([path])}" + (", with ids" if ids else ""),
        "ids" if ids else "texts",
        chosen,
        complete=False,
    )
    used = {path, *ids[:1], *names}
    names = [i for i in names if i != path]
    add_paths(
        draft,
        (
            (line, parts, row[ids[0]] if ids else None, _given(table.facts(row, used)))
            for line, row, parts in zip(table.lines, table.rows, segments)
            if any(parts)
        ),
    )
    return draft


def _depths(table, depth, ids, names, separator):
    """A column of levels: each row stands below the last one of a smaller level."""
    is_id = bool(ids) and len(set(table.column(ids[0]))) == len(table.rows)
    name = (names or ids)[0]
    draft = Draft(
        table.file,
        f"levels told by {table.named([depth])}",
        "ids" if is_id else "texts",
        separator,
        paths=separator is not None and not is_id,
    )
    stack = []
    for line, row in zip(table.lines, table.rows):
        digits = re.search(r"\d+", row[depth])
        if digits is None:
            raise HTCError(f"the level {row[depth]!r} is no number.", file=table.file, line=line)
        level = int(digits.group())
        while stack and stack[-1][0] >= level:
            stack.pop()
        key = row[ids[0]] if is_id else line
        draft.add(
            key,
            stack[-1][1] if stack else None,
            line,
            id=row[ids[0]] if ids else None,
            text=row[name],
            **_given(table.facts(row, {depth, name, *ids[:1]})),
        )
        stack.append((level, key))
    return draft


def tree_numbers(table, key, numbers, ids):
    """Names with the places where they stand in trees: 'Horn;H01.456.313'. A name with several places has several parents."""
    places, lines = {}, {}
    for line, row in zip(table.lines, table.rows):
        for number in re.split(r"[;,|\s]+", row[numbers]):
            if number in places and places[number] != row[key]:
                raise HTCError(
                    f"the tree number {number!r} has the names {places[number]!r} and {row[key]!r}.", file=table.file, line=line
                )
            if number:
                places[number], lines[number] = row[key], line
    found = code_parents(list(places))
    if found is None:
        parents = {number: _longest(number, places) for number in places}
        if not any(parents.values()):
            return None
    else:
        parents = found[0]
    where = f"column {numbers + 1}" if not table.header else table.named([numbers])
    draft = Draft(table.file, f"tree numbers in {where}", "texts", complete=False)
    own = {row[key]: row[ids[0]] for row in table.rows} if ids else {}
    held = {}
    for number, name in places.items():
        held.setdefault(name, []).append(number)
    seen = set()
    for number, name in places.items():
        parent = places.get(parents[number])
        if parent == name or (name, parent) in seen:
            continue
        seen.add((name, parent))
        draft.mentioned.setdefault(name, lines[number])
        facts = {} if name in draft.nodes else {"id": own.get(name), "attributes": {"notation": held[name]}}
        draft.add(name, parent, lines[number], text=name, **facts)
    used = {key, numbers, *ids[:1]}
    for row in table.rows:
        facts = _given(table.facts(row, used))
        if facts and row[key] in draft.nodes:
            draft.add(row[key], None, None, **facts)
    return draft


def _longest(code, known):
    return next((code[:n] for n in range(len(code) - 1, 0, -1) if code[:n] in known), None)


def codes_of(table, code, title):
    """A code and a title per row; the beginning of the code is its parent."""
    codes = table.column(code)
    if len(set(codes)) < len(codes):
        return None
    found = code_parents(codes)
    if found is None:
        return None
    parents, rule = found
    draft = Draft(table.file, rule, "ids")
    used = {code, *([] if title is None else [title])}
    for line, row in zip(table.lines, table.rows):
        draft.add(
            row[code],
            parents[row[code]],
            line,
            id=row[code],
            text=row[title] if title is not None else None,
            **_given(table.facts(row, used)),
        )
    return draft


# ------------------------------------------------------------------ one column per level


def _levels(table, separator):
    """Columns that hold one level each, alone or as pairs of code and title."""
    columns, groups = table.columns, []
    extra = {i for i, c in enumerate(columns) if c.role in ("description", "alternative", "level", "is label") or c.language}
    i = 0
    while i < len(columns):
        following = columns[i + 1] if i + 1 < len(columns) else None
        if i in extra:
            pass
        elif following is not None and i + 1 not in extra and _is_pair(columns[i], following):
            code_first = columns[i].role != "name" or following.role != "id"
            groups.append((i, i + 1) if code_first else (i + 1, i))
            i += 1
        else:
            groups.append((None, i))
        i += 1
    paired = [group for group in groups if group[0] is not None]
    if len(paired) > 1:
        groups = paired
    elif any(columns[i].is_level for _, i in groups if columns[i].role != "id"):
        groups = [(None, i) for i in range(len(columns)) if i not in extra and columns[i].is_level]
        if len(groups) < 2:
            return None
    elif any(column.role in ("id", "name") for column in columns):
        return None
    if len(groups) < 2:
        return None
    return wide(table, groups, separator)


def _is_pair(first, second):
    """Whether two neighbours are code and title of one level: 'Segment' and 'Segment Title', 'Code 1' and 'Title 1'."""
    roles = {first.role, second.role}
    if first.base == second.base and first.base and roles == {"id", "name"}:
        return True
    plain, other = (first, second) if second.role in ("name", "id") else (second, first)
    return plain.role is None and other.role in ("name", "id") and plain.base == other.base != ""


def wide(table, groups, separator):
    """
    Reads levels in columns.

    Args:
        groups (`list[tuple[int | None, int | None]]`): Per level the columns of code and title.
    """
    turned = bool(table.header) and _is_deepest_first(table, groups)
    groups = groups[::-1] if turned else groups
    coded = any(code is not None for code, _ in groups)
    draft = Draft(
        table.file,
        f"levels in {len(groups)} columns"
        + (", each a code and a title" if coded else "")
        + (", the deepest first" if turned else ""),
        "ids" if coded else "texts",
        separator,
        paths=separator is not None and not coded,
        complete=False,
    )
    used = {i for group in groups for i in group if i is not None}
    own = [i for i in table.having("id") if i not in used] if table.header and not coded else []
    unique = own and len(set(table.column(own[0]))) == len(table.rows)
    if unique:
        draft.naming, draft.paths = "ids", False
        used.add(own[0])
    staircase = all(sum(bool(row[title if code is None else code]) for code, title in groups) == 1 for row in table.rows)
    path, last, gaps, merged = [], [], 0, 0
    for line, row in zip(table.lines, table.rows):
        cells = [(row[code] if code is not None else "", row[title] if title is not None else "") for code, title in groups]
        filled = [depth for depth, cell in enumerate(cells) if any(cell) and not all(c.lower() in NO_PARENT for c in cell)]
        if not filled:
            continue
        if staircase:
            if filled[0] > len(path):
                raise HTCError(f"{cells[filled[0]]!r} has no parent in the lines above.", file=table.file, line=line)
            path = [*path[: filled[0]], cells[filled[0]]]
            walk = path
        else:
            if filled[0] and any(map(any, last[: filled[0]])):  # cells that were merged, and are filled in their first line only
                cells[: filled[0]] = last[: filled[0]]
                merged += 1
                filled = [depth for depth, cell in enumerate(cells) if any(cell)]
            last = [cell if depth in filled else ("", "") for depth, cell in enumerate(cells)]
            walk = [cells[depth] for depth in filled]
            gaps += len(filled) != filled[-1] + 1
        key = None
        for depth, (code, title) in enumerate(walk):
            above, key = key, code if code else (key, title)
            node = draft.nodes.get(key)
            if node is None:
                draft.add(key, above, line, id=code or None, text=title or code)
            elif above is not None and above not in node.parents:
                if not node.parents:
                    raise HTCError(
                        f"{(code or title)!r} is on the first level in line {node.line} and below {_shown(above)!r} here.",
                        file=table.file,
                        line=line,
                        mend="Give every node one place, or codes of their own.",
                    )
                draft.add(key, above, line)
            elif code and title and node.text != title:
                raise HTCError(
                    f"the code {code!r} has the title {title!r} here and {node.text!r} in line {node.line} (duplicate name).",
                    file=table.file,
                    line=line,
                    mend="Give every code one title.",
                )
            if depth == len(walk) - 1:
                node, facts = draft.nodes[key], _given(table.facts(row, used)) if table.header else {}
                for what, value in facts.items():
                    if what == "attributes":
                        node.attributes.update(value)
                    elif not getattr(node, what):
                        setattr(node, what, value)
                if unique:
                    node.id = row[own[0]]
    if merged:
        lines = "1 line has an empty first level" if merged == 1 else f"{merged} lines have empty first levels"
        draft.notes.append(f"{lines}, taken from the line above.")
    if gaps:
        lines = "1 line has" if gaps == 1 else f"{gaps} lines have"
        draft.notes.append(f"{lines} an empty level between filled ones, which is left out of the path.")
    return draft


def _is_deepest_first(table, groups):
    """Whether each column tells the next one, and not the other way round: 'Subcategory, Category'."""
    columns = [table.column(title if code is None else code) for code, title in groups]
    for first, second in zip(columns, columns[1:]):
        pairs = {(a, b) for a, b in zip(first, second) if a}
        if len(pairs) > len({a for a, _ in pairs}) or len(pairs) == len({b for _, b in pairs}):
            return False
    return True


def _shown(key):
    return key[1] if isinstance(key, tuple) else key
