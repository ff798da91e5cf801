"""`hf-htc compare A.jsonl B.jsonl`: two prediction files of one data set, and whether their scores really differ."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, parse, set_up_logging
from hf_htc.models.errors import HTCError, HTCFileNotFoundError
from hf_htc.models.whole_files import write_text


@dataclass
class CompareArguments:
    """What is compared and how."""

    first: str = field(metadata={"positional": True, "help": "A prediction file of `hf-htc evaluate` or `predict`."})
    second: str = field(metadata={"positional": True, "help": "Another prediction file of the same documents."})
    split: str = field(default="test", metadata={"help": "The split that was predicted."})
    score_closure: str | None = field(
        default=None, metadata={"help": "Closure of the scores: 'none', 'up' or 'prune'; by default that of the files."}
    )
    resamples: int = field(
        default=2000, metadata={"range": "[1, inf)", "help": "How often documents are drawn anew, and predictions swapped."}
    )
    seed: int = field(default=0, metadata={"range": "[0, 4294967295]", "help": "Of the drawing."})
    output: str | None = field(default=None, metadata={"help": "Also write the numbers to this JSON file."})


def run(arguments):
    data, options = parse(
        [DataArguments, CompareArguments],
        arguments,
        "hf-htc compare",
        "Scores two prediction files of the same documents, and tells whether the scores really differ.",
        "hf-htc compare first.jsonl second.jsonl --test_file test.jsonl --taxonomy taxonomy.tsv",
    )
    set_up_logging()
    from hf_htc.data import as_split

    files = [read_predictions(name) for name in (options.first, options.second)]
    dataset, hierarchy = data.load()
    rows = as_split(dataset, options.split)
    result = compare(files, rows, hierarchy, options)
    print(comparison_table(result["scores"]))
    print(
        f"closure {result['closure']}, {result['num_documents']:,} documents; difference: first minus second; "
        f"intervals from {options.resamples:,} bootstrap resamples, p-value from as many random swaps"
    )
    if options.output is not None:
        write_text(options.output, json.dumps(result, indent=2) + "\n")


def read_predictions(path):
    """
    The records of a prediction file.

    Args:
        path (`str`): JSON lines with `id`, `labels` (names) and `closure`; other keys are not read.

    Returns:
        `tuple[str, list[dict]]`: the file's name and its records.

    Raises:
        `FileNotFoundError`: no such file. `ValueError`: a line that is no prediction record (numbered), or no line at all.
    """
    name, records = Path(path).name, []
    if not Path(path).is_file():
        raise HTCFileNotFoundError(f"There is no prediction file {str(path)!r}.")
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict) or not {"id", "labels", "closure"} <= set(record):
                raise HTCError(
                    f"Line {number} of {name!r} is no prediction record: it needs `id`, `labels` and `closure`, as "
                    "`hf-htc evaluate --output_dir` and `hf-htc predict` write them."
                )
            records.append(record)
    if not records:
        raise HTCError(f"{name!r} holds no predictions.")
    return name, records


def compare(files, rows, hierarchy, options):
    """
    Both scores, their difference, its interval and p-value.

    Args:
        files (`list` of two of what [`read_predictions`] gives), rows (`datasets.Dataset`): Predictions and gold labels.
        hierarchy ([`LabelHierarchy`]), options ([`CompareArguments`])

    Returns:
        `dict`: `scores` (from [`paired_bootstrap`], `p_value` from [`approximate_randomization`], `first_interval` and
        `second_interval` from [`bootstrap_intervals`]), and what they belong to.

    Raises:
        `ValueError`: the ids of the files and the split differ, an unknown label, files of different closures.
    """
    from hf_htc.data import label_csr
    from hf_htc.evaluation.significance import approximate_randomization, bootstrap_intervals, paired_bootstrap
    from hf_htc.metrics.hierarchical_f1 import CLOSURES, apply_closure

    ids = list(rows["id"]) if "id" in rows.column_names else list(range(len(rows)))
    closure = options.score_closure
    if closure is None:
        given = [sorted({record["closure"] for record in records}) for _, records in files]
        if given[0] != given[1] or len(given[0]) > 1:
            raise HTCError(
                f"The predictions were made with different closures: {given[0]} in {files[0][0]!r}, {given[1]} in "
                f"{files[1][0]!r}. Say by `--score_closure` how they are to be scored."
            )
        closure = given[0][0]
    if closure not in CLOSURES:
        raise HTCError(f"`--score_closure` must be one of {list(CLOSURES)}; got {closure!r}.")
    gold, sides = label_csr(rows), []
    for name, records in files:
        records = in_order(name, records, ids, options.split)
        known = set(hierarchy.label_names)
        for record in records:
            unknown = [label for label in record["labels"] if label not in known]
            if unknown:
                raise HTCError(f"{name!r}, id {record['id']!r}: the label {unknown[0]!r} is not in the taxonomy.")
        predicted = [[hierarchy.id(label) for label in record["labels"]] for record in records]
        predicted, closed_gold = apply_closure(predicted, gold, hierarchy, closure)
        sides.append(predicted)
    settings = {"num_resamples": options.resamples, "seed": options.seed, "hierarchy": hierarchy}
    scores = paired_bootstrap(closed_gold, [sides[0]], [sides[1]], hierarchy.num_labels, **settings)
    p_values = approximate_randomization(closed_gold, *sides, hierarchy.num_labels, **settings)
    alone = [bootstrap_intervals(closed_gold, side, hierarchy.num_labels, **settings) for side in sides]
    for name, entry in scores.items():
        entry["p_value"] = p_values[name]
        entry["first_interval"], entry["second_interval"] = (intervals[name]["interval"] for intervals in alone)
    return {
        "first": files[0][0],
        "second": files[1][0],
        "split": options.split,
        "closure": closure,
        "num_documents": len(ids),
        "num_labels": hierarchy.num_labels,
        "resamples": options.resamples,
        "seed": options.seed,
        "scores": scores,
    }


def in_order(name, records, ids, split):
    """
    The records in the order of the split's ids.

    Raises:
        `ValueError`: an id twice, or ids that only the file or only the split has; the first one is named.
    """
    by_id = {}
    for record in records:
        if record["id"] in by_id:
            raise HTCError(f"{name!r} has the id {record['id']!r} twice.")
        by_id[record["id"]] = record
    missing = [i for i in ids if i not in by_id]
    extra = by_id.keys() - set(ids)
    if missing or extra:
        which = f"id {missing[0]!r} only in the split" if missing else f"id {min(extra, key=str)!r} only in the file"
        raise HTCError(
            f"{name!r} is of other documents than the split {split!r} ({len(by_id):,} and {len(ids):,}): {which}. Both files "
            "must hold the predictions of that split; choose it by `--split`."
        )
    return [by_id[i] for i in ids]


def comparison_table(scores):
    """A text table: one row a score."""
    titles = {"micro_f1": "micro-F1", "macro_f1": "macro-F1", "samples_f1": "samples-F1", "hierarchical_f1": "hierarchical F1"}
    head = ["", "first", "95 % interval", "second", "95 % interval", "difference", "95 % interval", "p-value"]
    cells = [
        [
            titles[name],
            f"{entry['first']:.4f}",
            "[{:.4f}, {:.4f}]".format(*entry["first_interval"]),
            f"{entry['second']:.4f}",
            "[{:.4f}, {:.4f}]".format(*entry["second_interval"]),
            f"{entry['difference']:+.4f}",
            "[{:+.4f}, {:+.4f}]".format(*entry["interval"]),
            f"{entry['p_value']:.4f}",
        ]
        for name, entry in scores.items()
    ]
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in [head, *cells]
    )
