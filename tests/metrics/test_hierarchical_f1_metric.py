"""The `evaluate` metric loaded from its folder, its page, and the numbers of its card."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import shutil
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import yaml

import hf_htc.metrics.hierarchical_f1 as package
from hf_htc.metrics.hierarchical_f1 import (
    AVERAGES,
    CLOSURES,
    HierarchicalLosses,
    HierarchicalScorer,
    LcaScorer,
    app,
    branches,
    group_scores,
    leaf_labels,
)


FOLDER = Path(package.__file__).parent
FIXTURES = Path(__file__).parents[1] / "fixtures" / "metrics"
PARENTS = {"Arts": [], "Music": ["Arts"], "Jazz": ["Music"], "Film": ["Arts"], "Sport": []}
FLAT = [-1, 0, 1, 0, -1]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Modules and cache files of `evaluate` go to a temporary folder, and nothing loaded before is in the way."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", str(folder / "metrics"))
        patch.setattr(sys, "path", list(sys.path))
        loaded = [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]
        for name in loaded:
            patch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        app.load_metric.cache_clear()
        yield folder
        app.load_metric.cache_clear()
        for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def metric(own_cache):
    # In memory: after an error `evaluate` keeps the lock of its cache file and waits for it in every later call.
    return evaluate.load(str(FOLDER), keep_in_memory=True)


@pytest.fixture(scope="module")
def multilabel(own_cache):
    return evaluate.load(str(FOLDER), "multilabel", keep_in_memory=True)


class TestLoading:
    def test_the_copy_is_used_and_stands_alone(self, metric, own_cache, tmp_path):
        module = sys.modules[type(metric).__module__]
        assert Path(module.__file__).is_relative_to(own_cache)
        names = {path.name for path in Path(module.__file__).parent.glob("*.py")}
        assert {"hierarchical_f1.py", "hierarchical_scores.py", "label_sets.py", "taxonomy.py"} <= names
        assert module.HierarchicalScorer is not HierarchicalScorer
        for name in names:
            assert "hf_htc" not in [
                line.split()[1].split(".")[0]
                for line in (Path(module.__file__).parent / name).read_text().splitlines()
                if line.startswith(("import ", "from "))
            ]
        elsewhere = tmp_path / "hierarchical_f1"
        shutil.copytree(FOLDER, elsewhere, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
        loaded = evaluate.load(str(elsewhere))
        assert loaded.compute(predictions=[[1]], references=[[1]], parents=FLAT)["hierarchical_f1"] == 1.0

    def test_every_module_of_the_core_is_imported_by_the_script(self):
        script = (FOLDER / "hierarchical_f1.py").read_text()
        for path in FOLDER.glob("*.py"):
            if path.name not in ("__init__.py", "app.py", "hierarchical_f1.py"):
                assert f"\nfrom .{path.stem} import " in script, path.name  # evaluate copies only these

    def test_features(self, metric, multilabel):
        assert set(metric.features) == {"predictions", "references"}
        assert metric.features["predictions"].feature.dtype == "string"
        assert multilabel.features["references"].feature.dtype == "int8"

    def test_without_loading(self, own_cache):
        from hf_htc.metrics.hierarchical_f1.hierarchical_f1 import HierarchicalF1

        result = HierarchicalF1(cache_dir=str(own_cache)).compute(predictions=[[1]], references=[[3]], parents=FLAT)
        assert result["hierarchical_f1"] == 0.5

    def test_unknown_config(self):
        with pytest.raises(ValueError, match="There is no config 'binary'; use 'default' .* or 'multilabel'"):
            evaluate.load(str(FOLDER), "binary")

    def test_docstring_examples(self, metric, monkeypatch):
        monkeypatch.chdir(FOLDER.parent.parent)
        module = sys.modules[type(metric).__module__]
        (example,) = [test for test in doctest.DocTestFinder().find(module) if test.examples]
        assert len(example.examples) >= 8
        assert doctest.DocTestRunner().run(example).failed == 0


class TestCompute:
    @pytest.mark.parametrize("closure", CLOSURES)
    @pytest.mark.parametrize("average", AVERAGES)
    def test_equals_the_scorer_and_says_what_it_did(self, metric, average, closure):
        predictions, references = [[1], [0, 2], [], [4, 3]], [[0, 1, 2], [0, 1], [4], [3, 0]]
        options = {"labels": "supported", "zero_division": 1.0}
        result = metric.compute(
            predictions=predictions,
            references=references,
            parents=PARENTS,
            average=average,
            closure=closure,
            per_level=True,
            constrained=True,
            **options,
        )
        scorer = HierarchicalScorer(PARENTS, closure=closure)
        scorer.add(predictions, references)
        expected = scorer.compute(averages=average, **options)
        for name in ("precision", "recall", "f1"):
            assert result.pop(f"hierarchical_{name}") == expected[f"{average}_{name}"]
        assert result.pop("average") == average
        assert len([key for key in result if key.startswith(("level_", "c_", "p_"))]) == 3 * 2 + 4
        assert result == {key: expected[key] for key in result}
        assert (result["closure"], result["labels"], result["beta"]) == (closure, "supported", 1.0)

    @pytest.mark.parametrize("closure", CLOSURES)
    def test_more_metrics_equal_their_scorers(self, metric, closure):
        predictions, references = [[1], [0, 2], [], [4, 3]], [[0, 1, 2], [0, 1], [4], [3, 0]]
        given = {"predictions": predictions, "references": references, "parents": PARENTS, "closure": closure}
        scorers = [kind(PARENTS, closure=closure) for kind in (HierarchicalScorer, HierarchicalLosses, LcaScorer)]
        for scorer in scorers:
            scorer.add(predictions, references)
        taxonomy = scorers[0].taxonomy
        parts = {
            "leaf": group_scores(scorers[0], {"leaf": leaf_labels(taxonomy)}),
            "branches": group_scores(scorers[0], {f"branch_{name}": ids for name, ids in branches(taxonomy).items()}),
            "losses": {key: value for key, value in scorers[1].compute().items() if key != "alpha"},
            "lca": scorers[2].compute(),
        }
        echo = {"average": "micro", "closure": closure, "beta": 1.0, "labels": "all", "num_documents": 4, "num_labels": 5}
        for name, expected in parts.items():
            assert metric.compute(**given, metrics=name) == {**expected, **echo}
        together = metric.compute(**given, metrics=["hf", *parts])
        plain = metric.compute(**given)
        assert together == {**plain, **parts["leaf"], **parts["branches"], **parts["losses"], **parts["lca"], **echo}
        assert "hierarchical_f1" in plain and "h_loss" not in plain

    def test_defaults(self, metric):
        result = metric.compute(predictions=[["Jazz"]], references=[["Film"]], parents=PARENTS)
        assert result == {
            **{"hierarchical_precision": 1 / 3, "hierarchical_recall": 1 / 2, "hierarchical_f1": 2 / 5},
            **{"exact_match": 0.0, "consistency": 1.0, "average": "micro", "closure": "up", "beta": 1.0},
            **{"labels": "all", "num_documents": 1, "num_labels": 5},
        }

    def test_ids_names_and_0_1_rows_agree(self, metric, multilabel):
        names = {
            "predictions": [["Jazz", "Sport"], [], ["Film"]],
            "references": [["Jazz"], ["Arts"], ["Music", "Film"]],
        }
        ids = {what: [[list(PARENTS).index(name) for name in row] for row in rows] for what, rows in names.items()}
        rows = {what: [[int(label in row) for label in range(5)] for row in given] for what, given in ids.items()}
        expected = metric.compute(**names, parents=PARENTS, per_level=True)
        assert 0 < expected["hierarchical_f1"] < 1
        assert metric.compute(**names, parents=FLAT, names=list(PARENTS), per_level=True) == expected
        assert metric.compute(**ids, parents=FLAT, per_level=True) == expected
        arrays = {what: [np.array(row, dtype=np.int64) for row in given] for what, given in ids.items()}
        assert metric.compute(**arrays, parents=PARENTS, per_level=True) == expected
        assert multilabel.compute(**rows, parents=PARENTS, per_level=True) == expected
        matrices = {what: np.array(given, dtype=bool) for what, given in rows.items()}
        assert multilabel.compute(**matrices, parents=FLAT, per_level=True) == expected

    def test_names_of_digits_are_names(self, metric):
        parents = {"10": [], "0": ["10"], "1": ["10"]}  # "0" has the id 1
        assert metric.compute(predictions=[["0"]], references=[["0"]], parents=parents)["exact_match"] == 1.0
        with pytest.raises(ValueError, match="unknown label '2'"):
            metric.compute(predictions=[["2"]], references=[["0"]], parents=parents)

    def test_piece_by_piece_with_empty_sets_first(self, metric):
        metric.add(prediction=[], reference=[])
        metric.add(prediction=["Jazz"], reference=["Film"])
        metric.add_batch(predictions=[["Sport"], []], references=[["Sport"], ["Arts"]])
        pieces = metric.compute(parents=PARENTS, average="samples")
        whole = metric.compute(
            predictions=[[], ["Jazz"], ["Sport"], []],
            references=[[], ["Film"], ["Sport"], ["Arts"]],
            parents=PARENTS,
            average="samples",
        )
        assert pieces == whole and whole["num_documents"] == 4
        nan = metric.compute(predictions=[[]], references=[[]], parents=FLAT, zero_division=math.nan)
        assert math.isnan(nan["hierarchical_f1"]) and nan["exact_match"] == 1.0

    def test_structure_only_nodes_and_beta(self, metric):
        result = metric.compute(
            predictions=[["b"]], references=[["a"]], parents={"a": [], "b": ["s"], "s": ["a"]}, num_labels=2, beta=2
        )
        assert result["hierarchical_fbeta"] == pytest.approx(5 / 6) and result["num_labels"] == 2
        assert "hierarchical_f1" not in result and result["beta"] == 2.0

    def test_in_a_combination(self, metric):
        both = evaluate.combine([evaluate.load(str(FOLDER)), evaluate.load(str(FOLDER))], force_prefix=True)
        result = both.compute(predictions=[[1]], references=[[1]], parents=FLAT)
        assert [value for key, value in result.items() if key.endswith("hierarchical_f1")] == [1.0, 1.0]


class TestErrors:
    @pytest.mark.parametrize(
        ("inputs", "error", "message"),
        [
            (([["Jaz"]], [["Jazz"]]), ValueError, r"predictions row 0: unknown label 'Jaz'; .* Close: \['Jazz'"),
            (([[0], [1]], [[0], [5]]), ValueError, r"references row 1 has the unknown label id 5"),
            (([[0]], [[0], [1]]), ValueError, r"predictions has 1 rows and references 2"),
            (([["Jazz"], [1]], [["Jazz"], ["Film"]]), TypeError, r"row 1: the name 'Jazz' and the id 1 are mixed"),
            (([[0]], [["Jazz"]]), TypeError, r"references row 0: the name 'Jazz' and the id 0 are mixed"),
            (([[0.5]], [[0]]), TypeError, r"predictions row 0 holds 0.5 \(float\)"),
            (([[True]], [[0]]), TypeError, r"predictions row 0 holds True \(bool\); .* config 'multilabel'"),
            ((["Jazz"], [["Jazz"]]), TypeError, r"predictions row 0 is 'Jazz'; every row must be a list"),
            (([["Jazz"]], "Jazz"), TypeError, r"references must be a list .*; got 'Jazz'"),
            ((None, [["Jazz"]]), TypeError, r"predictions must be a list .*; got None"),
            (([[1, 0, 0, 0, 0]], [[0, 0, 1, 0, 0]]), ValueError, r"predictions looks like 0/1 rows .* `multilabel`"),
            (([], []), ValueError, r"no document was added"),
        ],
    )
    def test_rows(self, metric, inputs, error, message):
        with pytest.raises(error, match=message):
            metric.compute(predictions=inputs[0], references=inputs[1], parents=PARENTS)
        again = metric.compute(predictions=[["Jazz"]], references=[["Jazz"]], parents=PARENTS)
        assert again["num_documents"] == 1  # nothing of the failed call is left

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (([[1, 0, 0, 0, 0], [1, 0]], [[1, 0, 0, 0, 0]] * 2), r"predictions row 1 has 2 columns, row 0 has 5"),
            (([[1, 0, 0, 0, 0]], [[1, 0, 0, 0]]), r"predictions row 0 has 5 columns and references row 0 4"),
            (([[1, 0, 0]], [[1, 0, 0]]), r"predictions row 0 has 3 columns; the taxonomy has 5 labels"),
            (([[0, 0, 0, 0, 0]], [[1, 0, 0.2, 0, 0]]), r"references row 0, column 2 is 0.2; .* threshold first"),
            (([[0, 0, 0, 0, 0]], [[1, 0, 0, 2, 0]]), r"references row 0, column 3 is 2"),
        ],
    )
    def test_0_1_rows(self, multilabel, inputs, message):
        with pytest.raises(ValueError, match=message):
            multilabel.compute(predictions=inputs[0], references=inputs[1], parents=PARENTS)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"parents": None}, r"`parents` is missing: hierarchical scores need the taxonomy"),
            ({"parents": {"Arts": ["Art"]}}, r"The label 'Arts' has the parent 'Art'"),
            (
                {"average": "binary"},
                r"`average` is 'binary'; allowed are 'micro', 'macro', 'samples', 'weighted'",
            ),
            ({"average": None}, r"`average` is None"),
            ({"closure": "down"}, r"`closure` is 'down'; allowed are 'none', 'up', 'prune'"),
            ({"beta": -1}, r"`beta` must be a positive finite number; got -1"),
            ({"labels": "present"}, r"`labels` must be 'all' or 'supported'"),
            ({"metrics": ("hf", "mgia")}, r"`metrics` must be among \['hf', 'leaf', .*\]; got 'mgia'"),
            ({"zero_division": "warn"}, r"`zero_division` must be 0.0, 1.0 or nan"),
            ({"parents": FLAT}, r"predictions holds label names, but the taxonomy has none"),
        ],
    )
    def test_options(self, metric, options, message):
        with pytest.raises(ValueError, match=message):
            metric.compute(predictions=[["Arts"]], references=[["Arts"]], **{"parents": PARENTS, **options})


class TestPage:
    def test_score(self):
        rows = app.score("A > B > C\nA > D\nE > D", "A, B\n\nD", "C\nE\nD,D", average="samples", beta=2.0)
        table = {row[0]: row[1:] for row in rows}
        parents = {"A": [], "B": ["A"], "C": ["B"], "D": ["A", "E"], "E": []}
        for column, closure in enumerate(("none", "up", "prune")):
            scorer = HierarchicalScorer(parents, closure=closure, beta=2.0)
            scorer.add(scorer.taxonomy.encode([["C"], ["E"], ["D"]]), scorer.taxonomy.encode([["A", "B"], [], ["D"]]))
            scores = scorer.compute()
            assert table["hierarchical_fbeta"][column] == round(scores["samples_fbeta"], 4)
            assert table["level_2_micro_fbeta"][column] == round(scores["level_2_micro_fbeta"], 4)
            assert table["consistency"][column] == round(scores["consistency"], 4)
        assert len({tuple(row[1:]) for row in rows}) > 3

    def test_parse(self):
        assert app.parse_taxonomy(" A > B \n\nA>C\nD > C\nD > C") == {"A": [], "B": ["A"], "C": ["A", "D"], "D": []}
        assert app.parse_label_sets("A, B\n\n C,") == [["A", "B"], [], ["C"]]

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            (("A > > B", "A", "A"), r"Taxonomy line 1 has an empty name: 'A > > B'"),
            (("\n", "A", "A"), r"The taxonomy is empty"),
            (("A > B\nB > A", "A", "A"), r"cycle: "),
            (("A > B", "A", "Q"), r"predictions row 0: unknown label 'Q'"),
            (("A > B", "A\nB", "A"), r"predictions has 1 rows and references 2"),
        ],
    )
    def test_errors(self, inputs, message):
        with pytest.raises(ValueError, match=message):
            app.score(*inputs)

    def test_the_choices_are_those_of_the_core(self):
        assert app.AVERAGES == AVERAGES and app.CLOSURES == CLOSURES
        assert "gradio" not in [
            line.split()[1] for line in Path(app.__file__).read_text().splitlines() if line.startswith(("import", "from"))
        ]

    def test_build(self, monkeypatch):
        """The page is put together with whatever is called `gradio`; its function turns errors into messages."""
        seen = {}

        class Recorder:
            Error = RuntimeError

            def Interface(self, **settings):
                seen.update(settings)
                return "page"

            def __getattr__(self, name):
                return lambda *args, **settings: (name, args, settings)

        monkeypatch.setitem(sys.modules, "gradio", Recorder())
        assert app.build() == "page"
        defaults = [app.TAXONOMY, app.REFERENCES, app.PREDICTIONS, "micro", 1.0]
        assert [arguments[0] for _, arguments, _ in seen["inputs"][:3]] == defaults[:3]
        assert seen["fn"](*defaults) == app.score(*defaults)
        assert "Metric card" in seen["article"] and "app_file" not in seen["article"]
        with pytest.raises(RuntimeError, match="unknown label 'Q'"):
            seen["fn"]("A > B", "A", "Q", "micro", 1.0)


class TestCard:
    TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")

    def table(self, marker):
        """Rows of the table behind a marker: first cell -> the other cells."""
        lines = self.TEXT.split(f"<!-- {marker} -->")[1].split("<!-- end -->")[0].strip().splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return cells[0][1:], {row[0]: row[1:] for row in cells[2:]}

    def test_front_matter(self):
        front = yaml.safe_load(self.TEXT.split("---")[1])
        assert front["title"] == "Hierarchical F1"
        assert front["sdk"] == "gradio"
        assert (FOLDER / front["app_file"]).is_file()
        assert {"evaluate", "metric"} <= set(front["tags"])

    def test_requirements(self):
        lines = (FOLDER / "requirements.txt").read_text().split()
        assert {line.split(">=")[0] for line in lines} == {"evaluate", "datasets", "numpy"}

    def test_worked_example(self):
        head, rows = self.table("worked-example")
        assert [name.strip("`") for name in head] == list(CLOSURES)
        parents = app.parse_taxonomy(app.TAXONOMY)
        for column, closure in enumerate(CLOSURES):
            scorer = HierarchicalScorer(parents, closure=closure)
            encode = scorer.taxonomy.encode
            scorer.add(encode(app.parse_label_sets(app.PREDICTIONS)), encode(app.parse_label_sets(app.REFERENCES)))
            scores = scorer.compute()
            for name, cells in rows.items():
                key = name.replace("level ", "level_").replace(" ", "_").lower()
                assert cells[column] == f"{scores[key]:.4f}", (name, closure)
        assert len(rows) == 13
        # The sets of the table above the numbers are those of the page.
        for gold, predicted in zip(app.REFERENCES.splitlines(), app.PREDICTIONS.splitlines()):
            assert f"| {gold} | {predicted} |" in self.TEXT

    def test_more_scores(self, metric):
        head, rows = self.table("more-scores")
        assert [name.strip("`") for name in head] == list(CLOSURES)
        assert len(rows) == 16
        for column, closure in enumerate(CLOSURES):
            scores = metric.compute(
                predictions=app.parse_label_sets(app.PREDICTIONS),
                references=app.parse_label_sets(app.REFERENCES),
                parents=app.parse_taxonomy(app.TAXONOMY),
                closure=closure,
                metrics=("leaf", "branches", "losses", "lca"),
            )
            for name, cells in rows.items():
                key = name.replace(" F1", "_f1").replace(" ", "_")
                assert cells[column] == f"{scores[key]:.4f}", (name, closure)

    def test_closure_policies(self):
        case = json.loads((FIXTURES / "raw_multilabel_policies.json").read_text())
        _, rows = self.table("closure-policies")
        assert len(rows) == 4
        for name, cells in rows.items():
            closure = name.split("`")[1]
            scorer = HierarchicalScorer(case["parents"], closure=closure)
            scorer.add(scorer.taxonomy.encode(case["pred"]), scorer.taxonomy.encode(case["gold"]))
            scores, counts = scorer.compute(), scorer.per_label()
            if name.startswith("path-constrained"):
                tp = counts["c_tp"].sum()
                values = [tp / counts["predicted"].sum(), tp / counts["support"].sum()]
                values += [scores["c_micro_f1"], scores["c_macro_f1"]]
            else:
                keys = ("micro_precision", "micro_recall", "micro_f1", "macro_f1", "samples_f1", "weighted_f1")
                values = [scores[key] for key in (*keys, "exact_match", "consistency")]
            assert cells == [f"{value:.4f}" for value in values] + [""] * (8 - len(values)), name

    def test_code_block_runs(self, metric, monkeypatch):
        monkeypatch.chdir(FOLDER.parent.parent)
        code = self.TEXT.split("```python\n")[1].split("```")[0].replace("metric.compute(", "result = metric.compute(")
        names: dict = {}
        exec(compile(code, "README.md", "exec"), names)
        assert f"'hierarchical_f1': {names['result']['hierarchical_f1']:.4f}" in code
