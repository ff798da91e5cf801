"""`DatasetReport`: what [`check_dataset`] and [`check_files`] found, as a dict and as Markdown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from .problems import SEVERITIES


@dataclass
class DatasetReport:
    """
    Statistics and problems of a data set.

    Attributes:
        splits (`dict[str, dict]`): Per split: `documents`, `unlabelled`, `empty_texts`, `open_documents` (an ancestor
            label is missing), `labels_seen`, and `mean`, `median`, `p95`, `min`, `max` of `labels_per_document`,
            `words` and `characters`; `depth`, documents by level of their deepest label.
        hierarchy (`dict`): [`LabelHierarchy.statistics`].
        labels (`dict`): `without_training` (names), `unseen_in_training` by other split (names), `most_frequent` and
            `least_frequent` (name, training documents).
        duplicates (`dict`): `within` (superfluous rows by split), `across` (texts shared, by pair of splits),
            `conflicting` (texts that stand with different labels).
        label_closure (`str`): `"closed"` or `"as_given"`, measured on the training split (on all without one);
            `None` where the check ended before.
        problems (`list[DataProblem]`): Errors first, then warnings, then notes.
    """

    splits: dict
    hierarchy: dict
    labels: dict
    duplicates: dict
    label_closure: str | None
    problems: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.problems = sorted(self.problems, key=lambda problem: SEVERITIES.index(problem.severity))

    @property
    def ok(self) -> bool:
        """Whether nothing was found that `load_htc_dataset` refuses."""
        return not any(problem.severity == "error" for problem in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers (JSON-able)."""
        return {**asdict(self), "ok": self.ok}

    def to_markdown(self, max_problems: int = 30) -> str:
        """The report as Markdown; of more problems than `max_problems` the rest is counted."""
        counts = {severity: sum(p.severity == severity for p in self.problems) for severity in SEVERITIES}
        lines = [
            "# Data check",
            "",
            ", ".join(f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in SEVERITIES) + ".",
            "",
        ]
        if self.problems:
            lines += ["## Problems", ""]
            for problem in self.problems[:max_problems]:
                lines.append(f"* **{problem.severity}** `{problem.kind}` ({problem.count}): {problem.message}")
                if len(problem.examples) > 1:
                    lines.append(f"  e.g. {'; '.join(problem.examples[:5])}")
            if len(self.problems) > max_problems:
                lines.append(f"* ... and {len(self.problems) - max_problems} more")
            lines.append("")
        if not self.splits:  # the check ended before there was anything to count
            return "\n".join(lines)
        lines += ["## Splits", "", *self._splits_table(), "", "## Labels", "", *self._label_lines(), ""]
        return "\n".join(lines)

    def _splits_table(self):
        rows = {
            "documents": lambda s: f"{s['documents']:,}",
            "without labels": lambda s: f"{s['unlabelled']:,}",
            "empty texts": lambda s: f"{s['empty_texts']:,}",
            "labels seen": lambda s: f"{s['labels_seen']:,}",
            "labels per document (mean, max)": lambda s: _pair(s["labels_per_document"]),
            "words (mean, p95, max)": lambda s: _triple(s["words"]),
            "characters (mean, p95, max)": lambda s: _triple(s["characters"]),
            "documents by depth": lambda s: ", ".join(f"{level}: {n:,}" for level, n in s["depth"].items()) or "-",
            "missing an ancestor label": lambda s: f"{s['open_documents']:,}",
            "duplicates inside": lambda s: f"{s['duplicates']:,}",
        }
        head = ["| | " + " | ".join(self.splits) + " |", "|---|" + "---|" * len(self.splits)]
        return head + [f"| {name} | " + " | ".join(show(s) for s in self.splits.values()) + " |" for name, show in rows.items()]

    def _label_lines(self):
        h = self.hierarchy
        kind = "tree" if h["is_tree"] else "DAG"
        lines = [
            f"* {kind} of {h['num_labels']:,} labels ({h['num_nodes']:,} nodes) on {h['num_levels']} levels: "
            + "-".join(str(n) for n in h["labels_per_level"]),
            f"* label closure: `{self.label_closure}`",
            f"* labels without training documents: {len(self.labels['without_training']):,}",
        ]
        lines += [f"* in {split}, never in train: {len(names):,}" for split, names in self.labels["unseen_in_training"].items()]
        lines += [f"* texts in both {pair.replace('/', ' and ')}: {n:,}" for pair, n in self.duplicates["across"].items()]
        for key, what in (("most_frequent", "most frequent"), ("least_frequent", "least frequent with any")):
            if self.labels[key]:
                lines.append(f"* {what}: " + ", ".join(f"{name} ({n:,})" for name, n in self.labels[key][:5]))
        return lines

    def __str__(self) -> str:
        return self.to_markdown()


def _pair(numbers):
    return f"{numbers['mean']:.2f}, {numbers['max']:,}"


def _triple(numbers):
    return f"{numbers['mean']:.0f}, {numbers['p95']:,}, {numbers['max']:,}"
