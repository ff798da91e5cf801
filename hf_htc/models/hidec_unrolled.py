"""A hierarchy unrolled into a tree: the copies of its nodes, the candidates that HiDEC decides on, and what follows from a
decision.

A node with several parents has one copy below each copy of each of them; all copies share one embedding. Only inner copies (those
with children, and the virtual root) form units, so only they are numbered: in preorder, so that the inner copies below `c` are
`c + 1 ... end[c] - 1`, and an ancestor is found by two comparisons. Nodes that lead to no label are left out.

Legend: `M` nodes, `N` labels, `P` inner copies with the virtual root, which is number 0; `K` candidates of all units: the
children of an inner copy, then [END] where its node is a label; `B` documents.
"""

import math

import numpy as np
import torch
from transformers import initialization as init

from .errors import HTCError
from .label_sets import gather_rows
from .modules import HTCModule


MAX_COPIES = 200_000
# Inner copies and candidates that are scored together when all of them are.
_CHUNK_COPIES, _CHUNK_CANDIDATES = 256, 4096


def count_copies(hierarchy):
    """How many copies the nodes of a hierarchy have together: `int`, the number of ways from the top to all nodes."""
    number = [0] * hierarchy.num_nodes
    for node in np.argsort(hierarchy.levels, kind="stable").tolist():
        number[node] = sum(number[parent] for parent in hierarchy.parents[node]) or 1
    return sum(number)


def check_copies(hierarchy):
    """Raises `ValueError` for a hierarchy with too many copies."""
    number = count_copies(hierarchy)
    if number > MAX_COPIES:
        raise HTCError(
            f"Unrolled into a tree, the hierarchy has {number:,} copies of its {hierarchy.num_nodes:,} nodes; HiDEC takes at "
            f"most {MAX_COPIES:,}. Remove parents of nodes that have several, or choose a method that does not unroll, such as "
            "'hitin'."
        )


def unroll(hierarchy):
    """The [`UnrolledHierarchy`] of a hierarchy, built once."""
    cached = hierarchy.__dict__.get("_unrolled")
    if cached is None:
        cached = hierarchy.__dict__["_unrolled"] = UnrolledHierarchy(hierarchy)
    return cached


