"""`hf-htc export` and what `hf-htc push` refuses, in this process."""

import json
import shutil
import sys

import pytest
from kills import kill_at, moments, operations
from tiny_models import make_encoder_config, make_label_sets, make_model, make_texts, make_tokenizer, make_tree

from hf_htc.cli.main import main
from hf_htc.hub import OnnxClassifier, save
from hf_htc.models.whole_files import whole_folder_update


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A checkpoint, a test file with a taxonomy."""
    folder, tree = tmp_path_factory.mktemp("work"), make_tree()
    model = make_model("flat", tree, make_encoder_config(initializer_range=0.6), statistics=False)
    save(model, make_tokenizer(), folder / "flat")
    names = tree.decode(make_label_sets(tree, 20))
    rows = [{"text": text, "labels": row} for text, row in zip(make_texts(20), names)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def fails(capsys, *arguments):
    """The one line on stderr of a command that must fail."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    assert exit_.value.code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-htc")]
    assert len(lines) == 1
    return lines[0]


def test_export_with_data(work, tmp_path, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    data = ["--validation_file", str(work / "validation.jsonl"), "--batch_size", "7"]
    main(["export", str(work / "flat"), str(tmp_path / "out"), "--int8", "--max_length", "20", *data])
    out = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["max_length"] == 20
    assert f"micro-F1 {report['scores']['micro_f1']:.4f}" in out and "20 documents of the validation split" in out
    assert f"int8: micro-F1 {report['int8']['scores']['micro_f1']:.4f} instead of" in out
    assert "any batch size, any text length; logits differ from PyTorch's by at most" in out
    assert "model_int8.onnx" in out and "MB" in out


def test_export_errors(work, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    data = ["--validation_file", work / "validation.jsonl"]
    assert "'validation'" in fails(capsys, "export", work / "flat", out, *data, "--split", "test")
    assert "There is no checkpoint" in fails(capsys, "export", "./nowhere/at/all", out)
    assert "`max_length` is 99, but the checkpoint takes" in fails(capsys, "export", work / "flat", out, "--max_length", "99")
    assert "exists and is not empty" in fails(capsys, "export", work / "flat", work / "flat")
    assert "Did you mean ['--int8']" in fails(capsys, "export", work / "flat", out, "--int88")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install 'hf_htc[export]'" in fails(capsys, "export", work / "flat", out)
    assert list(tmp_path.iterdir()) == []


def test_push_finds_out_what_a_folder_holds(work, tmp_path, capsys):
    assert "There is no folder 'nowhere'" in fails(capsys, "push", "nowhere", "me/x")
    assert "holds a model. Leave `--type` out" in fails(capsys, "push", work / "flat", "me/x", "--type", "dataset")
    assert "holds neither a checkpoint" in fails(capsys, "push", tmp_path, "me/x")
    (tmp_path / "taxonomy.tsv").write_text("Root\tsport\n")
    assert "holds no data files" in fails(capsys, "push", tmp_path, "me/x")
    (tmp_path / "export.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")
    assert "is an exported model" in fails(capsys, "push", tmp_path, "me/x")
    # A folder can only be pushed when others can load it.
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(work / "flat")}))
    assert "a folder that nobody else can load" in fails(capsys, "push", adapter, "me/x")
    assert "HF_HUB_OFFLINE is set" in fails(capsys, "push", work / "flat", "me/x")
    assert "must be named `hierarchical_f1`" in fails(capsys, "push", "hierarchical_f1", "me/x")


@pytest.fixture(scope="module")
def exported(work, tmp_path_factory):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported") / "out"
    main(["export", str(work / "flat"), str(folder), "--max_length", "20"])
    return folder


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def test_an_export_is_kept_or_refused_or_replaced(work, exported, tmp_path, capsys, caplog, monkeypatch):
    before, out = contents(exported), tmp_path / "out"
    shutil.copytree(exported, out)
    with monkeypatch.context() as patch:
        patch.setattr("hf_htc.hub.export.export_graph", None)  # nothing is written once more
        main(["export", str(work / "flat"), str(out), "--max_length", "20"])
        assert "'out' holds this export already; nothing to do." in caplog.text
        error = fails(capsys, "export", work / "flat", out, "--max_length", "10")
        assert "'out' was made with `max_length` 20, this run has 10. Give `--overwrite`" in error
        main(["calibrate", str(work / "flat"), "--thresholds", "none", "--output_dir", str(tmp_path / "other")])
        config = json.loads((tmp_path / "other" / "config.json").read_text())
        (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "thresholds": 0.3}))
        error = fails(capsys, "export", tmp_path / "other", out, "--max_length", "20")
        assert "with the model's `thresholds` None, this run has 0.3" in error
    assert contents(out) == before
    report = json.loads((out / "export.json").read_text())
    del report["fingerprint"]  # as version 0.1.0 wrote it
    (out / "export.json").write_text(json.dumps(report))
    assert "Nothing says what 'out' was made with" in fails(capsys, "export", work / "flat", out, "--max_length", "20")
    main(["export", str(tmp_path / "other"), str(out), "--max_length", "10", "--overwrite"])
    report = json.loads((out / "export.json").read_text())
    assert report["max_length"] == 10 and report["fingerprint"]["config"]["thresholds"] == 0.3
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other"}
    # A folder that holds no export is never replaced.
    kept = contents(tmp_path / "other")
    assert "exists and is not empty" in fails(capsys, "export", work / "flat", tmp_path / "other", "--overwrite")
    assert contents(tmp_path / "other") == kept


def test_an_export_killed_while_it_replaces_another(exported, tmp_path):
    """The folder holds the old export or the new one, whoever opens it next."""
    folder = tmp_path / "out"
    old = contents(exported)
    new = {**old, "export.json": old["export.json"] + b"\n", "config.json": old["config.json"] + b"\n"}

    def replace():
        with whole_folder_update(folder, removes=["model.onnx"]) as partial:
            for name, content in new.items():
                (partial / name).write_bytes(content)

    def begin():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(exported, folder)

    begin()
    done, seen = operations(replace), set()
    for moment in moments(done, least=12):
        begin()
        kill_at(replace, moment)
        OnnxClassifier(folder)
        found = {name: content for name, content in contents(folder).items() if name in new}
        assert found in (old, new), moment
        seen.add(found == new)
    assert seen == {False, True}


def test_predict_takes_an_export(work, exported, tmp_path, capsys):
    output = tmp_path / "out.jsonl"
    arguments = ["predict", str(exported), "--input", str(work / "validation.jsonl"), "--output", str(output)]
    main(arguments)
    main(["predict", str(work / "flat"), "--input", str(work / "validation.jsonl"), "--output", str(tmp_path / "torch.jsonl")])
    ours, theirs = ([json.loads(line)["labels"] for line in (tmp_path / name).read_text().splitlines()]
                    for name in ("out.jsonl", "torch.jsonl"))  # fmt: skip
    assert ours == theirs and len(ours) == 20
    capsys.readouterr()
    main(arguments)
    assert capsys.readouterr().out.startswith("Nothing to do")
    error = fails(capsys, *arguments, "--coherence", "decoder", "--overwrite")
    assert "`coherence` is 'decoder', but the export" in error and "has 'none' in its graph" in error
    # Another graph under the same name.
    shutil.copytree(exported, tmp_path / "out")
    with open(tmp_path / "out" / "model.onnx", "ab") as stream:
        stream.write(b"\x10\x00")
    arguments[1] = str(tmp_path / "out")
    assert "The weights of the model have changed since 'out.jsonl' was made" in fails(capsys, *arguments)
