"""Taxonomies in JSON: what `LabelHierarchy.save` writes, nested and adjacency objects, records, networkx's node-link form."""

from __future__ import annotations

import json

from hf_htc.models.errors import HTCError, reason_of
from hf_htc.models.hierarchy import LabelHierarchy

from . import json_files
from .taxonomies_columns import Column
from .taxonomies_content import read_table
from .taxonomies_draft import NO_PARENT, ROOT_WORDS, Draft
from .taxonomies_lines import add_paths, find_separator, split_path
from .taxonomies_tables import Table


# Keys under which the children of a node stand, where nothing else tells.
CHILDREN = (
    "children",
    "child",
    "subcategories",
    "sub_categories",
    "subCategories",
    "items",
    "nodes",
    "narrower",
    "subclasses",
    "subtopics",
    "topics",
    "categories",
    "concepts",
    "sub",
    "childs",
    "childNodes",
    "data",
    "taxonomy",
    "tree",
    "hierarchy",
    "hasTopConcept",
)
HELP = (
    'Write nested objects `{"sport": {"football": {}}}`, `{"name": ..., "children": [...]}`, or an object of each parent\'s '
    "list of children."
)


def parse_json(text, file):
    """The content of a JSON file, a list where it holds one value per line. A key given twice raises with its line."""
    try:
        return json_files.parse_json(text)
    except json_files.TwinKeyError as error:
        raise _twin(error, text, file) from error
    except HTCError as error:
        raise HTCError(f"{error}.", file=file) from error
    except RecursionError as error:
        raise HTCError("is nested too deeply to be read.", file=file, mend="Write it as edges, `parent<TAB>child`.") from error
    except ValueError as error:
        rows = _one_per_line(text, file)
        if rows is None:
            line = getattr(error, "lineno", None)  # a number of too many digits has none
            raise HTCError(f"is not valid JSON: {reason_of(error)}.", file=file, line=line) from error
        return rows


