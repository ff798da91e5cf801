"""The speed benchmark on a tiny encoder: taxonomies, turns, memory, rows that fail, the table. Nothing here depends on speed."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import bench
import bench_case
import make_tables
import numpy as np
import pytest
import torch

import hf_htc


ROOT = Path(__file__).resolve().parents[2]
QUICK = {**bench.SCALES["quick"], "device": "cpu", "bf16": False, "limit_s": 60}
MADE_BY = {"commit": "a" * 40, "versions": {"torch": "2"}}


@pytest.fixture
def clean_commit(monkeypatch):
    monkeypatch.setattr("hf_htc.training.manifest.source_commit", lambda: "a" * 40)


@pytest.mark.parametrize(
    ("num_labels", "nodes", "levels"),
    [(141, 141, [7, 134]), (4271, 4513, [369, 2402, 1425, 293, 20, 4]), (30000, 30000, [25, 500, 4000, 10475, 15000])],
)
def test_taxonomies_have_the_shapes_they_say(num_labels, nodes, levels):
    hierarchy = bench_case.make_hierarchy(num_labels)
    assert (hierarchy.num_labels, hierarchy.num_nodes) == (num_labels, nodes)
    assert np.bincount(hierarchy.levels)[1:].tolist() == levels
    several = sum(len(row) > 1 for row in hierarchy.parents)
    assert 100 < several < 250 if num_labels == 4271 else several == 0
    assert hierarchy.fingerprint() == bench_case.make_hierarchy(num_labels).fingerprint()
    sets = bench_case.make_label_sets(hierarchy, 200)
    assert sets == hierarchy.close(sets) == bench_case.make_label_sets(hierarchy, 200)
    assert 5 <= np.mean([len(row) for row in sets]) < 8 and min(map(len, sets)) >= 5


def test_every_method_is_measured():
    assert {variant.method for variant in bench.VARIANTS.values()} == set(hf_htc.METHODS)
    assert list(bench_case.SHAPES) == bench.SIZES


def test_batches_are_as_the_collator_gives_them():
    sets = bench_case.make_label_sets(bench_case.make_hierarchy(141), 4)
    batch = bench_case.make_batch(sets, 60, QUICK)
    assert batch["input_ids"].shape == (4, 8) and batch["attention_mask"].all()
    assert batch["labels"].dtype == torch.long and batch["labels"].shape == (4, max(map(len, sets)))
    assert [[i for i in row if i != -100] for row in batch["labels"].tolist()] == sets


@pytest.mark.parametrize("name", bench.VARIANTS)
def test_a_case(name):
    variant = bench.VARIANTS[name]
    case = json.loads(json.dumps(bench_case.measure(variant, 13, QUICK)))
    model = bench_case.build_model(variant, bench_case.make_hierarchy(13), [[0]], QUICK)
    assert sum(case["parameters"].values()) == model.num_parameters()
    assert case["parameters"]["encoder"] == sum(p.numel() for p in model.model.parameters())
    assert (case["labels"], case["levels"], case["method"]) == (13, 2, variant.method)
    assert 0 < case["config_seconds"] < 60
    expected = 8 + {"hpt": 2 * 2, "ptmt": 2 * 4}.get(variant.method, 0)  # prompts and slots of two levels
    assert case["positions"] == expected
    compared = set() if name == "flat" else {"flat"}
    assert set(case["inference"]["seconds"]) == {"bare", "model"} | compared and case["inference"]["turns"] == 2
    assert set(case["training"]["seconds"]) == {"model"} | compared and case["training"]["turns"] == 3
    for part, others in (("inference", {"bare"} | compared), ("training", compared)):
        for other in others:
            low, high = case[part][f"to_{other}"]["quartiles"]
            assert 0 < low <= case[part][f"to_{other}"]["median"] <= high


def test_ratios_are_taken_within_turns(monkeypatch):
    order, now = [], [0.0]
    durations = {
        "bare": itertools.cycle([9, 1, 2, 4]),
        "flat": itertools.cycle([9, 2, 2, 2]),
        "model": itertools.cycle([9, 3, 4, 20]),
    }

    def call(name):
        def function():
            order.append(name)
            now[0] += next(durations[name])

        return function

    monkeypatch.setattr(bench_case.time, "perf_counter", lambda: now[0])
    calls = {name: call(name) for name in durations}
    result = bench_case.in_turn(calls, 3, 1000, "cpu")
    assert order == ["bare", "flat", "model"] * 2 + ["flat", "model", "bare"] + ["model", "bare", "flat"]
    assert result["turns"] == 3
    assert result["to_bare"] == {"median": 3.0, "quartiles": [2.5, 4.0]}  # of 3, 2 and 5
    assert result["to_flat"] == {"median": 2.0, "quartiles": [1.75, 6.0]}  # of 1.5, 2 and 10
    assert result["seconds"]["model"]["median"] == 4.0
    assert bench_case.in_turn(calls, 3, 1, "cpu")["turns"] == 1  # the time is over after the first


@pytest.mark.skipif(not bench_case.proc_value("/proc/self/status", "VmHWM"), reason="needs Linux's /proc")
def test_peak_memory_counts_what_came_after_its_making():
    def peak(mib):
        memory = bench_case.PeakMemory("cpu")
        torch.ones(mib, 2**18)
        return memory.mib()

    assert 290 < peak(300) < 340  # freed again before it is asked
    assert 90 < peak(100) < 140  # the first peak is forgotten


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_an_allocation_beyond_the_free_memory_fails_with_a_message():
    code = """
