"""Inputs, streaming, merging, scale and errors of the numpy core; small cases computed by hand."""

from __future__ import annotations

import copy
import doctest
import math
import pickle
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import csr

from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer, Taxonomy, hierarchical_scores, scorers
from hf_htc.metrics.hierarchical_f1.label_sets import multi_hot_to_csr, to_csr
from hf_htc.models.hierarchy import LabelHierarchy


# 0 Arts, 1 Music (Arts), 2 Jazz (Music), 3 Film (Arts), 4 Sport
PARENTS = [[], [0], [1], [0], []]
NAMES = ["Arts", "Music", "Jazz", "Film", "Sport"]


def scored(predictions, references, parents=PARENTS, closure="none", **settings):
    scorer = HierarchicalScorer(parents, closure=closure, **settings)
    scorer.add(predictions, references)
    return scorer


def random_rows(rng, num_documents, num_labels):
    return [rng.integers(0, num_labels, size=int(rng.integers(0, 5))).tolist() for _ in range(num_documents)]


class TestHandComputed:
    def test_plain(self):
        scores = scored([[0, 1], [4]], [[0, 3], [4]]).compute()
        assert scores["micro_precision"] == scores["micro_recall"] == scores["micro_f1"] == 2 / 3
        assert scores["samples_f1"] == 0.75
        assert scores["macro_f1"] == 2 / 5  # Arts 1, Sport 1, Music 0, Film 0, Jazz 0 / 0
        assert scores["macro_f1_supported"] == 2 / 4
        assert scores["weighted_f1"] == 2 / 3
        assert (scores["num_documents"], scores["num_labels"], scores["num_supported_labels"]) == (2, 5, 4)
        assert (scores["closure"], scores["beta"], scores["labels"]) == ("none", 1.0, "all")

    def test_constrained_and_paths_without_an_ancestor(self):
        # Jazz is predicted with Arts but without Music; Film with Arts.
        scores = scored([[0, 2], [0, 3]], [[0, 1, 2], [0, 3]]).compute()
        assert scores["micro_f1"] == pytest.approx(8 / 9)
        assert scores["c_micro_f1"] == pytest.approx(2 * 3 / 9)  # Jazz is not counted as found
        assert scores["p_micro_f1"] == 1 / 2  # the path to Jazz has a gap
        assert scores["p_macro_f1"] == (0 + 1) / 2
        assert scores["consistency"] == 3 / 4 and scores["document_consistency"] == 1 / 2

    def test_a_path_that_ends_too_early_or_too_late_is_not_found(self):
        scores = scored([[0, 1], [0, 1, 2]], [[0, 1, 2], [0, 1]]).compute()
        assert scores["p_micro_f1"] == 0
        assert scores["c_micro_f1"] == scores["micro_f1"] == pytest.approx(8 / 10)

    def test_several_paths_in_one_document(self):
        scorer = scored([[0, 1, 3, 4]], [[0, 1, 2, 3]])
        table = scorer.per_label()
        assert table["path_predicted"].tolist() == [0, 1, 0, 1, 1]
        assert table["path_support"].tolist() == [0, 0, 1, 1, 0]
        assert table["path_tp"].tolist() == [0, 0, 0, 1, 0]
        assert scorer.compute()["p_micro_f1"] == pytest.approx(2 / 5)

    def test_structure_only_nodes_connect_labels_and_never_count(self):
        # 0 <- 2 (structure only) <- 1
        scorer = scored([[1]], [[0, 1]], parents=[[], [2], [0]], num_labels=2)
        scores = scorer.compute()
        assert scores["consistency"] == 0 and scores["c_micro_f1"] == 0 and scores["micro_f1"] == pytest.approx(2 / 3)
        assert [key for key in scores if key.startswith("level_")] == [
            "level_1_micro_f1",
            "level_1_macro_f1",
            "level_3_micro_f1",
            "level_3_macro_f1",
        ]
        closed = scored([[1]], [[0, 1]], parents=[[], [2], [0]], num_labels=2, closure="up").compute()
        assert closed["micro_f1"] == closed["exact_match"] == 1.0

    def test_prune_in_a_dag_needs_every_ancestor(self):
        table = scored([[0, 2], [0, 1, 2]], [[2], [2]], parents=[[], [], [0, 1]], closure="prune").per_label()
        assert table["predicted"].tolist() == [2, 1, 1]
        assert table["support"].tolist() == [0, 0, 2]

    def test_beta_renames_every_f(self):
        scores = scored([[0, 1]], [[0]], beta=2).compute()
        assert scores["micro_fbeta"] == pytest.approx(5 * 1 / (4 * 1 + 2)) and scores["beta"] == 2.0
        assert scores["macro_hfbeta"] == pytest.approx(1 / 5)
        assert not [key for key in scores if "f1" in key]
        assert not [key for key in scored([[0]], [[0]]).compute() if "fbeta" in key]

    def test_both_sets_empty(self):
        scorer = scored([[], [0]], [[], [0]])
        assert scorer.compute()["samples_f1"] == 0.5
        assert scorer.compute(zero_division=1.0)["samples_f1"] == 1.0
        assert scorer.compute(zero_division=math.nan)["samples_f1"] == 1.0  # left out of the mean
        assert scorer.compute()["exact_match"] == 1.0

    def test_nothing_predicted_violates_nothing(self):
        scores = scored([[]], [[0]]).compute()
        assert scores["consistency"] == scores["document_consistency"] == 1.0
        assert scores["micro_f1"] == scores["exact_match"] == scores["macro_hf1"] == 0.0

    def test_supported_macro_without_any_label(self):
        scores = scored([[]], [[]]).compute(labels="supported")
        assert scores["macro_f1"] == 0.0 and scores["num_supported_labels"] == 0
        assert scored([[]], [[]]).compute(labels="supported", zero_division=1.0)["level_2_macro_f1"] == 1.0

    def test_selection_of_parts(self):
        scorer = scored([[0]], [[0]])
        scores = scorer.compute(averages="micro", per_level=False, constrained=False)
        assert set(scores) == {
            *("micro_precision", "micro_recall", "micro_f1", "macro_f1_supported", "num_supported_labels"),
            *("exact_match", "consistency", "document_consistency", "num_documents", "num_labels"),
            *("closure", "beta", "labels"),
        }
        assert all(isinstance(value, (float, int, str)) for value in scorer.compute().values())


