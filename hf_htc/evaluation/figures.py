"""Figures without a display: of a report, each a self-contained SVG string, or written into a file.

Legend: `M` nodes, `N` labels, `S` documents.
"""

import io
import re
import warnings
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import numpy as np

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCImportError, reason_of
from hf_htc.models.whole_files import whole_file


logger = get_logger(__name__)

BLUE, ORANGE, GREY = "#3b6ea8", "#d98032", "#8a8a8a"
COLOURS = (BLUE, ORANGE, GREY, "#4f9a5b", "#a04fa0", "#b8403a", "#2f9c9c", "#8b6b3d", "#d077a8", "#6b7b1f")
# Rectangles of an icicle that are drawn; the lowest levels of a larger hierarchy are left out.
_MOST_NODES = 3000
# Values of a curve that get a dot each.
_MOST_DOTS = 30


# Labels are words: a `$` in them begins no formula, whatever the user's own settings say.
_SETTINGS = {
    "svg.hashsalt": "hf_htc",
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.usetex": False,
}


class _Drawing:
    """Axes of a figure and, when it is done, its SVG."""

    def __init__(self, figure, axes):
        self.figure, self.axes, self.svg = figure, axes, None


@contextmanager
def drawn_or_left_out(name):
    """
    Around the drawing of a figure of a report: what fails in there costs the figure only, and one warning that names it.

    Args:
        name (`str`): What the figure shows.
    """
    try:
        yield
    except Exception as error:
        logger.warning(f"The figure {name!r} could not be drawn and is left out: {reason_of(error)}.")


@contextmanager
def _one_warning(path):
    """Of letters that the font has not, one warning per file instead of one per letter; an SVG has the letters themselves."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        if path is not None and Path(path).suffix.lower() != ".svg":
            seen, show = [], warnings.showwarning

            def note(message, *place, **more):
                if "missing from" not in str(message):
                    return show(message, *place, **more)
                if not seen:
                    logger.warning(f"{Path(path).name!r} shows boxes for letters that the font has not. {message}")
                seen.append(message)

            warnings.filterwarnings("always", "Glyph .* missing from", UserWarning)
            warnings.showwarning = note
        yield


@contextmanager
def drawing(width=6.0, height=3.2, path=None):
    """
    Axes to draw on, `axes` of what is given. At the end the figure is its `svg`, with ids that are the same in every run, or,
    with `path`, that file, whole or not at all. Nothing is made where the drawing fails.

    Args:
        width, height (`float`, *optional*): In inches.
        path (`str` or `Path`, *optional*): A file whose suffix says what is written (.png, .svg, .pdf, ...); its folder is made.

    Raises:
        `ImportError`: matplotlib is missing. `ValueError`: a suffix that matplotlib does not write.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HTCImportError("Figures need matplotlib: pip install 'hf_htc[plot]'.") from error
    with _one_warning(path), matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height))  # not by pyplot, whose state and back end are the caller's
        if path is not None:
            path, kinds = Path(path), sorted(figure.canvas.get_supported_filetypes())
            if path.suffix[1:].lower() not in kinds:
                allowed = ", ".join(f".{kind}" for kind in kinds)
                raise HTCError(f"{path.name!r} has the suffix {path.suffix!r}; a figure's file ends in one of {allowed}.")
        made = _Drawing(figure, figure.subplots())
        for side in ("top", "right"):
            made.axes.spines[side].set_visible(False)
        yield made
        figure.tight_layout()
        if path is not None:
            with whole_file(path) as partial:
                figure.savefig(partial, dpi=150)
            return
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
        for number, ((name, values), colour) in enumerate(zip(series.items(), cycle(COLOURS))):
            made.axes.bar(places + (number - (len(series) - 1) / 2) * width, values, width, label=name, color=colour)
        made.axes.set_xticks(places, [shortened(name, 18) for name in names], rotation=0 if len(names) < 7 else 30)
        made.axes.set_ylabel(y_label)
        if limits is not None:
            made.axes.set_ylim(*limits)
        if len(series) > 1:
            made.axes.legend(frameon=False)
    return made.svg


def lines(x, series, x_label, y_label, limits=None, mark=None, path=None):
    """
    Curves.

    Args:
        x (`list`): Numbers, or names in this order.
        series (`dict[str, list[float]]`): Heights by name, or `dict[str, tuple]` of `(x, y)` pairs of their own. A curve of few
            values has a dot for each.
        x_label, y_label (`str`): Of the axes.
        limits (`tuple`, *optional*): Of the vertical axis; by default what fits.
        mark (`tuple`, *optional*): `(low, high, name)` of what is marked on the horizontal axis: a line where both are the same,
            else a band.
        path (`str` or `Path`, *optional*): A file instead, as of [`drawing`].

    Returns:
        `str`: SVG; `None` with `path`.
    """
    with drawing(path=path) as made:
        for (name, values), colour in zip(series.items(), cycle(COLOURS)):
            own_x, y = values if isinstance(values, tuple) else (x, values)
            dots = {"marker": "o", "markersize": 3.5} if len(y) <= _MOST_DOTS else {}
            made.axes.plot(own_x, y, label=name, color=colour, **dots)
        if mark is not None:
            low, high, name = mark
            if low == high:
                made.axes.axvline(low, color="black", linewidth=1, linestyle="--", label=name)
            else:
                made.axes.axvspan(low, high, color="black", alpha=0.1, linewidth=0, label=name)
        made.axes.set_xlabel(x_label)
        made.axes.set_ylabel(y_label)
        if limits is not None:
            made.axes.set_ylim(*limits)
        # Beside the curves, where it hides none of them.
        made.axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
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