import json, torch, bench_case
real = bench_case.proc_value
bench_case.proc_value = lambda file, key: 500 if key == "MemAvailable" else real(file, key)
bench_case.measure = lambda *args: torch.ones(2**30)
settings = {"device": "cpu"}
print(json.dumps(bench_case.measure_or_say_why(bench_case.Variant("a", "flat"), 5, settings)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["error"].startswith("does not fit into memory: ") and row["labels"] == 5


def test_what_cannot_be_measured_says_why(monkeypatch):
    monkeypatch.setattr(bench_case, "limit_memory", lambda: None)
    refused = bench_case.Variant("dense", "hiagm", {"classifier": "flatten", "node_dim": 20_000_000})
    row = bench_case.measure_or_say_why(refused, 13, QUICK)
    assert row["name"] == "dense" and "would have 3,380,000,000 parameters" in row["error"]

    def fail(error):
        def measure(*args):
            raise error

        monkeypatch.setattr(bench_case, "measure", measure)
        return bench_case.measure_or_say_why(refused, 13, QUICK)["error"]

    assert fail(torch.OutOfMemoryError("CUDA out of memory")) == "does not fit into memory: CUDA out of memory"
    with pytest.raises(RuntimeError, match="shapes do not match"):  # a bug of ours is no row
        fail(RuntimeError("shapes do not match"))


def test_the_script_runs_and_keeps_finished_cases(tmp_path, monkeypatch, capsys, clean_commit):
    output = tmp_path / "new" / "quick.json"
    arguments = ["--quick", "--only", "flat", "--sizes", "13", "--output", str(output)]
    bench.main(arguments)
    result = json.loads(output.read_text())
    assert list(result["cases"]) == ["flat, 13 labels"]
    case = result["cases"]["flat, 13 labels"]
    assert case["commit"] == "a" * 40 and case["versions"]["torch"] and "error" not in case
    assert result["machine"]["cores"] >= 1 and result["settings"]["tokens"] == 8
    assert str(ROOT) not in output.read_text()

    ran = []
    monkeypatch.setattr(
        bench, "run_case", lambda name, size, *rest: ran.append((name, size)) or {**case, "name": name, "labels": size}
    )
    bench.main(arguments)
    assert not ran
    bench.main([*arguments, "--fresh"])
    bench.main([*arguments, "--only", "hiagm", "flat", "--sizes", "5", "13"])
    assert ran == [("flat", 13), ("hiagm", 5), ("flat", 5), ("hiagm", 13)]
    names = ["flat, 5 labels", "hiagm, 5 labels", "flat, 13 labels", "hiagm, 13 labels"]
    assert list(json.loads(output.read_text())["cases"]) == names
    with pytest.raises(ValueError, match="'quick.json' was measured with settings .* give another `--output`"):
        bench.main([*arguments, "--repetitions", "3"])
    # Under the default name the table is that of this machine and these settings: what `make bench` finds does not stop it.
    monkeypatch.setattr(bench, "default_output", lambda *rest: output)
    before = output.read_text()
    monkeypatch.setattr(bench, "run_case", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit):
        bench.main([*arguments[:-2], "--repetitions", "3"])
    assert output.read_text() == before  # nothing is lost before there is something new
    monkeypatch.setattr(bench, "run_case", lambda name, size, *rest: {**case, "name": name, "labels": size})
    bench.main([*arguments[:-2], "--repetitions", "3"])
    replaced = json.loads(output.read_text())
    assert list(replaced["cases"]) == ["flat, 13 labels"] and replaced["settings"]["repetitions"] == 3
    assert "everything is measured anew" in capsys.readouterr().err
    output.write_text(before)
    monkeypatch.setattr(
        bench, "run_case", lambda name, size, *rest: ran.append((name, size)) or {**case, "name": name, "labels": size}
    )
    # Files that changed since the commit may have changed the numbers.
    monkeypatch.setattr("hf_htc.training.manifest.source_commit", lambda: "a" * 40 + "-dirty")
    bench.main(arguments)
    assert ran[4:] == [("flat", 13)]
    with pytest.raises(SystemExit):
        bench.main(["--only", "flatt"])
    assert "there is no row 'flatt'; the rows are flat, hiagm" in capsys.readouterr().err


def test_ctrl_c_keeps_the_finished_cases(tmp_path, monkeypatch, capsys, clean_commit):
    def run_case(name, num_labels, *rest):
        if name == "hiagm":
            raise KeyboardInterrupt
        return {"name": name, "method": name, "labels": num_labels}

    monkeypatch.setattr(bench, "run_case", run_case)
    with pytest.raises(SystemExit) as exit_:
        bench.main(["--quick", "--only", "flat", "hiagm", "--sizes", "13", "--output", str(tmp_path / "a.json")])
    assert exit_.value.code == 130 and "the finished cases are in" in capsys.readouterr().err
    assert list(json.loads((tmp_path / "a.json").read_text())["cases"]) == ["flat, 13 labels"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by the system, most likely for want of memory"),
        ("raise KeyError('a bug')", "stopped: KeyError: 'a bug'"),
        ("import time; time.sleep(60)", "not finished after 0.5 seconds"),
    ],
)
def test_a_case_that_dies_is_a_row(monkeypatch, code, message):
    run = subprocess.run
    monkeypatch.setattr(bench.subprocess, "run", lambda command, **options: run([sys.executable, "-c", code], **options))
    row = bench.run_case("flat", 13, QUICK, 0.5 if "sleep" in code else 60)
    assert row == {"name": "flat", "method": "flat", "labels": 13, "error": message}


def test_the_profile_shows_classifier_and_loss_alone(capsys):
    bench.main(["--quick", "--sizes", "13", "--profile", "flat"])
    sections = capsys.readouterr().out.split("\nflat, 13 labels: ")[1:]
    titles = [section.split(", 3 calls")[0] for section in sections]
    assert titles == ["classifier, inference", "classifier, forward and backward", "loss, forward and backward"]
    inference, training, loss = sections
    assert "aten::addmm" in inference and "aten::addmm" in training
    assert "aten::addmm" not in loss and "binary_cross_entropy_with_logits" in loss
    assert "layer_norm" not in "".join(sections)  # the encoder ran once, to be replayed


# ---------------------------------------------------------------------------------------------- the table


def make_case(name, labels, to_bare=1.0, to_flat=1.0, step=1.0, method=None):
    def spread(value):
        return {"median": value, "quartiles": [value - 0.01, value + 0.01]}

    case = {
        "name": name, "method": method or name, "labels": labels, **MADE_BY,
        "parameters": {"encoder": 22_565_376, "classifier": 54_285}, "peak_memory_mib": {"inference": 182.3, "training": 1622.4},
        "config_seconds": 2.46,
        "inference": {"to_bare": spread(to_bare), "to_flat": spread(to_flat)}, "training": {"to_flat": spread(step)},
    }  # fmt: skip
    if method == "flat" or name == "flat":
        del case["inference"]["to_flat"], case["training"]["to_flat"]
    return case


def make_table(*cases):
    machine = {"processor": "P", "cores": 2, "threads": 2, "memory_gib": 24, "accelerator": "none"}
    result = {"machine": machine, "settings": QUICK, "cases": {str(i): case for i, case in enumerate(cases)}}
    return make_tables.speed({"cpu": result})


def test_the_table_marks_missed_limits():
    text = make_table(
        make_case("flat", 141, 1.06),
        make_case("hiagm", 141, 1.04, 1.3, 1.19),
        make_case("hiagm", 4271, 1.5, 1.5, 1.21),
        make_case("flat", 30000, 1.11),
        make_case("hiagm", 30000, 3.0, 2.9, 1.0),
        make_case("hpt", 141, 1.10),
        make_case("ptmt", 4271, 1.11),
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]
    assert rows[0] == ["flat", "141", "1.06 (1.05 to 1.07) (!)", "-", "-", "22.6", "0.1", "182", "1,622", "2.5"]
    assert [["(!)" in cell for cell in row[2:5]] for row in rows] == [
        [True, False, False], [False, False, False], [False, False, True], [True, False, False], [False, False, False],
        [False, False, False], [True, False, False],
    ]  # fmt: skip
    assert "\n(!) misses a limit: inference at most 1.05 x" in text
    assert "(!)" not in make_table(make_case("flat", 141, 1.05), make_case("hiagm", 141, step=1.2))


def test_the_table_says_why_a_row_is_empty_and_how_it_was_measured():
    error = {"name": "hiagm", "method": "hiagm", "labels": 30000, "error": "does not fit into memory: 3 TB", **MADE_BY}
    text = make_table(make_case("flat", 141), error)
    assert "| hiagm | 30,000 | not measured | not measured | not measured | - | - | - | - | - |" in text
    assert "* hiagm, 30,000 labels: not measured, does not fit into memory: 3 TB" in text
    assert "P, 2 cores, 2 threads, 24 GiB, accelerator none" in text and f"torch 2; commit `{'a' * 40}`" in text
    assert "4 texts of 8 tokens, float32" in text


def test_the_speed_table_is_that_of_the_result_files():
    readme = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    block = readme.split("<!-- speed -->\n")[1].split("<!-- /speed -->")[0]
    assert block.strip() == make_tables.speed(make_tables.load_folder("speed")).strip(), "run `python benchmarks/make_tables.py`"


def test_score_tables_do_not_read_speed_results(tmp_path, monkeypatch):
    monkeypatch.setattr(make_tables, "RESULTS", tmp_path)
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "cpu.json").write_text("{}")
    (tmp_path / "data.json").write_text("{}")
    assert set(make_tables.load()) == {"data"} and set(make_tables.load_folder("speed")) == {"cpu"}


def test_make_bench_measures_and_writes_the_table():
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    dry = subprocess.run(
        ["make", "-n", "--no-print-directory", "bench"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    steps = dry.stdout.strip().splitlines()[-2:]
    assert [step.split(" ")[1] for step in steps] == ["benchmarks/bench.py", "benchmarks/make_tables.py"]
