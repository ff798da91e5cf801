"""Scores by the share of the training documents (PTMTTaxoFormer paper, Figure 2 and Table 5).

    python benchmarks/data_curve.py DATA_FOLDER --text_encoder ENCODER --methods ptmt flat --output results/NAME.json

What is given besides goes to `compare.py`, which trains and keeps the runs: a finished run is not run again. Validation and test
documents are the same for all shares. Prints a table of test scores; `--plot FILE` draws it.
"""

import argparse
import json
import statistics
from pathlib import Path

import compare
from make_tables import percent, table

import hf_htc
from hf_htc.evaluation.figures import lines


SHARES = [1 / 32, 2 / 32, 3 / 32, 4 / 32, 12 / 32, 20 / 32, 24 / 32, 28 / 32, 1]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--methods", nargs="+", default=["ptmt", "flat"])
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of the training documents, in (0, 1]")
    parser.add_argument("--metric", default="macro_f1", help="a test score; the paper's is macro_hf1 (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--plot", type=Path, help="an image file to draw the curves into")
    options, others = parser.parse_known_args(arguments)
    if not all(0 < share <= 1 for share in options.shares):
        parser.error("`--shares` lie in (0, 1]")
    whole = len(hf_htc.load_htc_dataset(options.dataset).dataset["train"])
    numbers = [max(1, round(share * whole)) for share in options.shares]
    for number in numbers:
        compare.main(
            [options.dataset, "--methods", *options.methods, "--train_documents", str(number), "--label", label(number),
             "--output", str(options.output), *others]
        )  # fmt: skip
    results = json.loads(options.output.read_text(encoding="utf-8"))
    curves = {method: curve(results, method, numbers, options.metric) for method in options.methods}
    head = [options.metric, *(f"{number:,}" for number in numbers)]
    print(table(head, [[method, *map(percent, row)] for method, row in curves.items()]))
    if options.plot:
        lines(numbers, curves, "training documents", options.metric, path=options.plot)


def label(number):
    return f", {number} documents"


def curve(results, method, numbers, metric):
    """The mean over the seeds of a test score at every number of training documents."""
    values = []
    for number in numbers:
        start = f"{method}{label(number)}, seed "
        values.append(statistics.mean(run["scores"]["test"][metric] for name, run in results.items() if name.startswith(start)))
    return values


if __name__ == "__main__":
    main()
