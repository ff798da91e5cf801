"""HBM's alpha and margin, every pair trained once a seed (HBM paper, Figure 5).

    python benchmarks/hbm_sweep.py DATA_FOLDER --text_encoder ENCODER --method hidec --output results/NAME.json

What is given besides goes to `compare.py`, which trains and keeps the runs: a finished run is not run again. Scores are those of
the validation data; the test data are for the pair that was chosen there. Prints one table of micro-F1 and one of macro-F1.
"""

import argparse
import json
import statistics
from pathlib import Path

import compare
from make_tables import percent, table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--method", default="hidec")
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.01, 0.1, 1.0])
    parser.add_argument("--margins", nargs="+", type=float, default=[0.01, 0.1, 0.2])
    parser.add_argument("--output", type=Path, required=True)
    options, others = parser.parse_known_args(arguments)
    for alpha in options.alphas:
        for margin in options.margins:
            own = json.dumps({"unit_loss": "hbm", "hbm_alpha": alpha, "hbm_margin": margin})
            compare.main(
                [options.dataset, "--methods", options.method, "--method_options", own, "--label", label(alpha, margin),
                 "--output", str(options.output), *others]
            )  # fmt: skip
    results = json.loads(options.output.read_text(encoding="utf-8"))
    for metric in ("micro_f1", "macro_f1"):
        print(f"validation {metric}, {options.method}\n")
        print(sweep_table(results, options.method, options.alphas, options.margins, metric))


def label(alpha, margin):
    return f", alpha {alpha:g}, margin {margin:g}"


def sweep_table(results, method, alphas, margins, metric):
    """Alphas downwards, margins across, the mean over the seeds of the validation score."""
    rows = []
    for alpha in alphas:
        cells = []
        for margin in margins:
            start = f"{method}{label(alpha, margin)}, seed "
            scores = [run["scores"]["validation"][metric] for name, run in results.items() if name.startswith(start)]
            cells.append(percent(statistics.mean(scores)) if scores else "-")
        rows.append([f"alpha {alpha:g}", *cells])
    return table(["", *(f"margin {margin:g}" for margin in margins)], rows)


if __name__ == "__main__":
    main()
