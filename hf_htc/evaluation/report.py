"""A Markdown report of an evaluation."""

from hf_htc.models.hierarchy import LabelHierarchy


def report_markdown(scores, scorer, hierarchy: LabelHierarchy, title, label_counts=None, num_worst=15):
    """
    Overall scores, scores per level and the labels that cost most.

    Args:
        scores (`dict`): From [`HierarchicalScorer.compute`].
        scorer ([`HierarchicalScorer`]): For the per-label table.
        hierarchy ([`LabelHierarchy`]): The taxonomy.
        title (`str`): First heading.
        label_counts (`list[int]`, *optional*): Training documents of each label.
        num_worst (`int`, *optional*, defaults to 15): Labels listed, those with most errors first.

    Returns:
        `str`
    """
    lines = [
        f"# {title}",
        "",
        f"{scores['num_documents']:,} documents, {hierarchy.num_labels:,} labels, closure `{scores['closure']}`.",
        "",
    ]
    lines += _table(
        ["average", "precision", "recall", "F1"],
        [
            [name, *(_percent(scores[f"{name}_{key}"]) for key in ("precision", "recall", "f1"))]
            for name in ("micro", "macro", "samples", "weighted")
        ],
    )
    lines += [
        "",
        f"Macro is over all {hierarchy.num_labels:,} labels; over the {scores['num_supported_labels']:,} that occur, macro-F1 is "
        f"{_percent(scores['macro_f1_supported'])}. F of macro precision and macro recall: {_percent(scores['macro_hf1'])}. "
        f"Path-constrained micro-F1: {_percent(scores['c_micro_f1'])}; whole paths micro-F1: {_percent(scores['p_micro_f1'])}. "
        f"Exact match: {_percent(scores['exact_match'])}; predicted labels with all their ancestors: "
        f"{_percent(scores['consistency'])}.",
        "",
        "## By level",
        "",
    ]
    levels = [level for level in range(1, hierarchy.num_levels + 1) if f"level_{level}_micro_f1" in scores]
    sizes = hierarchy.statistics()["labels_per_level"]
    lines += _table(
        ["level", "labels", "micro-F1", "macro-F1"],
        [
            [
                level,
                sizes[level - 1],
                _percent(scores[f"level_{level}_micro_f1"]),
                _percent(scores[f"level_{level}_macro_f1"]),
            ]
            for level in levels
        ],
    )
    per_label = scorer.per_label()
    errors = per_label["predicted"] + per_label["support"] - 2 * per_label["tp"]
    worst = [i for i in (-errors).argsort(kind="stable")[:num_worst].tolist() if errors[i]]
    lines += ["", "## Labels with most errors", ""]
    lines += _table(
        ["label", "training documents", "support", "missed", "wrongly predicted", "F1"],
        [
            [
                hierarchy.names[i],
                "" if label_counts is None else f"{label_counts[i]:,}",
                int(per_label["support"][i]),
                int(per_label["support"][i] - per_label["tp"][i]),
                int(per_label["predicted"][i] - per_label["tp"][i]),
                _percent(per_label["f1"][i]),
            ]
            for i in worst
        ],
    )
    return "\n".join(lines) + "\n"


def _percent(value):
    return f"{100 * value:.2f}"


def _table(head, rows):
    escaped = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *escaped]]
