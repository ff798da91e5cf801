"""The training settings of the papers: files of options that `hf-htc train` takes, which the methods' pages list."""

import re
from importlib import resources

import pytest

import hf_htc
from hf_htc.cli.common import DataArguments
from hf_htc.cli.train import RunArguments, parse_with_paper_settings
from hf_htc.models.errors import HTCError
from hf_htc.training import HTCTrainingArguments, paper_settings


WITH_A_PAPER = [method for method in hf_htc.METHODS if method != "flat"]
CLASSES = [DataArguments, RunArguments, HTCTrainingArguments]


def parsed(*arguments):
    return parse_with_paper_settings(CLASSES, list(arguments), "hf-htc train", "")


@pytest.mark.parametrize("method", WITH_A_PAPER)
def test_file_options_and_page_agree(method):
    settings, text = paper_settings(method), hf_htc.METHODS[method].paper_settings.read_text(encoding="utf-8")
    lines = re.findall(r"^(\w+): (\S+)  # (.+)$", text, re.MULTILINE)
    assert [name for name, *_ in lines] == list(settings) and len(settings) >= 5  # each with where it stands
    page = resources.files("hf_htc.model_cards").joinpath(f"{method}.md").read_text(encoding="utf-8")
    section = page.split("### Training settings of the paper\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE) == lines
    (_, options, training), _ = parsed("--method", method, "--output_dir", "out", "--paper_settings")
    for name, value in settings.items():
        found = getattr(options if hasattr(options, name) else training, name)
        assert getattr(found, "value", found) == value, name
    plain = parsed("--method", method, "--output_dir", "out")[0]
    assert (plain[1].early_stopping_patience, plain[2].learning_rate) == (None, None)


def test_what_the_user_gives_wins(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("method: hpt\npaper_settings: true\nlearning_rate: 7e-5\noutput_dir: out\n")
    (_, options, training), arguments = parsed(str(tmp_path / "mine.yaml"), "--early_stopping_patience", "2")
    assert (training.learning_rate, training.classifier_learning_rate) == (7e-5, 3e-5)
    assert (options.early_stopping_patience, training.per_device_train_batch_size) == (2, 16)
    assert arguments[0] == str(tmp_path / "mine.yaml")
    out = capsys.readouterr().out
    assert out.startswith("Of the paper of hpt: optim adamw_torch, weight_decay 0.0, classifier_learning_rate 3e-05, ")
    assert out.endswith("; yours: learning_rate 7e-05, early_stopping_patience 2.\n")


def test_a_method_without_a_paper():
    with pytest.raises(HTCError, match="'flat' comes from no paper.* Leave `--paper_settings` out"):
        parsed("--output_dir", "out", "--paper_settings")
    with pytest.raises(ValueError, match="no method 'hiagmm'"):
        paper_settings("hiagmm")
