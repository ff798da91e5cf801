"""`hf-htc calibrate`: what is checked before anything is predicted, what it writes and what it leaves, adapters, kills."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from kills import kill_at, moments, operations
from peft import PeftModel
from tiny_models import make_model, make_texts, make_tokenizer, make_tree
from transformers import AutoModelForSequenceClassification

from hf_htc.cli.calibrate import write
from hf_htc.cli.main import main
from hf_htc.hub import load_calibration, save
from hf_htc.training.lora import add_lora


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, tree = tmp_path_factory.mktemp("data"), make_tree()
    for split, size in (("train", 20), ("validation", 40)):
        ends = np.random.default_rng(size).integers(0, tree.num_labels, size=size)
        names = tree.decode(tree.close([[int(end)] for end in ends]))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [part for split in ("train", "validation") for part in (f"--{split}_file", str(folder / f"{split}.jsonl"))]


@pytest.fixture
def checkpoint(tmp_path):
    save(make_model("flat", make_tree()), make_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def contents(folder):
    """Bytes of all files, `dict` by path; what a killed process has left unfinished beside them has a dot before its name."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if not file.name.startswith(".")}


def fails(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main(["calibrate", *map(str, arguments)])
    assert exit_.value.code == 1
    return capsys.readouterr().err.rstrip("\n").split("\n")[-1]


def test_only_the_thresholds_change(checkpoint, data):
    before = contents(checkpoint)
    main(["calibrate", str(checkpoint), *data, "--thresholds", "level", "--conformal", "0.8"])
    after = contents(checkpoint)
    assert before.keys() == after.keys() and [name for name in before if before[name] != after[name]] == ["config.json"]
    old, new = json.loads(before["config.json"]), json.loads(after["config.json"])
    assert {key for key in new if new[key] != old.get(key)} == {"thresholds", "conformal"}
    # Taken out again, the file is as it was.
    (checkpoint / "config.json").write_text(json.dumps({**new, "conformal": None}))
    main(["calibrate", str(checkpoint), "--thresholds", "none"])
    assert contents(checkpoint) == before


def test_a_copy_is_whole(checkpoint, data, tmp_path):
    (checkpoint / "optimizer.pt").write_bytes(b"large")
    before = contents(checkpoint)
    main(["calibrate", str(checkpoint), *data, "--thresholds", "global", "--output_dir", str(tmp_path / "copy")])
    assert contents(checkpoint) == before
    after = contents(tmp_path / "copy")
    assert after.keys() == before.keys() - {"optimizer.pt"}
    assert [name for name in after if before[name] != after[name]] == ["config.json"]
    assert isinstance(AutoModelForSequenceClassification.from_pretrained(tmp_path / "copy").config.thresholds, float)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--thresholds", "some"], "`--thresholds` is 'some'; it is 'global', 'level', 'label', 'none'"),
        (["--conformal", "0.9", "--conformal_kind", "x"], "`--conformal_kind` is 'x'; it is 'auto', 'back_off', 'risk'"),
        (["--thresholds", "global", "--split", "dev"], "no split 'dev'"),
        (["--thresholds", "global", "--output_dir", "FULL"], "exists and is not empty; give a new folder"),
        (["--thresholds", "global", "--output_dir", "FULL/README.md"], "exists and is not empty; give a new folder"),
        (["--thresholds", "global", "--output_dir", "FULL/README.md/x"], "nothing can be written into"),
        (["--conformal", "0.9", "--conformal_kind", "back_off"], "backing off to an ancestor needs exactly one"),
    ],
)
def test_wrong_options_are_told_before_anything_is_predicted(checkpoint, data, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.setattr("hf_htc.models.prediction.PredictionMixin.iter_logits", None)
    rows = [json.loads(line) for line in Path(data[-1]).read_text().splitlines()]
    rows[3]["labels"] = ["sport", "weather"]  # two paths
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = contents(tmp_path)
    options = [option.replace("FULL", str(checkpoint)) for option in options]
    error = fails(capsys, checkpoint, *data[:3], tmp_path / "validation.jsonl", *options)
    assert message in error
    assert contents(tmp_path) == before


def test_a_model_of_the_hub_needs_a_folder(capsys):
    assert "'me/model' is no folder; give `--output_dir`" in fails(capsys, "me/model", "--thresholds", "none")


def test_a_folder_that_cannot_be_written(checkpoint, data, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may write everywhere
    assert "cannot be written; give `--output_dir`" in fails(capsys, checkpoint, *data, "--thresholds", "global")


class TestAdapter:
    @pytest.fixture
    def adapter(self, tmp_path):
        """An adapter whose base is calibrated as well, for the classifier that the adapter replaces."""
        wrapped = add_lora(make_model("flat", make_tree()), rank=2)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name or "modules_to_save" in name:
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
        save(wrapped, make_tokenizer(), tmp_path / "adapter", base_model=tmp_path / "base")
        config = json.loads((tmp_path / "base" / "config.json").read_text())
        (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "thresholds": 0.9}))
        return tmp_path / "adapter"

    def test_keeps_its_thresholds_itself(self, adapter, data, tmp_path):
        before = contents(tmp_path)
        assert AutoModelForSequenceClassification.from_pretrained(adapter).config.thresholds == 0.9
        main(["calibrate", str(adapter), *data, "--thresholds", "level", "--conformal", "0.8"])
        after = contents(tmp_path)
        assert after.keys() - before.keys() == {"adapter/htc_calibration.json"}
        assert all(after[name] == before[name] for name in before)
        loaded = AutoModelForSequenceClassification.from_pretrained(adapter)
        assert len(loaded.config.thresholds) == 13 and loaded.config.conformal["kind"] == "back_off"
        loaded.predict_sets(make_texts(3), make_tokenizer())
        base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
        assert base.config.thresholds == 0.9 and base.config.conformal is None
        # PEFT's own class does not know the file; our function reads it.
        wrapped = PeftModel.from_pretrained(base, adapter)
        assert load_calibration(wrapped, adapter) is wrapped
        assert wrapped.get_base_model().config.thresholds == loaded.config.thresholds
        # Saved again, the adapter brings them along.
        save(wrapped, make_tokenizer(), tmp_path / "again", base_model=tmp_path / "base")
        assert (tmp_path / "again" / "htc_calibration.json").read_bytes() == after["adapter/htc_calibration.json"]
        main(["calibrate", str(adapter), "--thresholds", "none"])
        config = AutoModelForSequenceClassification.from_pretrained(adapter).config
        assert config.thresholds is None and config.conformal == loaded.config.conformal  # not the base's 0.9

    def test_a_copy(self, adapter, data, tmp_path):
        before = contents(adapter)
        main(["calibrate", str(adapter), *data, "--thresholds", "global", "--output_dir", str(tmp_path / "copy")])
        assert contents(adapter) == before
        assert contents(tmp_path / "copy").keys() == before.keys() | {"htc_calibration.json"}
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "copy").config.thresholds
        assert isinstance(loaded, float) and loaded != 0.9

    @pytest.mark.parametrize("content", ["{", "[]", '{"thresholds": 0.2}'])
    def test_a_damaged_file_is_told(self, adapter, content):
        (adapter / "htc_calibration.json").write_text(content)
        with pytest.raises(ValueError, match="htc_calibration.json of .* is damaged; calibrate the adapter again"):
            AutoModelForSequenceClassification.from_pretrained(adapter)


@pytest.mark.parametrize("output_dir", [False, True], ids=["in place", "copy"])
def test_killed_at_any_moment(checkpoint, tmp_path, output_dir):
    """Old or new, never half."""
    target = tmp_path / "copy" if output_dir else checkpoint
    old = contents(target) if target.exists() else None
    model, changes = AutoModelForSequenceClassification.from_pretrained(checkpoint), {"thresholds": 0.25}
    tokenizer = make_tokenizer()

    def calibrate():
        write(model, tokenizer, changes, str(checkpoint), str(target) if output_dir else None)

    done = operations(calibrate)
    new = contents(target)
    assert len(done) > 3 and new != old
    for moment in moments(done):
        for name in new:
            (target / name).unlink(missing_ok=True)
        if target.exists() and old is None:
            target.rmdir()
        for name, content in (old or {}).items():
            (target / name).write_bytes(content)
        kill_at(calibrate, moment)
        found = contents(target) if target.exists() else None
        assert found in (old, new), moment
