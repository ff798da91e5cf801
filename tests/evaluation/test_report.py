"""The report: what its tables say against the scores, and a page that is well-formed, escaped and needs no network."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import make_dag, make_label_sets, make_model, make_texts, make_tree

from hf_htc import LabelHierarchy
from hf_htc.cli.main import main
from hf_htc.evaluation import figures
from hf_htc.evaluation.predictions import evaluate_model
from hf_htc.evaluation.report import Report, Section, _some, build_report
from hf_htc.evaluation.report_page import render


VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a page links to and its tables."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.ids, self.rows, self.text, self.pictures = [], [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[key] for key in ("src", "href", "xlink:href") if attrs.get(key)]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "svg":
            assert attrs["role"] == "img"
            self.pictures.append(attrs["aria-label"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def read(html):
    page = Page()
    page.feed(html)
    assert page.open == []
    return page


def evaluated(hierarchy, tokenizer, size=30, **options):
    model = make_model("flat", hierarchy)
    sets = make_label_sets(hierarchy, size, seed=3)
    data = Dataset.from_dict({"text": make_texts(size, seed=3), "labels": sets})
    return evaluate_model(model, tokenizer, data, threshold=0.3, details=True, **options), data


@pytest.mark.parametrize("hierarchy", [make_tree(), make_dag()], ids=["tree", "dag"])
def test_page_and_markdown_say_the_same(hierarchy, tokenizer):
    result, data = evaluated(hierarchy, tokenizer)
    log = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": "0.4"}, {"step": 2, "eval_micro_f1": 0.3, "eval_macro_f1": 0.2}]
    counts = list(range(hierarchy.num_labels))
    intervals = {"micro_f1": (0.1, 0.2)}
    report = build_report(
        result, hierarchy, "flat on news", counts, list(data["text"]), data["labels"], log, intervals, figures=True
    )
    page, markdown = read(report.to_html()), report.to_markdown()
    titles = [section.title for section in report.sections]
    assert {"Overall", "By level", "By branch", "By training documents", "Over the taxonomy", "Most confused siblings",
            "Violations of the hierarchy", "Thresholds", "Calibration", "Labels with most errors", "Worst documents",
            "Training"} == set(titles)  # fmt: skip
    micro = [row for row in page.rows if row[0] == "micro"][0]
    expected = [f"{100 * result.scores[f'micro_{key}']:.2f}" for key in ("precision", "recall", "f1")]
    assert micro == ["micro", *expected, "10.00 to 20.00"]
    for title in titles:
        if title != "Training":  # figures only
            assert f"\n## {title}\n" in markdown
    assert f"| micro | {' | '.join(expected)} | 10.00 to 20.00 |" in markdown
    level = [row for row in page.rows if row[0] == "1" and len(row) == 4][0]
    assert level[2] == f"{100 * result.scores['level_1_micro_f1']:.2f}"
    worst = result.details.worst()
    assert worst and [row for row in page.rows if row[0] == str(worst[0][0]) and len(row) == 5]
    captions = [caption for section in report.sections for _, caption in section.figures]
    assert len(captions) >= 8 and page.pictures == captions and all(captions)
    assert len(page.ids) == len(set(page.ids))
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside == [] and "http://" not in report.to_html().replace("http://www.w3.org/", "")


def test_names_and_texts_are_escaped(tokenizer):
    hierarchy = LabelHierarchy(["<script>alert(1)</script>", "a|b & c"], [[], [0]])
    model = make_model("flat", hierarchy)
    data = Dataset.from_dict({"text": ["the <b>match</b>", "goal"], "labels": [[0, 1], [0]]})
    result = evaluate_model(model, tokenizer, data, threshold=0.99, details=True)
    report = build_report(result, hierarchy, "<i>title</i>", [3, 4], list(data["text"]), data["labels"], figures=True)
    html = report.to_html()
    read(html)
    assert "<script" not in html and "<b>" not in html and "<i>" not in html and "&lt;b&gt;match" in html
    assert "a\\|b & c" in report.to_markdown()


def test_without_details_and_figures(tokenizer):
    hierarchy = make_tree()
    model = make_model("flat", hierarchy)
    data = Dataset.from_dict({"text": make_texts(4), "labels": make_label_sets(hierarchy, 4)})
    report = build_report(evaluate_model(model, tokenizer, data), hierarchy, "plain")
    assert all(not section.figures for section in report.sections) and "95 %" not in report.to_markdown()
    assert "Calibration" not in [section.title for section in report.sections]
    read(report.to_html())


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of the curves that a report draws, by the label of their vertical axis."""
    found, lines = {}, figures.lines

    def note(x, series, x_label, y_label, limits=None, mark=None):
        found[y_label] = {"series": series, "mark": mark}
        return lines(x, series, x_label, y_label, limits, mark)

    monkeypatch.setattr(figures, "lines", note)
    return found


