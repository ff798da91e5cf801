"""The forms in which a taxonomy comes, text lines, edges, paths, nested JSON, networkx graphs; and what is shown of one."""

import difflib
import importlib
import json

import numpy as np

from .errors import HTCError, HTCImportError, HTCTypeError
from .whole_files import whole_file


def write_hierarchy(hierarchy, path):
    """Writes `to_dict` as JSON or `parent<TAB>child` lines, as a whole or not at all."""
    if path.suffix == ".json":
        text = json.dumps(hierarchy.to_dict(), ensure_ascii=False)
    else:
        for name in hierarchy.names:
            if any(character in name for character in "\t\n\r") or name != name.strip():
                raise HTCError(
                    f"The name {name!r} holds a tab or a line break, or begins or ends with a space; save the hierarchy as "
                    ".json instead."
                )
        text = "".join(f"{parent}\t{child}\n" for parent, child in hierarchy.to_edges())
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def parents_from_edges(edges, root):
    """
    Parent names of each node, in order of appearance.

    Returns:
        `tuple[dict[str, list[str]], bool]`: the parents by node, and whether no edge names the root.

    Raises:
        `ValueError`: an empty name, an edge given twice, a child of the root with another parent, an unknown parent; the edge
        or name is in the message. `TypeError`: a name that is no string.
    """
    parents, mentioned, top = {}, {}, {}
    for number, (parent, child) in enumerate(edges):
        is_top = parent is None or parent == "" or parent == root
        for what, name in (("child", child), ("parent", "-" if is_top else parent)):
            if name is not None and not isinstance(name, str):
                raise HTCTypeError(f"Edge {number} has the {what} {name!r} of type {type(name).__name__}; names are strings.")
            if name is None or not name.strip():
                raise HTCError(f"Edge {number} ({parent!r} -> {child!r}) has an empty name as {what}. Give every node a name.")
        if child == root:
            raise HTCError(f"Edge {number} makes the root {root!r} a child of {parent!r}; the virtual root has no parent.")
        if (child in top) if is_top else (parent in parents.get(child, ())):
            raise HTCError(f"The edge {parent!r} -> {child!r} is given twice (duplicate edge). Remove one of them.")
        row = parents.setdefault(child, [])
        if is_top:
            top[child] = True
        else:
            mentioned.setdefault(parent)
            row.append(parent)
        mentioned.setdefault(child)
    for child in top:
        if parents[child]:
            raise HTCError(
                f"{child!r} is a child of the root and of {parents[child][0]!r}; a first-level node has no other parent."
            )
    unknown = [name for name in mentioned if name not in parents]
    if top and unknown:
        close = difflib.get_close_matches(unknown[0], list(parents), n=3)
        raise HTCError(
            f"The unknown parent {unknown[0]!r} is neither {root!r} nor the child of any edge."
            + (f" Close names: {close}." if close else "")
            + f" Add the edge {root!r} -> {unknown[0]!r} or correct the name."
        )
    if not top:
        parents = {name: parents.get(name, []) for name in mentioned}
    return parents, not top


def parents_from_paths(paths, separator):
    """
    The nodes of root-to-node paths: every prefix is one.

    Returns:
        `tuple[dict[str, list[str]], dict[str, str]]`: the parents (none or one) and the text of each node, by name.

    Raises:
        `ValueError`: an empty segment, or one that holds the separator. `TypeError`: a segment that is no string.
    """
    parents, texts = {}, {}
    for path in paths:
        segments = path.split(separator) if isinstance(path, str) else list(path)
        for segment in segments:
            if not isinstance(segment, str):
                raise HTCTypeError(f"The path {path!r} has the segment {segment!r}; segments are strings.")
        segments = [segment.strip() for segment in segments]
        if not segments or any(not s for s in segments):
            raise HTCError(f"The path {path!r} has an empty name as a segment. Write it like 'sport{separator}football'.")
        if any(separator in s for s in segments):
            raise HTCError(f"A segment of the path {path!r} holds the separator {separator!r}; choose another separator.")
        for depth in range(1, len(segments) + 1):
            name = separator.join(segments[:depth])
            if name not in parents:
                parents[name] = [] if depth == 1 else [separator.join(segments[: depth - 1])]
                texts[name] = segments[depth - 1]
    return parents, texts