class UnrolledHierarchy:
    """
    The numbers of a hierarchy's copies and candidates, numpy arrays (int64).

    Args:
        hierarchy ([`LabelHierarchy`]).

    Raises:
        `ValueError`: more than 200,000 copies.

    Attributes: `embedding (P,)`, row of a copy's node in the table of embeddings (nodes, then [END], then the root);
    `parent (P,)`, the root's is itself; `depth (P,)`, the root's is 0; `end (P,)`; `entry (P,)`, the candidate that leads to a
    copy (the root's is meaningless); `first (P + 1,)`, where the candidates of a copy begin; of every candidate `unit (K,)`, the
    copy that decides it, `candidate (K,)`, its row in the table of embeddings, `bias (K,)`, its number among the candidates of
    all nodes, `child (K,)`, the inner copy it leads to or -1, `label (K,)`, the label it decides or -1, `level (K,)`, the level
    of the child, from 1 ([END]: of its label); of the candidates of all nodes `bias_node` and `bias_child`, the node (-1 is the
    root) and the child (its own node: [END]); `deciding`, candidates that decide a label, by label; `label_copy (N,)`, an inner
    copy of a label or -1.
    """

    def __init__(self, hierarchy):
        check_copies(hierarchy)
        self.num_nodes, self.num_labels = hierarchy.num_nodes, hierarchy.num_labels
        self.end_row, self.root_row = self.num_nodes, self.num_nodes + 1
        children = self._children(hierarchy)
        self._number_copies(children)
        self._number_candidates(children)
        self.level = hierarchy.levels[self.bias_child[self.bias]]
        self.num_copies, self.num_candidates = len(self.embedding), len(self.candidate)
        self.num_depths = int(self.depth.max()) + 1
        self.jumps = self._jumps()
        self.chunks = self._chunks()

    @staticmethod
    def _children(hierarchy):
        """Children of every node and, last, of the root that are labels or lead to one."""
        useful = np.zeros(hierarchy.num_nodes, dtype=bool)
        useful[: hierarchy.num_labels] = True
        for node in np.argsort(-hierarchy.levels, kind="stable").tolist():
            useful[node] |= any(useful[child] for child in hierarchy.children[node])
        rows = [*hierarchy.children, hierarchy.top_nodes]
        return [[child for child in row if useful[child]] for row in rows]

    def _number_copies(self, children):
        nodes, parents, depths = [], [], []
        stack = [(-1, 0, 0)]
        while stack:
            node, parent, depth = stack.pop()
            number = len(nodes)
            nodes.append(node)
            parents.append(parent)
            depths.append(depth)
            stack.extend((child, number, depth + 1) for child in reversed(children[node]) if children[child])
        sizes = [1] * len(nodes)
        for number in range(len(nodes) - 1, 0, -1):
            sizes[parents[number]] += sizes[number]
        self.node, self.parent, self.depth = np.asarray(nodes), np.asarray(parents), np.asarray(depths)
        self.end = np.arange(len(nodes)) + np.asarray(sizes)
        self.embedding = np.where(self.node < 0, self.root_row, self.node)

    def _number_candidates(self, children):
        # Candidates of the nodes, root first (row 0); every copy of a node has the same.
        inner = np.asarray([-1, *(node for node, row in enumerate(children[:-1]) if row)])
        rows = [children[node] + ([self.end_row] if 0 <= node < self.num_labels else []) for node in inner.tolist()]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        flat = np.asarray([row for whole in rows for row in whole], dtype=np.int64)
        self.bias_node = np.repeat(inner, np.diff(starts))
        self.bias_child = np.where(flat == self.end_row, self.bias_node, flat)
        place = np.searchsorted(inner, self.node)  # `inner` is ascending
        sizes, self.candidate = gather_rows(starts, flat, place)
        _, self.bias = gather_rows(starts, np.arange(len(flat)), place)
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.unit = np.repeat(np.arange(len(self.node)), sizes)
        is_end = self.candidate == self.end_row
        leads_on = np.asarray([bool(row) for row in children[:-1]] + [False])[self.candidate]
        # Children of a copy are numbered in the order in which they are its candidates.
        self.child = np.full(len(self.candidate), -1, dtype=np.int64)
        self.child[leads_on] = np.argsort(self.parent[1:], kind="stable") + 1
        self.entry = np.zeros(len(self.node), dtype=np.int64)
        self.entry[self.child[leads_on]] = np.flatnonzero(leads_on)
        self.label = np.where(leads_on, -1, np.where(is_end, self.node[self.unit], self.candidate))
        deciding = np.flatnonzero(self.label >= 0)
        self.deciding = deciding[np.argsort(self.label[deciding], kind="stable")]
        self.label_copy = np.full(self.num_labels, -1, dtype=np.int64)
        of_labels = np.flatnonzero((self.node >= 0) & (self.node < self.num_labels))[::-1]
        self.label_copy[self.node[of_labels]] = of_labels

    def _jumps(self):
        """The ancestors 1, 2, 4, ... above every copy, `(J, P)`; the root stays where it is."""
        jumps, reach = [], 1
        while reach < self.num_depths:
            jumps.append(jumps[-1][jumps[-1]] if jumps else self.parent)
            reach *= 2
        return np.stack(jumps) if jumps else np.zeros((0, len(self.parent)), dtype=np.int64)

    def _chunks(self):
        """Ranges `[start, stop)` of copies to score together. The ancestors outside a range are those of its first copy."""
        chunks, start = [], 0
        while start < len(self.node):
            last = np.searchsorted(self.first, self.first[start] + _CHUNK_CANDIDATES, side="right") - 1
            stop = min(max(start + 1, int(last)), start + _CHUNK_COPIES, len(self.node))
            chunks.append((start, stop))
            start = stop
        return chunks

    def ancestors(self, copy):
        """The copies above a copy, the root first: `list[int]`."""
        found = []
        while copy:
            copy = int(self.parent[copy])
            found.append(copy)
        return found[::-1]