def threshold_rows(report):
    section = next(section for section in report.sections if section.title == "Thresholds")
    return {row[0]: row[1:] for row in section.tables[0][1]}, section.text


@pytest.mark.parametrize("set_by", ["default", "config", "argument"])
def test_threshold_in_use(set_by, tokenizer, drawn):
    hierarchy, value = make_tree(), {"default": 0.5, "config": 0.35, "argument": 0.2}[set_by]
    model, sets = make_model("flat", hierarchy), make_label_sets(hierarchy, 30, seed=3)
    model.config.thresholds = 0.35 if set_by != "default" else None
    data = Dataset.from_dict({"text": make_texts(30, seed=3), "labels": sets})
    options = {"threshold": 0.2} if set_by == "argument" else {}
    result = evaluate_model(model, tokenizer, data, details=True, closure="none", **options)
    report = build_report(result, hierarchy, "title", figures=True)
    assert drawn["score"]["mark"] == (value, value, f"in use: {value}") and f"in use: {value}" in report.to_html()
    rows, _ = threshold_rows(report)
    assert rows["in use"][0] == f"{value:.3f}"
    # Without closure, at the threshold in use, the curves have the scores of the page.
    assert rows["in use"][1:] == [f"{100 * result.scores[f'{kind}_f1']:.2f}" for kind in ("micro", "macro")]
    for kind in ("micro", "macro"):
        x, y = drawn["score"]["series"][f"{kind}-F1"]
        assert y[np.searchsorted(x, value + 1e-9) - 1] == pytest.approx(result.scores[f"{kind}_f1"])
        assert float(rows[f"the best for {kind}-F1"][0]) == pytest.approx(x[np.argmax(y)], abs=1e-3)


def test_thresholds_of_single_labels(tokenizer, drawn):
    hierarchy = make_tree()
    model = make_model("flat", hierarchy)
    model.config.thresholds = [0.3 + 0.02 * label for label in range(hierarchy.num_labels)]
    data = Dataset.from_dict({"text": make_texts(12), "labels": make_label_sets(hierarchy, 12)})
    result = evaluate_model(model, tokenizer, data, details=True)
    rows, text = threshold_rows(build_report(result, hierarchy, "title", figures=True))
    assert drawn["score"]["mark"] == (pytest.approx(0.3), pytest.approx(0.54), "in use")
    assert "from 0.300 to 0.540" in text and "in use" not in rows
    rows, text = threshold_rows(
        build_report(evaluate_model(model, tokenizer, data, details=True, decoder="expected_f"), hierarchy, "title", figures=True)
    )
    assert drawn["score"]["mark"] is None and "made without a threshold" in text and "in use" not in rows


def test_training_curves(tokenizer, drawn):
    result, _ = evaluated(make_tree(), tokenizer)
    log = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": "0.4"}, {"step": 4, "eval_loss": 0.45, "eval_macro_f1": 0.2},
           {"step": 4, "train_loss": 0.45}]  # fmt: skip
    report = build_report(result, make_tree(), "title", log=log, figures=True)
    assert drawn["loss"]["series"] == {"training loss": ((2, 4), (0.5, 0.4)), "validation loss": ((4,), (0.45,))}
    assert drawn["F1"]["series"] == {"validation macro-F1": ((4,), (0.2,))}
    page = report.to_html()
    assert ">validation loss</text>" in page and ">validation macro-F1</text>" in page
    for log in (None, [], [{"step": 4, "train_loss": 0.45}]):
        titles = [section.title for section in build_report(result, make_tree(), "title", log=log, figures=True).sections]
        assert "Training" not in titles


