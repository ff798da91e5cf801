"""Readers and writers of the forms in which a taxonomy comes: text lines, nested JSON, networkx graphs."""


def read_edges(path):
    """
    Reads a taxonomy's text lines.

    Returns:
        `("edges", list[tuple[str, str]])` for tab-separated lines (one or several children a line), or
        `("paths", list[str])` for lines without a tab.

    Raises:
        `ValueError`: the file is empty, not UTF-8, mixes both forms or has an empty column; the line is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"The taxonomy file {path.name!r} is not UTF-8 text: {error}.") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise ValueError(f"The taxonomy file {path.name!r} is empty.")
    tabbed = ["\t" in line for _, line in numbered]
    if not any(tabbed):
        return "paths", [line.strip() for _, line in numbered]
    edges = []
    for (number, line), has_tab in zip(numbered, tabbed):
        # Columns may be padded; an empty first column means the root, a trailing tab means nothing.
        parent, *children = (column.strip() for column in line.rstrip("\t\r").split("\t"))
        if not has_tab or not children or any(not child for child in children):
            raise ValueError(f"Line {number} of {path.name!r} is not `parent<TAB>child`: {line!r} (empty name or no tab).")
        edges.extend((parent, child) for child in children)
    return "edges", edges


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
        for name, below in items:
            if not isinstance(name, str):
                raise TypeError(f"The nested taxonomy holds {name!r} under {'/'.join(path) or 'the root'!r}; names are strings.")
            yield parent, name, (*path, name)
        stack.extend((name, (*path, name), below) for name, below in reversed(items))


def edges_from_networkx(graph, root):
    """Edges (parent, child) of a networkx `DiGraph`, first-level nodes under `root`, and the nodes' texts and descriptions."""
    if not graph.is_directed():
        raise TypeError("The graph must be a directed networkx graph with edges parent -> child.")
    nodes = {name: data for name, data in graph.nodes(data=True) if name != root}
    edges = []
    for name in nodes:
        parents = [p for p in graph.predecessors(name) if p != root]
        edges.extend((parent, name) for parent in parents or [root])
    texts = {name: data["text"] for name, data in nodes.items() if data.get("text")}
    descriptions = {name: data["description"] for name, data in nodes.items() if data.get("description")}
    return edges, texts, descriptions


def nested_from_hierarchy(hierarchy):
    if not hierarchy.is_tree:
        node = next(i for i, row in enumerate(hierarchy.parents) if len(row) > 1)
        raise ValueError(f"Nested form is for trees; {hierarchy.names[node]!r} has several parents. Use `to_edges` or `to_dict`.")
    nested = {i: {} for i in range(hierarchy.num_nodes)}
    top = {}
    for i, row in enumerate(hierarchy.parents):
        (nested[row[0]] if row else top)[hierarchy.names[i]] = nested[i]
    return top


def networkx_from_hierarchy(hierarchy):
    try:  # kept out of the imports at the top: a checkpoint's remote code must load without networkx
        import networkx
    except ImportError as error:
        raise ImportError("`to_networkx` needs networkx: pip install networkx") from error
    graph = networkx.DiGraph()
    for i, name in enumerate(hierarchy.names):
        graph.add_node(name, level=int(hierarchy.levels[i]), is_label=i < hierarchy.num_labels, text=hierarchy.texts[i])
    graph.add_edges_from((hierarchy.names[p], name) for name, row in zip(hierarchy.names, hierarchy.parents) for p in row)
    return graph
