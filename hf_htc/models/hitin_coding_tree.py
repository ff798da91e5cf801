"""Coding trees: a hierarchy rebuilt as a tree of a given height whose structural entropy is small (Li and Pan, 2016, by the
greedy CIRCA procedure of HiTIN). Plain Python; nothing here needs torch.

A coding tree of height `K` over `M` leaves is a list of `K` lists: entry `i` of list `l` is the place of the parent, in layer
`l + 1`, of node `i` of layer `l`. Layer 0 are the leaves, the hierarchy's nodes in order of their ids; layer `K` is the root
alone.

Legend: `M` nodes of the hierarchy, `K` height. `volume` of a set of nodes: the sum of their degrees; `cut`: edges that leave it.
"""

import heapq
import math

from .errors import HTCError


# Two changes of entropy closer than this are one: their order is that of the ids, not that of rounding errors.
_DIGITS = 9


def build_coding_tree(parents, height):
    """
    The coding tree of a hierarchy, read as an undirected graph without weights and without the virtual root.

    Pairs of adjacent nodes are merged, always the pair that lowers the entropy most; what has no edge in between meets in the
    root. The binary tree is then compressed to two layers above the leaves, always by the inner node that raises the entropy
    least. Every further layer is put in below (each lowest cluster is divided) or above (the highest clusters are grouped),
    where the entropy falls more, per leaf below and per cluster above. Ties go to the smaller id, older nodes first, so the
    result is the same everywhere. Takes about `|E| log M` steps a layer.

    Args:
        parents (`list[list[int]]` of length `M`): Parent ids of each node, as in [`LabelHierarchy`]; trees and DAGs, nodes
            without edges included.
        height (`int`): `K`, at least 2.

    Returns:
        `list[list[int]]`: `K` lists of parents, the leaves' first; the last holds zeros only. Up to two leaves stand under one
        node, which is followed by a chain.

    Raises:
        `ValueError`: a height below 2, or no nodes.
    """
    if height < 2:
        raise HTCError(f"The height of a coding tree is {height}; it is at least 2.")
    if not parents:
        raise HTCError("A coding tree needs at least one leaf; `parents` is empty.")
    if len(parents) <= 2:
        return [[0] * len(parents), *([0] for _ in range(height - 1))]
    neighbours = _neighbours(parents)
    degrees = [sum(row.values()) for row in neighbours]
    lowest = _two_layers(degrees, degrees, neighbours)
    tree = [lowest, [0] * (max(lowest) + 1)]
    while len(tree) < height:
        below, below_gain = _divide_lowest(tree, neighbours)
        above, above_gain = _group_highest(tree, neighbours)
        if below_gain < above_gain:
            tree[-1:] = [above, [0] * (max(above) + 1)]
        else:
            owners = [0] * (max(below) + 1)
            for leaf, cluster in enumerate(below):
                owners[cluster] = tree[0][leaf]
            tree[:1] = [below, owners]
    return tree


def check_coding_tree(tree, num_leaves, height):
    """
    Raises `ValueError` unless `tree` is a coding tree, as [`build_coding_tree`] gives it, of `num_leaves` leaves and the
    height `height`; the message names the layer.
    """
    if not isinstance(tree, (list, tuple)) or len(tree) != height:
        found = f"{len(tree)} layers" if isinstance(tree, (list, tuple)) else repr(tree)
        raise HTCError(f"`coding_tree` is {found}; of height {height} it has {height} lists of parents. Leave it at 'auto'.")
    expected = num_leaves
    for number, layer in enumerate(tree):
        if not isinstance(layer, (list, tuple)) or len(layer) != expected:
            count = len(layer) if isinstance(layer, (list, tuple)) else 0
            what = "one for each node of the hierarchy" if number == 0 else f"as layer {number - 1} counts on them"
            raise HTCError(f"Layer {number} of `coding_tree` has {count} nodes; expected are {expected}, {what}.")
        wrong = [parent for parent in layer if isinstance(parent, bool) or not isinstance(parent, int) or parent < 0]
        if wrong:
            raise HTCError(f"Layer {number} of `coding_tree` holds the parent {wrong[0]!r}; parents are whole numbers from 0.")
        expected = max(layer) + 1
        if len(set(layer)) != expected:
            missing = min(set(range(expected)) - set(layer))
            raise HTCError(f"Node {missing} of layer {number + 1} of `coding_tree` has no children; every inner node has some.")
    if expected != 1:
        raise HTCError(f"The last layer of `coding_tree` has {expected} parents; the root is one.")


# ---------------------------------------------------------------------------------------------- the graph


def _neighbours(parents):
    """By node the weights of its edges, `list[dict[int, int]]`."""
    neighbours = [{} for _ in parents]
    for child, row in enumerate(parents):
        for parent in row:
            neighbours[child][parent] = neighbours[parent][child] = 1
    return neighbours


