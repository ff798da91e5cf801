"""The report of an evaluation: one list of sections, written as Markdown and as a self-contained HTML page.

Legend: `N` labels, `B` documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_htc.evaluation.figures import drawn_or_left_out
from hf_htc.metrics.hierarchical_f1 import branches, frequency_groups, group_scores, leaf_labels


if TYPE_CHECKING:
    from hf_htc.annotations import LabelSets
    from hf_htc.models.hierarchy import LabelHierarchy


# Leaves of a hierarchy that one picture shows side by side.
_MOST_LEAVES = 400


@dataclass
class Section:
    """
    A part of a report.

    Args:
        title (`str`): Its heading.
        text (`str`, *optional*): A paragraph in front.
        tables (`list[tuple]`): `(head, rows)` pairs, cells of any type.
        figures (`list[tuple]`): `(svg, caption)` pairs, for the page only.
    """

    title: str
    text: str = ""
    tables: list = field(default_factory=list)
    figures: list = field(default_factory=list)


@dataclass
class Report:
    """
    A title, a lead and sections.

    Args:
        title (`str`), lead (`str`), sections (`list[Section]`).
    """

    title: str
    lead: str
    sections: list

    def to_markdown(self) -> str:
        """The report without its figures: `str`."""
        parts = [f"# {self.title}", self.lead]
        for section in self.sections:
            if section.text or section.tables:
                parts.append(f"## {section.title}")
                parts += [section.text] if section.text else []
                parts += ["\n".join(_markdown_table(*table)) for table in section.tables]
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """A page that needs nothing from the network: `str`."""
        from hf_htc.evaluation.report_page import render

        return render(self)


def build_report(
    result: Any,
    hierarchy: LabelHierarchy,
    title: str,
    label_counts: Sequence[int] | np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    gold: LabelSets | None = None,
    log: Any = None,
    intervals: dict[str, Any] | None = None,
    figures: bool = False,
    num_worst: int = 15,
    embeddings: Any = None,
) -> Report:
    """
    The report of an evaluation.

    Args:
        result ([`EvaluationResult`]): With `details`, everything; without, what the counts tell.
        hierarchy ([`LabelHierarchy`]).
        title (`str`): First heading.
        label_counts (`list[int]`, *optional*): Training documents of each label.
        texts (`list[str]`, *optional*), gold (`list[list[int]]`, *optional*): Of the documents, for the worst ones.
        log (`list[dict]`, *optional*): Entries of a training log, for its curves.
        intervals (`dict[str, tuple]`, *optional*): 95 % intervals by the key of a score.
        figures (`bool`, *optional*, defaults to `False`): Whether to draw, which needs matplotlib.
        num_worst (`int`, *optional*, defaults to 15): Labels and pairs listed, those with most errors first.
        embeddings ([`EmbeddingMap`], *optional*): Where texts and labels lie, for the page only.

    Returns:
        [`Report`]
    """
    builder = _Builder(result, hierarchy, label_counts, figures, num_worst)
    sections = [builder.overall(intervals or {}), builder.levels(), builder.branches(), builder.frequencies(), builder.taxonomy()]
    if result.details is not None:
        sections += [builder.confusions(), builder.violations(), builder.thresholds(), builder.calibration()]
    sections.append(builder.labels())
    if result.details is not None and texts is not None:
        sections.append(builder.documents(texts, gold))
    sections += [builder.embeddings(embeddings), builder.training(log)]
    lead = f"{result.scores['num_documents']:,} documents, {hierarchy.num_labels:,} labels, closure `{result.scores['closure']}`."
    return Report(title, lead, [section for section in sections if section is not None])


class _Builder:
    def __init__(self, result, hierarchy, label_counts, figures, num_worst):
        self.scores, self.scorer, self.details = result.scores, result.scorer, result.details
        self.records = result.records
        self.threshold = None if result.threshold is None else np.atleast_1d(result.threshold).tolist()
        self.hierarchy, self.draws, self.num_worst = hierarchy, figures, num_worst
        self.label_counts = None if label_counts is None else np.asarray(label_counts)
        self.per_label = result.scorer.per_label()

    def name(self, label):
        return self.hierarchy.names[label]

    # ------------------------------------------------------------------ scores

    def overall(self, intervals):
        rows = []
        for average in ("micro", "macro", "samples", "weighted"):
            cells = [_percent(self.scores[f"{average}_{key}"]) for key in ("precision", "recall", "f1")]
            interval = intervals.get(f"{average}_f1")
            rows.append([average, *cells, "-" if interval is None else " to ".join(map(_percent, interval))])
        head = ["average", "precision", "recall", "F1", "95 % interval of F1"]
        if not intervals:
            head, rows = head[:-1], [row[:-1] for row in rows]
        scores = self.scores
        text = (
            f"Macro is over all {self.hierarchy.num_labels:,} labels; over the {scores['num_supported_labels']:,} that occur, "
            f"macro-F1 is {_percent(scores['macro_f1_supported'])}. F of macro precision and macro recall: "
            f"{_percent(scores['macro_hf1'])}. Path-constrained micro-F1: {_percent(scores['c_micro_f1'])}; whole paths "
            f"micro-F1: {_percent(scores['p_micro_f1'])}. Exact match: {_percent(scores['exact_match'])}; predicted labels with "
            f"all their ancestors: {_percent(scores['consistency'])}."
        )
        macro = intervals.get("macro_f1")
        if macro is not None and not macro[0] <= scores["macro_f1"] <= macro[1]:
            text += (
                " The interval of macro-F1 lies beside the score: documents drawn anew miss labels of few documents, which then "
                "count as 0."
            )
        return Section("Overall", text, [(head, rows)])

    def levels(self):
        sizes = self.hierarchy.statistics()["labels_per_level"]
        levels = [level for level in range(1, self.hierarchy.num_levels + 1) if f"level_{level}_micro_f1" in self.scores]
        values = {kind: [self.scores[f"level_{level}_{kind}_f1"] for level in levels] for kind in ("micro", "macro")}
        rows = [
            [level, f"{sizes[level - 1]:,}", *map(_percent, pair)]
            for level, *pair in zip(levels, values["micro"], values["macro"])
        ]
        names = [f"level {level}" for level in levels]
        section = Section("By level", "", [(["level", "labels", "micro-F1", "macro-F1"], rows)])
        return self._with_bars(section, names, values, "F1 by level.")

    def branches(self):
        members = branches(self.scorer.taxonomy)
        if len(members) < 2:
            return None
        found = group_scores(self.scorer, members)
        support = {name: int(self.per_label["support"][labels].sum()) for name, labels in members.items()}
        order = sorted(members, key=lambda name: -support[name])
        rows = [
            [
                name,
                f"{len(members[name]):,}",
                f"{support[name]:,}",
                _percent(found[f"{name}_micro_f1"]),
                _percent(found[f"{name}_macro_f1"]),
            ]
            for name in order[:30]
        ]
        text = f"The {len(rows)} largest of {len(order):,} branches, by gold labels." if len(order) > 30 else ""
        return Section("By branch", text, [(["branch", "labels", "gold", "micro-F1", "macro-F1"], rows)])

    def frequencies(self):
        if self.label_counts is None:
            return None
        tables, values, names = [], {"micro": [], "macro": []}, []
        for bounds in ((0, 10, 50, 200, 1000), (0, 50)):
            groups = {name: labels for name, labels in frequency_groups(self.label_counts, bounds).items() if len(labels)}
            found = group_scores(self.scorer, groups)
            rows = [
                [name, f"{len(labels):,}", *(_percent(found[f"{name}_{kind}_f1"]) for kind in ("micro", "macro"))]
                for name, labels in groups.items()
            ]
            tables.append((["training documents", "labels", "micro-F1", "macro-F1"], rows))
            if bounds != (0, 50):
                names = list(groups)
                values = {kind: [found[f"{name}_{kind}_f1"] for name in names] for kind in values}
        text = "Below, the split of EURLEX57K: frequent more than 50 training documents, few 1 to 50, zero none."
        return self._with_bars(Section("By training documents", text, tables), names, values, "F1 by training documents.")

    def taxonomy(self):
        leaves = leaf_labels(self.scorer.taxonomy)
        found = group_scores(self.scorer, {"leaf": leaves})
        text = f"Micro-F1 of the {len(leaves):,} labels without labels below them: {_percent(found['leaf_micro_f1'])}, macro-F1 "
        section = Section("Over the taxonomy", text + f"{_percent(found['leaf_macro_f1'])}.")
        if self.draws:
            from hf_htc.evaluation.figures import icicle

            tops, caption = self._largest_branches(), "Every node is as wide as its leaves, coloured by its F1."
            if len(tops) < len(self.hierarchy.top_nodes):
                caption += f" The {len(tops)} of {len(self.hierarchy.top_nodes):,} branches with most gold labels."
            occurs = self.per_label["support"] + self.per_label["predicted"] > 0
            values = np.where(occurs, self.per_label["f1"], np.nan)
            with drawn_or_left_out("F1 over the taxonomy"):
                section.figures.append((icicle(self.hierarchy, values, tops=tops), caption))
        return section

    def _largest_branches(self):
        """First-level nodes: all, or as many of those with most gold labels as a page can show the leaves of."""
        from hf_htc.evaluation.figures import node_spans

        tops, spans = self.hierarchy.top_nodes, node_spans(self.hierarchy)
        if len(self.hierarchy.leaves) <= _MOST_LEAVES:
            return tops
        support = np.append(self.per_label["support"], np.zeros(self.hierarchy.num_nodes - self.hierarchy.num_labels))
        gold = {top: support[nodes].sum() for top, nodes in zip(tops, self.hierarchy.root_branches())}
        order = sorted(tops, key=lambda top: -gold[top])
        leaves = np.cumsum([spans[top][1] - spans[top][0] for top in order])
        return order[: max(1, int((leaves <= _MOST_LEAVES).sum()))]

    # ------------------------------------------------------------------ errors

    def confusions(self):
        pairs = self.details.confusions.most_common(self.num_worst)
        rows = [[self.name(gold), self.name(added), count] for (gold, added), count in pairs]
        text = "A label was missed and a sibling of it wrongly predicted, in the same document."
        return Section("Most confused siblings", text, [(["gold", "predicted instead", "documents"], rows)] if rows else [])

    def violations(self):
        details = self.details
        text = (
            f"{details.num_violating:,} of {details.num_documents:,} documents have a label without one of its ancestors, before "
            "any closure."
        )
        rows = [
            [self.name(label), self.name(missing), count]
            for (label, missing), count in details.violations.most_common(self.num_worst)
        ]
        return Section("Violations of the hierarchy", text, [(["predicted", "without", "documents"], rows)] if rows else [])

    def labels(self):
        table = self.per_label
        errors = table["predicted"] + table["support"] - 2 * table["tp"]
        worst = [label for label in (-errors).argsort(kind="stable")[: self.num_worst].tolist() if errors[label]]
        rows = [
            [
                self.name(label),
                "" if self.label_counts is None else f"{self.label_counts[label]:,}",
                int(table["support"][label]),
                int(table["support"][label] - table["tp"][label]),
                int(table["predicted"][label] - table["tp"][label]),
                _percent(table["f1"][label]),
            ]
            for label in worst
        ]
        head = ["label", "training documents", "support", "missed", "wrong", "F1"]
        return Section("Labels with most errors", "", [(head, rows)])

    def documents(self, texts, gold):
        rows = []
        for row, value in self.details.worst():
            record = self.records[row]
            predicted = [self.hierarchy.id(name) for name in record["labels"]]
            shown = [_some(list(map(self.name, self._specific(labels)))) for labels in (gold[row], predicted)]
            rows.append([record["id"], _percent(value), *shown, _snippet(texts[row])])
        head = ["document", "F1", "gold", "predicted", "text"]
        text = "Labels without those that the closure adds to them." if self.details.closure == "up" else ""
        return Section("Worst documents", text, [(head, rows)]) if rows else None

    def _specific(self, labels):
        """With closed labels those that have none below them; the others follow."""
        if self.details.closure != "up":
            return labels
        above = {node for label in labels for node in self.hierarchy.ancestors(label)}
        return [label for label in labels if label not in above]

    # ------------------------------------------------------------------ scores as probabilities

    def thresholds(self):
        curve, macro, used = self.details.threshold_curve(), self.details.macro_curve(), self.threshold
        rows = [
            [f"the best for {name}", f"{at:.3f}", *_at(at, curve, macro)]
            for name, at in (
                ("micro-F1", curve["threshold"][np.argmax(curve["f1"])]),
                ("macro-F1", macro["threshold"][np.argmax(macro["f1"])]),
            )
        ]
        text = (
            "Scores as they are, without closure: what one threshold for all labels gives. The best ones are those of these very "
            "documents; tune on validation data: `hf-htc calibrate`."
        )
        mark = None
        if used is None:
            text += " These predictions were made without a threshold."
        elif min(used) < max(used):
            text += f" In use are thresholds of single labels or levels, from {min(used):.3f} to {max(used):.3f}."
            mark = (min(used), max(used), "in use")
        else:
            rows.insert(0, ["in use", f"{used[0]:.3f}", *_at(used[0], curve, macro)])
            mark = (used[0], used[0], f"in use: {used[0]:.3g}")
        section = Section("Thresholds", text, [(["threshold", "value", "micro-F1", "macro-F1"], rows)])
        if self.draws:
            from hf_htc.evaluation.figures import lines

            series = {
                "micro-F1": (curve["threshold"], curve["f1"]),
                "macro-F1": (macro["threshold"], macro["f1"]),
                "micro recall": (curve["threshold"], curve["recall"]),
                # Without any hit it says nothing; the curve has 1 where nothing is predicted.
                "micro precision": (curve["threshold"], np.where(curve["recall"] > 0, curve["precision"], np.nan)),
            }
            with drawn_or_left_out("scores over the threshold"):
                svg = lines(None, series, "threshold", "score", (0, 1.02), mark)
                section.figures.append((svg, "Scores over the threshold."))
        return section

    def calibration(self):
        scorer = self.details.calibration
        found, shown = scorer.compute(), scorer.reliability()
        rows = [["all", f"{found['brier']:.4f}", f"{found['ece']:.4f}"]]
        rows += [
            [level, f"{found[f'level_{level}_brier']:.4f}", f"{found[f'level_{level}_ece']:.4f}"]
            for level in shown["levels"].tolist()
        ]
        text = "Brier score and expected calibration error of the scores as probabilities, 0 is best."
        section = Section("Calibration", text, [(["level", "Brier", "ECE"], rows)])
        if self.draws:
            from hf_htc.evaluation.figures import reliability

            for place, level in enumerate(shown["levels"].tolist()):
                with drawn_or_left_out(f"reliability of level {level}"):
                    svg = reliability(*(shown[key][place] for key in ("mean_score", "mean_truth", "pairs")))
                    section.figures.append((svg, f"Scores of level {level} against the share of labels that hold."))
        return section

    def embeddings(self, found):
        if found is None or not self.draws:
            return None
        from hf_htc.evaluation.figures import scatter

        marks = [
            (group if not self.hierarchy.parents[node] else "", group, point)
            for node, group, point in zip(found.labels, found.label_groups, found.label_points.tolist())
        ]
        with drawn_or_left_out("map of the embeddings"):
            return Section("Embeddings", figures=[(scatter(found.text_points, found.text_groups, marks), found.caption())])
        return None

    def training(self, log):
        if not self.draws:
            return None
        from hf_htc.evaluation.figures import lines

        section = Section("Training")
        for shown, y_label, caption in (
            ({"loss": "training loss", "eval_loss": "validation loss"}, "loss", "Loss by step."),
            ({f"eval_{kind}_f1": f"validation {kind}-F1" for kind in ("micro", "macro")}, "F1", "Validation scores by step."),
        ):
            series = {}
            for key, name in shown.items():
                points = [(int(entry["step"]), float(entry[key])) for entry in log or [] if key in entry]
                if points:
                    series[name] = tuple(zip(*points))
            if series:
                with drawn_or_left_out(caption.rstrip(".").lower()):
                    section.figures.append((lines(None, series, "step", y_label), caption))
        return section if section.figures else None

    def _with_bars(self, section, names, values, caption):
        if self.draws and names:
            from hf_htc.evaluation.figures import bars

            with drawn_or_left_out(caption.rstrip(".")):
                section.figures.append((bars(names, values), caption))
        return section


def _at(threshold, micro, macro):
    """Micro- and macro-F1 at the grid's last threshold up to this one."""
    curves = [(curve["f1"], np.searchsorted(curve["threshold"], threshold + 1e-9) - 1) for curve in (micro, macro)]
    return [_percent(values[place]) for values, place in curves]


def _percent(value):
    return f"{100 * value:.2f}"


def _some(names, most=10):
    left_out = f"; and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + left_out


def _snippet(text, most=160):
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def _markdown_table(head, rows):
    escaped = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *escaped]]
