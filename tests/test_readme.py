"""The README promises nothing that is not run: its commands and code blocks, with a tiny encoder in place of BERT."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tiny_models import make_encoder_config, make_tokenizer
from transformers import AutoModel

from hf_htc.cli.main import main


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
ENCODER = "bert-base-uncased"


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a tiny encoder, the README's CSV (repeated, so that there is something to learn) and texts to predict."""
    folder = tmp_path_factory.mktemp("readme")
    AutoModel.from_config(make_encoder_config()).save_pretrained(folder / "encoder")
    make_tokenizer().save_pretrained(folder / "encoder")
    head, *rows = blocks("csv")[0].strip().splitlines()
    numbered = [row.replace('."', f' in {number}."') for number in range(20) for row in rows]
    (folder / "train.csv").write_text("\n".join([head, *numbered]) + "\n", encoding="utf-8")
    (folder / "new.jsonl").write_text('{"text": "The match."}\n{"text": "The budget."}\n', encoding="utf-8")
    return folder


def test_the_languages_of_the_blocks_are_known():
    assert {kind for kind, _ in BLOCKS} == {"bash", "csv", "python"}
    assert len(blocks("python")) == 4 and README.count("```") == 2 * len(BLOCKS)


def test_python_blocks_run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    assert sum(bool(line.strip()) for line in blocks("python")[0].splitlines()) <= 11  # "in ten lines", imports and all
    for code in blocks("python"):
        code = code.replace(f'"{ENCODER}"', repr(str(workplace / "encoder")))
        code = code.replace('"metrics/', f'"{ROOT.as_posix()}/metrics/')
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    output = capsys.readouterr().out
    assert "hierarchical_f1" in output and "labels" in output


def test_the_ten_lines_go_on_with_test_data(workplace, monkeypatch):
    """What a reader writes next: another file with a test split, its scores and its predictions."""
    monkeypatch.chdir(workplace)
    head, *rows = (workplace / "train.csv").read_text(encoding="utf-8").splitlines()
    (workplace / "test.csv").write_text("\n".join([head, *rows[:9]]) + "\n", encoding="utf-8")
    code = blocks("python")[0].replace('train_file="train.csv"', 'train_file="train.csv", test_file="test.csv"')
    code = code.replace(f'"{ENCODER}"', repr(str(workplace / "encoder"))).replace('"my_model"', '"my_tested_model"')
    code += """
scores = trainer.evaluate(dataset["test"], metric_key_prefix="test")
output = trainer.predict(dataset["test"])
"""
    names = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    scores, output = names["scores"], names["output"]
    assert 0 <= scores["test_micro_f1"] <= 1 and output.metrics["test_micro_f1"] == scores["test_micro_f1"]
    assert output.predictions.shape == output.label_ids.shape == (9, names["hierarchy"].num_labels)
    assert output.predictions.dtype == bool


def test_hf_htc_commands_run(workplace, monkeypatch, capsys):
    monkeypatch.chdir(workplace)
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("hf-htc")]
    assert [shlex.split(command)[1] for command in commands] == [
        "data", "train", "predict", "info", "textrcnn", "train", "tune", "calibrate", "export", "data",
        "demo",
    ]  # fmt: skip
    for command in commands:
        arguments = [str(workplace / "encoder") if word == ENCODER else word for word in shlex.split(command)[1:]]
        if arguments[0] in ("train", "tune"):
            arguments += ["--num_train_epochs", "1", "--disable_tqdm", "true"]
        if arguments[0] == "tune":
            arguments[arguments.index("--trials") + 1] = "2"
        if arguments[0] == "textrcnn":  # the README's few sentences hardly repeat a word
            arguments += ["--embedding_size", "8", "--min_count", "1"]
        try:
            main(arguments)
        except SystemExit as stopped:
            assert not stopped.code, (command, capsys.readouterr())
    assert len((workplace / "predictions.jsonl").read_text().splitlines()) == 2
    assert "htc_hiagm" in capsys.readouterr().out


def test_make_targets_are_what_the_readme_says():
    targets = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("make ")]
    assert targets == ["make quickstart", "make test"]
    for target, last in zip(targets, ("hf-htc quickstart", "-m pytest")):
        dry = ["make", "-n", "--no-print-directory", *shlex.split(target)[1:]]
        # The tests themselves may run under make, whose flags its children inherit.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        steps = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True, env=environment).stdout
        assert last in steps.strip().splitlines()[-1]
        assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_links_into_the_repository_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert len(links) >= 4
    for link in links:
        assert (ROOT / link).exists(), link
