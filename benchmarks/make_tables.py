"""Writes the result tables of benchmarks/README.md and README.md from benchmarks/results/*.json:

python benchmarks/make_tables.py
"""

import json
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"


def load():
    """Results by file name, each a dict of run name to manifest."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def percent(value):
    return f"{100 * value:.2f}"


def details(results):
    """One section a result file: scores, settings, machine, commands."""
    parts = []
    for name, runs in results.items():
        first = next(iter(runs.values()))
        documents = ", ".join(f"{split} {count:,}" for split, count in first["dataset"]["documents"].items())
        parts.append(
            f"### {name}\n\n{first['dataset']['num_labels']} labels on {first['dataset']['num_levels']} levels; {documents}"
        )
        parts[-1] += f"; data fingerprint `{first['dataset']['fingerprint']}`.\n"
        rows = []
        for run, manifest in runs.items():
            test, validation = manifest["scores"]["test"], manifest["scores"]["validation"]
            levels = [
                percent(test[key])
                for key in sorted(test)
                if key.startswith("level_") and key.endswith("micro_f1") and "c_" not in key
            ]
            scores = [percent(test[key]) for key in ("micro_f1", "macro_f1", "samples_f1")]
            count, seconds = manifest["dataset"]["documents"]["validation"], manifest["seconds"]["total"]
            rows.append([run, *scores, " / ".join(levels), percent(validation["micro_f1"]), f"{count:,}", f"{seconds:,.0f}"])
        head = [
            "run",
            "test micro-F1",
            "macro-F1",
            "samples-F1",
            "micro-F1 by level",
            "validation micro-F1",
            "validation documents",
            "seconds",
        ]
        parts.append(table(head, rows))
        curve = [
            f"* {run}: " + ", ".join(f"{entry['step']}: {float(entry['loss']):.4f}" for entry in thinned(manifest["log"]))
            for run, manifest in runs.items()
            if manifest.get("log")
        ]
        if curve:
            parts.append("Training loss by step:\n\n" + "\n".join(curve) + "\n")
        parts.append(
            "Commands:\n\n```text\n" + "\n".join(dict.fromkeys(manifest["command"] for manifest in runs.values())) + "\n```\n"
        )
        neural = next((manifest for manifest in runs.values() if manifest["settings"].get("learning_rate")), first)
        versions = ", ".join(f"{key} {value}" for key, value in neural["versions"].items())
        parts.append(
            f"Encoder {neural['text_encoder']}; {neural['machine']['cores']} cores, "
            f"accelerator {neural['machine']['accelerator']}; closure of the scores "
            f"`{first['scores']['test']['closure']}`; {versions}.\n"
        )
    return "\n".join(parts)


def thinned(log, number=10):
    """About `number` of the logged losses, the first ones all the same distance apart."""
    losses = [entry for entry in log if "loss" in entry]
    return losses[:: max(1, len(losses) // number)]


def summary(results):
    """The README's table: test micro / macro-F1 of every run on labels that were not shuffled."""
    rows = []
    for name, runs in results.items():
        for run, manifest in runs.items():
            if "shuffled" not in run:
                test, documents = manifest["scores"]["test"], manifest["dataset"]["documents"]
                rows.append(
                    [
                        name,
                        f"{documents['train']:,}",
                        run.replace(", seed 42", ""),
                        f"{percent(test['micro_f1'])} / {percent(test['macro_f1'])}",
                    ]
                )
    return table(["data", "training documents", "model", "test micro-F1 / macro-F1"], rows)


def write(path, content):
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    path.write_text(text[:begin] + "\n" + content + "\n" + text[end:], encoding="utf-8")


if __name__ == "__main__":
    write(ROOT / "README.md", summary(load()))
    write(ROOT / "benchmarks" / "README.md", details(load()))
