"""Gains by label frequency: macro-F1 of five equal parts of the labels, each method beside a baseline (HBM paper, Figure 4).

    python benchmarks/label_frequency.py DATA_FOLDER results/NAME.json --baseline "hidec, BCE"

Labels are sorted by their training documents; the part `>80%` holds the most frequent fifth. Reads the predictions that
`compare.py` kept; a method's score is the mean over its seeds. Prints the table and writes `results/frequency/NAME.json`;
`--plot FILE` draws the differences.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from make_tables import frequency_table
from significance import read_predictions, runs_by_method

import hf_htc
from hf_htc.data import label_csr
from hf_htc.evaluation.figures import lines
from hf_htc.models.label_sets import contains, row_ids


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("results", type=Path)
    parser.add_argument("--baseline", required=True, help="a method of the result file, with its label")
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="an image file to draw the differences into")
    options = parser.parse_args(arguments)
    groups = runs_by_method(json.loads(options.results.read_text(encoding="utf-8")))
    if options.baseline not in groups:
        parser.error(f"there is no method {options.baseline!r}; the file has {', '.join(groups)}")
    loaded = hf_htc.load_htc_dataset(options.dataset)
    hierarchy = loaded.hierarchy
    counts = np.bincount(hierarchy.close(label_csr(loaded.dataset["train"]))[1], minlength=hierarchy.num_labels)
    parts = label_parts(counts, options.parts)
    gold = hierarchy.close(label_csr(loaded.dataset["test"]))
    scores = {
        name: np.mean([part_scores(gold, read_predictions(options.results, key), parts, hierarchy.num_labels) for key in keys], 0)
        for name, keys in groups.items()
    }
    names = part_names(options.parts)
    content = {"baseline": options.baseline, "parts": names, "labels": [len(part) for part in parts],
               "training_documents": [[int(counts[part].min()), int(counts[part].max())] for part in parts],
               "macro_f1": {name: row.tolist() for name, row in scores.items()}}  # fmt: skip
    print(frequency_table(content))
    target = options.results.parent / "frequency" / options.results.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        base = scores[options.baseline]
        gains = {name: (100 * (row - base)).tolist() for name, row in scores.items()}
        lines(names, gains, "labels by training documents", f"macro-F1 minus that of {options.baseline}", path=options.plot)


def label_parts(counts, number):
    """Label ids in `number` equal parts, the most frequent first; ties by id."""
    return np.array_split(np.lexsort((np.arange(len(counts)), -counts)), number)


def part_names(number):
    """`>80%` for the most frequent fifth of five, `<20%` for the least frequent one."""
    bounds = [round(100 * i / number) for i in range(number, -1, -1)]
    names = [f"{low}-{high}%" for high, low in zip(bounds, bounds[1:])]
    return [f">{bounds[1]}%", *names[1:-1], f"<{bounds[-2]}%"] if number > 1 else ["all"]


def part_scores(gold, predicted, parts, num_labels):
    """Macro-F1 of every part; a label without a document and without a prediction counts as 0, as in every macro-F1 here."""
    keys = [np.sort(row_ids(indptr) * num_labels + indices) for indptr, indices in (gold, predicted)]
    right = keys[1][contains(keys[0], keys[1])]
    hits, wanted, found = (np.bincount(key % num_labels, minlength=num_labels) for key in (right, *keys))
    f1 = 2 * hits / np.maximum(wanted + found, 1)
    return np.array([f1[part].mean() for part in parts])


if __name__ == "__main__":
    main()