def _one_per_line(text, file):
    """The values of lines that are each an object or a list; `None` for other lines."""
    lines = [line.strip().rstrip(",") for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not all(line[:1] in "{[" and line[-1:] in "}]" for line in lines):
        return None
    try:
        return [json_files.parse_json(line) for line in lines]
    except json_files.TwinKeyError as error:
        raise _twin(error, text, file) from error
    except ValueError:
        return None


def _twin(error, text, file):
    return HTCError(
        f"an object has the key {error.key!r} twice; one of them would be lost.",
        file=file,
        line=_line_of(text, error.key),
        mend="Put both contents under one key, or write `name` and `children`.",
    )


def _line_of(text, key):
    """The line where a key stands the second time."""
    quoted, at = json.dumps(key, ensure_ascii=False), -1
    for _ in range(2):
        at = text.find(quoted, at + 1)
    return None if at < 0 else text.count("\n", 0, at) + 1


def read_json(content, file, separator=None, language=None):
    """
    The [`Draft`] of a file's JSON, or the [`LabelHierarchy`] that it holds as it is.

    Args:
        content: Of the file.
        separator (`str`, *optional*): Joins names to paths, where names are no ids.
    """
    if isinstance(content, dict) and "names" in content and "parents" in content:
        try:
            return LabelHierarchy.from_dict(content)
        except HTCError as error:
            raise HTCError(str(error), file=file) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise HTCError(f"has the keys of a saved hierarchy, but not its content: {reason_of(error)}.", file=file) from error
    content = _inside(content)
    if isinstance(content, dict):
        if _is_list(content.get("nodes"), dict) and isinstance(content.get("links", content.get("edges")), list):
            return _node_link(content, file)
        if isinstance(content.get("adjacency"), list) and _is_list(content.get("nodes"), dict):
            return _adjacency_data(content, file)
    if isinstance(content, list) and content:
        draft = _of_list(content, file, separator, language)
        if draft is not None:
            return draft
    if isinstance(content, dict) and content:
        draft = _of_mapping(content, file, separator, language)
        if draft is not None:
            return draft
    return _nested(content, file, separator)


def _inside(content):
    """What stands in the one key of a wrapper: `{"taxonomy": [...]}`, `{"version": "1", "categories": [...]}`."""
    while isinstance(content, dict):
        lists = [key for key, value in content.items() if _is_list(value, dict) and len(value) > 0]
        other = [key for key in content if key not in lists]
        if len(lists) != 1 or lists[0] not in CHILDREN and other or any(not _is_scalar(content[key]) for key in other):
            break
        # Beside a name they would be the children of a node.
        if _name_key({key: content[key] for key in other}) is not None or _name_key(content[lists[0]][0]) is None:
            break
        content = content[lists[0]]
    return content


def _is_list(value, kind):
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is_scalar(value):
    return value is None or isinstance(value, (str, int, float, bool))


def _text(value, file, where):
    """A name or id as a string; a float of a whole number without its `.0`."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise HTCError(
            f"holds {json.dumps(value, ensure_ascii=False)[:60]} {where}; names are strings.",
            file=file,
            mend=HELP,
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _name_key(record):
    """The key under which a record has its name, or else its id."""
    scalars = [key for key, value in record.items() if isinstance(value, (str, int, float)) and not isinstance(value, bool)]
    columns = [Column(key) for key in scalars]
    for plain in (True, False):  # "name" before "categoryName"
        for wanted in ("name", "text", "id"):
            for key, column in zip(scalars, columns):
                if column.role == wanted and column.language is None and (column.base == "" or not plain):
                    return key
    return None


# ------------------------------------------------------------------ objects with names and children


def _children_key(records):
    """The key under which nested records have their children, or `None`."""
    counts, stack, seen = {}, list(records), 0
    while stack and seen < 5000:
        record = stack.pop()
        seen += 1
        for key, value in record.items():
            if isinstance(value, list) and value and (_is_list(value, dict) and _name_key(value[0]) is not None):
                counts[key] = counts.get(key, 0) + 1
                stack.extend(value)
            elif isinstance(value, dict) and value and _is_list(list(value.values()), dict) and key in CHILDREN:
                counts[key] = counts.get(key, 0) + 1
                stack.extend(value.values())
    if counts:
        return max(counts, key=lambda key: (key in CHILDREN, counts[key]))
    return next((key for key in CHILDREN for record in records if isinstance(record.get(key), list)), None)


def _records(records, children, file, separator):
    """Nested `{"name": ..., "children": [...]}` under whatever keys."""
    name = _name_key(records[0])
    draft = Draft(
        file, f"nested JSON, names in {name!r} and children in {children!r}", "texts", separator, paths=separator is not None
    )
    first = records[0]
    own = next((key for key in first if Column(key).role == "id" and Column(key).base == "" and key != name), None)
    if own is None and Column(name).role != "id":
        below = next((r for r in first.get(children) or () if isinstance(r, dict)), {})
        own = next((key for key in below if Column(key).role == "id" and Column(key).base == "" and key != name), None)
    stack = [(record, None, ()) for record in reversed(records)]
    number = 0
    while stack:
        record, parent, walk = stack.pop()
        number += 1
        where = f"under {'/'.join(walk) or 'the root'!r}"
        if not isinstance(record, dict):
            draft.add((number,), parent, text=_text(record, file, where))
            continue
        key = name if record.get(name) not in (None, "") else _name_key(record)
        if key is None:
            raise HTCError(
                f"an object {where} has no {name!r}: its keys are {sorted(map(str, record))[:8]}.",
                file=file,
                mend="Give every node a name (an empty name is none).",
            )
        text = _text(record[key], file, where)
        facts = _facts(record, {name, key, children, own}, file)
        if own is not None and record.get(own) not in (None, ""):
            facts["id"] = _text(record[own], file, where)
        elif Column(name).role == "id":
            facts["id"] = text
        draft.add((number,), parent, text=text, **facts)
        below = record.get(children) or ()
        if isinstance(below, dict):
            below = [{name: label, **value} if isinstance(value, dict) else {name: label} for label, value in below.items()]
        if not isinstance(below, (list, tuple)):
            raise HTCError(f"the {children!r} of {text!r} are {below!r}; give a list.", file=file, mend=HELP)
        stack.extend((child, (number,), (*walk, text)) for child in reversed(below))
    _refuse_twins(draft)
    return draft


def _refuse_twins(draft):
    seen = set()
    for node in draft.nodes.values():
        place = (node.text, node.parents[0] if node.parents else None)
        if place in seen and node.id is None:
            raise HTCError(
                f"{node.text!r} stands twice under the same parent (duplicate name).", file=draft.file, mend="Leave one out."
            )
        seen.add(place)


def _facts(record, used, file):
    """What a record says beside name, id and place."""
    facts = {"alternatives": [], "translations": {}, "attributes": {}}
    for key, value in record.items():
        if key in used or value in (None, "", [], {}):
            continue
        column = Column(key)
        if column.role == "alternative" and isinstance(value, (list, str)):
            facts["alternatives"] += [value] if isinstance(value, str) else [str(word) for word in value]
        elif column.language and column.role == "name" and isinstance(value, str):
            facts["translations"][column.language] = value
        elif column.role == "description" and isinstance(value, str) and "description" not in facts:
            facts["description"] = value
        elif column.role == "is label" and isinstance(value, (bool, int)):
            facts["is_label"] = bool(value)
        else:
            facts["attributes"][key] = value
    return {what: value for what, value in facts.items() if what == "is_label" or value}


# ------------------------------------------------------------------ lists


def _of_list(content, file, separator, language):
    if _is_list(content, dict):
        children = _children_key(content)
        if children is not None and _name_key(content[0]) is not None and not _has_parents(content):
            return _records(content, children, file, separator)
        if all(_is_flat(record) for record in content) and (len(content[0]) > 1 or _name_key(content[0])):
            return _flat_records(content, file, separator, language)
        if all(len(record) == 1 for record in content) and _name_key(content[0]) is None:
            return None  # [{"sport": [...]}, {"politics": [...]}]
        if len(content[0]) > 1:
            raise HTCError(
                f"is a list of objects with the keys {sorted(content[0])[:8]}, of which none tells parents, children or levels.",
                file=file,
                mend=HELP,
            )
        return None
    if all(isinstance(row, list) and row and all(_is_scalar(cell) for cell in row) for row in content):
        rows = [
            (None, ["" if cell is None else _text(cell, file, f"in row {n}") for cell in row]) for n, row in enumerate(content)
        ]
        if all(len(cells) == 2 for _, cells in rows):
            draft = read_table(Table(file, rows, what="a list of pairs"))
            return draft
        draft = Draft(file, "lists of the names on a path", "texts", separator, complete=False)
        add_paths(draft, ((None, cells, None) for _, cells in rows))
        return draft
    if all(isinstance(item, str) for item in content):
        chosen = separator if separator and any(separator in item for item in content) else find_separator(content)
        if chosen is not None:
            draft = Draft(file, f"a list of paths joined by {chosen!r}", "texts", chosen, complete=False)
            add_paths(draft, ((None, split_path(item, chosen), None) for item in content))
            return draft
    return None


def _has_parents(records):
    return any(
        Column(key).role == "parent" and not isinstance(value, dict) for record in records[:50] for key, value in record.items()
    )


def _is_flat(record):
    return all(
        _is_scalar(value) or isinstance(value, list) and all(_is_scalar(item) for item in value) for value in record.values()
    )


def _flat_records(records, file, separator, language):
    """A list of objects that each have the same keys: a table."""
    header = list(dict.fromkeys(key for record in records for key in record))
    rows = [(None, ["" if record.get(key) is None else _cell(record[key]) for key in header]) for record in records]
    return read_table(Table(file, rows, header, what="a list of objects"), separator, language=language)


def _cell(value):
    if isinstance(value, list):
        return "" if not value else json.dumps([str(item) for item in value], ensure_ascii=False)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


# ------------------------------------------------------------------ one object by names


def _of_mapping(content, file, separator=None, language=None):
    """`{"A": ["A1", "A2"], "A1": [...]}`, `{"A1": "A", "A2": "A", "A": null}`, or `None` for what is nested."""
    values = list(content.values())
    if _is_list(values, dict) and any(values):
        return _of_records_by_name(content, file, separator, language)
    if all(value is None or isinstance(value, list) and all(_is_scalar(item) for item in value) for value in values):
        children = {str(item) for value in values for item in value or ()}
        if any(key in children for key in content):
            draft = Draft(file, "an object of each parent's children", complete=False)
            for parent, items in content.items():
                draft.mentioned.setdefault(parent, None)
                for item in items or ():
                    draft.add(_text(item, file, f"under {parent!r}"), parent)
            return draft
        return None
    if (
        all(value is None or isinstance(value, (str, int)) and not isinstance(value, bool) for value in values)
        and len(values) > 1
    ):
        above = ["" if value is None else str(value) for value in values]
        inside = sum(value in content or value.lower() in NO_PARENT | ROOT_WORDS for value in above)
        if inside == 0 and len(set(above)) == len(above):
            raise HTCError(
                f"is an object of names and names ({next(iter(content))!r}: {above[0]!r}) of which none is a parent: a list of "
                "ids without a hierarchy.",
                file=file,
                mend=HELP,
            )
        draft = Draft(file, "an object of each node's parent", complete=False)
        for child, parent in zip(content, above):
            if parent.lower() in NO_PARENT:
                draft.add(child, None, top=True)
            else:
                draft.add(child, parent)
        return draft
    return None


def _of_records_by_name(content, file, separator, language):
    """`{"Sport": {"id": 5, "children": {...}}}` or `{"5": {"name": "Sport", "parent": null}}`; `None` for nested names."""
    values = [value for value in content.values() if value]
    children = next((key for key in CHILDREN for value in values if isinstance(value.get(key), (list, dict))), None)
    below = [child for value in values for child in (value.get(children) or ())] if children else []
    ids_below = bool(below) and all(_is_scalar(child) and str(child) in content for child in below)
    if _has_parents(values) or ids_below:
        records = [value if _has_id(value, key) else {"id": key, **value} for key, value in content.items()]
        return _flat_records(records, file, separator, language)
    # A node may be called "data" or "name": then objects stand below it and its siblings.
    known = all(Column(key).role or key == children for value in values for key in value)
    facts = any(not isinstance(held, dict) for value in values for held in value.values())
    if children is None or not known or not facts and children != "children":
        return None
    name = "name" if _name_key(values[0]) is None or Column(_name_key(values[0])).role == "id" else None
    if name is None:
        return _records([{"id": key, **value} for key, value in content.items()], children, file, separator)
    return _records([{name: key, **value} for key, value in content.items()], children, file, separator)


def _has_id(record, key):
    return any(Column(name).role == "id" and str(value) == key for name, value in record.items())


def _nested(content, file, separator):
    """Nested objects by name: `{"sport": {"football": {}, "tennis": {}}}`; lists hold leaves."""
    if isinstance(content, dict) and _name_key(content) is not None and not isinstance(content.get("name"), dict):
        children = _children_key([content])
        if children is not None:
            return _records([content], children, file, separator)
    if not isinstance(content, (dict, list)):
        raise HTCError(f"holds {str(content)[:60]!r}, no taxonomy.", file=file, mend=HELP)
    draft = Draft(file, "nested JSON", "texts", separator, paths=separator is not None)
    stack, number = [(None, (), content)], 0
    while stack:
        parent, walk, value = stack.pop()
        if value is None or value == "":
            continue
        where = f"under {'/'.join(walk) or 'the root'!r}"
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, list):
            items = [pair for part in value for pair in (part.items() if isinstance(part, dict) else [(part, None)])]
        else:
            items = [(value, None)]
        rows = []
        for name, below in items:
            name = _text(name, file, where)
            if isinstance(below, (bool, int, float)):
                raise HTCError(f"holds the number {below!r} as the content of {name!r} {where}.", file=file, mend=HELP)
            if isinstance(below, str) and Column(name).role in ("id", "name", "description", "parent", "alternative"):
                raise HTCError(
                    f"has the key {name!r} with the text {below[:40]!r} {where}, which is no node.", file=file, mend=HELP
                )
            number += 1
            if not name:
                raise HTCError(f"a node {where} has an empty name.", file=file, mend="Give every node a name.")
            draft.add(number, parent, text=name)
            rows.append((number, (*walk, name), below))
        stack.extend(reversed(rows))
    _refuse_twins(draft)
    return draft


# ------------------------------------------------------------------ networkx


def _node_link(content, file):
    """networkx's `node_link_data`."""
    if content.get("directed") is False:
        raise HTCError(
            "is an undirected graph; its edges do not tell parents from children.", file=file, mend="Write a `DiGraph`."
        )
    links = content["links"] if "links" in content else content["edges"]
    draft = Draft(file, "networkx's node-link JSON", complete=False)
    for record in content["nodes"]:
        add_graph_node(draft, record.get("id", record.get("name")), {k: v for k, v in record.items() if k not in ("id",)}, file)
    for number, link in enumerate(links):
        source, target = (link.get("source"), link.get("target")) if isinstance(link, dict) else (link[0], link[1])
        if source is None or target is None:
            raise HTCError(f"link {number} has no `source` or no `target`: {link!r}.", file=file)
        draft.add(_text(target, file, f"in link {number}"), _text(source, file, f"in link {number}"))
    return draft


def _adjacency_data(content, file):
    """networkx's `adjacency_data`."""
    draft = Draft(file, "networkx's adjacency JSON", complete=False)
    keys = [_text(record.get("id"), file, "as an id") for record in content["nodes"]]
    for record in content["nodes"]:
        add_graph_node(draft, record.get("id"), {k: v for k, v in record.items() if k != "id"}, file)
    for parent, row in zip(keys, content["adjacency"]):
        for child in row:
            draft.add(_text(child.get("id"), file, f"under {parent!r}"), parent)
    return draft


def add_graph_node(draft, key, data, file):
    """
    A node of a graph with its attributes; those that [`LabelHierarchy.to_networkx`] writes come back to their places.

    Args:
        draft ([`Draft`]), key: Of the node; becomes its name.
        data (`dict`): The node's attributes.
    """
    key = _text(key, file, "as a node")
    data = dict(data)
    data.pop("level", None)
    facts = {"name": key, "text": data.pop("text", None) or data.pop("label", None) or data.pop("name", None)}
    for name, attribute in (
        ("description", "description"),
        ("id", "own_id"),
        ("alternatives", "alternative_names"),
        ("translations", "translations"),
        ("attributes", "attributes"),
    ):
        facts[name] = data.pop(attribute, None)
    is_label = data.pop("is_label", None)
    facts["attributes"] = {**(facts["attributes"] or {}), **{k: v for k, v in data.items() if v is not None}}
    facts = {what: value for what, value in facts.items() if value}
    draft.add(key, None, **facts)
    if is_label is not None:
        draft.nodes[key].is_label = bool(is_label)
