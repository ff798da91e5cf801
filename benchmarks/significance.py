"""Means over seeds and paired bootstraps of the runs of a result file of `compare.py`.

    python benchmarks/significance.py DATA_FOLDER results/NAME.json --baselines flat hiagm "hpt, BCE" "hidec, BCE"

Every method is put beside those of `--baselines`; beside one with options (`hpt, BCE`) only the runs of the same method are. The
score of a method is the mean over its seeds, and the test documents are drawn anew 2,000 times. Reads the predictions that
`compare.py` kept; writes `results/significance/NAME.json`.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from compare import prediction_file

import hf_htc
from hf_htc.data import label_csr
from hf_htc.evaluation.significance import paired_bootstrap


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("results", type=Path)
    parser.add_argument("--baselines", nargs="+", default=["flat", "hiagm"])
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args(arguments)
    results = json.loads(options.results.read_text(encoding="utf-8"))
    loaded = hf_htc.load_htc_dataset(options.dataset)
    groups = runs_by_method(results)
    predictions = {name: [read_predictions(options.results, key) for key in keys] for name, keys in groups.items()}
    gold = loaded.hierarchy.close(label_csr(loaded.dataset["test"]))
    summary = {}
    for name, keys in groups.items():
        scores = [results[key]["scores"]["test"] for key in keys]
        if any(score["closure"] != "up" for score in scores):
            parser.error(f"the scores of {name!r} are not of closed labels")
        entry = {"seeds": [results[key]["seed"] for key in keys], "test_documents": len(gold[0]) - 1}
        for metric in ("micro_f1", "macro_f1"):
            values = [score[metric] for score in scores]
            entry[metric] = {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}
        entry["against"] = {
            baseline: paired_bootstrap(
                gold, predictions[name], predictions[baseline], loaded.hierarchy.num_labels, options.resamples
            )
            for baseline in options.baselines
            if baseline in groups and baseline != name and baseline.partition(", ")[0] in (baseline, name.partition(", ")[0])
        }
        summary[name] = entry
        print(
            name, json.dumps(entry["micro_f1"]), {k: v["micro_f1"]["interval"] for k, v in entry["against"].items()}, flush=True
        )
    target = options.results.parent / "significance" / options.results.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"resamples": options.resamples, "methods": summary}, indent=1) + "\n", encoding="utf-8")


def runs_by_method(results):
    """Run names of a result file by method, each with its options: those whose predictions are kept and labels not shuffled."""
    groups = {}
    for key, manifest in results.items():
        if manifest["settings"].get("learning_rate") is not None and "shuffled" not in key:
            groups.setdefault(key.rpartition(", seed ")[0], []).append(key)
    return groups


def read_predictions(result_file, key):
    """The predicted label ids of one run, a CSR pair."""
    with np.load(prediction_file(result_file, key)) as content:
        return content["indptr"].astype(np.int64), content["indices"].astype(np.int64)


if __name__ == "__main__":
    main()