def edges_from_nested(nested):
    """
    Yields `(parent name or None, child name, path of names)` of nested JSON, parents before their children.

    Raises:
        `TypeError`: a part that is neither an object, a list nor a string.
    """
    stack = [(None, (), nested)]
    while stack:
        parent, path, value = stack.pop()
        if value is None or value == "":
            continue
        if isinstance(value, dict):
            items = list(value.items())
        elif isinstance(value, (list, tuple)):
            items = [pair for part in value for pair in (part.items() if isinstance(part, dict) else [(part, None)])]
        else:
            items = [(value, None)]
        for name, _ in items:
            if not isinstance(name, str):
                raise HTCTypeError(
                    f"The nested taxonomy holds {name!r} under {'/'.join(path) or 'the root'!r}; names are strings."
                )
            yield parent, name, (*path, name)
        stack.extend((name, (*path, name), below) for name, below in reversed(items))


def edges_from_networkx(graph, root):
    """
    What a networkx `DiGraph` says of its nodes.

    Returns:
        `tuple`: edges (parent, child), first-level nodes under `root`; texts and descriptions by name; the names of the labels,
        or `None` where nodes do not say whether they are; the attributes of every node.
    """
    if not graph.is_directed():
        raise HTCTypeError("The graph must be a directed networkx graph with edges parent -> child.")
    nodes = {name: data for name, data in graph.nodes(data=True) if name != root}
    edges = []
    for name in nodes:
        parents = [p for p in graph.predecessors(name) if p != root]
        edges.extend((parent, name) for parent in parents or [root])
    texts = {name: data["text"] for name, data in nodes.items() if data.get("text")}
    descriptions = {name: data["description"] for name, data in nodes.items() if data.get("description")}
    labels = [name for name, data in nodes.items() if data.get("is_label", True)]
    return edges, texts, descriptions, labels if len(labels) < len(nodes) else None, nodes


def identity_from_networkx(graph, names, nodes):
    """The keywords of [`LabelHierarchy`] beside names and texts, from the attributes that [`networkx_from_hierarchy`] gives."""
    tags = dict.fromkeys(tag for name in names for tag in nodes.get(name, {}).get("translations") or ())
    return {
        "language": graph.graph.get("language"),
        "ids": [nodes.get(name, {}).get("own_id") for name in names],
        "alternative_names": [nodes.get(name, {}).get("alternative_names") for name in names],
        "attributes": [nodes.get(name, {}).get("attributes") for name in names],
        "translations": {tag: [(nodes.get(name, {}).get("translations") or {}).get(tag) for name in names] for tag in tags},
    }


def nested_from_hierarchy(hierarchy):
    if not hierarchy.is_tree:
        node = next(i for i, row in enumerate(hierarchy.parents) if len(row) > 1)
        raise HTCError(f"Nested form is for trees; {hierarchy.names[node]!r} has several parents. Use `to_edges` or `to_dict`.")
    nested = {i: {} for i in range(hierarchy.num_nodes)}
    top = {}
    for i, row in enumerate(hierarchy.parents):
        (nested[row[0]] if row else top)[hierarchy.names[i]] = nested[i]
    return top


def networkx_from_hierarchy(hierarchy):
    try:  # kept out of the imports at the top: a checkpoint's remote code must load without networkx
        import networkx
    except ImportError as error:
        raise HTCImportError("`to_networkx` needs networkx: pip install networkx") from error
    graph = networkx.DiGraph()
    for i, name in enumerate(hierarchy.names):
        graph.add_node(name, level=int(hierarchy.levels[i]), is_label=i < hierarchy.num_labels, text=hierarchy.texts[i])
        if hierarchy.descriptions is not None:
            graph.nodes[name]["description"] = hierarchy.descriptions[i]
        translations = {tag: texts[i] for tag, texts in hierarchy.translations.items() if texts[i]}
        for key, value in (
            ("own_id", hierarchy.own_id(i)),
            ("alternative_names", hierarchy.alternative_names and hierarchy.alternative_names[i]),
            ("attributes", hierarchy.attributes and hierarchy.attributes[i]),
            ("translations", translations),
        ):
            if value:
                graph.nodes[name][key] = value
    if hierarchy.language is not None:
        graph.graph["language"] = hierarchy.language
    graph.add_edges_from((hierarchy.names[p], name) for name, row in zip(hierarchy.names, hierarchy.parents) for p in row)
    return graph


