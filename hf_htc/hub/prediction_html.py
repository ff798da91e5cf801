"""A prediction as HTML: its paths as a tree with scores, and the best-scoring labels. Style included, nothing from the network.

Legend: `N` labels.
"""

from html import escape

import numpy as np


# What a page can show: predicted labels, rows before labels that stand at several places are opened at the first one only.
MOST_LABELS, MOST_ROWS = 200, 600
# Of labels that were not predicted: how many stand below a node, and the score from which they do.
NUM_NEAR, NEAR_SCORE = 3, 0.1
ROOT = -1

# Every colour is that of the text around it, or one that is seen on white and on black: light and dark mode need no rules.
STYLE = """<style>
.htc { color: inherit; font-size: 0.95rem; line-height: 1.4; }
.htc h2 { margin: 0 0 0.4rem; font-size: 1.15rem; font-weight: 600; }
.htc p { margin: 0 0 0.6rem; opacity: 0.8; }
.htc ul, .htc ol { list-style: none; margin: 0; padding: 0; }
.htc ul ul { margin-left: 0.45rem; padding-left: 0.9rem; border-left: 1px solid rgba(128, 128, 128, 0.4); }
.htc li { margin: 0; padding: 0; list-style: none; font-size: inherit; }
.htc .row, .htc summary { display: flex; align-items: center; gap: 0.6rem; padding: 0.15rem 0; }
.htc summary { cursor: pointer; list-style: none; border-radius: 4px; }
.htc summary::-webkit-details-marker { display: none; }
.htc summary:focus-visible { outline: 2px solid #4a86c5; outline-offset: 2px; }
.htc summary::before, .htc ul .row::before { content: ""; flex: none; width: 0.5em; height: 0.5em; margin: 0 0.2em; }
.htc summary::before { border: solid currentColor; border-width: 0 1.5px 1.5px 0; transform: rotate(-45deg); opacity: 0.7; }
.htc details[open] > summary::before { transform: rotate(45deg); }
.htc .name { flex: 1 1 auto; min-width: 0; overflow-wrap: anywhere; }
.htc .predicted .name { font-weight: 600; }
.htc .near, .htc .way { opacity: 0.7; }
.htc .bar { flex: none; width: clamp(3rem, 12vw, 7rem); height: 0.55em; }
.htc .bar { border-radius: 0.3em; background: rgba(128, 128, 128, 0.25); }
.htc .bar span { display: block; height: 100%; border-radius: inherit; background: #4a86c5; }
.htc .near .bar span, .htc .way .bar span { background: #8a8a8a; }
.htc .score { flex: none; width: 2.6rem; text-align: right; font-variant-numeric: tabular-nums; }
.htc .note { font-weight: 400; font-size: 0.9em; opacity: 0.8; }
.htc .aside { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
</style>"""
_ASIDE = {
    "predicted": "predicted",
    "near": "not predicted",
    "way": "not predicted, on the way to a predicted label",
    "structure": "no label, a place in the taxonomy",
}


def prediction_tree(hierarchy, predicted, scores, most_labels=MOST_LABELS, num_near=NUM_NEAR, near_score=NEAR_SCORE):
    """
    What stands below what when a prediction is drawn.

    A label stands under each of its predicted parents, and of its parents that are no labels; where it has none of these,
    under the best-scoring parent. Below every node that is drawn stand labels that were not predicted but scored high.

    Args:
        hierarchy ([`LabelHierarchy`]): The taxonomy, a tree or a DAG.
        predicted (`list[int]`): Label ids.
        scores (`np.ndarray` of shape `(N,)`): In [0, 1].
        most_labels (`int`, *optional*, defaults to 200): So many predicted labels are drawn, the best, with what is above.
        num_near (`int`, *optional*, defaults to 3): At most this many such labels below a node.
        near_score (`float`, *optional*, defaults to 0.1): The least score of one.

    Returns:
        `dict[int, list[tuple[int, str]]]`: below a node, `-1` for the root, the ids and kinds of what is drawn, in order:
        `"predicted"`, `"way"` (a label that was not predicted, above one that was) and `"structure"` (no label) by falling score,
        then `"near"`.
    """
    num_labels, chosen = hierarchy.num_labels, set(predicted)
    drawn, waiting = {}, sorted(chosen, key=lambda i: (-scores[i], i))[:most_labels]
    while waiting:
        node = waiting.pop()
        if node not in drawn:
            parents = hierarchy.parents[node]
            wanted = [p for p in parents if p in chosen or p >= num_labels]
            if parents and not wanted:
                wanted = [max(parents, key=lambda p: (scores[p], -p))]
            drawn[node] = wanted
            waiting += wanted
    below = {ROOT: []}
    for node, parents in drawn.items():
        for parent in parents or [ROOT]:
            below.setdefault(parent, []).append(node)
    best = _best_scores(below, drawn, hierarchy, scores)
    tree = {}
    for parent in [ROOT, *drawn]:
        kinds = ((i, "predicted" if i in chosen else "way" if i < num_labels else "structure") for i in below.get(parent, []))
        rows = sorted(kinds, key=lambda row: (-best[row[0]], row[0]))
        candidates = hierarchy.top_nodes if parent == ROOT else hierarchy.children[parent]
        others = np.asarray([i for i in candidates if i < num_labels and i not in drawn and i not in chosen], dtype=np.int64)
        others = others[scores[others] >= near_score]
        rows += [(int(i), "near") for i in others[np.argsort(-scores[others], kind="stable")][:num_near]]
        if rows:
            tree[parent] = rows
    return tree