class TestForms:
    EXPECTED = [[], [0], [1], [0], []]

    @pytest.mark.parametrize(
        "parents",
        [
            PARENTS,
            [-1, 0, 1, 0, -1],
            [None, 0, [1], (0,), []],
            np.array([-1, 0, 1, 0, -1]),
            {"Arts": [], "Music": ["Arts"], "Jazz": "Music", "Film": ["Arts"], "Sport": None},
            {4: [], 3: [0], 2: 1, 1: [0], 0: []},
            SimpleNamespace(parents=PARENTS, num_labels=5, names=NAMES),
        ],
        ids=["lists", "flat", "mixed", "array", "names", "integer_keys", "object"],
    )
    def test_parents(self, parents):
        taxonomy = Taxonomy(parents)
        assert taxonomy.parents == self.EXPECTED
        assert taxonomy.levels.tolist() == [1, 2, 3, 2, 1]
        assert np.split(taxonomy.ancestor_indices, taxonomy.ancestor_indptr[1:-1])[2].tolist() == [0, 1]

    def test_label_hierarchy(self):
        hierarchy = LabelHierarchy([*NAMES, "Top"], [[5], [0], [1], [0], [5], []], num_labels=5)
        taxonomy = Taxonomy(hierarchy)
        assert taxonomy.num_labels == 5 and taxonomy.num_nodes == 6 and taxonomy.names == [*NAMES, "Top"]
        assert taxonomy.levels.tolist() == list(hierarchy.levels)

    def test_levels_are_the_longest_path(self):
        assert Taxonomy([[], [0], [0, 1]]).levels.tolist() == [1, 2, 3]

    def test_encode(self):
        assert Taxonomy(PARENTS, names=NAMES).encode([["Sport", "Arts"], []]) == [[4, 0], []]

    def test_rows_may_be_lists_arrays_sets_or_csr(self):
        rows = [[0, 1], [], [4, 3, 4]]
        expected = scored(rows, [[0], [1], [4]]).compute()
        for form in (
            [np.array(row, dtype=np.int32) for row in rows],
            [np.array([0, 1]), [], np.array([4, 3])],
            [set(row) for row in rows],
            [tuple(row) for row in rows],
            csr(rows),
        ):
            assert scored(form, [[0], [1], [4]]).compute() == expected
        assert scored(np.array([[0, 1], [4, 3]]), [[0], [4]]).compute() == scored([[0, 1], [4, 3]], [[0], [4]]).compute()

    def test_a_tuple_of_lists_is_two_documents(self):
        assert scored(([0], [1]), ([0], [1])).num_documents == 2

    def test_duplicates_count_once(self):
        assert scored([[0, 0, 1]], [[0, 3, 3, 3]]).compute() == scored([[0, 1]], [[0, 3]]).compute()

    def test_repeated_ids_are_not_taken_for_0_1_rows(self):
        assert scored([[0, 1] * 4, [0, 1]], [[0, 1], [1]]).compute() == scored([[0, 1], [0, 1]], [[0, 1], [1]]).compute()

    def test_multi_hot(self):
        taxonomy = Taxonomy(PARENTS)
        matrix = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
        for rows in (matrix, matrix.tolist(), matrix.astype(bool), matrix.astype(float)):
            for block_size in (1, 10, 1 << 20):
                indptr, indices = multi_hot_to_csr(rows, taxonomy, block_size=block_size)
                assert indptr.tolist() == [0, 2, 2, 3] and indices.tolist() == [0, 3, 4]
        assert [part.tolist() for part in multi_hot_to_csr([], taxonomy)] == [[0], []]


