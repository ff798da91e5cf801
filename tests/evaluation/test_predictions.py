"""Scores of a model over a data set, and prediction files that survive an interruption."""

import copy
import csv
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from kills import kill_at, moments, operations
from tiny_models import make_label_sets, make_model, make_texts

from hf_htc import LabelHierarchy
from hf_htc.data import write_predictions
from hf_htc.evaluation.fingerprint import read_run_file, run_file
from hf_htc.evaluation.predictions import check_same_labels, evaluate_model, predict_batches, predict_file
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError


KEYS = ["id", "labels", "scores", "paths", "top_k", "closure", "checkpoint"]


@pytest.fixture
def model(tree):
    model = make_model("flat", tree)
    assert model.config.label_closure == "closed"
    return model


@pytest.fixture
def dataset(tree):
    return Dataset.from_dict({"text": make_texts(23), "labels": make_label_sets(tree, 23, seed=3)})


class TestEvaluateModel:
    @pytest.mark.parametrize("options", [{}, {"closure": "none"}, {"closure": "prune"}, {"threshold": 0.3}, {"batch_size": 4}])
    def test_equals_predict_and_scorer(self, model, tokenizer, dataset, tree, options):
        result = evaluate_model(model, tokenizer, dataset, **options)
        closure = options.get("closure", "up")
        predicted = model.predict(dataset["text"], tokenizer, closure=closure, threshold=options.get("threshold"))
        scorer = HierarchicalScorer(tree.parents, tree.num_labels, closure=closure)
        scorer.add(tree.encode(p["labels"] for p in predicted), dataset["labels"])
        assert result.scores == scorer.compute()
        assert result.scorer.compute() == result.scores
        assert result.scores["closure"] == closure
        assert 0 < result.scores["micro_f1"] < 1
        assert [record["labels"] for record in result.records] == [p["labels"] for p in predicted]
        assert [record["paths"] for record in result.records] == [p["paths"] for p in predicted]

    def test_records(self, model, tokenizer, dataset, tree):
        records = evaluate_model(model, tokenizer, dataset, top_k=3, checkpoint="flat-tiny").records
        assert [list(record) for record in records] == [KEYS] * len(dataset)
        assert [record["id"] for record in records] == list(range(len(dataset)))
        with torch.no_grad():
            for record, text in zip(records, dataset["text"]):
                assert (record["closure"], record["checkpoint"]) == ("up", "flat-tiny")
                scores = torch.sigmoid(model(**tokenizer([text], return_tensors="pt")).logits[0])
                best = scores.topk(3)
                assert [name for name, _ in record["top_k"]] == [tree.names[i] for i in best.indices]
                assert [score for _, score in record["top_k"]] == pytest.approx(best.values.tolist(), abs=2e-6)
                own = [scores[tree.id(name)].item() for name in record["labels"]]
                assert record["scores"] == pytest.approx(own, abs=2e-6)
                assert record["scores"] == sorted(record["scores"], reverse=True)
        assert json.loads(json.dumps(records)) == records

    def test_own_ids_and_more_labels_than_top_k_asks(self, model, tokenizer, dataset, tree):
        dataset = dataset.add_column("id", [f"doc {i}" for i in range(len(dataset))])
        records = evaluate_model(model, tokenizer, dataset, top_k=1000).records
        assert [record["id"] for record in records] == list(dataset["id"])
        assert {len(record["top_k"]) for record in records} == {tree.num_labels}

    def test_thresholds_of_the_checkpoint(self, model, tokenizer, dataset):
        by_default = evaluate_model(model, tokenizer, dataset)
        low = evaluate_model(model, tokenizer, dataset, threshold=0.2)
        model.config.thresholds = 0.2
        assert evaluate_model(model, tokenizer, dataset).scores == low.scores != by_default.scores

    def test_as_given_model_is_scored_as_it_is(self, tree, tokenizer, dataset):
        model = make_model("flat", tree, statistics=False)
        assert evaluate_model(model, tokenizer, dataset).scores["closure"] == "none"

    def test_model_keeps_its_mode(self, model, tokenizer, dataset):
        model.train()
        first = evaluate_model(model, tokenizer, dataset).scores
        assert model.training
        assert evaluate_model(model, tokenizer, dataset).scores == first  # no dropout

    def test_other_labels(self, model, tokenizer, dataset, tree, dag):
        evaluate_model(model, tokenizer, dataset, hierarchy=tree)
        with pytest.raises(
            ValueError, match=rf"other labels than the data \({tree.num_labels} and {dag.num_labels}\): 'bank' only in the data"
        ):
            evaluate_model(model, tokenizer, dataset, hierarchy=dag)
        fewer = LabelHierarchy.from_edges(tree.to_edges()[:1])
        with pytest.raises(ValueError, match=rf"\({tree.num_labels} and 1\): 'politics' only in the checkpoint"):
            check_same_labels(tree, fewer)
        with pytest.raises(ValueError, match="differently: id 0 is 'sport' and 'weather'"):
            check_same_labels(tree, tree.with_labels(tree.names[::-1]))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"threshold": 1.5}, r"threshold 1.5 is out of range; thresholds are numbers in \[0, 1\]"),
            ({"closure": "down"}, "`closure` is 'down'; allowed are 'none', 'up', 'prune'"),
        ],
    )
    def test_errors(self, model, tokenizer, dataset, options, message):
        with pytest.raises(ValueError, match=message):
            evaluate_model(model, tokenizer, dataset, **options)

    def test_empty_text(self, model, tokenizer, dataset):
        texts = [*dataset["text"][:5], " ", *dataset["text"][6:]]
        with pytest.raises(ValueError, match="Text 5 is empty"):
            evaluate_model(model, tokenizer, dataset.remove_columns("text").add_column("text", texts))


