"""The nodes of a taxonomy file before they are numbered: parents by key, lines for errors, the root, names.

Every reader fills a [`Draft`]; [`Draft.build`] makes the [`LabelHierarchy`] of it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError
from hf_htc.models.hierarchy import LabelHierarchy


logger = get_logger(__name__)

# Names that only a virtual root has, in small letters.
ROOT_WORDS = {"root", "<root>", "[root]", "(root)", "_root_", "__root__", "virtual root", "root node", "rootnode", "owl:thing"}
# What a table writes where a node has no parent, in small letters.
NO_PARENT = {"", "null", "none", "nan", "na", "n/a", "nil", "\\n", "-", "#n/a"}
KEEP_ROOT = "read it with `root=False` (`--keep_root`) to keep it"


@dataclass(slots=True)
class Node:
    """One node: its key is what parents refer to; `name` is `None` where it follows from id or text."""

    key: object
    line: int | None = None
    parents: list = field(default_factory=list)
    top: bool = False
    name: str | None = None
    id: str | None = None
    text: str | None = None
    description: str | None = None
    alternatives: list = field(default_factory=list)
    translations: dict = field(default_factory=dict)
    attributes: dict = field(default_factory=dict)
    is_label: bool = True


class Draft:
    """
    A taxonomy that is being read.

    Args:
        file (`str`): Name of the file, for messages.
        form (`str`): What the file was taken for, in words.
        naming (`str`): Where names come from that nodes do not have: `"ids"`, or `"texts"`, with paths joined by `separator` in
            their place where texts repeat; `"unique texts"`: only the nodes whose texts repeat get their id behind them.
        separator (`str`, *optional*): Joins the texts of a path.
        paths (`bool`): Whether names are paths in any case.
        complete (`bool`): Whether every node has an entry of its own, so that a parent without one is an error.
        keep_root (`bool`): Whether the form says by itself which nodes are on the first level.
    """

    def __init__(self, file, form, naming="texts", separator=None, paths=False, complete=True, keep_root=False):
        self.file, self.form, self.naming = file, form, naming
        self.separator, self.paths = separator or "/", paths
        self.complete, self.keep_root = complete, keep_root
        self.language = self._root_name = None
        self.nodes, self.mentioned = {}, {}
        self.notes, self.repeated = [], []

    def add(self, key, parent=None, line=None, top=False, **facts):
        """
        Adds a node, or one more parent of it.

        Args:
            key: What parents refer to.
            parent (*optional*): Its key, `None` for no (further) parent.
            line (`int`, *optional*): Where this stands.
            top (`bool`): Whether it is said to be on the first level.
            **facts: Fields of [`Node`]; what is said twice must agree.
        """
        node = self.nodes.get(key)
        if node is None:
            node = self.nodes[key] = Node(key, line)
        elif parent is None and not node.parents and line not in (None, node.line):
            self.repeated.append(line)
        if parent is not None:
            self.mentioned.setdefault(parent, line)
            if parent in node.parents:
                self.repeated.append(line)
            else:
                node.parents.append(parent)
        node.top = node.top or top
        self.mentioned.setdefault(key, line)
        for what, value in facts.items():
            if value is None or value == "":
                continue
            old = getattr(node, what)
            if what == "alternatives":
                node.alternatives += [word for word in value if word not in old]
            elif isinstance(old, dict):
                old.update(value)
            elif old is not None and what in ("name", "id", "text") and old != value:
                raise HTCError(
                    f"{str(key)!r} has the {what} {value!r} here and {old!r} in line {node.line} (duplicate name).",
                    file=self.file,
                    line=line,
                    mend="Give every node one name of its own.",
                )
            else:
                setattr(node, what, value)
        return node

    # ------------------------------------------------------------------ the root

    def settle_root(self, root, labels):
        """Takes the virtual root out, see [`LabelHierarchy.from_file`]; returns the name of a real node that was left out."""
        if root is False:
            for key in [
                key for key in self.mentioned if self.complete and key not in self.nodes and str(key).casefold() in ROOT_WORDS
            ]:
                self._take_out(key)  # it has no entry of its own: only a word for no parent
            return None
        if isinstance(root, str):
            roots = [key for key in self.mentioned if key == root or self._is_called(key, root)]
            if not roots and any(node.top or not node.parents for node in self.nodes.values()) and root == "Root":
                return None
            if not roots:
                close = difflib.get_close_matches(root, [str(key) for key in self.mentioned], n=3)
                raise HTCError(
                    f"no node is called {root!r}, the root.",
                    file=self.file,
                    field="root",
                    value=root,
                    mend=f"Close names: {close}." if close else "Leave `root` out.",
                )
            for key in roots:
                if self.nodes.get(key) is not None and self.nodes[key].parents:
                    raise HTCError(
                        f"the root {root!r} is a child of {self.nodes[key].parents[0]!r}; the virtual root has no parent.",
                        file=self.file,
                        line=self.nodes[key].line,
                    )
                self._take_out(key)
            return None
        unknown = [key for key in self.mentioned if key not in self.nodes]
        named = [key for key in unknown if str(key).casefold() in ROOT_WORDS]
        if not named and len(unknown) == 1 and self.complete and not any(not node.parents for node in self.nodes.values()):
            named = unknown
        for key in named:
            self._take_out(key)
            if key != "Root":
                self.notes.append(f"{str(key)!r} is the root, no node; {KEEP_ROOT}.")
        if named:
            return None
        keys = [key for key in self._order() if key not in self.nodes or not self.nodes[key].parents]
        if len(keys) != 1 or self.keep_root or any(node.top for node in self.nodes.values() if node.key != keys[0]):
            return None
        key = keys[0]
        children = sum(key in node.parents for node in self.nodes.values())
        a_word = any(self._is_called(key, spelled) for word in ROOT_WORDS for spelled in (word, word.title(), word.upper()))
        if children < (1 if a_word else 2) or any(self._is_called(key, label) for label in labels or ()):
            return None
        node = self.nodes.get(key)
        self._root_name = str(key) if node is None else node.name or node.text or node.id or str(key)
        self._take_out(key)
        return key

    def _is_called(self, key, name):
        node = self.nodes.get(key)
        return str(key) == name or (node is not None and name in (node.name, node.id, node.text))

    def _take_out(self, root):
        self.nodes.pop(root, None)
        self.mentioned.pop(root, None)
        for node in self.nodes.values():
            if root in node.parents:
                node.parents.remove(root)
                node.top = True

    # ------------------------------------------------------------------ the hierarchy

    def build(self, labels=None, root=None):
        """
        The [`LabelHierarchy`]; says in one line of the log what was read.

        Args:
            labels (`Sequence[str]`, *optional*), root (`str` or `bool`, *optional*): As in [`LabelHierarchy.from_file`].
        """
        root_key = self.settle_root(root, labels)
        self._check_parents()
        nodes = [self.nodes.setdefault(key, Node(key, self.mentioned.get(key))) for key in self._order()]
        if not nodes:
            raise HTCError("holds no node (has no nodes).", file=self.file, mend="Give at least one label.")
        self._check_cycles(nodes)
        self._check_tops(nodes)
        names = self._names(nodes)
        if labels is not None and not self.complete and not any(node.top for node in nodes):
            # Where edges are all there is, a label without one stands alone.
            for name in dict.fromkeys(labels):
                if name not in set(names):
                    nodes.append(Node(name, name=name))
                    names.append(name)
        order = sorted(range(len(nodes)), key=lambda i: not nodes[i].is_label)  # stable
        nodes, names = [nodes[i] for i in order], [names[i] for i in order]
        numbers = {node.key: number for number, node in enumerate(nodes)}
        try:
            hierarchy = LabelHierarchy(
                names,
                [[numbers[parent] for parent in node.parents] for node in nodes],
                sum(node.is_label for node in nodes) or None,
                [node.text or name for node, name in zip(nodes, names)],
                [node.description or "" for node in nodes] if any(node.description for node in nodes) else None,
                ids=[node.id for node in nodes],
                language=self.language,
                translations=self._translations(nodes),
                alternative_names=[node.alternatives for node in nodes],
                attributes=[node.attributes for node in nodes],
            )
            hierarchy = hierarchy if labels is None else hierarchy.with_labels(labels)
        except HTCError as error:
            raise type(error)(str(error), file=self.file) from error
        if root_key is not None:
            hierarchy.left_out_root = self._root_name
            self.notes.append(f"{self._root_name!r} stands above all other nodes and is left out as the root; {KEEP_ROOT}.")
        return hierarchy

    def _order(self):
        if self.complete or any(node.top for node in self.nodes.values()):
            return list(self.nodes)
        return list(self.mentioned)

    def _check_parents(self):
        unknown = [key for key in self.mentioned if key not in self.nodes]
        if not unknown or not (self.complete or any(node.top for node in self.nodes.values())):
            return
        key = unknown[0]
        child = next(node for node in self.nodes.values() if key in node.parents)
        close = difflib.get_close_matches(str(key), [str(known) for known in self.nodes], n=3)
        raise HTCError(
            f"the unknown parent {str(key)!r} of {str(child.text or child.key)!r} is no node of the file"
            + (f" ({len(unknown)} such parents)." if len(unknown) > 1 else ".")
            + (f" Close names: {close}." if close else ""),
            file=self.file,
            line=self.mentioned[key],
            value=key,
            mend="Add an entry for it, directly below the root if it has no parent, or correct the name.",
        )

    def _check_tops(self, nodes):
        for node in nodes:
            if node.top and node.parents:
                raise HTCError(
                    f"{str(node.key)!r} is a child of the root and of {str(node.parents[0])!r}; a first-level node has no other "
                    "parent.",
                    file=self.file,
                    line=node.line,
                )

    def _check_cycles(self, nodes):
        waiting = {node.key: len(node.parents) for node in nodes}
        children = {}
        for node in nodes:
            for parent in node.parents:
                children.setdefault(parent, []).append(node.key)
        ready = [key for key, count in waiting.items() if not count]
        for key in ready:
            for child in children.get(key, ()):
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)
        if len(ready) == len(nodes):
            return
        closed = {key for key, count in waiting.items() if count}
        key, walk = next(iter(sorted(closed, key=lambda k: self.nodes[k].line or 0))), {}
        while key not in walk:
            walk[key] = None
            key = next(parent for parent in self.nodes[key].parents if parent in closed)
        cycle = [*list(walk)[list(walk).index(key) :], key][::-1]
        shown = [str(self.nodes[k].text or k) for k in cycle]
        shown = shown if len(shown) <= 20 else [*shown[:10], f"... {len(shown) - 20} more ...", *shown[-10:]]
        raise HTCError(
            f"the hierarchy has a cycle: {' -> '.join(shown)}.",
            file=self.file,
            line=min((self.nodes[k].line for k in cycle if self.nodes[k].line), default=None),
            mend="Remove one of these parent-child edges.",
        )

    def _names(self, nodes):
        names = [node.name for node in nodes]
        if self.naming == "ids":
            names = [name or node.id or node.text or str(node.key) for name, node in zip(names, nodes)]
        elif self.paths or None in names:
            texts = [node.text or node.id or str(node.key) for node in nodes]
            counts = {}
            for text in texts:
                counts[text] = counts.get(text, 0) + 1
            repeated = len(counts) < len(texts)
            if self.naming == "unique texts":
                names = [
                    name or (text if counts[text] == 1 else f"{text} ({_tail(node)})")
                    for name, text, node in zip(names, texts, nodes)
                ]
            elif self.paths or repeated:
                names = [name or path for name, path in zip(names, self._joined_paths(nodes, texts))]
                if repeated and not self.paths:
                    self.notes.append(f"Names repeat, so paths joined by {self.separator!r} are the names.")
            else:
                names = [name or text for name, text in zip(names, texts)]
        self._check_names(nodes, names)
        return names

    def _joined_paths(self, nodes, texts):
        text_of = {node.key: text for node, text in zip(nodes, texts)}
        parent_of = {node.key: (node.parents[0] if node.parents else None) for node in nodes}
        joined = {}
        for node in nodes:
            walk, key = [], node.key
            while key is not None and key not in joined:
                walk.append(key)
                key = parent_of[key]
            for key in reversed(walk):
                parent = parent_of[key]
                joined[key] = text_of[key] if parent is None else f"{joined[parent]}{self.separator}{text_of[key]}"
        return [joined[node.key] for node in nodes]

    def _check_names(self, nodes, names):
        holders = {}
        for node, name in zip(nodes, names):
            if not isinstance(name, str) or not name.strip():
                raise HTCError("a node has an empty name.", file=self.file, line=node.line, mend="Give every node a name.")
            if name in holders:
                first = holders[name].line
                raise HTCError(
                    f"the name {name!r} stands for two nodes"
                    + (f"; the other one is in line {first}" if first else "")
                    + " (duplicate name).",
                    file=self.file,
                    line=node.line,
                    value=name,
                    mend="Give them names or ids of their own, or leave one out.",
                )
            holders[name] = node

    def _translations(self, nodes):
        tags = dict.fromkeys(tag for node in nodes for tag in node.translations)
        return {tag: [node.translations.get(tag) for node in nodes] for tag in tags}

    def say(self, hierarchy, recognised=""):
        """One line of the log: what was recognised."""
        kind = "a tree" if hierarchy.is_tree else "a DAG"
        labels = f", {hierarchy.num_labels} of them labels" if hierarchy.num_labels < hierarchy.num_nodes else ""
        if self.repeated:
            lines = [line for line in self.repeated if line]
            self.notes.append(
                f"{len(self.repeated)} entries are given twice"
                + (f", the first in line {lines[0]}" if lines else "")
                + ", and count once."
            )
        notes = "".join(f" {note}" for note in self.notes)
        logger.info(
            f"{self.file}: {self.form}{recognised}; {kind} of {hierarchy.num_nodes} nodes{labels} on {hierarchy.num_levels} "
            f"levels.{notes}"
        )


def _tail(node):
    """What tells a node whose text repeats from the others: the last part of its id."""
    own = node.id or str(node.key)
    return own.rstrip("/#").replace("#", "/").rsplit("/", 1)[-1]
