"""Measures what every method costs beside the bare text encoder and the flat model: time, memory, parameters.

    python benchmarks/bench.py                                     # every method at 141, 4,271 and 30,000 labels
    python benchmarks/bench.py --only hiagm flat --sizes 141       # some of them
    python benchmarks/bench.py --profile hiagm --sizes 30000       # where the time of the classifier and the loss goes

On a CPU the encoder has MiniLM's shape, texts have 128 tokens; on a GPU BERT-base's shape and 512 tokens (`--bf16`: autocast).
Weights are random: speed does not depend on them. Every case runs in a fresh process. It first notes its peak memory in one
inference and one training step, then times the bare encoder (which reads as many positions as the method's, prompts among them),
the flat model and the method in turn; ratios are taken within each turn, and their median and quartiles are reported. Results go
to benchmarks/results/speed/ after every case; a case that was finished with the same commit and versions is not measured again,
unless files have changed since that commit.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from bench_case import TINY, Variant, print_profile, proc_value

from hf_htc import METHODS


ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed"
SIZES = [141, 4271, 30000]

# Every registered method is a row, and these options of methods are rows below theirs. A method on a text encoder of its own is
# compared with that encoder, bare, and with the flat model on it.
OPTIONS = (
    Variant("hiagm-la", "hiagm", {"variant": "la"}),
    Variant("hiagm-tree-lstm", "hiagm", {"structure_encoder": "tree_lstm"}),
    Variant("hiagm-textrcnn", "hiagm", text_config={"model_type": "htc_textrcnn"}),
    Variant("himtl-hitin", "himtl", {"branch_method": "hitin"}),
    Variant("hpt-hbm", "hpt", {"unit_loss": "hbm"}),
    Variant("hidec-bce", "hidec", {"unit_loss": "bce"}),
)
VARIANTS = {
    variant.name: variant
    for method in METHODS
    for variant in (Variant(method, method), *(option for option in OPTIONS if option.method == method))
}

MINILM = {"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
BERT_BASE = {**MINILM, "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072}
SCALES = {
    "cpu": {"text_config": MINILM, "tokens": 128, "batch_size": 32, "repetitions": 5},
    "cuda": {"text_config": BERT_BASE, "tokens": 512, "batch_size": 32, "repetitions": 20},
    "quick": {"text_config": TINY, "tokens": 8, "batch_size": 4, "repetitions": 2},
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows to measure, of {', '.join(VARIANTS)} (default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="N", help="numbers of labels (%(default)s)")
    parser.add_argument("--repetitions", type=int, help="turns of inference; training has half of them, at least 3")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="(default: a GPU where there is one)")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--quick", action="store_true", help="a tiny encoder and few turns: does everything run?")
    parser.add_argument("--limit", type=float, default=40, help="begin no further turn after these seconds (%(default)s)")
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which a case is given up (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="measure finished cases anew")
    parser.add_argument("--output", type=Path, help="the result file (default: named after the device, in results/speed/)")
    parser.add_argument("--profile", metavar="NAME", help="print the operators of a row's classifier and loss; measures nothing")
    options = parser.parse_args(arguments)
    names = options.only or list(VARIANTS)
    for name in [*names, *([options.profile] if options.profile else [])]:
        if name not in VARIANTS:
            parser.error(f"there is no row {name!r}; the rows are {', '.join(VARIANTS)}")
    if min(options.sizes) < 1 or (options.repetitions is not None and options.repetitions < 1):
        parser.error("`--sizes` and `--repetitions` are at least 1")
    settings = make_settings(options)
    if options.profile:
        for num_labels in options.sizes:
            print_profile(VARIANTS[options.profile], num_labels, settings)
        return
    output = options.output or default_output(options, settings)
    try:
        run_cases(names, options.sizes, settings, output, options.fresh, options.timeout, replace=options.output is None)
    except KeyboardInterrupt:
        print(f"\nInterrupted; the finished cases are in {output}.", file=sys.stderr)
        sys.exit(130)
    print(f"Results are in {output}; `python benchmarks/make_tables.py` makes the table of {RESULTS.relative_to(ROOT)}/*.json.")


def make_settings(options):
    """What decides the numbers, as it is written to the result file."""
    import torch

    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    scale = SCALES["quick" if options.quick else device]
    repetitions = options.repetitions or scale["repetitions"]
    return {**scale, "device": device, "bf16": options.bf16, "repetitions": repetitions, "limit_s": options.limit}


def default_output(options, settings):
    name = settings["device"] + ("_bf16" if settings["bf16"] else "")
    return ROOT / "runs" / "bench" / "quick.json" if options.quick else RESULTS / f"{name}.json"


# ---------------------------------------------------------------------------------------------- all cases


def run_cases(names, sizes, settings, output, fresh=False, timeout=900, replace=False):
    """
    Measures every case in a process of its own and writes the result file after each.

    A file of another machine or with other settings is replaced when the first case is finished (`replace`, for the file that
    nobody named), or refused: numbers of both never stand in one table.

    Raises:
        `ValueError`: such a file, without `replace`.
    """
    from tqdm import tqdm

    from hf_htc.training.manifest import source_commit, versions

    output = Path(output)
    head = {"machine": machine(), "settings": settings}
    results = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {**head, "cases": {}}
    for key, value in head.items():
        if results[key] != json.loads(json.dumps(value)):
            if replace:
                print(f"{output.name!r} was measured with {key} {results[key]}; everything is measured anew.", file=sys.stderr)
                results = {**head, "cases": {}}
                break
            raise ValueError(f"{output.name!r} was measured with {key} {results[key]}, not {value}; give another `--output`.")
    made_by = {"commit": source_commit(), "versions": versions()}
    cases = [(num_labels, name) for num_labels in sizes for name in names]
    with tqdm(cases, unit="case") as progress:
        for num_labels, name in progress:
            key = f"{name}, {num_labels} labels"
            progress.set_description(key)
            known = results["cases"].get(key)
            if known and not fresh and not is_stale(known, made_by):
                continue
            results["cases"][key] = {**run_case(name, num_labels, settings, timeout), **made_by}
            if "error" in results["cases"][key]:
                tqdm.write(f"{key}: {results['cases'][key]['error']}")
            results["cases"] = dict(sorted(results["cases"].items(), key=lambda item: place(item[1])))
            output.parent.mkdir(parents=True, exist_ok=True)
            half = output.with_suffix(".part")
            half.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            half.replace(output)
    return results


def is_stale(case, made_by):
    """Whether a case in the file must be measured again: it has no numbers, or they may be those of other code."""
    changed = (made_by["commit"] or "").endswith("-dirty")
    return changed or "error" in case or any(case[key] != value for key, value in made_by.items())


def place(case):
    """Where a case stands in the file: by size, then as in `VARIANTS`."""
    names = list(VARIANTS)
    return case["labels"], names.index(case["name"]) if case["name"] in names else len(names)


def run_case(name, num_labels, settings, timeout):
    """One case in a fresh process, so that its memory is its own and one that dies takes nothing with it."""
    script = Path(__file__).resolve().with_name("bench_case.py")
    command = [sys.executable, str(script), json.dumps([asdict(VARIANTS[name]), num_labels, settings])]
    blank = {"name": name, "method": VARIANTS[name].method, "labels": num_labels}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {**blank, "error": f"not finished after {timeout:g} seconds"}
    if done.returncode == -9:
        return {**blank, "error": "killed by the system, most likely for want of memory"}
    if done.returncode:
        return {**blank, "error": f"stopped: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"}
    return json.loads(done.stdout.splitlines()[-1])


def machine():
    """Processor, cores, threads, memory and accelerator; no name of the machine."""
    import torch

    from hf_htc.training.manifest import accelerator_name, len_cpus

    return {
        "processor": processor_name(),
        "cores": len_cpus(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(proc_value("/proc/meminfo", "MemTotal") / 1024) or None,
        "accelerator": accelerator_name(),
    }


def processor_name():
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