class TestStreaming:
    @pytest.mark.parametrize("closure", ["none", "up", "prune"])
    def test_any_split_any_order_and_any_block_size_give_the_same_bits(self, closure, monkeypatch):
        rng = np.random.default_rng(3)
        predictions, references = random_rows(rng, 200, 5), random_rows(rng, 200, 5)
        whole = scored(predictions, references, closure=closure)
        pieces = HierarchicalScorer(PARENTS, closure=closure)
        for start in reversed(range(0, 200, 7)):
            pieces.add(csr(predictions[start : start + 7]), references[start : start + 7])
        pieces.add([], [])
        assert pieces.compute() == whole.compute()
        monkeypatch.setattr(scorers, "_BLOCK_PAIRS", 6)  # less than some documents have
        assert scored(predictions, references, closure=closure).compute() == whole.compute()

    def test_merge(self):
        rng = np.random.default_rng(4)
        predictions, references = random_rows(rng, 90, 5), random_rows(rng, 90, 5)
        whole = scored(predictions, references)
        parts = [scored(predictions[start::3], references[start::3]) for start in range(3)]
        before = parts[1].compute()
        parts[0].merge(parts[1])
        assert parts[1].compute() == before
        parts[0].merge(pickle.loads(pickle.dumps(parts[2])))
        assert parts[0].compute() == whole.compute()
        for name, values in whole.per_label().items():
            np.testing.assert_array_equal(parts[0].per_label()[name], values)

    def test_a_copy_and_the_table_are_independent(self):
        scorer = scored([[0]], [[0]])
        twin = copy.deepcopy(scorer)
        twin.add([[1]], [[0]])
        scorer.per_label()["tp"][:] = 99
        assert scorer.compute()["micro_f1"] == 1.0 and scorer.num_documents == 1
        assert twin.compute()["micro_f1"] == 0.5

    def test_reset(self):
        scorer = scored([[0]], [[1]])
        scorer.reset()
        scorer.add([[2]], [[2]])
        assert scorer.compute() == scored([[2]], [[2]]).compute()

    def test_a_failed_add_leaves_the_counts(self):
        scorer = scored([[0]], [[0]])
        with pytest.raises(ValueError):
            scorer.add([[0], [9]], [[0], [0]])
        assert scorer.compute() == scored([[0]], [[0]]).compute()

    def test_memory_does_not_grow_with_documents_times_labels(self):
        num_documents, num_labels = 20_000, 30_000
        rng = np.random.default_rng(0)
        parents = [-1] * 10 + [int(rng.integers(0, node)) for node in range(10, num_labels)]
        indptr = np.arange(0, 3 * num_documents + 1, 3)
        rows = [(indptr, rng.integers(0, num_labels, size=3 * num_documents)) for _ in range(2)]
        scorer = HierarchicalScorer(parents, closure="up")
        tracemalloc.start()
        scorer.add(*rows)
        scores = scorer.compute()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert scores["num_documents"] == num_documents and 0 < scores["micro_f1"] < 1
        assert peak < 250e6  # one byte for each document and label would be 600 MB


