"""No local path is published: looked for in what was written, mended where it says nothing else, refused where it does."""

import json
import os
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from tiny_models import make_dag, make_label_sets, make_model, make_texts, make_tokenizer, make_tree

from hf_htc.cli.main import main
from hf_htc.data import HTCDataset
from hf_htc.hub import push, push_checkpoint, push_dataset, save
from hf_htc.hub.local_paths import remove_local_paths


HOME = str(Path.home())


def test_known_keys_are_mended(tmp_path):
    here, gone = str(tmp_path), "/somewhere/else/encoder"
    (tmp_path / "config.json").write_text(
        json.dumps({"_name_or_path": here, "text_config": {"_name_or_path": gone}, "name_or_path": "me/bert", "n": 1})
    )
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"vocab_file": f"{HOME}/vocab.txt", "words": ["a"]}))
    (tmp_path / "run.json").write_text(
        json.dumps({"command": f'hf-htc train --x={here}/a.json \'{{"y": "{HOME}/b/c.txt"}}\'', "settings": {"file": here}})
    )
    remove_local_paths(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"_name_or_path": "", "text_config": {"_name_or_path": ""}, "name_or_path": "me/bert", "n": 1}
    assert json.loads((tmp_path / "tokenizer_config.json").read_text()) == {"vocab_file": "", "words": ["a"]}
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["command"] == 'hf-htc train --x=a.json \'{"y": "c.txt"}\'' and run["settings"] == {"file": tmp_path.name}


@pytest.mark.parametrize(
    "name, content, culprit",
    [
        ("config.json", '{"a": {"words": ["x", "%s/d"]}}', "key 'a.words'"),
        ("config.json", '{"a": "trained from %s/d"}', "key 'a'"),
        ("README.md", "A model.\n\nFrom `%s/d`.\n", "line 3"),
        ("README.md", "[x](file://%s/d)\n", "line 1"),
        ("below/dataset_infos.json", '{"x": "%s/d"}', "key 'x'"),
        (".eval_results/a.yaml", "notes: %s/d\n", "line 1"),
    ],
)
def test_other_places_are_refused(tmp_path, name, content, culprit):
    for folder in {HOME, str(tmp_path), os.getcwd()}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content % folder)
        with pytest.raises(ValueError) as error:
            remove_local_paths(tmp_path)
        assert repr(name) in str(error.value) and culprit in str(error.value) and f"'{folder}/d'" in str(error.value)


def test_other_words_with_slashes_are_none(tmp_path):
    text = (
        f"and/or, https://example.org{HOME}/x, sport/football, /Arts & Entertainment, /tmp/not-there/x, x{HOME}, 1/2, ~/x, /usr, "
        "me/model, ../x, `/no/such/path`\n"
    )
    (tmp_path / "README.md").write_text(text)
    config = {"id2label": {"0": "/usr/bin", "1": str(tmp_path)}, "a": "/tmp", "b": "sport/football", "c": text, "d": "/no/such"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "taxonomy.json").write_text(json.dumps({"names": [str(tmp_path)]}))
    (tmp_path / "predictions.jsonl").write_text(json.dumps({"text": str(tmp_path)}))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if Path("/tmp/not-there").exists() or HOME in ("/tmp", "/usr"):
        pytest.skip("an odd machine")
    remove_local_paths(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_saved_checkpoints(tmp_path):
    """Paths on any way in: name of the encoder and of the tokenizer, run, options of the tokenizer, example text."""
    model, tokenizer = make_model("flat", make_tree()), make_tokenizer()
    model.config._name_or_path = model.config.text_config._name_or_path = tokenizer.name_or_path = str(tmp_path / "enc")
    tokenizer.init_kwargs["vocab_file"] = f"{HOME}/vocab.txt"
    run = {"dataset": {"name": "me/x"}, "settings": {"train_file": f"{tmp_path}/train.jsonl"}, "command": f"x {HOME}/y.json"}
    save(model, tokenizer, tmp_path / "out", run=run)
    assert run["settings"] == {"train_file": f"{tmp_path}/train.jsonl"}  # the caller's
    for file in (tmp_path / "out").rglob("*"):
        if file.is_file() and file.suffix != ".py":
            assert not any(path.encode() in file.read_bytes() for path in (str(tmp_path), f"{HOME}/")), file.name
    with pytest.raises(ValueError, match="'README.md' holds a path of this machine"):
        save(model, tokenizer, tmp_path / "other", example_text=f"see {HOME}/x")
    assert (tmp_path / "other" / "model.safetensors").is_file()  # what was trained is not lost


def test_nothing_is_pushed(tmp_path, monkeypatch):
    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **options):
            return type("Url", (), {"repo_id": repo_id})

    for module in ("saving", "sharing"):
        monkeypatch.setattr(f"hf_htc.hub.{module}.HfApi", Api)
    model, tokenizer = make_model("flat", make_tree()), make_tokenizer()
    with pytest.raises(ValueError, match="'README.md' holds a path of this machine"):
        push(model, tokenizer, "me/x", example_text=f"see {HOME}/x")
    folder = save(model, tokenizer, tmp_path / "out")
    with open(folder / "README.md", "a") as card:
        card.write(f"\nMade in {folder}.\n")
    with pytest.raises(ValueError, match="'README.md' holds a path of this machine"):
        push_checkpoint(folder, "me/x")
    dag = make_dag()
    rows = {"text": [f"{HOME}/a text", "b"], "labels": make_label_sets(dag, 2), "file": ["a", f"{HOME}/b.txt"]}
    loaded = HTCDataset(DatasetDict(train=Dataset.from_dict(rows)), dag)
    with pytest.raises(ValueError, match=r"'data/train.parquet' holds .* \(column 'file'\)"):
        push_dataset(loaded, "me/x")
    loaded.save(tmp_path / "data")
    with pytest.raises(ValueError, match="column 'file'"):
        push_dataset(tmp_path / "data", "me/x")


def test_an_exported_data_set(tmp_path, capsys):
    dag = make_dag()
    dag.save(tmp_path / "taxonomy.json")
    rows = [{"text": t, "labels": n} for t, n in zip(make_texts(9), dag.decode(make_label_sets(dag, 9)))]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--train_file", str(tmp_path / "train.jsonl"), "--taxonomy", str(tmp_path / "taxonomy.json")]
    main(["data", "export", *files, "--output_dir", str(tmp_path / "news"), "--description", "A --- B\n---"])
    text = (tmp_path / "news" / "README.md").read_text()
    assert 'load_htc_dataset("news")' in text and str(tmp_path) not in text
    with pytest.raises(SystemExit):
        main(
            ["data", "export", *files, "--output_dir", str(tmp_path / "other"), "--description", f"From {tmp_path}/train.jsonl."]
        )
    assert "'README.md' holds a path of this machine" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["news", "taxonomy.json", "train.jsonl"]
