"""`hf-htc data export`: what is written is read back as it was, by us, by `datasets`, and streaming."""

import json

import datasets
import pytest
import yaml
from tiny_models import make_dag, make_label_sets, make_texts

from hf_htc import load_htc_dataset
from hf_htc.cli.main import main
from hf_htc.data.front_matter import split_front_matter
from hf_htc.data.sources import has_configs
from hf_htc.hub.dataset_card import describe_dataset


@pytest.fixture
def files(tmp_path):
    """Own files of a DAG with a structure-only node, and a citation."""
    dag = make_dag()
    dag.save(tmp_path / "taxonomy.json")
    for split, size in (("train", 30), ("validation", 9), ("test", 12)):
        names = dag.decode(make_label_sets(dag, size, seed=size))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(size, seed=size), names)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "cite.bib").write_text("@misc{news, title = {News}}\n")
    arguments = [
        part for split in ("train", "validation", "test") for part in (f"--{split}_file", str(tmp_path / f"{split}.jsonl"))
    ]
    return [*arguments, "--taxonomy", str(tmp_path / "taxonomy.json")]


def own(files):
    options = {key.lstrip("-"): value for key, value in zip(files[::2], files[1::2])}
    return load_htc_dataset(**options)


def test_export_and_read_back(files, tmp_path, capsys):
    target = tmp_path / "news"
    said = ["--license", "cc-by-4.0", "--citation", str(tmp_path / "cite.bib"), "--description", "Short news.", "--title", "News"]
    main(["data", "export", *files, "--output_dir", str(target), *said])
    expected = own(files)
    assert expected.fingerprint in capsys.readouterr().out
    again = load_htc_dataset(str(target))
    assert again.fingerprint == expected.fingerprint and again.hierarchy == expected.hierarchy
    for split, rows in datasets.load_dataset(str(target)).items():
        names = expected.hierarchy.decode(expected.dataset[split]["labels"])
        assert rows["text"] == expected.dataset[split]["text"] and [list(row) for row in rows["labels"]] == names
        streamed = list(datasets.load_dataset(str(target), split=split, streaming=True))
        assert [row["text"] for row in streamed] == list(rows["text"])
    text = (target / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0" and "hierarchical-text-classification" in front["tags"] and front["configs"]
    for part in ("# News", "Short news.", "@misc{news", "a DAG with 1 more nodes", "closed: every document", "| train | 30 |"):
        assert part in text, part


def test_a_licence_in_words_and_a_used_folder(files, tmp_path, capsys):
    target = tmp_path / "news"
    main(["data", "export", *files, "--output_dir", str(target), "--license", "Reuters, research only"])
    front = yaml.safe_load((target / "README.md").read_text().split("---\n")[1])
    assert front["license"] == "other" and front["license_name"] == "Reuters, research only"
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, message in (
        ([*files, "--output_dir", str(target)], "exists and is not empty"),
        ([*files, "--output_dir", str(tmp_path / "x"), "--citation", "none.bib"], "no citation file 'none.bib'"),
    ):
        with pytest.raises(SystemExit):
            main(["data", "export", *arguments])
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(SystemExit):
        main(["data", "publish"])
    assert "the commands are check, export" in capsys.readouterr().err


FRONT_MATTERS = {
    "---\na: b\n---\n\nbody": ({"a": "b"}, "body"),
    '---\na: "x---"\nb: x --- y\n---\nbody\n---\nmore': ({"a": "x---", "b": "x --- y"}, "body\n---\nmore"),
    "---\r\na: |\r\n  x\r\n  ---\r\n  y\r\n---\r\nbody": ({"a": "x\n---\ny\n"}, "body"),
    "\ufeff---\na: 1\n---": ({"a": 1}, ""),
    "---\n---\nbody": ({}, "body"),
    "---\n- 1\n---\nbody": ({}, "body"),
    "body\n---\na: b\n---\n": ({}, "body\n---\na: b\n---\n"),
    "---\nnever closed": ({}, "---\nnever closed"),
}


@pytest.mark.parametrize("text", FRONT_MATTERS)
def test_front_matter(text):
    assert split_front_matter(text) == FRONT_MATTERS[text]


def test_dashes_in_a_value(files, tmp_path):
    """A licence in words may hold them; the README is completed, read again and knows its files."""
    target = tmp_path / "news"
    main(["data", "export", *files, "--output_dir", str(target), "--license", "Free --- really---", "--description", "a\n---\nb"])
    head, body = split_front_matter((target / "README.md").read_text())
    assert head["license_name"] == "Free --- really---" and head["configs"] and "a\n---\nb" in body
    assert has_configs(target / "README.md")
    describe_dataset(target / "README.md", own(files), "news")
    assert split_front_matter((target / "README.md").read_text())[0]["license_name"] == "Free --- really---"
