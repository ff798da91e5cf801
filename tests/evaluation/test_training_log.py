"""The curves of a report after real runs of both loops: from the final folder, from a step's, and without our manifest."""

import json
import math

import pytest
from tiny_models import make_encoder_config, make_label_sets, make_texts, make_tokenizer, make_tree
from transformers import AutoModel

from hf_htc.cli.main import main
from hf_htc.evaluation import figures


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny encoder and the options that name the data files beside it."""
    folder, tree = tmp_path_factory.mktemp("data"), make_tree()
    tree.save(folder / "taxonomy.tsv")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "encoder")
    make_tokenizer().save_pretrained(folder / "encoder")
    options = ["--taxonomy", str(folder / "taxonomy.tsv")]
    for split, size in (("train", 24), ("validation", 8), ("test", 8)):
        names = tree.decode(make_label_sets(tree, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        options += [f"--{split}_file", str(folder / f"{split}.jsonl")]
    return folder, options


@pytest.fixture(scope="module", params=["trainer", "accelerate"])
def run(request, data, tmp_path_factory):
    """The folder of three epochs of two steps each, every one evaluated and saved."""
    folder, options = data
    output = tmp_path_factory.mktemp(request.param) / "model"
    settings = [
        "--text_encoder", folder / "encoder", "--output_dir", output, "--loop", request.param, "--num_train_epochs", 3,
        "--per_device_train_batch_size", 12, "--logging_steps", 1, "--eval_strategy", "epoch", "--save_strategy", "epoch",
        "--save_total_limit", 9, "--report_to", "none", "--disable_tqdm", "true",
    ]  # fmt: skip
    main(["train", *options, *map(str, settings)])
    return output


@pytest.fixture
def drawn(monkeypatch):
    """The curves of the report, by the label of the vertical axis."""
    found, lines = {}, figures.lines

    def note(x, series, x_label, y_label, *more):
        found[y_label] = series
        return lines(x, series, x_label, y_label, *more)

    monkeypatch.setattr(figures, "lines", note)
    return found


def logged(run, last_step):
    """Steps and values that the loop has logged, by key."""
    state = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())
    keys = ("loss", "eval_loss", "eval_micro_f1", "eval_macro_f1")
    entries = {
        key: [(e["step"], float(e[key])) for e in state["log_history"] if key in e and e["step"] <= last_step] for key in keys
    }
    assert [len(entries[key]) for key in keys] == [last_step, *[last_step // 2] * 3]
    return {key: tuple(zip(*pairs)) for key, pairs in entries.items()}


@pytest.mark.parametrize("kind", ["final", "step", "without a manifest"])
def test_curves_of_a_run(run, data, kind, drawn, tmp_path, capsys):
    checkpoint = run / "checkpoint-4" if kind == "step" else run
    manifest = run / "run.json"
    kept = manifest.read_text()
    if kind == "without a manifest":
        manifest.unlink()
    try:
        main(["evaluate", str(checkpoint), *data[1], "--output_dir", str(tmp_path)])
    finally:
        manifest.write_text(kept)
    expected = logged(run, 4 if kind == "step" else 6)
    names = {"loss": {"training loss": "loss", "validation loss": "eval_loss"},
             "F1": {f"validation {average}-F1": f"eval_{average}_f1" for average in ("micro", "macro")}}  # fmt: skip
    for y_label, series in names.items():
        assert set(drawn[y_label]) == set(series)
        for name, key in series.items():
            steps, values = drawn[y_label][name]
            assert steps == expected[key][0] and values == pytest.approx(expected[key][1])
            assert all(map(math.isfinite, values))
    page = (tmp_path / "report_test.html").read_text()
    assert "Loss by step." in page and "Validation scores by step." in page


def test_train_writes_the_curves_itself(run):
    for split in ("validation", "test"):
        page = (run / f"report_{split}.html").read_text()
        assert "Loss by step." in page and ">validation micro-F1</text>" in page
