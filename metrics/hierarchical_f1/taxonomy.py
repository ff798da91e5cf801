"""The hierarchy as the metrics need it: parents, levels and the ancestor labels of every label.

Letters: `M` nodes, `N` labels (the nodes with the ids `0..N-1`; the other nodes only give structure).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import numpy as np

from .errors import MetricError, MetricTypeError


class HierarchyLike(Protocol):
    """What `parents` may be an object of: `LabelHierarchy`, [`Taxonomy`]."""

    @property
    def parents(self) -> Sequence[Sequence[int]]: ...

    @property
    def num_labels(self) -> int: ...

    @property
    def names(self) -> Sequence[str] | None: ...


Parents = Mapping[Any, Any] | Sequence[Any] | HierarchyLike


class Taxonomy:
    """
    Nodes, parents and levels, with the table of the ancestor labels of every label.

    Args:
        parents (`dict`, `list` or an object with `parents`, `num_labels` and `names`):
            One of

            - a dict `label -> parents` where the value is a list of parents, one parent, or `None`; the keys are either
              names (the ids follow the order of the keys) or exactly the ids `0..M-1`;
            - a list of `M` lists of parent ids, `[]` for a node of the first level;
            - a flat list of `M` parent ids, `-1` for a node of the first level (trees only);
            - an object such as `LabelHierarchy`, which brings `num_labels` and `names` along.
        num_labels (`int`, *optional*):
            `N`. The nodes `N..M-1` are structure-only: no document can have them, they only connect labels.
            Default: every node is a label.
        names (`list[str]`, *optional*):
            The `M` node names (or the `N` label names), unique, in id order. Default: the keys of a dict of names.

    Attributes:
        parents (`list[list[int]]`): parents of every node, `M` lists.
        levels (`np.ndarray` of shape `(M,)`): 1 for a node without parents, else 1 + the largest level of its parents.
        num_labels (`int`), num_nodes (`int`), names (`list[str]` or `None`).
        ancestor_indptr (`np.ndarray` of shape `(N + 1,)`), ancestor_indices (`np.ndarray`):
            CSR table of the proper ancestors of every label that are labels themselves. A path through structure-only
            nodes counts.

    Raises:
        ValueError: for unknown parents, cycles, duplicate names, a wrong `num_labels`; the message names the culprit.
        TypeError: for another kind of `parents`.
    """

    def __init__(self, parents: Parents, num_labels: int | None = None, names: Sequence[str] | None = None) -> None:
        given: Any = parents
        if isinstance(given, Taxonomy) or all(hasattr(given, name) for name in ("parents", "num_labels", "names")):
            num_labels = given.num_labels if num_labels is None else num_labels
            names = given.names if names is None else names
            given = given.parents
        if isinstance(given, Mapping):
            given, names = _from_mapping(given, names)
        elif isinstance(given, (str, bytes)) or not hasattr(given, "__len__"):
            raise MetricTypeError(
                "`parents` must be a dict, a list or an object with `parents`, `num_labels` and `names`; got "
                f"{type(given).__name__}."
            )
        self.names = None if names is None else _checked_names(names, len(given))
        self.parents = [_checked_parents(node, row, len(given), self) for node, row in enumerate(given)]
        self.num_nodes = len(self.parents)
        self.num_labels = self.num_nodes if num_labels is None else num_labels
        if not self.parents:
            raise MetricError("The hierarchy has no nodes: give at least one label.")
        if isinstance(num_labels, bool) or not isinstance(self.num_labels, (int, np.integer)):
            raise MetricTypeError(f"`num_labels` is {num_labels!r}; it is a whole number.")
        if not 1 <= self.num_labels <= self.num_nodes:
            raise MetricError(
                f"`num_labels` is {self.num_labels}; it must lie between 1 and the number of nodes, {self.num_nodes}."
            )
        if self.names is not None and len(self.names) not in (self.num_nodes, self.num_labels):
            raise MetricError(
                f"`names` has {len(self.names)} entries; give one name a node ({self.num_nodes}) or one a label "
                f"({self.num_labels})."
            )
        self._ids: dict[str, int] | None = None if self.names is None else {name: node for node, name in enumerate(self.names)}
        order = self._topological_order()
        self.levels = np.ones(self.num_nodes, dtype=np.int64)
        ancestors: list[frozenset] = [frozenset()] * self.num_nodes
        for node in order:
            above = self.parents[node]
            if above:
                self.levels[node] = 1 + max(self.levels[parent] for parent in above)
                ancestors[node] = frozenset().union(above, *(ancestors[parent] for parent in above))
        rows: list[list[int]] = [
            sorted(node for node in ancestors[label] if node < self.num_labels) for label in range(self.num_labels)
        ]
        self.ancestor_indptr = np.zeros(self.num_labels + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=self.ancestor_indptr[1:])
        self.ancestor_indices = np.array([node for row in rows for node in row], dtype=np.int64)

    def describe(self, node: int) -> str:
        """The node as it is shown in messages: `3 ('Sports/Football')`, or `3` where names are not known."""
        if self.names is None or node >= len(self.names):
            return str(node)
        return f"{node} ({self.names[node]!r})"

    def encode(self, rows: Sequence[Sequence[str]], what: str = "predictions") -> list[list[int]]:
        """
        Label names to label ids.

        Args:
            rows (`list[list[str]]`): one list of label names a document.
            what (`str`): how messages call the rows.

        Returns:
            `list[list[int]]`: the ids, in the given order.

        Raises:
            ValueError: for a name that is no label, naming row and name; or if the taxonomy has no names.
            TypeError: for a row that is no list.
        """
        if self._ids is None:
            raise MetricError(
                f"{what} holds label names, but the taxonomy has none. Pass `names=[...]` in id order, or `parents` as "
                "a dict of names."
            )
        encoded = []
        for row, labels in enumerate(rows):
            if isinstance(labels, (str, bytes)) or not hasattr(labels, "__iter__"):
                raise MetricTypeError(f"{what} row {row} is {labels!r}; every row must be a list of label names.")
            ids = [self._ids.get(name, self.num_nodes) for name in labels]
            if ids and max(ids) >= self.num_labels:
                self._raise_unknown(row, next(n for n, i in zip(labels, ids) if i >= self.num_labels), what, self._ids)
            encoded.append(ids)
        return encoded

    def _raise_unknown(self, row: int, name, what: str, ids: dict[str, int]) -> None:
        if name in ids:
            raise MetricError(
                f"{what} row {row}: {name!r} is a structure-only node, not a label; labels are the first "
                f"{self.num_labels} of the {self.num_nodes} nodes. Drop it from the row, or raise `num_labels`."
            )
        labels = list(ids)[: self.num_labels]
        close = difflib.get_close_matches(str(name), labels, n=3)
        hint = f"Close: {close}." if close else f"The labels begin with {labels[:5]}."
        raise MetricError(f"{what} row {row}: unknown label {name!r}; the taxonomy has {self.num_labels} labels. {hint}")

    def _topological_order(self) -> list[int]:
        """Nodes, parents before children; raises on a cycle."""
        children: list[list[int]] = [[] for _ in self.parents]
        missing = [len(above) for above in self.parents]
        for node, above in enumerate(self.parents):
            for parent in above:
                children[parent].append(node)
        order = [node for node, count in enumerate(missing) if count == 0]
        for node in order:  # the list grows while it is read: a queue
            for child in children[node]:
                missing[child] -= 1
                if missing[child] == 0:
                    order.append(child)
        if len(order) < self.num_nodes:
            raise MetricError(f"The hierarchy has a cycle: {self._cycle(missing)}. Remove one of these parent-child edges.")
        return order

    def _cycle(self, missing: list[int]) -> str:
        # Every node that was never reached has a parent that was never reached: going up must run into a loop.
        node = next(node for node, count in enumerate(missing) if count > 0)
        trail: list[int] = []
        while node not in trail:
            trail.append(node)
            node = next(parent for parent in self.parents[node] if missing[parent] > 0)
        loop = trail[trail.index(node) :] + [node]
        shown = [str(node) if self.names is None else self._name(node) for node in reversed(loop)]
        shown = shown if len(shown) <= 20 else [*shown[:10], f"... {len(shown) - 20} more ...", *shown[-10:]]
        return " -> ".join(shown)

    def _name(self, node: int) -> str:
        return str(node) if self.names is None or node >= len(self.names) else self.names[node]


def _from_mapping(parents: Mapping, names):
    """A dict `label -> parents` as (list of lists of ids, names)."""
    keys = list(parents)
    if all(isinstance(key, Integral) and not isinstance(key, bool) for key in keys):
        if sorted(keys) != list(range(len(keys))):
            raise MetricError(
                f"The integer keys of `parents` must be exactly the ids 0..{len(keys) - 1}; got {sorted(keys)[:5]}... "
                "Use names (strings) for labels with other numbers."
            )
        return [parents[key] for key in range(len(keys))], names
    for key in keys:
        if not isinstance(key, str):
            raise MetricTypeError(f"The keys of `parents` must be all names or all ids; got the key {key!r} among {keys[:3]}.")
    if names is not None and list(names)[: len(keys)] != keys:
        raise MetricError("`names` differs from the keys of `parents`; leave it out, a dict of names has its own names.")
    ids = {key: node for node, key in enumerate(keys)}
    rows = []
    for key in keys:
        above = parents[key]
        above = [] if above is None else [above] if isinstance(above, str) else list(above)
        for parent in above:
            if parent not in ids:
                raise MetricError(
                    f"The label {key!r} has the parent {parent!r}, which is no key of `parents`. "
                    f"Add {parent!r}: [] for a label of the first level."
                )
        rows.append([ids[parent] for parent in above])
    return rows, keys


def _checked_names(names, num_nodes: int) -> list[str]:
    names = list(names)
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise MetricTypeError(f"Node {position} has the name {name!r} of type {type(name).__name__}; names are strings.")
        if not name.strip():
            raise MetricError(f"Node {position} has an empty name. Give every node a name of its own.")
        if name in seen:
            raise MetricError(
                f"The name {name!r} stands for two nodes, {seen[name]} and {position} (duplicate name). Use whole paths as names "
                "where last segments repeat."
            )
        seen[name] = position
    if len(names) > num_nodes:
        raise MetricError(f"`names` has {len(names)} entries for {num_nodes} nodes.")
    return names


def _checked_parents(node: int, given, num_nodes: int, taxonomy: Taxonomy) -> list[int]:
    shown = f"{taxonomy._name(node)!r}" if taxonomy.names is not None else str(node)
    row = given
    if row is None or (isinstance(row, (int, np.integer)) and not isinstance(row, bool)):
        row = [] if row is None or row == -1 else [row]
    if isinstance(row, (str, bytes)) or not hasattr(row, "__iter__") or not all(map(_is_id, row)):
        raise MetricTypeError(f"The parents of node {shown} are {given!r}; give their ids, whole numbers.")
    above = [int(parent) for parent in row]
    for parent in above:
        if not 0 <= parent < num_nodes:
            raise MetricError(f"Node {shown} has the unknown parent id {parent}; node ids are 0 to {num_nodes - 1}.")
    if len(set(above)) != len(above):
        names = [taxonomy._name(parent) if taxonomy.names is not None else parent for parent in above]
        raise MetricError(f"Node {shown} lists the same parent twice: {names}.")
    return above


def _is_id(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
