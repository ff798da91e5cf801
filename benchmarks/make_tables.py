"""Writes the result tables of benchmarks/README.md and README.md from benchmarks/results/*.json, and the tables of
zero-shot labels, of label frequency, of conformal sets and of speed of benchmarks/README.md from
benchmarks/results/zero_shot/*.json, frequency/*.json, conformal/*.json and speed/*.json:

python benchmarks/make_tables.py
"""

import json
import re
import statistics
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# What may cost at most how much, as a ratio: inference with few labels, inference with many, a training step.
FEW_LABELS, MANY_LABELS = 300, 30000
FEW_LIMIT, MANY_LIMIT, STEP_LIMIT = 1.05, 1.10, 1.2
# The methods whose inference with many labels is limited; the others carry states of all nodes. Those with prompts have the limit
# of many labels with few, too.
LIMITED_WITH_MANY = ("flat", "hitin", "hpt", "ptmt")
WITH_PROMPTS = ("hpt", "ptmt")


def load():
    """Results by file name, each a dict of run name to manifest."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def table(head, rows):
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def percent(value):
    return f"{100 * value:.2f}"


def details(results, significance):
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
            ranks = [f"{test[key]:.3f}" for key in ("recall_at_5", "ndcg_at_5") if key in test]
            count, seconds = manifest["dataset"]["documents"]["validation"], manifest["seconds"]["total"]
            rows.append(
                [
                    run,
                    *scores,
                    " / ".join(ranks) or "-",
                    " / ".join(levels),
                    percent(validation["micro_f1"]),
                    f"{count:,}",
                    f"{seconds:,.0f}",
                ]
            )
        head = [
            "run",
            "test micro-F1",
            "macro-F1",
            "samples-F1",
            "R@5 / nDCG@5",
            "micro-F1 by level",
            "validation micro-F1",
            "validation documents",
            "seconds",
        ]
        parts.append(table(head, rows))
        first_seeds = {run.rpartition(", seed ")[0]: run for run in reversed(runs)}
        curve = [
            f"* {run}: " + ", ".join(f"{entry['step']}: {float(entry['loss']):.4f}" for entry in thinned(manifest["log"]))
            for run, manifest in runs.items()
            if manifest.get("log") and run in first_seeds.values()
        ]
        if curve:
            parts.append("Training loss by step, of each model's first seed:\n\n" + "\n".join(curve) + "\n")
        parts.append("Commands:\n\n```text\n" + "\n".join(commands(runs)) + "\n```\n")
        if name in significance:
            parts.append(over_seeds(significance[name]))
        neural = next((manifest for manifest in runs.values() if manifest["settings"].get("learning_rate")), first)
        versions = ", ".join(f"{key} {value}" for key, value in neural["versions"].items())
        parts.append(
            f"Encoder {neural['text_encoder']}; {neural['machine']['cores']} cores, "
            f"accelerator {neural['machine']['accelerator']}; closure of the scores "
            f"`{first['scores']['test']['closure']}`; {versions}.\n"
        )
    return "\n".join(parts)


def commands(runs):
    """The command lines of runs; those that differ in the seed alone are one."""
    seeds = {}
    for manifest in runs.values():
        command = re.sub(r"--seeds \d+", "--seeds {}", manifest["command"])
        seeds.setdefault(command, []).append(manifest["seed"])
    return [command.replace("{}", " ".join(map(str, sorted(set(found)))), 1) for command, found in seeds.items()]


def over_seeds(significance):
    """Mean and standard deviation over the seeds, and the paired bootstrap against each baseline."""
    rows = []
    # A baseline with options, "hpt, BCE", is one of its own method; those with the same options share their columns.
    against = {
        name: {baseline.partition(", ")[2] or baseline: found for baseline, found in entry["against"].items()}
        for name, entry in significance["methods"].items()
    }
    baselines = list(dict.fromkeys(name for found in against.values() for name in found))
    for name, entry in significance["methods"].items():
        cells = [mean_and_deviation(entry[metric]) for metric in ("micro_f1", "macro_f1")]
        for baseline in baselines:
            cells += [difference(against[name].get(baseline), metric) for metric in ("micro_f1", "macro_f1")]
        rows.append([name, len(entry["seeds"]), *cells])
    head = ["method", "seeds", "test micro-F1", "macro-F1"]
    head += [f"{metric} over {baseline}" for baseline in baselines for metric in ("micro-F1", "macro-F1")]
    documents = next(iter(significance["methods"].values()))["test_documents"]
    legend = (
        "Mean and standard deviation over the seeds; differences with their 95 % interval, a paired bootstrap over the "
        f"{documents:,} test documents ({significance['resamples']:,} resamples, each method the mean over its seeds); * where "
        "0 lies outside.\n\n"
    )
    return legend + table(head, rows)


def mean_and_deviation(score):
    return percent(score["mean"]) + ("" if score["sd"] is None else f" ± {percent(score['sd'])}")


def difference(comparison, metric):
    if comparison is None:
        return "-"
    low, high = comparison[metric]["interval"]
    star = " *" if low > 0 or high < 0 else ""
    return f"{100 * comparison[metric]['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f}){star}"


def thinned(log, number=10):
    """About `number` of the logged losses, the first ones all the same distance apart."""
    losses = [entry for entry in log if "loss" in entry]
    return losses[:: max(1, len(losses) // number)]


def summary(results):
    """
    The README's table, a column a task: test micro / macro-F1 of every method on labels that were not shuffled, the mean over its
    seeds. Ablations are left to the benchmarks' page.
    """
    tasks = {name: runs for name, runs in results.items() if not name.endswith(("_ablations", "_shuffled"))}
    head, cells = ["model"], {}
    for column, (name, runs) in enumerate(tasks.items()):
        groups = {}
        for run, manifest in runs.items():
            groups.setdefault(run.rpartition(", seed ")[0], []).append(manifest)
        for group, manifests in groups.items():
            means = (statistics.mean(run["scores"]["test"][metric] for run in manifests) for metric in ("micro_f1", "macro_f1"))
            cells.setdefault(group, ["-"] * len(tasks))[column] = " / ".join(map(percent, means))
        documents = next(iter(runs.values()))["dataset"]["documents"]["train"]
        fewest, most = (pick(map(len, groups.values())) for pick in (min, max))
        seeds = f"{most} seed{'s' * (most > 1)}" if fewest == most else f"{fewest} to {most} seeds"
        head.append(f"`{name}`: {documents:,} training documents, {seeds}")
    return table(head, [[group, *row] for group, row in cells.items()])


def load_folder(name):
    """Results by file name in a folder of results: `significance`, `zero_shot`, `frequency`, `conformal` or `speed`."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / name).glob("*.json"))}