def test_worst_documents_show_what_does_not_follow(tokenizer):
    hierarchy = make_tree()
    for closure in ("up", "none"):
        result, data = evaluated(hierarchy, tokenizer, closure=closure)
        report = build_report(result, hierarchy, "title", texts=list(data["text"]), gold=data["labels"])
        section = next(section for section in report.sections if section.title == "Worst documents")
        row = section.tables[0][1][0]
        gold = data["labels"][row[0]]
        inner = {a for label in gold for a in hierarchy.ancestors(label)}
        kept = [label for label in gold if closure == "none" or label not in inner]
        assert row[2] == "; ".join(hierarchy.names[label] for label in kept) and inner
        assert ("closure adds" in section.text) == (closure == "up")


def test_many_labels_of_a_document_are_counted():
    assert _some(list("abc"), 3) == "a; b; c" and _some(list("abcd"), 3) == "a; b; c; and 1 more"


def test_an_interval_beside_its_score_is_explained(tokenizer):
    result, _ = evaluated(make_tree(), tokenizer)
    score = result.scores["macro_f1"]
    for interval, is_explained in (((score - 0.1, score - 0.05), True), ((score - 0.05, score + 0.05), False)):
        markdown = build_report(result, make_tree(), "title", intervals={"macro_f1": interval}).to_markdown()
        assert ("lies beside the score" in markdown) == is_explained


def test_a_large_taxonomy_stays_small_and_readable(tokenizer):
    """Of thousands of labels the picture shows the branches with most gold labels."""
    paths = [f"branch {top}/{top}.{child}" for top in range(60) for child in range(50)]
    hierarchy = LabelHierarchy.from_paths(paths)
    generator = np.random.default_rng(0)
    gold = [hierarchy.close([[hierarchy.id(paths[int(place)]) for place in generator.integers(0, 400, 3)]])[0] for _ in range(40)]
    model = make_model("flat", hierarchy)
    data = Dataset.from_dict({"text": make_texts(40, longest=8), "labels": gold})
    result = evaluate_model(model, tokenizer, data, threshold=0.9, details=True)
    report = build_report(result, hierarchy, "title", texts=list(data["text"]), gold=gold, figures=True)
    html = report.to_html()
    assert len(html) < 1_000_000
    section = next(section for section in report.sections if section.title == "Over the taxonomy")
    svg, caption = section.figures[0]
    assert "The 8 of 60 branches with most gold labels." in caption
    named = {int(number) for number in re.findall(r">branch (\d+)</text>", svg)}
    assert named == set(range(8))  # 400 leaves


def test_evaluate_writes_the_report(tokenizer, tmp_path, capsys):
    hierarchy = make_tree()
    model = make_model("flat", hierarchy)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "run.json").write_text(json.dumps({"log": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.4}]}))
    for split in ("train", "test"):
        names = hierarchy.decode(make_label_sets(hierarchy, 12, seed=len(split)))
        rows = [{"text": text, "labels": row} for text, row in zip(make_texts(12, seed=len(split)), names)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = ["--train_file", str(tmp_path / "train.jsonl"), "--test_file", str(tmp_path / "test.jsonl")]
    main(["evaluate", str(tmp_path / "model"), *files, "--output_dir", str(tmp_path / "out"), "--threshold", "0.2"])
    capsys.readouterr()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    results = {"report_test.md", "report_test.html", "predictions_test.jsonl", "scores_test.json"}
    assert names == {*results, "scores_test.json.run.jsonl"}
    page = read((tmp_path / "out" / "report_test.html").read_text())
    scores = json.loads((tmp_path / "out" / "scores_test.json").read_text())
    micro = [row for row in page.rows if row[0] == "micro"][0]
    assert micro[3] == f"{100 * scores['micro_f1']:.2f}"
    low, high = (float(part) / 100 for part in micro[4].split(" to "))
    assert low <= scores["micro_f1"] + 1e-4 and scores["micro_f1"] - 1e-4 <= high and low < high
    assert "Training" in page.text and np.isfinite(low)


def test_rows_with_long_texts_are_stacked_on_a_phone():
    short = Section("Short", tables=[(["label", "F1"], [["a" * 60, "1.00"], ["b", "0.50"]])])
    long = Section("Long", tables=[(["document", "text"], [["1", "word " * 30], ["2", "word"]])])
    page = render(Report("Title", "Lead", [short, long]))
    assert page.count('<table class="stacked">') == 1 and page.count("<table>") == 1
    assert 'data-head="text"' in page.split('<table class="stacked">')[1] and 'data-head="F1"' not in page