class HierarchyCopies(HTCModule):
    """
    The same numbers on the model's device, and what is computed from them without a loop over documents.

    Args:
        config ([`HiDECConfig`]).
    """

    _NAMES = ("embedding", "parent", "depth", "end", "entry", "first", "unit", "candidate", "bias", "child", "label", "level",
              "deciding", "label_copy", "jumps")  # fmt: skip

    def __init__(self, config):
        super().__init__()
        tree = unroll(config.get_hierarchy())
        self.num_labels, self.num_copies, self.num_candidates = tree.num_labels, tree.num_copies, tree.num_candidates
        self.chunks = tree.chunks
        self.above_chunk = [tree.ancestors(start) for start, _ in tree.chunks]
        self.chunk_candidates = [(int(tree.first[start]), int(tree.first[stop])) for start, stop in tree.chunks]
        self.num_root_candidates = int(tree.first[1])
        self.num_biases, self.num_depths = len(tree.bias_node), tree.num_depths
        self.is_tree = len(tree.deciding) == tree.num_labels
        for name in self._NAMES:
            self.register_buffer(name, torch.empty(getattr(tree, name).shape, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def init_weights(self, config):
        tree = unroll(config.get_hierarchy())
        for name in self._NAMES:
            init.copy_(getattr(self, name), torch.as_tensor(getattr(tree, name), device="cpu"))

    # ------------------------------------------------------------------ sub-hierarchies

    def sub_hierarchy(self, has_label):
        """
        The copies of some labels with all their ancestors.

        Args:
            has_label (`torch.BoolTensor` of shape `(B, N)`).

        Returns:
            `torch.BoolTensor` of shape `(B, P)`: which inner copies belong to it; the root always does.
        """
        # A label begins at the copies that decide it; a copy belongs where one begins at it or below, in [c, end[c]).
        begins = torch.zeros(has_label.shape[0], self.num_copies, dtype=torch.int32, device=has_label.device)
        at = has_label[:, self.label[self.deciding]].to(torch.int32)
        begins = begins.index_add(1, self.unit[self.deciding], at)
        before = torch.nn.functional.pad(begins.cumsum(1), (1, 0))  # (B, P + 1)
        present = before[:, self.end] > before[:, :-1]
        return present | (self.depth == 0)

    def is_above(self, above, below):
        """Whether copies are the same or an ancestor of others; shapes broadcast."""
        return (above <= below) & (below < self.end[above])

    def gold(self, has_label, present, document, entry):
        """Which candidates belong to a document's sub-hierarchy, `(E,)` bool: a label's own or [END] candidate where the document
        has the label, an inner child where the child belongs to it."""
        label, child = self.label[entry], self.child[entry]
        return torch.where(label >= 0, has_label[document, label.clamp(min=0)], present[document, child.clamp(min=0)])

    # ------------------------------------------------------------------ from decisions to labels

    def path_margins(self, margins):
        """
        The smallest margin on the way from the root to every inner copy.

        Args:
            margins (`torch.Tensor` of shape `(B, K)`): Of every candidate; infinite where it was not computed.

        Returns:
            `torch.Tensor` of shape `(B, P)`; the root's is infinite.
        """
        found = torch.where(self.depth == 0, math.inf, margins[:, self.entry])
        for jump in self.jumps:
            found = torch.minimum(found, found[:, jump])
        return found

    def label_logits(self, margins, path):
        """The smallest margin on the way to a label, the largest over its copies: `(B, N)` of `margins (B, K)` and
        `path (B, P)`."""
        scores = torch.minimum(path[:, self.unit[self.deciding]], margins[:, self.deciding])
        if self.is_tree:  # one candidate a label, and they stand by label
            return scores
        index = self.label[self.deciding].expand(scores.shape[0], -1)
        logits = scores.new_full((scores.shape[0], self.num_labels), -math.inf)
        return logits.scatter_reduce(1, index, scores, "amax")

    def nearest_candidate(self, margins, path):
        """The candidate that was not chosen, though its unit was reached, with the largest margin: `(B,)`."""
        refused = (path[:, self.unit] > 0) & (margins <= 0)
        return torch.where(refused, margins, -math.inf).argmax(1)

    def nearest_labels(self, margins, path):
        """
        The label for a document that got none: beginning with [`~HierarchyCopies.nearest_candidate`], the largest margin of every
        unit is followed.

        Returns:
            `torch.BoolTensor` of shape `(B, N)`: one label a document, or several whose margins are equal to the last digit.
        """
        start = self.nearest_candidate(margins, path).unsqueeze(1)  # (B, 1)
        largest = margins.new_full(path.shape, -math.inf)
        largest = largest.scatter_reduce(1, self.unit.expand_as(margins), margins, "amax")  # (B, P)
        best = margins == largest[:, self.unit]  # (B, K)
        is_start = self.entry == start
        begins = is_start & (self.depth > 0)
        leads = best[:, self.entry] & (self.depth > 0)
        for jump in self.jumps:  # a copy is reached when it, or one that leads on to it, is where the way begins
            begins, leads = begins | (leads & begins[:, jump]), leads & leads[:, jump]
        decided = (self.deciding == start) | (best[:, self.deciding] & begins[:, self.unit[self.deciding]])
        index = self.label[self.deciding].expand(decided.shape[0], -1)
        found = torch.zeros(decided.shape[0], self.num_labels, dtype=torch.int32, device=margins.device)
        return found.scatter_add(1, index, decided.to(torch.int32)) > 0

    def with_ancestors(self, has_label):
        """`has_label (B, N)` and all labels above them."""
        above = self.sub_hierarchy(has_label)[:, self.label_copy.clamp(min=0)] & (self.label_copy >= 0)
        return has_label | above
