"""Every row of the documentation's page "Your data" works as it stands."""

import gzip
import json
import re
import shlex
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_htc.cli.common import DataArguments, parse
from hf_htc.cli.data import check


PAGE = Path(__file__).parents[2] / "docs" / "your_data.md"
COMMANDS = re.findall(r"^\| `[^`]+` \| .* \| `(--[^`]*)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

TEXTS = [f"the {word} of number {i}" for i, word in enumerate(["game", "vote", "goal", "law", "match", "party"])]
LABELS = ["sport", "politics"] * 3
ROWS = [{"text": text, "labels": [label]} for text, label in zip(TEXTS, LABELS)]


def lines(header, cells, delimiter=","):
    return "\n".join([header, *(delimiter.join(row) for row in cells)]) + "\n"


def with_cells(header, first, second, delimiter=","):
    """A table whose rows have the cells `first` and `second` in turn behind the text."""
    return lines(header, [(text, *(first if i % 2 == 0 else second)) for i, text in enumerate(TEXTS)], delimiter)


PLAIN = with_cells("text,labels", ["sport"], ["politics"])
STUDIO = [
    {"data": {"text": t}, "annotations": [{"result": [{"from_name": "topic", "value": {"choices": [label]}}]}]}
    for t, label in zip(TEXTS, LABELS)
]
FILES = {
    "train.csv": PLAIN,
    "shop.csv": with_cells("title,category", ["sport"], ["politics"]),
    "kategorien.csv": "\ufeff" + with_cells("Beschreibung;Kategorie", ["sport"], ["politics"], ";").replace("\n", "\r\n"),
    "old.csv": with_cells("text,labels", ["Bücher"], ["Züge"]).encode("cp1252"),
    "train.tsv": with_cells("text\tlabels", ["sport"], ["politics"], "\t").replace("the game", '"the game'),
    "export.txt": with_cells("text|labels", ["sport"], ["politics"], "|"),
    "bare.csv": PLAIN.split("\n", 1)[1],
    "train.csv.gz": gzip.compress(PLAIN.encode()),
    "train.jsonl": "\n".join(map(json.dumps, ROWS)),
    "train.json": json.dumps({"data": ROWS}),
    "fasttext.txt": "\n".join(f"__label__{label} {text}" for text, label in zip(TEXTS, LABELS)),
    "doccano.jsonl": "\n".join(json.dumps({"id": 1, "text": row["text"], "label": row["labels"]}) for row in ROWS),
    "studio.json": json.dumps(STUDIO),
    "two_texts.csv": lines("title,body,labels", [("News", text, label) for text, label in zip(TEXTS, LABELS)]),
    "separated.csv": with_cells("text,labels", ["sport;ball"], ["politics"]),
    "lists.csv": with_cells("text,labels", ["\"['sport', 'ball']\""], ["['politics']"]),
    "paths.csv": with_cells("text,labels", ["sport > ball"], ["politics > votes"]),
    "dashes.csv": with_cells("text,labels", ["sport--ball"], ["politics--votes"]),
    "slashes.csv": with_cells("text,labels", ["R/C cars"], ["R/C boats"]),
    "levels.csv": with_cells("text,l1,l2,l3", ["sport", "ball", "leer"], ["politics", "", ""]),
    "gaps.csv": with_cells("text,l1,l2,l3", ["sport", "", "tennis"], ["politics", "", ""]),
    "groups.csv": with_cells("text,a1,a2,b1,b2", ["sport", "ball", "politics", "votes"], ["politics", "votes", "", ""]),
    "onehot.csv": with_cells("text,topic_sport,topic_politics", ["1", "0"], ["1", "1"]),
    "numbers.jsonl": "\n".join(json.dumps({"text": text, "label": i % 2}) for i, text in enumerate(TEXTS)),
    "classes.txt": "sport\npolitics\n",
    "leaves.csv": with_cells("text,labels", ["ball"], ["politics"]),
    "taxonomy.txt": "sport\nsport > ball\npolitics\n",
    "broken.csv": PLAIN + "one, two, three\n",
    "empty.csv": PLAIN + ",sport\n",
    "unlabelled.csv": PLAIN + "nothing said,\n",
    "unlabelled_test.csv": "text\nsomething else\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("your_data")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, folder / "train.parquet")
    with pa.ipc.new_file(str(folder / "train.arrow"), table.schema) as writer:
        writer.write_table(table)
    datasets.Dataset(table).save_to_disk(folder / "saved")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page(command, folder, monkeypatch):
    if "xlsx" in command:
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [("text", "labels"), *zip(TEXTS, LABELS)]:
            book.active.append(row)
        book.save(folder / "train.xlsx")
    monkeypatch.chdir(folder)
    (data,) = parse([DataArguments], shlex.split(command), "hf-htc data check", "")
    report = check(data)
    assert report.ok, report.to_markdown()
    assert report.splits["train"]["documents"] >= 6
    assert 2 <= report.hierarchy["num_labels"] <= 5
    assert len(data.load().dataset["train"]) >= 5


def test_the_page_has_every_option_of_reading():
    text = PAGE.read_text(encoding="utf-8")
    for option in ("delimiter", "encoding", "quoting", "header", "missing_values", "level_gaps", "class_names", "path_separator",
                   "label_separator", "skip_bad_rows", "skip_empty_texts", "allow_unlabelled", "unknown_labels"):  # fmt: skip
        assert f"--{option}" in text, option
    assert len(COMMANDS) == 34