def test_batches_come_longest_first_and_cover_all(model, tokenizer):
    texts = make_texts(11)
    rows = [rows for rows, *_ in predict_batches(model, tokenizer, texts, "up", None, 3, 4)]
    assert [len(batch) for batch in rows] == [4, 4, 3]
    flat = [row for batch in rows for row in batch]
    assert sorted(flat) == list(range(11))
    assert [len(texts[row]) for row in flat] == sorted(map(len, texts), reverse=True)


def test_write_predictions(tmp_path):
    records = [{"id": 1, "labels": ["Käse"]}, {"id": 2, "labels": []}]
    write_predictions(records, tmp_path / "new" / "p.jsonl")
    content = (tmp_path / "new" / "p.jsonl").read_text(encoding="utf-8")
    assert "Käse" in content
    assert [json.loads(line) for line in content.splitlines()] == records
    with pytest.raises(TypeError):
        write_predictions([{"id": object()}], tmp_path / "new" / "p.jsonl")
    assert (tmp_path / "new" / "p.jsonl").read_text(encoding="utf-8") == content


def read_table(path):
    """Rows of a table of predictions."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))
    return [{**row, "labels": json.loads(row["labels"])} for row in rows]


class TestPredictFile:
    @pytest.fixture
    def texts(self):
        return make_texts(30, seed=5)

    @pytest.fixture
    def source(self, tmp_path, texts):
        """Thirty documents with ids that JSON does not escape, and an empty line among them."""
        lines = [json.dumps({"id": f"doc\u2028{i}", "text": text}, ensure_ascii=False) for i, text in enumerate(texts)]
        path = tmp_path / "in.jsonl"
        path.write_text("\n".join([*lines[:7], "", *lines[7:]]), encoding="utf-8")
        return path

    def run(self, model, tokenizer, source, output, **options):
        return predict_file(
            model, tokenizer, source, output, **{"chunk_size": 8, "batch_size": 3, "checkpoint": "tiny", **options}
        )

    def test_order_ids_and_predictions(self, model, tokenizer, source, texts, tmp_path):
        assert self.run(model, tokenizer, source, tmp_path / "new" / "out.jsonl") == (30, 0)
        lines = (tmp_path / "new" / "out.jsonl").read_text(encoding="utf-8").split("\n")
        assert lines.pop() == ""
        records = [json.loads(line) for line in lines]
        assert [list(record) for record in records] == [KEYS] * 30
        assert [record["id"] for record in records] == [f"doc\u2028{i}" for i in range(30)]
        for record, prediction in zip(records, model.predict(texts, tokenizer)):
            assert record["labels"] == prediction["labels"]
            assert record["scores"] == pytest.approx(prediction["scores"], abs=2e-6)
            assert (record["closure"], record["checkpoint"]) == ("up", "tiny")

    def test_documents_without_ids_are_numbered(self, model, tokenizer, tmp_path, texts):
        path = tmp_path / "in.jsonl"
        path.write_text("\ufeff" + "\n\n".join(json.dumps({"body": text}) for text in texts[:10]), encoding="utf-8")
        assert self.run(model, tokenizer, path, tmp_path / "out.jsonl", text_column="body") == (10, 0)
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [record["id"] for record in records] == list(range(10))

    @pytest.mark.parametrize("cut", [0, 1, 0.2, 0.5, 0.77, 0.999])
    def test_resumed_is_byte_identical(self, model, tokenizer, source, tmp_path, cut):
        whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
        self.run(model, tokenizer, source, whole)
        content = whole.read_bytes()
        resumed.write_bytes(content[: cut if isinstance(cut, int) else int(cut * len(content))])
        shutil.copy(run_file(whole), run_file(resumed))
        kept = resumed.read_bytes().count(b"\n") // 8 * 8
        assert self.run(model, tokenizer, source, resumed) == (30 - kept, kept)
        assert resumed.read_bytes() == content

    def test_interrupted_while_predicting(self, model, tokenizer, source, tmp_path, monkeypatch):
        whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
        self.run(model, tokenizer, source, whole)
        forward, calls = type(model).forward, []

        def failing(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(type(model), "forward", failing)
        with pytest.raises(KeyboardInterrupt):
            self.run(model, tokenizer, source, resumed)
        assert resumed.read_bytes() == b"".join(whole.read_bytes().splitlines(True)[:8])  # the first chunk is three batches
        assert self.run(model, tokenizer, source, resumed) == (22, 8)
        assert resumed.read_bytes() == whole.read_bytes()

    def test_killed_at_any_moment(self, model, tokenizer, source, tmp_path):
        """Whatever a kill leaves of output and run file, the next run ends with the bytes of an uninterrupted one."""
        output, lines = tmp_path / "out.jsonl", source.read_text(encoding="utf-8").split("\n")
        source.write_text("\n".join(lines[:21]), encoding="utf-8")  # two whole chunks and a half one
        model.predict("warm up", tokenizer)
        done_at = operations(lambda: self.run(model, tokenizer, source, output))
        whole, notes = output.read_bytes(), read_run_file(output)
        assert whole.count(b"\n") == 20 and len(done_at) > 20
        for moment in moments(done_at):
            for path in (output, run_file(output)):
                path.unlink(missing_ok=True)
            kill_at(lambda: self.run(model, tokenizer, source, output), moment)
            found = output.read_bytes() if output.exists() else b""
            assert whole.startswith(found)
            predicted, done = self.run(model, tokenizer, source, output)
            assert predicted + done == 20 and done == (20 if found == whole else found.count(b"\n") // 8 * 8), moment
            assert output.read_bytes() == whole
            assert read_run_file(output)[0] == notes[0]
            assert sum(read_run_file(output)[1], []) == sum(notes[1], [])

    @pytest.mark.parametrize("moment", range(7))
    def test_killed_while_starting_anew(self, model, tokenizer, source, tmp_path, moment):
        """Old records never stand beside a run file that takes them for its own."""
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output, threshold=0.6)
        old = output.read_bytes()
        kill_at(lambda: self.run(model, tokenizer, source, output, threshold=0.1, overwrite=True), moment)
        if output.exists() and output.read_bytes() == old:
            with pytest.raises(HTCError, match="with `threshold` 0.6, this run has 0.1"):
                self.run(model, tokenizer, source, output, threshold=0.1)
            return
        self.run(model, tokenizer, source, output, threshold=0.1)
        self.run(model, tokenizer, source, tmp_path / "new.jsonl", threshold=0.1)
        assert output.read_bytes() == (tmp_path / "new.jsonl").read_bytes()

    def test_finished_runs_do_nothing(self, model, tokenizer, source, tmp_path, monkeypatch):
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output)
        content = output.read_bytes()
        monkeypatch.setattr(type(model), "forward", None)
        assert self.run(model, tokenizer, source, output) == (0, 30)
        assert output.read_bytes() == content

    def test_a_grown_input_is_finished(self, model, tokenizer, source, tmp_path):
        output, short = tmp_path / "out.jsonl", tmp_path / "short.jsonl"
        short.write_text(
            "".join(source.read_text(encoding="utf-8").split("\n", 11)[i] + "\n" for i in range(11)), encoding="utf-8"
        )
        assert self.run(model, tokenizer, short, output) == (10, 0)
        assert self.run(model, tokenizer, source, output) == (22, 8)  # the half-full chunk is done again
        self.run(model, tokenizer, source, tmp_path / "whole.jsonl")
        assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda lines: lines[1:], "Line 1 of 'other.jsonl' has changed since it was predicted into line 1 of 'out.jsonl'"),
            (lambda lines: lines[:20], "another input: 'other.jsonl' has 20 documents, its line 21 has the id 'doc"),
            (
                lambda lines: [*lines[:11], lines[11].replace('"}', ' more"}'), *lines[12:]],
                "Line 12 of 'other.jsonl' has changed since it was predicted into line 12 of 'out.jsonl'. Give `--overwrite`",
            ),
        ],
        ids=["first document gone", "shorter input", "another text under the same id"],
    )
    def test_other_input(self, model, tokenizer, source, tmp_path, change, message):
        output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
        self.run(model, tokenizer, source, output)
        content = output.read_bytes()
        lines = [line for line in source.read_text(encoding="utf-8").split("\n") if line]
        other.write_text("\n".join(change(lines)), encoding="utf-8")
        with pytest.raises(HTCError, match=re.escape(message)):
            self.run(model, tokenizer, other, output)
        assert output.read_bytes() == content
        self.run(model, tokenizer, other, output, overwrite=True)
        self.run(model, tokenizer, other, tmp_path / "new.jsonl")
        assert output.read_bytes() == (tmp_path / "new.jsonl").read_bytes() != content

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"threshold": 0.1}, "with `threshold` 0.6, this run has 0.1"),
            ({"threshold": None}, "with `threshold` 0.6, this run has None"),
            ({"top_k": 3}, "with `top_k` 10, this run has 3"),
            ({"checkpoint": "another"}, "with `checkpoint` 'tiny', this run has 'another'"),
            ({"closure": "none"}, "with `closure` 'up', this run has 'none'"),
            ({"decoder": "top_down"}, "with `decoder` 'threshold', this run has 'top_down'"),
            ({"text_column": "id"}, "with `text_column` 'text', this run has 'id'"),
            ({"batch_size": 4}, "with `batch_size` 3, this run has 4"),
        ],
    )
    def test_other_settings(self, model, tokenizer, source, tmp_path, options, message):
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output, threshold=0.6)
        content = output.read_bytes()
        with pytest.raises(
            HTCError, match=f"'out.jsonl' was made {message}. Give `--overwrite` to start anew, or another output"
        ):
            self.run(model, tokenizer, source, output, **{"threshold": 0.6, **options})
        assert output.read_bytes() == content
        assert self.run(model, tokenizer, source, output, **{"threshold": 0.6, **options}, overwrite=True) == (30, 0)

    @pytest.mark.parametrize(
        "change, message",
        [
            (
                lambda model, _: next(model.classifier.parameters()).data.add_(1e-3),
                "The weights of the model have changed since 'out.jsonl'",
            ),
            (lambda model, _: setattr(model.config, "thresholds", 0.2), "the model's `thresholds` None, this run has 0.2"),
            (lambda model, _: setattr(model.config, "coherence", "decoder"), "`coherence` 'none', this run has 'decoder'"),
            (
                lambda model, _: model.config.id2label.update({0: "other"}),
                "with another value of the model's `id2label`",
            ),
            (lambda _, tokenizer: tokenizer.add_tokens(["new"]), "The tokenizer has changed since"),
            (lambda *_: 0, None),
        ],
        ids=["weights", "thresholds", "coherence", "labels", "tokenizer", "nothing"],
    )
    def test_other_checkpoint_of_the_same_name(self, model, tokenizer, source, tmp_path, change, message):
        output, tokenizer = tmp_path / "out.jsonl", copy.deepcopy(tokenizer)
        self.run(model, tokenizer, source, output)
        change(model, tokenizer)
        if message is None:
            assert self.run(model, tokenizer, source, output) == (0, 30)
            return
        with pytest.raises(HTCError, match=re.escape(message)):
            self.run(model, tokenizer, source, output)

    @pytest.mark.parametrize("name", ["0.0", "9.9"])
    def test_other_version(self, model, tokenizer, source, tmp_path, name):
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output)
        first, *rest = run_file(output).read_text().split("\n")
        run_file(output).write_text("\n".join([json.dumps({**json.loads(first), "version": name}), *rest]))
        with pytest.raises(HTCError, match=f"'out.jsonl' was made with hf_htc {name}, this is "):
            self.run(model, tokenizer, source, output)

    def test_output_without_a_run_file(self, model, tokenizer, source, tmp_path):
        """As version 0.1.0 has left it: nobody knows its threshold, nor its weights."""
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output)
        run_file(output).unlink()
        with pytest.raises(HTCError, match="Nothing says what 'out.jsonl' was made with: .* Give `--overwrite` to start anew"):
            self.run(model, tokenizer, source, output)
        run_file(output).write_text("{\n")
        with pytest.raises(HTCError, match="'out.jsonl.run.jsonl' is damaged"):
            self.run(model, tokenizer, source, output)
        assert self.run(model, tokenizer, source, output, overwrite=True) == (30, 0)
        run_file(output).unlink()
        output.write_bytes(b"")  # as `touch` makes it
        assert self.run(model, tokenizer, source, output) == (30, 0)

    @pytest.mark.parametrize("content", ["no JSON\n", "3\n", '{"id": "doc"}\n', b"\xff\xfe\n"])
    def test_output_that_holds_something_else(self, model, tokenizer, source, tmp_path, content):
        output = tmp_path / "out.jsonl"
        self.run(model, tokenizer, source, output)
        output.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(HTCError, match="Line 1 of the output file 'out.jsonl' is no prediction record. Give"):
            self.run(model, tokenizer, source, output)

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_output_over_the_input(self, model, tokenizer, source, overwrite):
        content = source.read_bytes()
        with pytest.raises(HTCError, match="in.jsonl' is the input file, which would be lost"):
            self.run(model, tokenizer, source, source, overwrite=overwrite)
        assert source.read_bytes() == content

    def test_a_bad_first_chunk_leaves_no_output(self, model, tokenizer, source, tmp_path):
        source.write_text('{"text": 3}\n' + source.read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(HTCError, match="in.jsonl, line 1: the text is a int"):
            self.run(model, tokenizer, source, tmp_path / "new" / "out.jsonl")
        assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]

    @pytest.mark.parametrize(
        "line, error, message",
        [
            ('{"text": "a"', ValueError, "in.jsonl, line 11 cannot be read: "),
            (
                '{"id": 3, "txt": "a"}',
                ValueError,
                r"in.jsonl, line 11: there is no 'text'; it has \['id', 'txt'\]. Pass `text_column`",
            ),
            ("[1]", ValueError, "in.jsonl, line 11 is a JSON list"),
            ('{"text": 3}', TypeError, "in.jsonl, line 11: the text is a int"),
            ('{"text": "a", "text": "b"}', ValueError, "in.jsonl, line 11 cannot be read: the key 'text' stands twice"),
            (r'{"text": "a \ud83d b"}', ValueError, r"in.jsonl, line 11 cannot be read: it holds half of a character, \\ud83d"),
            (r'{"text": "a", "id": ["\udc00"]}', ValueError, r"in.jsonl, line 11 cannot be read: it holds half of a .*udc00"),
            (b'{"text": "\xff"}', ValueError, r"in.jsonl, line 11 cannot be read: it is not UTF-8 \(byte 0xff at character 11"),
            ("[" * 100_000, ValueError, "in.jsonl, line 11 cannot be read: nested too deeply"),
        ],
    )
    def test_bad_lines(self, model, tokenizer, source, tmp_path, line, error, message):
        lines = source.read_text(encoding="utf-8").split("\n")
        line = line if isinstance(line, bytes) else line.encode()
        source.write_bytes(b"\n".join([*(x.encode() for x in lines[:10]), line, *(x.encode() for x in lines[10:])]))
        with pytest.raises(error, match=message):
            self.run(model, tokenizer, source, tmp_path / "out.jsonl")
        # The chunk before it is written; with the line mended, the run goes on behind it.
        assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 8
        source.write_text("\n".join(lines), encoding="utf-8")
        assert self.run(model, tokenizer, source, tmp_path / "out.jsonl") == (22, 8)

    @pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
    def test_tables(self, model, tokenizer, source, texts, tmp_path, ending):
        """A table has the records of the lines; it is written at the end, and not again."""
        lines, table = tmp_path / "out.jsonl", tmp_path / f"out{ending}"
        self.run(model, tokenizer, source, lines)
        assert self.run(model, tokenizer, source, table) == (30, 0)
        found = read_table(table)
        expected = [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n")[:-1]]
        assert [row["id"] for row in found] == [record["id"] for record in expected]
        assert [row["labels"] for row in found] == [record["labels"] for record in expected]
        content = table.read_bytes()
        assert self.run(model, tokenizer, source, table) == (0, 30) and table.read_bytes() == content
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
        with pytest.raises(HTCError, match="with `threshold` None, this run has 0.1"):
            self.run(model, tokenizer, source, table, threshold=0.1)
        with open(source, "a", encoding="utf-8") as stream:
            stream.write('\n{"text": "the match"}')
        with pytest.raises(HTCError, match="'in.jsonl' has more documents than the 30 of"):
            self.run(model, tokenizer, source, table)
        assert table.read_bytes() == content
        assert self.run(model, tokenizer, source, table, overwrite=True) == (31, 0)

    def test_a_table_that_was_interrupted(self, model, tokenizer, source, tmp_path, monkeypatch):
        whole, resumed, calls = tmp_path / "whole.csv", tmp_path / "resumed.csv", []
        self.run(model, tokenizer, source, whole)
        forward = type(model).forward

        def failing(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(type(model), "forward", failing)
        with pytest.raises(KeyboardInterrupt):
            self.run(model, tokenizer, source, resumed)
        assert not resumed.exists()
        assert self.run(model, tokenizer, source, resumed) == (22, 8)
        assert resumed.read_bytes() == whole.read_bytes()

    def test_a_document_without_a_text_gets_an_empty_record(self, model, tokenizer, tmp_path):
        (tmp_path / "in.csv").write_text("id,text\na,the match\nb,\nc,  \nd,the vote\n", encoding="utf-8")
        assert self.run(model, tokenizer, tmp_path / "in.csv", tmp_path / "out.jsonl") == (4, 0)
        records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert [list(record) for record in records] == [KEYS] * 4
        assert [bool(record["top_k"]) for record in records] == [True, False, False, True]
        assert records[1] == {**records[1], "id": "b", "labels": [], "scores": [], "paths": [], "top_k": []}

    def test_an_output_of_an_unknown_kind(self, model, tokenizer, source, tmp_path):
        with pytest.raises(HTCError, match="out.xlsx' ends in '.xlsx'; predictions are written as .jsonl, .ndjson, .csv"):
            self.run(model, tokenizer, source, tmp_path / "out.xlsx")

    def test_missing_file(self, model, tokenizer, tmp_path):
        with pytest.raises(FileNotFoundError, match=re.escape(f"no input file {str(tmp_path / 'none.jsonl')!r}")):
            self.run(model, tokenizer, tmp_path / "none.jsonl", tmp_path / "out.jsonl")
        assert list(tmp_path.iterdir()) == []