def _best_scores(below, drawn, hierarchy, scores):
    """What rows are ordered by: a label's score; for a node that is no label, the best below it."""
    best = {}
    for node in sorted(drawn, key=lambda i: -hierarchy.levels[i]):  # the deepest first
        is_label = node < hierarchy.num_labels
        best[node] = float(scores[node]) if is_label else max(best[child] for child in below[node])
    return best


def tree_html(hierarchy, predicted, scores, most_labels=MOST_LABELS, most_rows=MOST_ROWS, note=""):
    """
    The tree of a prediction: nested lists that open and close, by mouse or keyboard.

    Args:
        hierarchy ([`LabelHierarchy`]): The taxonomy, a tree or a DAG.
        predicted (`list[int]`): Label ids.
        scores (`np.ndarray` of shape `(N,)`): In [0, 1].
        most_labels (`int`, *optional*, defaults to 200): As in [`prediction_tree`].
        most_rows (`int`, *optional*, defaults to 600): From here on, a label that stands under several parents is opened once.
        note (`str`, *optional*): A sentence of plain text under the heading.

    Returns:
        `str`: names are escaped, the style is included.
    """
    tree = prediction_tree(hierarchy, predicted, scores, most_labels)
    drawn = {row for rows in tree.values() for row in rows}
    num_shown, near = sum(kind == "predicted" for _, kind in drawn), any(kind == "near" for _, kind in drawn)
    lead = " ".join([note, _lead(len(predicted), num_shown, hierarchy.num_labels, near)]).strip()
    parts = [STYLE, '<div class="htc"><h2>Predicted paths</h2>', f"<p>{escape(lead)}</p><ul>"]
    waiting, opened, num_rows = list(reversed(tree.get(ROOT, []))), set(), 0
    while waiting:
        row = waiting.pop()
        if isinstance(row, str):
            parts.append(row)
            continue
        (node, kind), num_rows = row, num_rows + 1
        score = None if kind == "structure" else scores[node]
        inside = [] if kind == "near" else tree.get(node, [])
        again = bool(inside) and node in opened and num_rows > most_rows
        cells = _cells(hierarchy.texts[node], hierarchy.names[node], kind, score, "what is below stands above" if again else "")
        if not inside or again:
            parts.append(f'<li><div class="row {kind}">{cells}</div></li>')
            continue
        opened.add(node)
        parts.append(f'<li><details open=""><summary class="{kind}">{cells}</summary><ul>')
        waiting.append("</ul></details></li>")
        waiting += reversed(inside)
    return "".join([*parts, "</ul></div>"])


def labels_html(hierarchy, predicted, scores, top_k=10):
    """
    The best-scoring labels, predicted or not.

    Args:
        hierarchy, predicted, scores: As in [`tree_html`].
        top_k (`int`, *optional*, defaults to 10): How many.

    Returns:
        `str`: a list with names, bars and scores; names are escaped, the style is included.
    """
    chosen, best = set(predicted), np.argsort(-scores, kind="stable")[:top_k].tolist()
    rows = []
    for label in best:
        kind, name = "predicted" if label in chosen else "near", hierarchy.names[label]
        rows.append(f'<li><div class="row {kind}">{_cells(name, name, kind, scores[label])}</div></li>')
    return "".join([STYLE, '<div class="htc"><h2>Best-scoring labels</h2><ol>', *rows, "</ol></div>"])


def message_html(heading, message):
    """A sentence in place of a prediction."""
    return f'{STYLE}<div class="htc"><h2>{escape(heading)}</h2><p>{escape(message)}</p></div>'


def _lead(num_predicted, num_shown, num_labels, near):
    if not num_predicted:
        lead = "No label is predicted."
    else:
        lead = f"{num_predicted:,} of {num_labels:,} labels predicted."
        if num_shown < num_predicted:
            lead += f" The best {num_shown:,} are shown."
    return lead + (" Grey: not predicted, but scored high." if near else "")


def _cells(text, name, kind, score, note=""):
    """Name, bar and score of a row; what the colours say is there for screen readers, too."""
    title = escape(name) if kind != "structure" else f"{escape(name)} (no label)"
    parts = [f'<span class="name" title="{title}">{escape(text)}']
    parts += [f' <span class="note">({escape(note)})</span>'] if note else []
    parts += [f'<span class="aside">, {_ASIDE[kind]}</span></span>']
    if score is not None:
        score = float(score)
        parts += [f'<span class="bar" aria-hidden="true"><span style="width: {100 * score:.1f}%"></span></span>']
        parts += [f'<span class="score">{score:.2f}</span>']
    return "".join(parts)