def _measure(place, neighbours):
    """Volume and cut of every cluster; `place` is the cluster of each node."""
    volumes, cuts = [0] * (max(place) + 1), [0] * (max(place) + 1)
    for node, row in enumerate(neighbours):
        own = place[node]
        for other, weight in row.items():
            volumes[own] += weight
            if place[other] != own:
                cuts[own] += weight
    return volumes, cuts


def _divide_lowest(tree, neighbours):
    """A new layer right above the leaves: its clusters by leaf, and how much the entropy falls, per leaf."""
    members = [[] for _ in tree[1]]
    for leaf, cluster in enumerate(tree[0]):
        members[cluster].append(leaf)
    below, count = [0] * len(tree[0]), 0
    for rows in members:
        parts = list(range(len(rows)))  # one or two leaves stay apart
        if len(rows) >= 3:
            place = {leaf: i for i, leaf in enumerate(rows)}
            inside = [{place[other]: w for other, w in neighbours[leaf].items() if other in place} for leaf in rows]
            degrees = [sum(row.values()) for row in inside]
            parts = _two_layers(degrees, degrees, inside)
        for leaf, part in zip(rows, parts):
            below[leaf] = count + part
        count += max(parts) + 1
    degrees = [sum(row.values()) for row in neighbours]
    inner_volumes, _ = _measure(tree[0], neighbours)
    # Where nothing was divided, nothing is gained by the single-leaf clusters: their volume is their cut.
    owner = dict(zip(below, tree[0]))
    gain = _gain(below, degrees, neighbours, below, [inner_volumes[owner[i]] for i in range(count)])
    return below, gain / len(below)


def _group_highest(tree, neighbours):
    """A new layer right below the root: its clusters by node of the layer below it, and how much the entropy falls, per such
    node."""
    size = len(tree[-1])
    if size < 3:
        return [0] * size, -math.inf
    place = list(range(len(tree[0])))
    for layer in tree[:-1]:
        place = [layer[node] for node in place]
    volumes, cuts = _measure(place, neighbours)
    between = [{} for _ in range(size)]
    for node, row in enumerate(neighbours):
        own = between[place[node]]
        for other, weight in row.items():
            if place[other] != place[node]:
                own[place[other]] = own.get(place[other], 0) + weight
    above = _two_layers(volumes, cuts, between)
    whole = [sum(volumes)] * (max(above) + 1)
    gain = _gain(above, cuts, neighbours, [above[cluster] for cluster in place], whole)
    return above, gain / size


def _gain(groups, cuts, neighbours, place, parent_volumes):
    """
    What the entropy loses by a layer of groups between its members and their former parents: the members' `cuts` are counted
    against the group instead of the parent, and the group itself against the parent.
    """
    total = sum(sum(row.values()) for row in neighbours)
    volumes, group_cuts = _measure(place, neighbours)
    saved = [-cut for cut in group_cuts]
    for member, group in enumerate(groups):
        saved[group] += cuts[member]
    terms = (s / total * math.log2(p / v) for s, v, p in zip(saved, volumes, parent_volumes) if s)
    return math.fsum(terms)


# ---------------------------------------------------------------------------------------------- two layers


def _two_layers(volumes, cuts, neighbours):
    """
    Clusters of a graph such that the tree root - clusters - nodes has a small entropy.

    Args:
        volumes, cuts (`list[int]`): Of each node.
        neighbours (`list[dict[int, int]]`): Of each node the weights of its edges.

    Returns:
        `list[int]`: the cluster of each node; those with several nodes come first, as they were formed, then the single nodes.
    """
    merges = _merge_all(volumes, cuts, neighbours, sum(volumes))
    return _compress(len(volumes), *merges, sum(volumes))