def zero_shot(results):
    """One section a result file of `zero_shot.py`: ranks on test data inside each group of labels and among all labels."""
    parts = []
    for name, result in results.items():
        rows = [
            [
                group,
                f"{result['labels'][group]:,}",
                f"{scores['documents']:,}",
                *(f"{scores[key]:.3f}" for key in ("recall", "ndcg", "recall_among_all", "ndcg_among_all", "recall_by_chance")),
            ]
            for group, scores in result["scores"]["test"].items()
        ]
        head = ["labels", "number", "test documents", "R@5", "nDCG@5", "R@5 among all", "nDCG@5 among all", "R@5 by chance"]
        documents, versions = result["dataset"]["documents"], result["versions"]
        parts.append(
            f"### {name}\n\n{table(head, rows)}\n{documents['train']:,} training documents, seed {result['seed']}, "
            f"{result['seconds']['train']:,.0f} seconds of training; encoder {result['text_encoder']}; "
            f"hf_htc {versions['hf_htc']}, torch {versions['torch']}, transformers {versions['transformers']}; "
            f"commit `{result['commit']}`.\n\n"
            f"```text\n{result['command']}\n```\n"
        )
    return "\n".join(parts)


def conformal(results):
    """One section a result file of `conformal.py`: what is promised and what is covered."""
    parts = []
    for name, result in results.items():
        settings, versions = result["settings"], result["versions"]
        rows = [
            [
                promised,
                f"{row['mean_coverage']:.4f} ({row['lowest_coverage']:.4f} to {row['highest_coverage']:.4f})",
                f"{row['mean_size']:.2f}",
            ]
            for promised, row in result["scores"].items()
        ]
        size = "mean number of leaves" if settings["kind"] == "back_off" else "mean number of labels"
        documents = " and ".join(f"{count:,}" for count in next(iter(result["scores"].values()))["documents"])
        parts.append(
            f"### {name}\n\n{table(['promised', 'mean coverage (lowest to highest)', size], rows)}\n"
            f"Kind `{settings['kind']}`; {settings['resplits']} times {documents} documents of the {settings['split']} split, "
            f"seed {result['seed']}; `{settings['method']}`, encoder {result['text_encoder']}; hf_htc {versions['hf_htc']}, "
            f"torch {versions['torch']}, transformers {versions['transformers']}; commit `{result['commit']}`.\n\n"
            f"```text\n{result['training']}\n{result['command']}\n```\n"
        )
    return "\n".join(parts)


def frequency(results):
    """One section a result file of `label_frequency.py`."""
    return "\n".join(f"### {name}\n\n{frequency_table(result)}" for name, result in results.items())


def frequency_table(result):
    """Macro-F1 of the labels of each frequency: the baseline's, and what the other methods have more."""
    baseline = result["macro_f1"][result["baseline"]]
    head = ["macro-F1"]
    for name, number, (low, high) in zip(result["parts"], result["labels"], result["training_documents"]):
        head.append(f"{name}: {number} labels of {low:,} to {high:,} training documents")
    rows = [[result["baseline"], *map(percent, baseline)]]
    for name, scores in result["macro_f1"].items():
        if name != result["baseline"]:
            rows.append([name, *(f"{100 * (score - base):+.2f}" for score, base in zip(scores, baseline))])
    return table(head, rows)