class TestErrors:
    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            ([[0], [1, 7]], ValueError, r"predictions row 1 has the unknown label id 7; label ids lie in \[0, 5\)"),
            ([[0], [-100]], ValueError, r"predictions row 1 has the unknown label id -100"),
            ([[], [0, 5]], ValueError, r"predictions row 1 has the structure-only node 5 \('Top'\)"),
            ([[0]], ValueError, r"predictions has 1 rows and references 2"),
            ([0, 1], TypeError, r"predictions row 0 is 0; every row must be a list"),
            (["Arts", "Music"], TypeError, r"predictions row 0 is 'Arts'"),
            ([[0], ["Music"]], TypeError, r"predictions row 1 holds 'Music' \(str\)"),
            ([[0], [0.5]], TypeError, r"predictions row 1 holds 0.5 \(float\)"),
            ([[True, False], [False]], TypeError, r"predictions row 0 holds True \(bool\)"),
            ([[0], None], TypeError, r"predictions row 1 is None"),
            ([[0], [[1]]], TypeError, r"predictions row 1 holds \[1\]"),
            ([np.array([0]), np.array([[1]])], TypeError, r"predictions row 1 is array"),
            ([np.array([0]), np.array([0.5])], TypeError, r"predictions row 1 holds 0.5"),
            ([[1, 0, 0, 1, 0], [0, 0, 0, 0, 1]], ValueError, r"predictions looks like 0/1 rows"),
            ("Arts", TypeError, r"predictions must be a list with one list of label ids a document; got str"),
            (None, TypeError, r"got NoneType"),
            ((np.array([0, 1]), np.array([0, 1])), ValueError, r"`indptr` must rise from 0 to len\(indices\) = 2"),
            ((np.array([0, 2, 1]), np.array([0])), ValueError, r"`indptr` must rise"),
            ((np.array([0, 1]), np.array([0.5])), TypeError, r"`indices` must be a 1-D integer array; got float64"),
        ],
    )
    def test_rows(self, rows, error, message):
        scorer = HierarchicalScorer([[5], [0], [1], [0], [5], []], num_labels=5, names=[*NAMES, "Top"])
        with pytest.raises(error, match=message):
            scorer.add(rows, [[0], [1]])
        if len(rows or []) == 2:
            with pytest.raises(error, match=message.replace("predictions", "references")):
                scorer.add([[0], [1]], rows)

    def test_row_numbers_with_csr(self):
        with pytest.raises(ValueError, match=r"predictions row 3 has the unknown label id 9"):
            to_csr(csr([[0], [], [1, 2], [4, 9]]), Taxonomy(PARENTS))

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"closure": "down"}, ValueError, r"`closure` is 'down'; allowed are 'none', 'up', 'prune'"),
            ({"closure": None}, ValueError, r"`closure` is None"),
            ({"beta": 0}, ValueError, r"`beta` must be a positive finite number; got 0"),
            ({"beta": math.inf}, ValueError, r"`beta`"),
            ({"beta": "1"}, ValueError, r"`beta`"),
            ({"num_labels": 6}, ValueError, r"`num_labels` is 6; it must lie between 1 and the number of nodes, 5"),
            ({"num_labels": 0}, ValueError, r"`num_labels` is 0"),
            ({"num_labels": "5"}, TypeError, r"`num_labels` is '5'; it is a whole number"),
            ({"num_labels": True}, TypeError, r"`num_labels` is True"),
            ({"names": ["a", "b"]}, ValueError, r"`names` has 2 entries; give one name a node \(5\)"),
            ({"names": ["a", "b", "a", "c", "d"]}, ValueError, r"The name 'a' stands for two nodes, 0 and 2 .duplicate name"),
            ({"names": ["a", "", "x", "c", "d"]}, ValueError, r"Node 1 has an empty name"),
            ({"names": list("abcdef")}, ValueError, r"`names` has 6 entries for 5 nodes"),
        ],
    )
    def test_settings(self, settings, error, message):
        with pytest.raises(error, match=message):
            HierarchicalScorer(PARENTS, **settings)

    @pytest.mark.parametrize(
        ("parents", "error", "message"),
        [
            ([[1], [2], [0]], ValueError, r"cycle: (0 -> 2 -> 1 -> 0|1 -> 0 -> 2 -> 1|2 -> 1 -> 0 -> 2)"),
            ([[], [1]], ValueError, r"cycle: 1 -> 1"),
            ({"A": ["B"], "B": ["A"], "C": ["A"]}, ValueError, r"cycle: A -> B -> A"),
            ([[], [7]], ValueError, r"Node 1 has the unknown parent id 7; node ids are 0 to 1"),
            ([[], [-2]], ValueError, r"Node 1 has the unknown parent id -2"),
            ([[], ["A"]], TypeError, r"The parents of node 1 are \['A'\]; give their ids"),
            ([[], "A"], TypeError, r"The parents of node 1 are 'A'; give their ids"),
            ({"A": ["B"]}, ValueError, r"The label 'A' has the parent 'B', which is no key of `parents`"),
            ({0: [], 2: [0]}, ValueError, r"must be exactly the ids 0..1"),
            ({0: [], "A": []}, TypeError, r"all names or all ids; got the key 0"),
            ([], ValueError, r"The hierarchy has no nodes"),
            ([[], [0, 0]], ValueError, r"Node 1 lists the same parent twice: \[0, 0\]"),
            (7, TypeError, r"`parents` must be a dict, a list or an object with `parents`.*got int"),
        ],
    )
    def test_hierarchies(self, parents, error, message):
        with pytest.raises(error, match=message):
            HierarchicalScorer(parents)

    def test_names_beside_a_dict_of_names_must_agree(self):
        with pytest.raises(ValueError, match=r"`names` differs from the keys"):
            Taxonomy({"A": [], "B": []}, names=["B", "A"])

    @pytest.mark.parametrize(
        ("rows", "error", "message"),
        [
            ([["Arts"], ["Musik"]], ValueError, r"predictions row 1: unknown label 'Musik'; .* Close: \['Music'"),
            ([["zzz"]], ValueError, r"unknown label 'zzz'.* The labels begin with \['Arts'"),
            ([["Sport"]], ValueError, r"row 0: 'Sport' is a structure-only node, not a label; .* first 4 of the 5"),
            (["Arts"], TypeError, r"predictions row 0 is 'Arts'; every row must be a list of label names"),
        ],
    )
    def test_encode(self, rows, error, message):
        with pytest.raises(error, match=message):
            Taxonomy(PARENTS, num_labels=4, names=NAMES).encode(rows)

    def test_encode_without_names(self):
        with pytest.raises(ValueError, match=r"references holds label names, but the taxonomy has none"):
            Taxonomy(PARENTS).encode([["Arts"]], "references")

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([[1, 0, 0, 0, 0], [1, 0]], r"predictions row 1 has 2 columns; the taxonomy has 5 labels"),
            ([[1, 0, 0, 0, 0], 1], r"predictions row 1 is 1, not a row of 5 zeros and ones"),
            ([[1, 0, 0, 0, 0], [0, 0, 0, 0.7, 0]], r"predictions row 1, column 3 \('Film'\) is 0.7"),
            ([[1, 0, 0, 0, 0], [0, 0, 0, -100, 0]], r"predictions row 1, column 3 \('Film'\) is -100"),
        ],
    )
    @pytest.mark.parametrize("block_size", [1, 1 << 20])
    def test_multi_hot(self, rows, message, block_size):
        with pytest.raises(ValueError, match=message):
            multi_hot_to_csr(rows, Taxonomy(PARENTS, names=NAMES), block_size=block_size)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"averages": ["micro", "binary"]}, r"`averages` must be among .*; got 'binary'"),
            ({"labels": "present"}, r"`labels` must be 'all' or 'supported'; got 'present'"),
            ({"zero_division": 0.5}, r"`zero_division` must be 0.0, 1.0 or nan; got 0.5"),
            ({"zero_division": "warn"}, r"`zero_division` .* got 'warn'"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            scored([[0]], [[0]]).compute(**options)

    def test_nothing_added(self):
        with pytest.raises(ValueError, match="no document was added"):
            HierarchicalScorer(PARENTS).compute()

    def test_merge(self):
        scorer = scored([[0]], [[0]])
        with pytest.raises(ValueError, match=r"differ in `closure`: 'none' and 'up'"):
            scorer.merge(HierarchicalScorer(PARENTS, closure="up"))
        with pytest.raises(ValueError, match=r"differ in `beta`: 1.0 and 2.0"):
            scorer.merge(HierarchicalScorer(PARENTS, beta=2.0))
        with pytest.raises(ValueError, match=r"differ in `num_labels`: 5 and 4"):
            scorer.merge(HierarchicalScorer(PARENTS, num_labels=4))
        with pytest.raises(ValueError, match=r"different hierarchies"):
            scorer.merge(HierarchicalScorer([[], [0], [1], [1], []]))
        with pytest.raises(TypeError, match=r"got dict"):
            scorer.merge({})


def test_doctests():
    result = doctest.testmod(hierarchical_scores)
    assert result.failed == 0 and result.attempted >= 5