def icicle(hierarchy, values, caption="F1", tops=None):
    """
    The taxonomy from the top down, every node as wide as its leaves, coloured by a value in [0, 1]; grey where there is none.

    Args:
        hierarchy ([`LabelHierarchy`]): Of a DAG every node stands below its first parent.
        values (`np.ndarray` of shape `(M,)` or `(N,)`): nan is grey, and so are nodes beyond `N`.
        caption (`str`, *optional*, defaults to `"F1"`): Of the colours.
        tops (`list[int]`, *optional*): First-level nodes, which are drawn in this order with all below them; by default all.

    Returns:
        `str`: SVG.
    """
    from matplotlib import colormaps
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    spans = node_spans(hierarchy, tops)
    values = np.concatenate([np.asarray(values, float), np.full(hierarchy.num_nodes - len(values), np.nan)])
    depths = np.array([depth for _, _, depth in spans.values()])
    shown = next((d for d in range(int(depths.max()) + 1, 1, -1) if (depths < d).sum() <= _MOST_NODES), 1)
    total = max(end for _, end, _ in spans.values())
    with drawing(10.0, 0.8 + 0.75 * shown) as made:
        axes, colours = made.axes, colormaps["RdYlBu"]
        boxes, faces = [], []
        for node, (start, end, depth) in spans.items():
            if depth >= shown:
                continue
            boxes.append(Rectangle((start / total, shown - 1 - depth), (end - start) / total, 1))
            faces.append("#e4e4e4" if np.isnan(values[node]) else colours(0.1 + 0.76 * values[node]))
            room = int((end - start) / total * 140)
            name = shortened(hierarchy.texts[node], room)
            if room >= 6 or (room and name == hierarchy.texts[node]):  # of less no more than a letter or two would be left
                axes.text((start + end) / 2 / total, shown - 0.5 - depth, name, ha="center", va="center", fontsize=7)
        axes.add_collection(PatchCollection(boxes, facecolor=faces, edgecolor="white", linewidth=0.5))
        axes.set_xlim(0, 1)
        axes.set_ylim(0, shown)
        axes.set_yticks([shown - 0.5 - depth for depth in range(shown)], [f"level {depth + 1}" for depth in range(shown)])
        axes.set_xticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(f"{caption}: red 0, yellow 0.5, blue 1, grey none", fontsize=8, loc="left", color=GREY)
    return made.svg


def node_spans(hierarchy, tops=None):
    """`dict[int, tuple]`: of every node (below `tops`) the leaves `[start, end)` that it stands over, and its depth from 0, each
    node below its first parent."""
    children = [[] for _ in range(hierarchy.num_nodes)]
    for node, parents in enumerate(hierarchy.parents):
        if parents:
            children[parents[0]].append(node)
    tops = hierarchy.top_nodes if tops is None else tops
    spans, count = {}, 0
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


def scatter(points, groups, marks=()):
    """
    Points of documents, coloured by group.

    Args:
        points (`np.ndarray` of shape `(S, 2)`), groups (`list[str]`): One a point; the ten largest groups get colours.
        marks (`list[tuple]`, *optional*): `(name, group, (x, y))` of diamonds, in the colour of their group; those with a name
            are larger, and the name stands there where the group has a colour and the name room.

    Returns:
        `str`: SVG.
    """
    from matplotlib import colormaps

    points, groups = np.asarray(points), np.asarray(groups)
    names, counts = np.unique(groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][:10]
    with drawing(7.5, 5.5) as made:
        rest = ~np.isin(groups, largest)
        colours = {name: colormaps["tab10"](number) for number, name in enumerate(largest)}
        if rest.any():
            label = f"{len(names) - len(largest)} more"
            made.axes.scatter(*points[rest].T, s=6, color="#d0d0d0")
        for name, colour in colours.items():
            made.axes.scatter(*points[groups == name].T, s=6, color=colour, label=shortened(name, 32))
        if rest.any():  # the last line of the legend
            made.axes.scatter([], [], s=6, color="#d0d0d0", label=label)
        for named in (False, True):  # those with names on top
            found = [mark for mark in marks if bool(mark[0]) == named]
            if found:
                faces = [colours.get(group, "#d0d0d0") for _, group, _ in found]
                x, y = zip(*(place for *_, place in found))
                size = 34 if named else 16
                made.axes.scatter(x, y, s=size, marker="D", color=faces, edgecolor="black", linewidth=0.6, zorder=3)
        made.axes.legend(frameon=False, fontsize=8, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
        made.axes.set_axis_off()
        made.figure.tight_layout()  # before the names, which must know how far marks lie apart
        _place_names(made.axes, [(name, place) for name, group, place in marks if name and group in colours])
    return made.svg


def _place_names(axes, marks):
    """Names above their places, `(name, (x, y))`, as far as they do not cover one before."""
    per_point, boxes = axes.figure.dpi / 72, []
    for name, place in marks:
        name = shortened(name, 24)
        x, y = axes.transData.transform(place) / per_point
        half, low, high = 2.4 * len(name), y + 5, y + 15  # bold letters of 7 points are less than 5 wide
        if any(abs(x - other) < half + width and low < top and bottom < high for other, width, bottom, top in boxes):
            continue
        boxes.append((x, half, low, high))
        text = axes.annotate(name, place, (0, 6), textcoords="offset points", zorder=4)
        text.set(fontsize=7, weight="bold", ha="center")
        text.set_bbox({"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.6})


def shortened(text, most):
    """At most `most` characters, an ellipsis where some are missing."""
    text = str(text)
    return text if len(text) <= most else text[: max(1, most - 1)] + "…"