def hierarchy_statistics(hierarchy):
    """Counts of a hierarchy, see [`LabelHierarchy.statistics`]."""
    levels = range(1, hierarchy.num_levels + 1)
    level_of_label = hierarchy.levels[: hierarchy.num_labels]
    return {
        "num_labels": hierarchy.num_labels,
        "num_nodes": hierarchy.num_nodes,
        "num_edges": len(hierarchy.edges),
        "num_levels": hierarchy.num_levels,
        "labels_per_level": [int((level_of_label == level).sum()) for level in levels],
        "nodes_per_level": [int((hierarchy.levels == level).sum()) for level in levels],
        "num_leaves": len(hierarchy.leaves),
        "num_top_nodes": len(hierarchy.top_nodes),
        "num_isolated": sum(not hierarchy.children[i] for i in hierarchy.top_nodes),
        "num_multiple_parents": sum(len(row) > 1 for row in hierarchy.parents),
        "max_children": max(len(row) for row in [*hierarchy.children, hierarchy.top_nodes]),
        "is_tree": hierarchy.is_tree,
    }


def tree_text(hierarchy, max_nodes):
    """The hierarchy as indented lines, see [`LabelHierarchy.tree`]."""
    lines, opened = [], set()
    stack = [(i, "", False, True) for i in reversed(hierarchy.top_nodes)]
    while stack and len(lines) < max_nodes:
        node, indent, last, top = stack.pop()
        text = hierarchy.texts[node] if hierarchy.is_tree else hierarchy.names[node]
        text = text if node < hierarchy.num_labels else f"[{text}]"
        again = node in opened and bool(hierarchy.children[node])
        lines.append((text if top else indent + ("└── " if last else "├── ") + text) + (" ..." if again else ""))
        if not again:
            opened.add(node)
            below = indent if top else indent + ("    " if last else "│   ")
            row = hierarchy.children[node]
            stack.extend((child, below, child == row[-1], False) for child in reversed(row))
    hidden = hierarchy.num_nodes - len(opened)
    if stack and hidden > 0:
        lines.append(f"... and {hidden} more nodes")
    return "\n".join(lines)


def module_of_package(module, what):
    """A module of the package around this one, which a checkpoint's own code does without."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "hf_htc":
            raise
        raise HTCImportError(f"{what} needs the package hf_htc, which is not installed", mend="(pip install hf_htc).") from error


def checked_parents(parents, names):
    """
    The parents of every node as lists of ids.

    Args:
        parents (`Iterable`): Per node the ids of its parents, one id, -1 or `None` for the first level.
        names (`list[str]`): Of the nodes, for messages.

    Raises:
        `HTCError`: another number of rows than nodes, an id out of range, a parent twice. `HTCTypeError`: what is no id.
    """
    parents, checked = list(parents), []
    if len(parents) != len(names):
        raise HTCError(f"`parents` has {len(parents)} rows for {len(names)} nodes; give one row per node.")
    for name, given in zip(names, parents):
        row = [] if given is None or (_is_id(given) and given == -1) else [given] if _is_id(given) else given
        if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__") or not all(map(_is_id, row)):
            raise HTCTypeError(f"The parents of node {name!r} are {given!r}; give their ids, whole numbers.")
        row = [int(p) for p in row]
        for p in row:
            if not 0 <= p < len(names):
                raise HTCError(f"Node {name!r} has the unknown parent id {p}; node ids are 0 to {len(names) - 1}.")
        if len(set(row)) != len(row):
            raise HTCError(f"Node {name!r} lists the same parent twice: {[names[p] for p in row]}.")
        checked.append(row)
    return checked


def _is_id(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