def _merge_all(volumes, cuts, neighbours, total):
    """
    Merges adjacent clusters, pair by pair, until no two are adjacent. The new cluster of step `i` has the id `n + i`.

    All neighbours of a cluster with the same volume, cut and edge weight stand in one queue, by id, and only the first of a queue
    is a candidate: they change the entropy alike, and the hub of a star is merged a thousand times without looking at its
    thousand neighbours every time. A pair is queued at the end that changed last.

    Returns:
        `tuple[list, list, list]`: of every step the two ids and the weight between them, and the volumes of all ids.
    """
    volumes, cuts = list(volumes), list(cuts)
    pairs, weights = [], []
    # A slot holds a cluster while it grows; `ids` says under which id, -1 when another slot has taken it over.
    edges, ids = [dict(row) for row in neighbours], list(range(len(volumes)))
    queues = [{} for _ in ids]  # of a slot: (volume, cut, weight) of its neighbours -> heap of (id, slot)
    queued_at = [[] for _ in ids]  # the neighbours at which a slot's pairs are queued
    candidates = []

    def queue(slot, other):
        key = volumes[ids[other]], cuts[ids[other]], edges[slot][other]
        heapq.heappush(queues[slot].setdefault(key, []), (ids[other], other))
        queued_at[other].append(slot)

    def propose(slot, key):
        waiting = queues[slot][key]
        while waiting and (ids[waiting[0][1]] != waiting[0][0] or edges[slot].get(waiting[0][1]) != key[2]):
            heapq.heappop(waiting)
        if not waiting:
            del queues[slot][key]
            return
        (volume, cut, weight), own, (other_id, other) = key, ids[slot], waiting[0]
        both = volumes[own] + volume
        change = (volumes[own] - cuts[own]) * math.log2(both / volumes[own]) + (volume - cut) * math.log2(both / volume)
        change = round(change - 2 * weight * math.log2(total / both), _DIGITS)
        heapq.heappush(candidates, (change, min(own, other_id), max(own, other_id), slot, other, key))

    for slot, row in enumerate(edges):
        for other in row:
            if other < slot:
                queue(slot, other)
        for key in list(queues[slot]):
            propose(slot, key)
    while candidates:
        _, first, second, slot, other, key = heapq.heappop(candidates)
        if ids[slot] not in (first, second):
            continue
        if ids[other] not in (first, second):
            if key in queues[slot]:
                propose(slot, key)
            continue
        kept, gone = (slot, other) if len(edges[slot]) >= len(edges[other]) else (other, slot)
        weight = edges[kept].pop(gone)
        del edges[gone][kept]
        pairs.append((first, second))
        weights.append(weight)
        ids[kept], ids[gone] = len(volumes), -1
        volumes.append(volumes[first] + volumes[second])
        cuts.append(cuts[first] + cuts[second] - 2 * weight)
        changed = {neighbour for neighbour in queued_at[kept] if neighbour in edges[kept]}
        queued_at[kept] = []
        for neighbour, weight in edges[gone].items():
            del edges[neighbour][gone]
            edges[kept][neighbour] = edges[neighbour][kept] = edges[kept].get(neighbour, 0) + weight
            changed.add(neighbour)
        edges[gone] = queues[gone] = None
        for neighbour in changed:
            queue(kept, neighbour)
        for key in list(queues[kept]):
            propose(kept, key)
    return pairs, weights, volumes


def _compress(num_nodes, pairs, weights, volumes, total):
    """
    Dissolves merged clusters into their parents until only children of the root are left, each with single nodes below it.

    To dissolve a cluster costs `(weights cut inside it) * ln(volume of the parent / its volume)`; the cheapest goes first. One
    that already stands between the root and single nodes stays.
    """
    parent, root = [-1] * len(volumes), len(volumes) - 1
    for step, pair in enumerate(pairs):
        for node in pair:
            parent[node] = num_nodes + step
    tops = [node for node, above in enumerate(parent) if above < 0]
    weights, volumes = list(weights), list(volumes)
    if len(tops) > 1:
        root = len(volumes)
        volumes.append(total)
        weights.append(0)
        parent.append(-1)
        for node in tops:
            parent[node] = root
    inner = range(num_nodes, len(volumes))
    below = {node: set() for node in inner}  # the clusters directly below a cluster
    for node in inner:
        if node != root:
            below[parent[node]].add(node)
    costs, heap = {}, []

    def weigh(node):
        cost = weights[node - num_nodes] * math.log(volumes[parent[node]] / volumes[node])
        costs[node] = round(cost, _DIGITS)
        heapq.heappush(heap, (costs[node], node))

    for node in inner:
        if node != root:
            weigh(node)
    dissolved = {}
    while heap:
        cost, node = heapq.heappop(heap)
        if node in dissolved or cost != costs[node] or (parent[node] == root and not below[node]):
            continue
        above = dissolved[node] = parent[node]
        weights[above - num_nodes] += weights[node - num_nodes]
        below[above].remove(node)
        below[above] |= below[node]
        for child in below[node]:
            parent[child] = above
            weigh(child)
        if above != root:
            weigh(above)

    def cluster_of(node):
        node, passed = parent[node], []
        while node in dissolved:
            passed.append(node)
            node = dissolved[node]
        for step in passed:
            dissolved[step] = node
        return node

    found = [cluster_of(node) for node in range(num_nodes)]
    order = {cluster: place for place, cluster in enumerate(sorted({cluster for cluster in found if cluster != root}))}
    clusters, count = [], len(order)
    for cluster in found:
        if cluster == root:  # a single node hangs under a cluster of its own, so that all leaves are equally deep
            clusters.append(count)
            count += 1
        else:
            clusters.append(order[cluster])
    return clusters
