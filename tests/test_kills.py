"""Kill -9 at twenty and more moments of every kind of writing: what is there is the old or the new, never half."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from kills import kill_at, moments, operations
from tiny_models import make_dag, make_label_sets, make_model, make_texts, make_tokenizer, make_tree
from transformers import AutoModelForSequenceClassification

from hf_htc import load_htc_dataset
from hf_htc.cli.train import write_predictions, write_reports
from hf_htc.data import HTCDataset
from hf_htc.evaluation.predictions import evaluate_model
from hf_htc.hub import save
from hf_htc.hub.loading import load_checkpoint
from hf_htc.models.whole_files import finish_update
from hf_htc.training.lora import add_lora


def leftovers(folder):
    return [path.name for path in folder.rglob(".*") if path.name != ".eval_results"]


def same_weights(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def models():
    """Of other methods, labels and weights; their tokenizers have other words."""
    old, new = make_model("flat", make_tree()), make_model("hiagm", make_dag(), seed=1)
    for model, path in ((old, ""), (new, "")):
        model.config.text_config._name_or_path = path
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["another"])
    return (old, make_tokenizer()), (new, tokenizer)


@pytest.mark.parametrize("options", [{}, {"max_shard_size": "4KB"}], ids=["one file", "shards"])
def test_save_pretrained(models, tmp_path, options):
    (old, _), (new, _) = models
    target, before = tmp_path / "checkpoint", tmp_path / "before"
    old.save_pretrained(before)

    def write():
        new.save_pretrained(target, **options)

    shutil.copytree(before, target)
    seen, found = set(), operations(write)
    decisive = ("/config.json", "index.json") if options else ("/config.json", "/model.safetensors")
    for number in moments(found, (*decisive, "replace /.partial")):
        shutil.rmtree(target)
        shutil.copytree(before, target)
        kill_at(write, number)
        for finished in (False, True):  # by transformers alone, at once and when the files have their places
            loaded = AutoModelForSequenceClassification.from_pretrained(target)
            is_new = type(loaded) is type(new)
            assert same_weights(loaded, new if is_new else old), (number, found[number])
            assert loaded.config.get_hierarchy() == (new if is_new else old).config.get_hierarchy()
            seen.add((finished, is_new))
            finish_update(target)
            assert not list(target.glob(".whole*"))
    assert len(seen) == 4
    old.save_pretrained(target)
    assert leftovers(target) == []
    assert same_weights(AutoModelForSequenceClassification.from_pretrained(target), old)


def run_of(name):
    return {"dataset": {"name": f"me/{name}"}, "scores": {"test": {"micro_f1": 0.5, "closure": "up"}}}


def test_hub_save(models, tmp_path):
    (old, old_tokenizer), (new, new_tokenizer) = models
    target, before = tmp_path / "checkpoint", tmp_path / "before"
    save(old, old_tokenizer, before, run=run_of("old"))

    def write():
        save(new, new_tokenizer, target, run=run_of("new"))

    shutil.copytree(before, target)
    seen, found = set(), operations(write)
    for number in moments(found, ("/config.json /", "replace /.partial")):
        shutil.rmtree(target)
        shutil.copytree(before, target)
        kill_at(write, number)
        loaded, tokenizer, _ = load_checkpoint(target)
        is_new = len(tokenizer) == len(new_tokenizer)
        expected, name = (new, "new") if is_new else (old, "old")
        assert same_weights(loaded.cpu(), expected), (number, found[number])
        assert json.loads((target / "run.json").read_text())["dataset"]["name"] == f"me/{name}"
        for file in ("README.md", ".eval_results/hf_htc.yaml"):
            assert f"me/{name}" in (target / file).read_text()
        assert json.loads((target / "taxonomy.json").read_text())["names"] == expected.config.get_hierarchy().names
        seen.add(is_new)
    assert seen == {False, True}
    write()
    assert leftovers(target) == []


def test_adapter(tmp_path):
    """PEFT has no lead to the new weights: in between, the folder loads by our own loader only, and then as the new one."""
    adapters = []
    for seed in (0, 1):
        model = add_lora(make_model("flat", make_tree()), rank=2 + seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.fill_(seed + 1)
        adapters.append(model)
    target, before, base = tmp_path / "adapter", tmp_path / "before", str(tmp_path / "base")
    expected = {}
    for rank, model in zip((2, 3), adapters):
        save(model, make_tokenizer(), before, base_model=base)
        expected[rank] = load_checkpoint(before)[0]
    assert not same_weights(expected[2], expected[3])
    save(adapters[0], make_tokenizer(), before, base_model=base)

    def write():
        save(adapters[1], make_tokenizer(), target, base_model=base)

    shutil.copytree(before, target)
    seen, found = set(), operations(write)
    decided = next(number for number, operation in enumerate(found) if "/.whole-" in operation)
    for number in {*moments(found[:decided], least=6), *(decided + at for at in moments(found[decided:], ("adapter_",)))}:
        shutil.rmtree(target)
        shutil.copytree(before, target)
        kill_at(write, number)
        loaded, _, _ = load_checkpoint(target)
        rank = json.loads((target / "adapter_config.json").read_text())["r"]
        assert same_weights(loaded, expected[rank]), (number, found[number])
        seen.add(rank)
    assert seen == {2, 3}


def test_data_set(tmp_path):
    dag, target = make_dag(), tmp_path / "news"
    splits = {
        split: Dataset.from_dict({"text": make_texts(size), "labels": make_label_sets(dag, size)})
        for split, size in (("train", 20), ("test", 9))
    }
    loaded = HTCDataset(DatasetDict(splits), dag)

    def write():
        loaded.save(target)

    found = operations(write)
    fingerprint = load_htc_dataset(target).fingerprint
    for number in moments(found):
        shutil.rmtree(target, ignore_errors=True)
        kill_at(write, number)
        assert not target.exists() or load_htc_dataset(target).fingerprint == fingerprint, (number, found[number])
    shutil.rmtree(target, ignore_errors=True)
    write()
    assert load_htc_dataset(target).fingerprint == fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["news"]


def test_report(tmp_path):
    tree, tokenizer = make_tree(), make_tokenizer()
    data = Dataset.from_dict({"text": make_texts(6), "labels": make_label_sets(tree, 6)})
    results = [
        {"test": evaluate_model(make_model("flat", tree, seed=seed), tokenizer, data, checkpoint=str(seed), details=True)}
        for seed in (0, 1)
    ]
    model, target, contents = make_model("flat", tree), tmp_path / "report", []

    def write(which):
        write_predictions(results[which], target)
        write_reports(results[which], target, model, f"Report {which}")

    for which in (0, 1):
        write(which)
        contents.append({path.name: path.read_text() for path in target.iterdir()})
        if which == 0:
            shutil.copytree(target, tmp_path / "before")
    assert set(contents[0]) == {"predictions_test.jsonl", "report_test.md", "report_test.html"}
    found, seen = operations(lambda: write(1)), set()
    for number in range(len(found)):
        shutil.rmtree(target)
        shutil.copytree(tmp_path / "before", target)
        kill_at(lambda: write(1), number)
        for name in contents[0]:
            text = (target / name).read_text()
            assert text in (contents[0][name], contents[1][name]), (number, found[number])
            seen.add((name, text == contents[1][name]))
    assert len(seen) == 5  # the page is the last one
    write(1)
    assert leftovers(Path(target)) == []
