"""`LabelHierarchy`: a label taxonomy, tree or DAG, with everything that models, data and metrics ask of it.

Plain Python and numpy, so that the code saved with a checkpoint can use it without the rest of the package.

Legend: `M` nodes, `N` labels (`N <= M`), `E` edges, `S` label sets.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import HTCError, HTCTypeError
from .hierarchy_formats import (
    checked_parents,
    edges_from_nested,
    edges_from_networkx,
    hierarchy_statistics,
    identity_from_networkx,
    module_of_package,
    nested_from_hierarchy,
    networkx_from_hierarchy,
    parents_from_edges,
    parents_from_paths,
    tree_text,
    write_hierarchy,
)
from .hierarchy_identity import IDENTITY, NodeIdentity
from .label_sets import Csr, LabelSets, SetsT, as_csr, contains, from_csr, from_keys, gather_rows, row_ids, sorted_unique


ROOT = "Root"


class LabelHierarchy(NodeIdentity):
    """
    A taxonomy of `M` nodes, `N` of which are labels.

    Ids `0..N-1` are the labels: what a document can be given, what `logits` and metrics cover. Ids `N..M-1` are
    structure-only nodes, ancestors that are no target themselves. The virtual root is no node. A node may have several
    parents (DAG). First-level leaves, isolated labels and a single label are fine.

    Args:
        names (`list[str]` of length `M`): Unique names; a path where last segments repeat.
        parents (`list[list[int]]` of length `M`): Parent ids of each node, empty for a first-level node. A flat list of
            ids with `-1` (or `None`) for first-level nodes is accepted for trees.
        num_labels (`int`, *optional*): `N`; the first `N` nodes are labels. Defaults to all nodes.
        texts (`list[str]`, *optional*): Label words of each node; defaults to the names.
        descriptions (`list[str]`, *optional*): A longer text of each node.
        ids (`list[str]`, *optional*): The id of each node's own, a code or a URI, `None` where there is none. This and the lists
            below may be a `dict` by node number.
        language (`str`, *optional*): Language of the texts, a tag such as `"en"`.
        translations (`dict[str, list[str]]`, *optional*): Texts in other languages, by language.
        alternative_names (`list[list[str]]`, *optional*): Other words for each node.
        attributes (`list[dict]`, *optional*): What else is known of each node, plain values by name.

    Raises:
        `ValueError`: a cycle, a duplicate or empty name, an unknown parent, a repeated parent, a length that does not
        match; the message names the culprit.

    Example:

    ```python
    >>> hierarchy = LabelHierarchy.from_paths(["sport/football", "sport/tennis", "politics"])
    >>> hierarchy.label_names
    ['sport', 'sport/football', 'sport/tennis', 'politics']
    >>> hierarchy.close([[1], [3]])
    [[0, 1], [3]]
    ```
    """

    def __init__(
        self,
        names: Iterable[str],
        parents: Iterable[Sequence[int] | int | None],
        num_labels: int | None = None,
        texts: Iterable[str] | None = None,
        descriptions: Iterable[str] | None = None,
        ids: Sequence[str | None] | Mapping[int, str] | None = None,
        language: str | None = None,
        translations: Mapping[str, Any] | None = None,
        alternative_names: Sequence[Sequence[str]] | Mapping[int, Sequence[str]] | None = None,
        attributes: Sequence[Mapping[str, Any]] | Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        self.names = list(names)
        self.num_nodes = len(self.names)
        self.num_labels = self.num_nodes if num_labels is None else int(num_labels)
        self._check_names()
        self.parents = checked_parents(parents, self.names)
        self.texts = self._checked_texts("texts", texts, self.names)
        self.descriptions = self._checked_texts("descriptions", descriptions, None)
        self._set_identity(ids, language, translations, alternative_names, attributes)
        self.levels = self._levels()

    # ------------------------------------------------------------------ building and checking

    def _check_names(self):
        if not self.names:
            raise HTCError("The hierarchy has no nodes: give at least one label name.")
        if not 1 <= self.num_labels <= self.num_nodes:
            raise HTCError(f"`num_labels` is {self.num_labels}; it must lie between 1 and the number of nodes, {self.num_nodes}.")
        ids = {}
        for i, name in enumerate(self.names):
            if not isinstance(name, str):
                raise HTCTypeError(f"Node {i} has the name {name!r} of type {type(name).__name__}; names are strings.")
            if not name.strip():
                raise HTCError(f"Node {i} has an empty name. Give every node a name of its own.")
            if name in ids:
                raise HTCError(
                    f"The name {name!r} stands for two nodes, {ids[name]} and {i} (duplicate name). Use whole paths as names "
                    "where last segments repeat, e.g. `LabelHierarchy.from_paths`."
                )
            ids[name] = i
        self._ids = ids

    def _checked_texts(self, what, texts, default):
        if texts is None:
            return None if default is None else list(default)
        texts = list(texts)
        if len(texts) != self.num_nodes:
            raise HTCError(f"`{what}` has {len(texts)} entries for {self.num_nodes} nodes; give one a node.")
        return texts

    def _levels(self):
        """Longest path from the top, first level 1 (Kahn's order, which also finds cycles)."""
        waiting = [len(row) for row in self.parents]
        levels = [1] * self.num_nodes
        order = [i for i, count in enumerate(waiting) if count == 0]
        for node in order:
            for child in self.children[node]:
                levels[child] = max(levels[child], levels[node] + 1)
                waiting[child] -= 1
                if waiting[child] == 0:
                    order.append(child)
        if len(order) < self.num_nodes:
            self._raise_cycle({i for i, count in enumerate(waiting) if count > 0})
        self._order = order
        return np.asarray(levels, dtype=np.int64)

    def _raise_cycle(self, unordered):
        # Every unordered node has an unordered parent, so walking up must come back to a node already seen.
        node, walk = min(unordered), {}
        while node not in walk:
            walk[node] = len(walk)
            node = next(p for p in self.parents[node] if p in unordered)
        cycle = [self.names[i] for i in [*list(walk)[walk[node] :], node][::-1]]
        shown = cycle if len(cycle) <= 20 else [*cycle[:10], f"... {len(cycle) - 20} more ...", *cycle[-10:]]
        raise HTCError(f"The hierarchy has a cycle: {' -> '.join(shown)}. Remove one of these parent-child edges.")

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[tuple[str | None, str]],
        labels: Sequence[str] | None = None,
        root: str | None = ROOT,
        texts: Mapping[str, str] | None = None,
        descriptions: Mapping[str, str] | None = None,
    ) -> LabelHierarchy:
        """
        Builds a hierarchy from `(parent, child)` names.

        Args:
            edges (`Iterable[tuple[str, str]]`): A parent equal to `root`, `None` or `""` declares a first-level node.
                When no edge names the root, every name that is nobody's child is a first-level node.
            labels (`Sequence[str]`, *optional*): Names that are labels, in id order; the other nodes are structure-only.
                A label that no edge mentions becomes an isolated first-level label only when the root is not named.
                Defaults to all nodes in order of appearance.
            root (`str`, *optional*, defaults to `"Root"`): Name of the virtual root.
            texts, descriptions (`dict[str, str]`, *optional*): By node name; missing ones default to the name and to `""`.

        Raises:
            `ValueError`: as the class does; also an edge that is given twice, and, when the root is named, a parent that
            no edge introduces as a child (unknown parent).
        """
        parents, isolated_ok = parents_from_edges(edges, root)
        return cls._from_names(parents, labels, texts, descriptions, isolated_ok)

    @classmethod
    def _from_names(cls, parents, labels=None, texts=None, descriptions=None, isolated_ok=False):
        names = list(parents)
        num_labels = None
        if labels is not None:
            labels = list(labels)
            missing = [name for name in labels if name not in parents]
            if missing and not isolated_ok:
                close = difflib.get_close_matches(str(missing[0]), names, n=3)
                raise HTCError(
                    f"The label {missing[0]!r} is not in the taxonomy ({len(missing)} such labels)."
                    + (f" Close names: {close}." if close else "")
                    + " Add it to the taxonomy or correct the name."
                )
            num_labels = len(labels)
            label_set = set(labels)
            names = labels + [name for name in names if name not in label_set]
        ids = {name: i for i, name in enumerate(names)}
        rows = [[ids[p] for p in parents.get(name, [])] for name in names]
        return cls(
            names,
            rows,
            num_labels,
            None if texts is None else [texts.get(name, name) for name in names],
            None if descriptions is None else [descriptions.get(name, "") for name in names],
        )

    @classmethod
    def from_paths(
        cls, paths: Iterable[str | Sequence[str]], separator: str = "/", labels: Sequence[str] | None = None
    ) -> LabelHierarchy:
        """
        Builds a tree from root-to-node paths; every prefix becomes a node.

        A node's name is its path joined by `separator`, its text the last segment, so equal last segments under different
        parents stay different nodes.

        Args:
            paths (`Iterable[str | Sequence[str]]`): `"sport/football"` or `["sport", "football"]`.
            separator (`str`, *optional*, defaults to `"/"`): Splits strings, joins names.
            labels (`Sequence[str]`, *optional*): Names that are labels, in id order. Defaults to all nodes.

        Raises:
            `ValueError`: an empty segment, or a segment of a sequence that holds the separator; the path is named.
        """
        parents, texts = parents_from_paths(paths, separator)
        return cls._from_names(parents, labels, texts)

    @classmethod
    def from_nested(cls, nested: Any, separator: str | None = None, labels: Sequence[str] | None = None) -> LabelHierarchy:
        """Builds a hierarchy from nested JSON: `{"sport": {"football": {}, "tennis": {}}, "politics": {}}`; lists hold leaves.
        With `separator`, names are joined paths, as in [`~LabelHierarchy.from_paths`]; without, names must be unique."""
        if separator is not None:
            paths = [path for _, _, path in edges_from_nested(nested)]
            return cls.from_paths(paths, separator, labels)
        seen = set()
        for _, child, path in edges_from_nested(nested):
            if child in seen:
                raise HTCError(
                    f"The name {child!r} occurs twice in the nested taxonomy (duplicate name, second at {'/'.join(path)!r}). "
                    "Pass `separator='/'` to use whole paths as names."
                )
            seen.add(child)
        return cls.from_edges([(parent, child) for parent, child, _ in edges_from_nested(nested)], labels, root=None)

    @classmethod
    def from_networkx(cls, graph: Any, labels: Sequence[str] | None = None, root: str | None = ROOT) -> LabelHierarchy:
        """Builds a hierarchy from a networkx `DiGraph` with edges parent -> child; node attributes as
        [`~LabelHierarchy.to_networkx`] gives them are taken over. A node named `root` is the virtual root."""
        edges, texts, descriptions, marked, nodes = edges_from_networkx(graph, root)
        found = cls.from_edges(edges, marked if labels is None else labels, root, texts or None, descriptions or None)
        facts = identity_from_networkx(graph, found.names, nodes)
        return cls(found.names, found.parents, found.num_labels, found.texts, found.descriptions, **facts)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        labels: Sequence[str] | None = None,
        root: str | bool | None = None,
        separator: str | None = None,
        *,
        format: str | None = None,
        language: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
    ) -> LabelHierarchy:
        """
        Reads a taxonomy file. Its form is recognised by content and said in one line of the log: edge lists, paths, indented
        lines, tables with one column per level, codes whose beginning is the parent, tree numbers, nested and adjacency JSON,
        networkx's node-link JSON, SKOS, OBO, HiAGM's files, and what [`~LabelHierarchy.save`] writes. Needs the package hf_htc.

        Args:
            path (`str` or `os.PathLike`): The file, possibly compressed.
            labels (`Sequence[str]`, *optional*): Names that are labels, in id order. Defaults to what the file says, else all.
            root (`str` or `bool`, *optional*): Name of the virtual root, which is no node. By default it is recognised: a node
                called `"Root"`, or a node above all others with several children that `labels` does not name; it is left out and
                named in the log and in `left_out_root`. `False` keeps every node.
            separator (`str`, *optional*): What joins the segments of a path; recognised by default.
            format (`str`, *optional*): The form, where it is not recognised: one of [`hf_htc.data.taxonomies.FORMATS`].
            language (`str`, *optional*): Language of the texts, of a file with several. Defaults to the one that most nodes have.
            encoding, delimiter (`str`, *optional*): Of a text file; recognised by default.
            header (`bool`, *optional*): Whether the first line names the columns; recognised by default.

        Raises:
            `FileNotFoundError`: no such file. [`HTCError`]: a form that is not understood or ambiguous, an unreadable file, what
            the class refuses; file and line are named. `ImportError`: the package, or the extra that a form needs, is missing.
        """
        reading = module_of_package("hf_htc.data.taxonomies", "Reading a taxonomy file")
        hierarchy = reading.read_taxonomy(
            path, labels, root, separator, format=format, language=language, encoding=encoding, delimiter=delimiter, header=header
        )
        if not isinstance(hierarchy, cls):  # the copy of this class that came with a checkpoint
            left_out_root, hierarchy = hierarchy.left_out_root, cls.from_dict(hierarchy.to_dict())
            hierarchy.left_out_root = left_out_root
        return hierarchy

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelHierarchy:
        """The inverse of [`~LabelHierarchy.to_dict`]."""
        unknown = set(content) - {"names", "parents", "num_labels", "texts", "descriptions"} - set(IDENTITY)
        if unknown:
            raise HTCError(f"A hierarchy's dict has the unknown keys {sorted(unknown)}.")
        return cls(**content)

    # ------------------------------------------------------------------ back to other forms

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and strings (JSON-able); of texts, descriptions, ids, ... only what says more than the names."""
        content = {
            "names": list(self.names),
            "parents": [list(row) for row in self.parents],
            "num_labels": self.num_labels,
        }
        if self.texts != self.names:
            content["texts"] = list(self.texts)
        if self.descriptions is not None:
            content["descriptions"] = list(self.descriptions)
        return {**content, **self._identity_dict()}

    def to_edges(self, root: str | None = ROOT) -> list[tuple[str | None, str]]:
        """`list[tuple[str, str]]` of (parent, child) names in id order of the child; first-level nodes under `root`.

        Raises:
            `ValueError`: a node has the root's name.
        """
        if root in self:
            raise HTCError(f"A node has the name of the virtual root, {root!r}; pass another `root`, or None.")
        return [
            (self.names[p], self.names[i]) if row else (root, self.names[i])
            for i, row in enumerate(self.parents)
            for p in row or [None]
        ]

    def to_paths(self, separator: str = "/") -> list[str]:
        """`list[str]`: one path a node and way from the top (trees: one a node), made of the nodes' texts."""
        return [separator.join(self.texts[i] for i in path) for node in range(self.num_nodes) for path in self.paths(node)]

    def to_nested(self) -> dict[str, Any]:
        """Nested dicts by name, as [`~LabelHierarchy.from_nested`] reads them. Trees only.

        Raises:
            `ValueError`: a node has several parents.
        """
        return nested_from_hierarchy(self)

    def to_networkx(self) -> Any:
        """A networkx `DiGraph` of names, edges parent -> child, attributes `level`, `is_label`, `text` and, where the hierarchy
        has them, `description`, `own_id`, `alternative_names`, `translations`, `attributes`."""
        return networkx_from_hierarchy(self)

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        """
        Writes the hierarchy to a file, as a whole or not at all.

        Args:
            path (`str` or `os.PathLike`): The file. `.json`: [`~LabelHierarchy.to_dict`], which keeps everything. Without
                `format`, any other suffix: `parent<TAB>child` lines with the root's rows, in id order of the child, so that
                [`~LabelHierarchy.from_file`] gives the same ids; they hold names and edges only.
            format (`str`, *optional*): Another form, one of [`hf_htc.data.taxonomies_writing.FORMS`]: `"skos"`, `"csv"`,
                `"paths"`, `"obo"`, ...; what it cannot hold is said in a warning. Needs the package hf_htc.

        Raises:
            [`HTCError`]: a name that lines cannot hold, a form that cannot hold the hierarchy.
        """
        if format is None:
            write_hierarchy(self, Path(path))
        else:
            module_of_package("hf_htc.data.taxonomies_writing", "Writing this form").write_taxonomy(self, path, format)

    # ------------------------------------------------------------------ nodes

    def __len__(self) -> int:
        return self.num_nodes

    def __contains__(self, name: object) -> bool:
        return name in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelHierarchy) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def __repr__(self) -> str:
        kind = "tree" if self.is_tree else "DAG"
        extra = f", {self.num_nodes - self.num_labels} structure-only nodes" if self.num_nodes > self.num_labels else ""
        return f"LabelHierarchy({kind} of {self.num_labels} labels{extra}, {self.num_levels} levels)"

    @property
    def label_names(self) -> list[str]:
        """`list[str]`: names of the `N` labels in id order."""
        return self.names[: self.num_labels]

    @property
    def num_levels(self) -> int:
        """Length of the longest root-to-node path."""
        return int(self.levels.max())

    @cached_property
    def is_tree(self) -> bool:
        """Whether no node has more than one parent."""
        return all(len(row) <= 1 for row in self.parents)

    @cached_property
    def children(self) -> list[list[int]]:
        """`list[list[int]]`: child ids of each node, ascending."""
        children: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for child, row in enumerate(self.parents):
            for parent in row:
                children[parent].append(child)
        return children

    @cached_property
    def edges(self) -> np.ndarray:
        """`np.ndarray` of shape `(E, 2)`, int64: (parent id, child id), ordered by child."""
        pairs = [(parent, child) for child, row in enumerate(self.parents) for parent in row]
        return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)

    @cached_property
    def top_nodes(self) -> list[int]:
        """Ids of the first-level nodes."""
        return [i for i, row in enumerate(self.parents) if not row]

    @cached_property
    def leaves(self) -> list[int]:
        """Ids of the nodes without children."""
        return [i for i, row in enumerate(self.children) if not row]

    @cached_property
    def ancestor_table(self) -> Csr:
        """CSR pair over the `M` nodes: the proper ancestors of each, ascending ids (int64)."""
        above: list[tuple[int, ...]] = [()] * self.num_nodes
        for node in self._order:
            row = self.parents[node]
            if len(row) == 1:
                above[node] = above[row[0]] + (row[0],)
            elif row:
                above[node] = tuple({a for p in row for a in (*above[p], p)})
        lengths = np.fromiter((len(row) for row in above), dtype=np.int64, count=self.num_nodes)
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        indices = np.fromiter((a for row in above for a in sorted(row)), dtype=np.int64, count=int(indptr[-1]))
        return indptr, indices

    @cached_property
    def _label_ancestors(self) -> Csr:
        """CSR pair over the `N` labels: their proper ancestors that are labels too."""
        indptr, indices = self.ancestor_table
        rows = row_ids(indptr)
        keep = (rows < self.num_labels) & (indices < self.num_labels)
        counts = np.bincount(rows[keep], minlength=self.num_labels)[: self.num_labels]
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), indices[keep]

    def ancestors(self, node: int) -> list[int]:
        """Ids of all proper ancestors of a node, higher levels first."""
        indptr, indices = self.ancestor_table
        return sorted(indices[indptr[node] : indptr[node + 1]].tolist(), key=lambda i: (self.levels[i], i))

    def descendants(self, node: int) -> list[int]:
        """Ids of all proper descendants of a node, ascending."""
        found, stack = set(), list(self.children[node])
        while stack:
            current = stack.pop()
            if current not in found:
                found.add(current)
                stack.extend(self.children[current])
        return sorted(found)

    def siblings(self, node: int) -> list[int]:
        """Ids of the other children of a node's parents (of the other first-level nodes for a first-level node), ascending."""
        rows = [self.children[p] for p in self.parents[node]] or [self.top_nodes]
        return sorted({i for row in rows for i in row} - {node})

    def paths(self, node: int, max_paths: int | None = None) -> list[list[int]]:
        """Root-to-node paths, `list[list[int]]`: one in a tree, possibly many in a DAG (the first `max_paths`)."""
        found: list[list[int]] = []
        stack: list[tuple[int, tuple[int, ...]]] = [(node, (node,))]
        while stack and (max_paths is None or len(found) < max_paths):
            current, path = stack.pop()
            if not self.parents[current]:
                found.append(list(path))
            stack.extend((p, (p, *path)) for p in reversed(self.parents[current]))
        return found

    def root_branches(self) -> list[np.ndarray]:
        """`list[np.ndarray]`: each first-level node with its descendants, ascending ids; branches of a DAG may overlap."""
        return [np.asarray(sorted([top, *self.descendants(top)]), dtype=np.int64) for top in self.top_nodes]

    def level_units(self) -> list[np.ndarray]:
        """`list[np.ndarray]`: the label ids of each level, first level first; a level of structure-only nodes is empty."""
        levels = self.levels[: self.num_labels]
        return [np.flatnonzero(levels == level) for level in range(1, self.num_levels + 1)]

    # ------------------------------------------------------------------ label sets

    def close(self, label_sets: SetsT) -> SetsT:
        """
        Adds to every label set the ancestors that are labels (closure `"up"`).

        Args:
            label_sets (`list[list[int]]` or CSR pair `(indptr, indices)`): `S` sets of label ids.

        Returns:
            The same kind, ids ascending and unique.
        """
        indptr, indices, is_csr = as_csr(label_sets, self.num_labels)
        rows = row_ids(indptr)
        lengths, above = gather_rows(*self._label_ancestors, indices)
        keys = np.concatenate([rows * self.num_labels + indices, np.repeat(rows, lengths) * self.num_labels + above])
        return from_csr(*from_keys(sorted_unique(keys), len(indptr) - 1, self.num_labels), is_csr)

    def prune(self, label_sets: SetsT) -> SetsT:
        """Drops from every set the labels that lack one of their ancestor labels (closure `"prune"`); arguments and
        result as in [`~LabelHierarchy.close`]."""
        indptr, indices, is_csr = as_csr(label_sets, self.num_labels)
        keys = sorted_unique(row_ids(indptr) * self.num_labels + indices)
        keep = np.ones(len(keys), dtype=bool)
        keep[self._missing(keys)[0]] = False
        return from_csr(*from_keys(keys[keep], len(indptr) - 1, self.num_labels), is_csr)

    def violations(self, label_sets: LabelSets) -> np.ndarray:
        """`np.ndarray` of shape `(V, 3)`, int64: (set, label, missing ancestor label) for each label whose ancestor is absent."""
        indptr, indices, _ = as_csr(label_sets, self.num_labels)
        keys = sorted_unique(row_ids(indptr) * self.num_labels + indices)
        positions, missing = self._missing(keys)
        return np.stack([keys[positions] // self.num_labels, keys[positions] % self.num_labels, missing], axis=1)

    def is_closed(self, label_sets: LabelSets) -> bool:
        """Whether every set holds all ancestor labels of its labels."""
        return len(self.violations(label_sets)) == 0

    def _missing(self, keys):
        """For sorted keys `set * N + label`: positions of the keys that lack an ancestor label, and that ancestor."""
        rows, labels = keys // self.num_labels, keys % self.num_labels
        lengths, above = gather_rows(*self._label_ancestors, labels)
        absent = ~contains(keys, np.repeat(rows, lengths) * self.num_labels + above)
        return np.repeat(np.arange(len(keys)), lengths)[absent], above[absent]

    # ------------------------------------------------------------------ whole hierarchies

    def with_labels(self, labels: Sequence[str]) -> LabelHierarchy:
        """The same nodes with other labels: `labels` (names, in id order) become ids `0..`, the rest structure-only."""
        rows = {name: [self.names[p] for p in self.parents[i]] for i, name in enumerate(self.names)}
        other = self._from_names(rows, labels)
        facts = self._facts_of([self._ids[name] for name in other.names])
        return LabelHierarchy(other.names, other.parents, other.num_labels, **facts)

    def restrict(self, labels: Iterable[str | int]) -> LabelHierarchy:
        """
        The hierarchy of the used labels only.

        Args:
            labels (`Iterable[str | int]`): Names or ids of the labels to keep; they keep their order of ids. Their other
                ancestors stay as structure-only nodes, everything else goes.
        """
        keep = sorted({self.id(x) if isinstance(x, str) else int(x) for x in labels})
        if not keep:
            raise HTCError("`labels` is empty; a hierarchy needs at least one label.")
        outside = [i for i in keep if not 0 <= i < self.num_labels]
        if outside:
            raise HTCError(f"Id {outside[0]} is not a label; label ids are 0 to {self.num_labels - 1}.")
        structure = sorted({a for i in keep for a in self.ancestors(i)} - set(keep))
        nodes = keep + structure
        new_ids = {old: new for new, old in enumerate(nodes)}
        return LabelHierarchy(
            [self.names[i] for i in nodes],
            [[new_ids[p] for p in self.parents[i]] for i in nodes],
            len(keep),
            **self._facts_of(nodes),
        )

    def statistics(self) -> dict[str, Any]:
        """`dict` of counts: labels, nodes, edges, levels, labels and nodes per level, leaves, first-level nodes, isolated
        nodes, nodes with several parents, largest number of children."""
        return hierarchy_statistics(self)

    def tree(self, max_nodes: int = 100) -> str:
        """The hierarchy as indented text. A node of a DAG stands under each of its parents, its subtree only the first time
        (`...` after it); structure-only nodes are in brackets. At most `max_nodes` lines, then a count of the rest."""
        return tree_text(self, max_nodes)

    def fingerprint(self) -> str:
        """A short hex digest of names, edges and labels; equal for equal hierarchies on every machine."""
        return hashlib.sha256(json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]
