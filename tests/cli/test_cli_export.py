"""`hf-htc export` and what `hf-htc push` refuses, in this process."""

import json
import sys

import pytest
from tiny_models import make_encoder_config, make_label_sets, make_model, make_texts, make_tokenizer, make_tree

from hf_htc.cli.main import main
from hf_htc.hub import save


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
