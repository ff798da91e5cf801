"""Conformal sets over many splits: whether they hold on average what they promise, and how large they are.

    python benchmarks/conformal.py CHECKPOINT DATA_FOLDER --coverage 0.8 0.9 0.95 --resplits 100

The documents of a split that the checkpoint never saw are dealt at random into two halves, one to calibrate on and one to look
at, again and again. A document whose labels are several paths asks for `--kind risk`; `auto` takes what fits the documents. The
result goes to `results/conformal/NAME.json`, and `make_tables.py` writes its table.
"""

import argparse
import json
import shlex
from pathlib import Path

import numpy as np

import hf_htc
from hf_htc.cli.common import load_checkpoint, set_up_logging
from hf_htc.data import as_split, label_csr
from hf_htc.evaluation.conformal import calibrate, coverage_of, fitting_kind
from hf_htc.evaluation.predictions import check_same_labels
from hf_htc.models.label_sets import gather_rows
from hf_htc.training.manifest import run_manifest, source_commit


RESULTS = Path(__file__).resolve().parent / "results" / "conformal"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("dataset")
    parser.add_argument("--encoder_name", default=None, help="the encoder's public name, for the results")
    parser.add_argument("--training", required=True, help="the command that trained the checkpoint, without local paths")
    parser.add_argument("--split", default="test")
    parser.add_argument("--kind", default="auto", choices=["auto", "back_off", "risk"])
    parser.add_argument("--coverage", nargs="+", type=float, default=[0.8, 0.9, 0.95])
    parser.add_argument("--resplits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--output", type=Path, help="default: results/conformal/NAME.json, after the data")
    options = parser.parse_args(arguments)
    set_up_logging()
    source_commit()  # the code that runs, not what is committed by the end
    model, tokenizer, _ = load_checkpoint(options.checkpoint)
    hierarchy = model.config.get_hierarchy()
    loaded = hf_htc.load_htc_dataset(options.dataset, taxonomy=hierarchy)
    check_same_labels(hierarchy, loaded.hierarchy)
    rows = as_split(loaded.dataset, options.split)
    gold = label_csr(rows)
    gold = hierarchy.close(gold) if model.default_closure() == "up" else gold
    logits = np.zeros((len(rows), hierarchy.num_labels), dtype=np.float32)
    for places, part in model.iter_logits(rows["text"], tokenizer, options.batch_size):
        logits[places] = part.cpu().numpy()
    kind = fitting_kind(gold, hierarchy) if options.kind == "auto" else options.kind
    scores = {
        f"{coverage:g}": over_resplits(logits, gold, hierarchy, kind, coverage, options.resplits, options.seed)
        for coverage in options.coverage
    }
    name = Path(options.dataset).name
    settings = {"kind": kind, "resplits": options.resplits, "split": options.split, "method": model.config.model_type}
    result = run_manifest(
        command(options, name), name, loaded.dataset, hierarchy, settings, options.seed, options.encoder_name, scores
    )
    result["training"] = options.training
    target = options.output or RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for coverage, row in scores.items():
        print(
            f"{kind}, promised {coverage}: covered {row['mean_coverage']:.4f} on average ({row['lowest_coverage']:.4f} to "
            f"{row['highest_coverage']:.4f}), mean size {row['mean_size']:.2f}"
        )
    return result


def over_resplits(logits, gold, hierarchy, kind, coverage, resplits, seed):
    """
    Args:
        logits (`np.ndarray` of shape `(S, N)`), gold (CSR pair), hierarchy ([`LabelHierarchy`]).
        kind (`str`), coverage (`float`): As for [`calibrate`].
        resplits (`int`): How often the documents are dealt, by `seed`.

    Returns:
        `dict`: `documents` of each half; over the resplits `mean_coverage`, `lowest_coverage`, `highest_coverage`, `mean_size`.
    """
    generator, half = np.random.default_rng(seed), len(logits) // 2
    found = []
    for _ in range(resplits):
        order = generator.permutation(len(logits))
        mine, others = order[:half], order[half:]
        calibration = calibrate(logits[mine], rows_of(gold, mine), hierarchy, kind, coverage)
        found.append(coverage_of(logits[others], rows_of(gold, others), hierarchy, calibration))
    covered, sizes = (np.array([row[key] for row in found]) for key in ("coverage", "size"))
    return {
        "documents": [half, len(logits) - half],
        "mean_coverage": float(covered.mean()),
        "lowest_coverage": float(covered.min()),
        "highest_coverage": float(covered.max()),
        "mean_size": float(sizes.mean()),
    }


def rows_of(csr, rows):
    """The chosen rows of a CSR pair, as a CSR pair."""
    lengths, indices = gather_rows(*csr, rows)
    return np.concatenate([[0], np.cumsum(lengths)]), indices


def command(options, name):
    """The command line, without local paths."""
    words = ["python", "benchmarks/conformal.py", "CHECKPOINT", name, "--coverage", *(f"{value:g}" for value in options.coverage)]
    words += ["--resplits", str(options.resplits), "--split", options.split, "--kind", options.kind, "--seed", str(options.seed)]
    return shlex.join(words)


if __name__ == "__main__":
    main()
