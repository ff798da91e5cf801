"""The report: what its tables say against the scores, and a page that is well-formed, escaped and needs no network."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import make_dag, make_label_sets, make_model, make_texts, make_tree

from hf_htc import LabelHierarchy
from hf_htc.cli.main import main
from hf_htc.evaluation.predictions import evaluate_model
from hf_htc.evaluation.report import build_report


VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a page links to and its tables."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.ids, self.rows, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[key] for key in ("src", "href", "xlink:href") if attrs.get(key)]
        self.ids += [attrs["id"]] if "id" in attrs else []
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
    assert sum(len(section.figures) for section in report.sections) >= 6
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
    assert names == {"report_test.md", "report_test.html", "predictions_test.jsonl", "scores_test.json"}
    page = read((tmp_path / "out" / "report_test.html").read_text())
    scores = json.loads((tmp_path / "out" / "scores_test.json").read_text())
    micro = [row for row in page.rows if row[0] == "micro"][0]
    assert micro[3] == f"{100 * scores['micro_f1']:.2f}"
    low, high = (float(part) / 100 for part in micro[4].split(" to "))
    assert low <= scores["micro_f1"] + 1e-4 and scores["micro_f1"] - 1e-4 <= high and low < high
    assert "Training" in page.text and np.isfinite(low)
