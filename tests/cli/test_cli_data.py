"""From a user's file to scores: the options of reading on the command line, and what a checkpoint remembers of them."""

import inspect
import json

import pytest
from tiny_models import make_encoder_config, make_tokenizer
from transformers import AutoModel

from hf_htc.cli.common import DataArguments, parse, run_settings
from hf_htc.cli.main import main
from hf_htc.cli.parsing import join_repeated
from hf_htc.data import check_files, load_htc_dataset
from hf_htc.data.options import ReadOptions


FAST = ["--num_train_epochs", "1", "--report_to", "none", "--disable_tqdm", "true", "--save_total_limit", "1"]
TRAIN = [("Rad", "Sport", "Rennen"), ("Ball", "Sport", "Fußball"), ("Wahl", "Politik", "Wählen"), ("Amt", "Politik", "")]


def table(rows):
    return "".join(";".join(row) + "\r\n" for row in [("Titel", "Stufe 1", "Stufe 2"), *rows])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A checkpoint that was trained on a German table of Excel, and files like it."""
    folder = tmp_path_factory.mktemp("work")
    AutoModel.from_config(make_encoder_config(num_hidden_layers=1)).save_pretrained(folder / "encoder")
    make_tokenizer().save_pretrained(folder / "encoder")
    rows = [(f"{word} Nummer {i}", *labels) for i in range(8) for word, *labels in TRAIN]
    (folder / "train.csv").write_bytes(table(rows).encode("cp1252"))
    (folder / "test.csv").write_bytes(table(rows[:12]).encode("cp1252"))
    new = [*rows[:6], ("Neues", "Sport", "Tennis"), ("Noch Neueres", "Kultur", "Film")]
    (folder / "new.csv").write_bytes(table(new).encode("cp1252"))
    main(
        ["train", "--train_file", str(folder / "train.csv"), "--text_column", "Titel", "--label_column", "Stufe 1,Stufe 2",
         "--path_separator", " > ", "--encoding", "cp1252", "--closure", "up", "--text_encoder", str(folder / "encoder"),
         "--output_dir", str(folder / "model"), *FAST]
    )  # fmt: skip
    return folder


def test_a_checkpoint_remembers_how_its_data_were_read(work, capsys):
    settings = json.loads((work / "model" / "run.json").read_text(encoding="utf-8"))["settings"]
    expected = {"text_column": "Titel", "label_column": "Stufe 1,Stufe 2", "path_separator": " > ", "encoding": "cp1252"}
    assert {key: settings[key] for key in expected} == expected
    assert run_settings(work / "model") == settings and run_settings(work) == {}
    data = DataArguments(test_file=str(work / "test.csv"), encoding="latin-1")
    remembered = data.remember(work / "model")
    assert remembered == {key: value for key, value in expected.items() if key != "encoding"} | {"closure": "up"}
    assert data.encoding == "latin-1" and data.text_column == "Titel"  # what was given stays
    main(["evaluate", str(work / "model"), "--test_file", str(work / "test.csv"), "--output_dir", str(work / "scores")])
    out = capsys.readouterr().out
    assert "Read as in training: --text_column Titel" in out and "12 documents" in out
    assert json.loads((work / "scores" / "scores_test.json").read_text())["closure"] == "up"


def test_unknown_labels_are_missed_when_asked(work, capsys):
    command = ["evaluate", str(work / "model"), "--test_file", str(work / "new.csv")]
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 1
    assert "new.csv, line 8: unknown label 'Sport > Tennis'" in capsys.readouterr().err
    main([*command, "--unknown_labels", "missed", "--output_dir", str(work / "missed")])
    out = capsys.readouterr().out
    assert "2 labels of documents are unknown to the checkpoint and count as missed" in out and "8 documents" in out
    scores = json.loads((work / "missed" / "scores_test.json").read_text())
    # Nothing predicts the two, so that no score of recall can be whole.
    assert scores["micro_recall"] < 1.0


def test_label_columns_may_be_given_several_times():
    arguments = ["--label_column", "a1,a2", "--train_file", "x.csv", "--label_column=b1,b2"]
    assert join_repeated(arguments, "--label_column") == ["--label_column=a1,a2;b1,b2", "--train_file", "x.csv"]
    (data,) = parse([DataArguments], arguments, "hf-htc data check", "")
    assert data.label_column == "a1,a2;b1,b2"
    assert join_repeated(["--train_file", "x"], "--label_column") == ["--train_file", "x"]


def test_values_of_dashes(capsys):
    (data,) = parse([DataArguments], ["--path_separator=--", "--label_separator=-"], "hf-htc data check", "")
    assert (data.path_separator, data.label_separator) == ("--", "-")
    with pytest.raises(SystemExit):
        parse([DataArguments], ["--path_separator", "->"], "hf-htc data check", "")
    assert "a value that begins with - is given as --option=value" in capsys.readouterr().err


def test_every_option_of_reading_reaches_the_check():
    loader = set(inspect.signature(load_htc_dataset).parameters)
    assert set(DataArguments().options()) <= loader
    assert set(ReadOptions.__dataclass_fields__) <= loader
    checker = set(inspect.signature(check_files).parameters) | set(ReadOptions.__dataclass_fields__)
    assert loader - {"seed"} <= checker
    with pytest.raises(TypeError, match="unexpected keyword argument 'label_colum'"):
        check_files(train_file="a.csv", label_colum="x")