def speed(results):
    """One section a result file of `bench.py`: ratios, parameters, memory, and how they were measured."""
    if not results:
        return "Not measured yet; `make bench` measures and writes the table.\n"
    return "\n".join(speed_section(name, result) for name, result in results.items())


def speed_section(name, result):
    rows, reasons, missed = [], [], False
    for case in result["cases"].values():
        labels = f"{case['labels']:,}"
        if "error" in case:
            reasons.append(f"* {case['name']}, {labels} labels: not measured, {case['error']}")
            rows.append([case["name"], labels, *["not measured"] * 3, *["-"] * 5])
            continue
        inference, training, memory = case["inference"], case["training"], case["peak_memory_mib"]
        ratios = [
            ratio(inference["to_bare"], inference_limit(case["method"], case["labels"])),
            ratio(inference.get("to_flat")),
            ratio(training.get("to_flat"), STEP_LIMIT),
        ]
        missed |= any("(!)" in cell for cell in ratios)
        rows.append(
            [
                case["name"],
                labels,
                *ratios,
                f"{case['parameters']['encoder'] / 1e6:,.1f}",
                f"{case['parameters']['classifier'] / 1e6:,.1f}",
                f"{memory['inference']:,.0f}",
                f"{memory['training']:,.0f}",
                f"{case['config_seconds']:.1f}" if "config_seconds" in case else "-",
            ]
        )
    head = [
        "method",
        "labels",
        "inference / bare encoder",
        "inference / flat",
        "training step / flat",
        "encoder, million parameters",
        "classifier, million parameters",
        "peak MiB, inference",
        "peak MiB, training",
        "config, seconds",
    ]
    parts = [f"### {name}\n", table(head, rows)]
    if missed:
        parts.append(
            f"(!) misses a limit: inference at most {FEW_LIMIT:.2f} x the bare encoder up to {FEW_LABELS} labels and, for "
            f"{', '.join(LIMITED_WITH_MANY)}, {MANY_LIMIT:.2f} x at {MANY_LABELS:,} labels, for {' and '.join(WITH_PROMPTS)} "
            f"at every size; a training step at most {STEP_LIMIT:.1f} x the flat model's.\n"
        )
    if reasons:
        parts.append("\n".join(reasons) + "\n")
    return "\n".join([*parts, speed_settings(result)])


def inference_limit(method, num_labels):
    """What a method's inference may cost beside the bare encoder, or None."""
    if method in WITH_PROMPTS or num_labels >= MANY_LABELS and method in LIMITED_WITH_MANY:
        return MANY_LIMIT
    return FEW_LIMIT if num_labels <= FEW_LABELS else None


def ratio(value, limit=None):
    """Median and quartiles; marked above the limit."""
    if value is None:
        return "-"
    low, high = value["quartiles"]
    return f"{value['median']:.2f} ({low:.2f} to {high:.2f})" + (" (!)" if limit is not None and value["median"] > limit else "")


def speed_settings(result):
    """How the numbers of a file were measured; what differs between its cases is given once each."""
    machine, settings = result["machine"], result["settings"]
    encoder = ", ".join(f"{key} {value}" for key, value in settings["text_config"].items())
    made_by = dict.fromkeys(
        ", ".join(f"{key} {value}" for key, value in case["versions"].items()) + f"; commit `{case['commit']}`"
        for case in result["cases"].values()
    )
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_gib']} GiB, "
        f"accelerator {machine['accelerator']}; encoder with random weights: {encoder}; {settings['batch_size']} texts of "
        f"{settings['tokens']} tokens, {'bfloat16 autocast' if settings['bf16'] else 'float32'}; {' / '.join(made_by)}.\n"
    )


def write(path, mark, content):
    text = path.read_text(encoding="utf-8")
    begin, end = text.index(f"<!-- {mark} -->\n") + len(f"<!-- {mark} -->\n"), text.index(f"<!-- /{mark} -->")
    path.write_text(text[:begin] + "\n" + content + "\n" + text[end:], encoding="utf-8")


if __name__ == "__main__":
    write(ROOT / "README.md", "results", summary(load()))
    write(ROOT / "benchmarks" / "README.md", "results", details(load(), load_folder("significance")))
    write(ROOT / "benchmarks" / "README.md", "zero_shot", zero_shot(load_folder("zero_shot")))
    write(ROOT / "benchmarks" / "README.md", "frequency", frequency(load_folder("frequency")))
    write(ROOT / "benchmarks" / "README.md", "conformal", conformal(load_folder("conformal")))
    write(ROOT / "benchmarks" / "README.md", "speed", speed(load_folder("speed")))
