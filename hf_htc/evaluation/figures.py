"""Figures of a report, each a self-contained SVG string.

Legend: `M` nodes, `N` labels, `S` documents.
"""

import io
import re
from contextlib import contextmanager

import numpy as np


BLUE, ORANGE, GREY = "#3b6ea8", "#d98032", "#8a8a8a"
# Rectangles of an icicle that are drawn; the lowest levels of a larger hierarchy are left out.
_MOST_NODES = 3000


class _Drawing:
    """Axes of a figure and, when it is done, its SVG."""

    def __init__(self, figure, axes):
        self.figure, self.axes, self.svg = figure, axes, None


@contextmanager
def drawing(width=6.0, height=3.2):
    """
    Axes to draw on; `svg` of what is given is set at the end. Ids in the SVG are the same in every run.

    Raises:
        `ImportError`: matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install 'hf_htc[plot]'.") from error
    with matplotlib.rc_context({"svg.hashsalt": "hf_htc", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=(width, height))
        made = _Drawing(figure, figure.subplots())
        for side in ("top", "right"):
            made.axes.spines[side].set_visible(False)
        yield made
        figure.tight_layout()
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    # What stands in front of the element, and the metadata, belong to a file of its own, not into a page.
    made.svg = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)


def bars(names, series, y_label="F1", limits=(0, 1)):
    """
    Bars side by side.

    Args:
        names (`list[str]`): Under the groups.
        series (`dict[str, list[float]]`): Heights by name; nan leaves a bar out.
        y_label (`str`, *optional*), limits (`tuple`, *optional*): Of the vertical axis; `None` fits it.

    Returns:
        `str`: SVG.
    """
    with drawing(max(3.0, 1.2 + 0.5 * len(names) * len(series))) as made:
        width, places = 0.8 / len(series), np.arange(len(names))
        for number, ((name, values), colour) in enumerate(zip(series.items(), (BLUE, ORANGE, GREY))):
            made.axes.bar(places + (number - (len(series) - 1) / 2) * width, values, width, label=name, color=colour)
        made.axes.set_xticks(places, [shortened(name, 18) for name in names], rotation=0 if len(names) < 7 else 30)
        made.axes.set_ylabel(y_label)
        if limits is not None:
            made.axes.set_ylim(*limits)
        if len(series) > 1:
            made.axes.legend(frameon=False)
    return made.svg


def lines(x, series, x_label, y_label):
    """Curves over `x`; `series` (`dict[str, list[float]]`) by name, or `dict[str, tuple]` of `(x, y)` pairs of their own. SVG."""
    with drawing() as made:
        for (name, values), colour in zip(series.items(), (BLUE, ORANGE, GREY, "#4f9a5b", "#a04fa0")):
            own_x, y = values if isinstance(values, tuple) else (x, values)
            made.axes.plot(own_x, y, label=name, color=colour)
        made.axes.set_xlabel(x_label)
        made.axes.set_ylabel(y_label)
        made.axes.legend(frameon=False)
    return made.svg


def reliability(mean_score, mean_truth, pairs):
    """
    How often a label holds that got a score, `(bins,)` each: on the diagonal where scores are what they say; dots grow with the
    number of pairs. SVG.
    """
    with drawing(3.6, 3.4) as made:
        made.axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        sizes = 15 + 85 * np.sqrt(np.asarray(pairs) / max(1, np.max(pairs)))
        made.axes.scatter(mean_score, mean_truth, s=sizes, color=BLUE)
        made.axes.set_xlabel("mean score")
        made.axes.set_ylabel("share that holds")
        made.axes.set_xlim(-0.02, 1.02)
        made.axes.set_ylim(-0.02, 1.02)
    return made.svg


def icicle(hierarchy, values, caption="F1"):
    """
    The taxonomy from the top down, every node as wide as its leaves, coloured by a value in [0, 1]; grey where there is none.

    Args:
        hierarchy ([`LabelHierarchy`]): Of a DAG every node stands below its first parent.
        values (`np.ndarray` of shape `(M,)` or `(N,)`): nan is grey, and so are nodes beyond `N`.
        caption (`str`, *optional*, defaults to `"F1"`): Of the colours.

    Returns:
        `str`: SVG.
    """
    from matplotlib import colormaps
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    spans = node_spans(hierarchy)
    values = np.concatenate([np.asarray(values, float), np.full(hierarchy.num_nodes - len(values), np.nan)])
    depths = np.array([depth for _, _, depth in spans])
    shown = next((d for d in range(int(depths.max()) + 1, 1, -1) if (depths < d).sum() <= _MOST_NODES), 1)
    total = max(end for _, end, _ in spans)
    with drawing(10.0, 0.8 + 0.75 * shown) as made:
        axes, colours = made.axes, colormaps["RdYlGn"]
        boxes, faces = [], []
        for node, (start, end, depth) in enumerate(spans):
            if depth >= shown:
                continue
            boxes.append(Rectangle((start / total, shown - 1 - depth), (end - start) / total, 1))
            faces.append("#e4e4e4" if np.isnan(values[node]) else colours(0.08 + 0.84 * values[node]))
            room = int((end - start) / total * 110)
            if room >= 3:
                name = shortened(hierarchy.texts[node], room)
                axes.text((start + end) / 2 / total, shown - 0.5 - depth, name, ha="center", va="center", fontsize=7)
        axes.add_collection(PatchCollection(boxes, facecolor=faces, edgecolor="white", linewidth=0.5))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, shown)
        axes.set_yticks([shown - 0.5 - depth for depth in range(shown)], [f"level {depth + 1}" for depth in range(shown)])
        axes.set_xticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(f"red: {caption} 0, green: {caption} 1, grey: none", fontsize=8, loc="left", color=GREY)
    return made.svg


def node_spans(hierarchy):
    """`list[tuple]`: of every node the leaves `[start, end)` that it stands over, and its depth from 0, each node below its first
    parent."""
    children = [[] for _ in range(hierarchy.num_nodes)]
    tops = []
    for node, parents in enumerate(hierarchy.parents):
        (children[parents[0]] if parents else tops).append(node)
    spans, count = [None] * hierarchy.num_nodes, 0
    stack = [(node, 0, False) for node in reversed(tops)]
    while stack:
        node, depth, is_done = stack.pop()
        if is_done:
            spans[node] = (spans[node][0], count, depth)
            continue
        spans[node] = (count, None, depth)
        if not children[node]:
            count += 1
        stack.append((node, depth, True))
        stack.extend((child, depth + 1, False) for child in reversed(children[node]))
    return spans


def scatter(points, groups, marks=None):
    """
    Points of documents, coloured by group.

    Args:
        points (`np.ndarray` of shape `(S, 2)`), groups (`list[str]`): One a point; the ten largest groups get colours.
        marks (`dict[str, tuple]`, *optional*): Names with places of their own.

    Returns:
        `str`: SVG.
    """
    from matplotlib import colormaps

    groups = np.asarray(groups)
    names, counts = np.unique(groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:10]
    with drawing(7.5, 5.5) as made:
        rest = ~np.isin(groups, largest)
        made.axes.scatter(*points[rest].T, s=6, color="#d0d0d0")
        for number, name in enumerate(largest):
            made.axes.scatter(*points[groups == name].T, s=6, color=colormaps["tab10"](number), label=shortened(name, 24))
        for name, (x, y) in (marks or {}).items():
            made.axes.annotate(shortened(name, 24), (x, y), fontsize=7, ha="center", weight="bold")
        made.axes.legend(frameon=False, fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
        made.axes.set_xticks([])
        made.axes.set_yticks([])
    return made.svg


def shortened(text, most):
    """At most `most` characters, an ellipsis where some are missing."""
    text = str(text)
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
