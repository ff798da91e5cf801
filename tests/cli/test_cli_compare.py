"""`hf-htc compare` on prediction files written by hand."""

import json

import pytest
from tiny_models import make_label_sets, make_texts, make_tree

from hf_htc.cli.main import main
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer


SIZE = 40


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Gold data and two prediction files, the second worse."""
    folder, tree = tmp_path_factory.mktemp("compare"), make_tree()
    tree.save(folder / "taxonomy.tsv")
    gold, other = (tree.decode(make_label_sets(tree, SIZE, seed=seed)) for seed in (1, 2))
    rows = [{"text": text, "labels": row} for text, row in zip(make_texts(SIZE, seed=1), gold)]
    write(folder / "test.jsonl", rows)
    for name, wrong in (("a", 4), ("b", 20)):
        labels = [other[i] if i < wrong else gold[i] for i in range(SIZE)]
        write(folder / f"{name}.jsonl", [record(i, row) for i, row in enumerate(labels)])
    return folder


def record(number, labels, closure="up"):
    return {"id": number, "labels": labels, "scores": [0.9] * len(labels), "closure": closure, "checkpoint": "x"}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def options(work):
    return ["--test_file", str(work / "test.jsonl"), "--taxonomy", str(work / "taxonomy.tsv"), "--resamples", "200"]


def fails(capsys, arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(list(map(str, arguments)))
    assert exit_.value.code == 1
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("closure", [None, "none", "prune"])
def test_scores_and_table(work, capsys, tmp_path, closure):
    target = tmp_path / "out" / "comparison.json"
    policy = [] if closure is None else ["--score_closure", closure]
    shuffled = tmp_path / "b.jsonl"  # the order of a file does not matter
    write(shuffled, read(work / "b.jsonl")[::-1])
    main(["compare", str(work / "a.jsonl"), str(shuffled), *options(work), *policy, "--output", str(target)])
    result = json.loads(target.read_text())
    tree = make_tree()
    gold = [tree.encode([row["labels"]])[0] for row in read(work / "test.jsonl")]
    for side in "ab":
        scorer = HierarchicalScorer(tree, closure=closure or "up")
        scorer.add([tree.encode([row["labels"]])[0] for row in read(work / f"{side}.jsonl")], gold)
        expected = scorer.compute()
        for name in ("micro_f1", "macro_f1", "samples_f1"):
            found = result["scores"][name][{"a": "first", "b": "second"}[side]]
            assert found == pytest.approx(expected[name], rel=1e-12), (side, name)
    assert (result["closure"], result["num_documents"], result["first"]) == (closure or "up", SIZE, "a.jsonl")
    micro = result["scores"]["micro_f1"]
    assert micro["interval"][0] > 0 and micro["p_value"] < 0.05
    assert micro["first_interval"][0] < micro["first"] < micro["first_interval"][1] <= 1
    assert micro["second_interval"][1] < micro["first"]
    out = capsys.readouterr().out
    assert f"{micro['first']:.4f}" in out and f"{micro['difference']:+.4f}" in out
    assert [line.split("  ")[0] for line in out.splitlines()[1:5]] == ["micro-F1", "macro-F1", "samples-F1", "hierarchical F1"]
    assert f"closure {closure or 'up'}, {SIZE} documents" in out


def test_a_file_and_itself(work, capsys):
    main(["compare", "--first", str(work / "a.jsonl"), "--second", str(work / "a.jsonl"), *options(work)])
    assert "+0.0000  [+0.0000, +0.0000]   1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "'c.jsonl' is of other documents than the split 'test' (39 and 40): id 39 only in the split"),
        (lambda rows: [*rows, record(99, [])], "(41 and 40): id 99 only in the file"),
        (lambda rows: [*rows, rows[3]], "'c.jsonl' has the id 3 twice"),
        (lambda rows: [*rows[:-1], record(39, ["nothing"])], "'c.jsonl', id 39: the label 'nothing' is not in the taxonomy"),
        (
            lambda rows: [{**row, "closure": "none"} for row in rows],
            "made with different closures: ['up'] in 'a.jsonl', ['none']",
        ),
        (lambda rows: [*rows, {"id": 1}], "Line 41 of 'c.jsonl' is no prediction record"),
        (lambda rows: [], "'c.jsonl' holds no predictions"),
    ],
)
def test_files_that_do_not_fit(work, capsys, tmp_path, change, message):
    write(tmp_path / "c.jsonl", change(read(work / "a.jsonl")))
    line = fails(capsys, ["compare", work / "a.jsonl", tmp_path / "c.jsonl", *options(work)])
    assert line.startswith("hf-htc compare: ") and message in line


def test_wrong_options(work, capsys):
    files = [work / "a.jsonl", work / "b.jsonl", *options(work)]
    assert "no prediction file" in fails(capsys, ["compare", work / "a.jsonl", work / "z.jsonl", *options(work)])
    assert "`--resamples` is 0; it must be a whole number of at least 1" in fails(capsys, ["compare", *files, "--resamples", "0"])
    assert "`--score_closure` must be one of" in fails(capsys, ["compare", *files, "--score_closure", "down"])
    with pytest.raises(SystemExit) as exit_:
        main(["compare", str(work / "a.jsonl")])
    assert exit_.value.code == 2 and "--second" in capsys.readouterr().err
