"""What a training and an evaluation leave when something fails at their end: the order of their worth."""

import json
import logging

import pytest
from tiny_models import make_encoder_config, make_label_sets, make_texts, make_tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification

from hf_htc import LabelHierarchy
from hf_htc.cli import train as cli_train
from hf_htc.cli.main import main
from hf_htc.evaluation import figures, report


LABELS = ["price $x^$/a$b$", "price $x^$/$$", "日本/東京", r"back\slash"]


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Of `hf-htc train`, which does not train here."""
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "encoder")
    make_tokenizer().save_pretrained(tmp_path / "encoder")
    hierarchy = LabelHierarchy.from_paths(LABELS)
    hierarchy.save(tmp_path / "taxonomy.json")
    found = ["--text_encoder", str(tmp_path / "encoder"), "--taxonomy", str(tmp_path / "taxonomy.json")]
    for split in ("train", "validation", "test"):
        labels = hierarchy.decode(make_label_sets(hierarchy, 8))
        rows = [{"text": text, "labels": names} for text, names in zip(make_texts(8), labels)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found += [f"--{split}_file", str(tmp_path / f"{split}.jsonl")]
    monkeypatch.setattr(cli_train, "run_loop", lambda model, args, *_: (model, args, [{"loss": 1.0, "step": 1}], None, True))
    return [*found, "--output_dir", str(tmp_path / "out"), "--use_cpu"]


def results(folder):
    return {path.name for path in folder.iterdir() if path.suffix != ".py"}


CHECKPOINT = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "taxonomy.json",
    "README.md",
    "run.json",
}
SPLITS = ("validation", "test")


@pytest.mark.parametrize("step", ["evaluate_splits", "write_predictions", "write_reports"])
def test_training(arguments, tmp_path, monkeypatch, step, capsys):
    def fails(*arguments, **options):
        raise MemoryError(step)

    monkeypatch.setattr(cli_train, step, fails)
    with pytest.raises(SystemExit):
        main(["train", *arguments])
    predictions = {f"predictions_{split}.jsonl" for split in SPLITS}
    assert results(tmp_path / "out") == CHECKPOINT | (predictions if step == "write_reports" else set())
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert set(run["scores"]) == (set(SPLITS) if step == "write_reports" else set()) and run["log"]
    assert ("micro-F1" in (tmp_path / "out" / "README.md").read_text()) == (step == "write_reports")


def test_a_figure_that_fails_costs_itself_only(arguments, tmp_path, monkeypatch, caplog, capsys):
    def fails(*arguments, **options):
        raise ValueError("cannot be\ndrawn")

    monkeypatch.setattr(figures, "icicle", fails)
    with caplog.at_level(logging.WARNING, "hf_htc"):
        main(["train", *arguments])
    said = [record.getMessage() for record in caplog.records if "could not be drawn" in record.getMessage()]
    assert said == ["The figure 'F1 over the taxonomy' could not be drawn and is left out: cannot be drawn."] * len(SPLITS)
    for split in SPLITS:
        page = (tmp_path / "out" / f"report_{split}.html").read_text()
        assert "Over the taxonomy" in page and page.count("<svg") > 1
        assert (tmp_path / "out" / f"report_{split}.md").is_file()


def test_labels_with_dollars_are_words(arguments, tmp_path, recwarn):
    main(["train", *arguments])
    page = (tmp_path / "out" / "report_test.html").read_text()
    drawn = page[page.index("<svg") :]
    for label in ("price $x^$", "東京", r"back\slash"):
        assert f">{label}</text>" in drawn, label
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_evaluation(arguments, tmp_path, monkeypatch, caplog):
    main(["train", *arguments])
    given = arguments[arguments.index("--taxonomy") : arguments.index("--output_dir")]
    for number, (place, name) in enumerate([(report, "build_report"), (figures, "drawing")]):
        target = tmp_path / f"evaluated{number}"
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *_, **__: 1 / 0)
            try:
                main(["evaluate", str(tmp_path / "out"), *given, "--output_dir", str(target)])
            except SystemExit:
                assert number == 0
        expected = {"predictions_test.jsonl", "scores_test.json", "scores_test.json.run.jsonl"} | (
            {"report_test.md", "report_test.html"} if number else set()
        )
        assert results(target) == expected


def test_units_of_a_label_with_dollars(tmp_path, caplog):
    from hf_htc.evaluation.unit_view import plot_units

    views = [{"name": "price $x^$ 日本東京", "threshold": 0.1, "entries": [{"name": "a", "score": 0.5}]}]
    plot_units(views, tmp_path / "units.svg")
    assert "price $x^$ 日本東京" in (tmp_path / "units.svg").read_text() and not caplog.records
    plot_units(views, tmp_path / "units.png")
    (record,) = caplog.records  # one, not one per letter
    assert record.getMessage().startswith("'units.png' shows boxes for letters that the font has not")
