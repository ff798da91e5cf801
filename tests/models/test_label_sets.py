"""Labels in every allowed form are one and the same, wherever they enter; integers that look like multi-hot are refused."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from tiny_models import csr, make_model, make_tree
from transformers import EvalPrediction

from hf_htc.data import HTCDataCollator, label_csr
from hf_htc.data.labels import to_arrow
from hf_htc.data.splits import with_label_ids
from hf_htc.evaluation.streaming import StreamingMetrics
from hf_htc.models.label_sets import labels_csr


TREE = make_tree()
N = TREE.num_labels
IDS = [[0, 3], [2], [], [12, 1]]


def multi_hot(kind):
    table = np.zeros((len(IDS), N), dtype=kind)
    for row, ids in enumerate(IDS):
        table[row, ids] = 1
    return table


def padded():
    return np.array([[0, 3, -100], [-100, 2, -100], [-100, -100, -100], [12, -100, 1]])


def rows_of(pair):
    return [pair[1][a:b].tolist() for a, b in zip(pair[0], pair[0][1:])]


FORMS = {
    "ids": IDS, "tuples": [tuple(row) for row in IDS], "arrays": [np.array(row, dtype=np.int32) for row in IDS],
    "tensors": [torch.tensor(row, dtype=torch.long) for row in IDS], "csr": csr(IDS), "names": TREE.decode(IDS),
    "padded": padded(), "padded tensor": torch.tensor(padded()), "padded lists": padded().tolist(),
    "floats": multi_hot(np.float32), "bools": multi_hot(bool), "float tensor": torch.tensor(multi_hot(np.float32)),
    "float lists": multi_hot(float).tolist(), "bool lists": multi_hot(bool).tolist(), "bool rows": list(multi_hot(bool)),
    "half": torch.tensor(multi_hot(np.float16)), "soft": multi_hot(float) * 0.9,
}  # fmt: skip
COLUMNS = [name for name in FORMS if name not in ("csr", "tensors", "half", "padded tensor", "float tensor")]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_sets(form):
    assert [sorted(row) for row in rows_of(labels_csr(FORMS[form], TREE))] == [sorted(row) for row in IDS]
    models = [make_model("flat", TREE, statistics=False) for _ in range(2)]
    models[0].set_label_statistics(IDS)
    models[1].set_label_statistics(FORMS[form])
    assert models[1].config.label_counts == models[0].config.label_counts
    assert models[1].config.num_train_documents == len(IDS) and models[1].config.label_closure == "as_given"
    assert torch.equal(models[1].classifier.out_proj.bias, models[0].classifier.out_proj.bias)


@pytest.mark.parametrize("form", COLUMNS)
def test_every_form_of_a_column(form, tokenizer):
    labels = FORMS[form]
    dataset = Dataset.from_dict({"input_ids": [[5]] * 4, "labels": labels.tolist() if hasattr(labels, "tolist") else labels})
    assert [sorted(row) for row in rows_of(label_csr(dataset, TREE))] == [sorted(row) for row in IDS]
    shuffled = dataset.select([3, 1])
    assert [sorted(row) for row in rows_of(label_csr(shuffled, TREE))] == [[1, 12], [2]]
    read = with_label_ids(dataset, TREE)
    batch = HTCDataCollator(tokenizer)(list(read))["labels"]
    assert [sorted(row) for row in rows_of(labels_csr(batch, TREE))] == [sorted(row) for row in IDS]
    metrics = StreamingMetrics(TREE)
    packed = metrics.preprocess(torch.tensor(multi_hot(np.float32)) - 0.5, None)
    assert metrics(EvalPrediction(packed, batch))["exact_match"] == 1.0


@pytest.mark.parametrize("one", [[4, 0, 12], np.array([4, 0, 12]), torch.tensor([4, 0, 12]), ["politics", "weather", "x"]])
def test_one_label_per_document(one):
    one = [TREE.names[4], TREE.names[0], TREE.names[12]] if isinstance(one[0], str) else one
    assert rows_of(labels_csr(one, TREE)) == [[4], [0], [12]]
    column = one.tolist() if hasattr(one, "tolist") else one
    assert rows_of(label_csr(Dataset.from_dict({"labels": column}), TREE)) == [[4], [0], [12]]


def test_classes_are_read_by_their_names():
    """`ClassLabel` numbers are those of its own list of names."""
    names = TREE.label_names[::-1]
    features = Features({"labels": Sequence(ClassLabel(names=names))})
    dataset = Dataset.from_dict({"labels": [[0], [12, 1]]}, features=features)
    assert rows_of(label_csr(dataset, TREE)) == [[12], [0, 11]]
    read = with_label_ids(dataset, TREE)
    assert read["labels"][:] == [[12], [0, 11]] and dataset["labels"][0] == [0]
    strange = Dataset.from_dict(
        {"labels": [[0], [1]]}, features=Features({"labels": Sequence(ClassLabel(names=[names[0], "?"]))})
    )
    with pytest.raises(ValueError, match=r"Row 1: unknown label '\?'"):
        label_csr(strange, TREE)


WRONG = {
    "integer multi-hot": (multi_hot(int).tolist(), r"Row 0 of the labels is \[1, 0, 0, 1, .*multi-hot row of integers.*floats"),
    "an id twice": ([[1], [3, 5, 3]], r"Row 1 of the labels has a label id twice \(3 in \[3, 5, 3\]\)"),
    "an id too large": ([[1], [13]], r"set 1 holds the id 13; label ids are 0 to 12"),
    "a negative id": ([[1], [-1]], "set 1 holds the id -1"),
    "narrow multi-hot": ([[0.0, 1.0], [1.0, 0.0]], "Row 0 of the multi-hot labels has 2 values; .* each of the 13 labels"),
    "float ids": ([[2.0], [3.0]], "label ids must be whole numbers"),
    "beyond one": ([[0.0] * 13, [2.0] * 13], r"Row 1 of the multi-hot labels holds 2.0; values lie in \[0, 1\]"),
    "not a number": ([[float("nan")] * 13], "Row 0 of the multi-hot labels holds nan"),
    "unknown name": ([["weather"], ["sport", "wether"]], "Row 1: unknown label 'wether'. Close names: .*weather"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_labels_are_refused_by_row(case):
    labels, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        labels_csr(labels, TREE)
    with pytest.raises(ValueError, match=message):
        label_csr(Dataset.from_dict({"labels": labels}), TREE)
    model = make_model("flat", TREE, statistics=False)
    with pytest.raises(ValueError, match=message):
        model.set_label_statistics(labels)
    assert model.config.label_counts is None


@pytest.mark.parametrize("labels", [[[1], ["sport"]], [[1], [0.5] * 13], [[None]], [0.5, 1.0], [[[1]]]])
def test_mixed_forms_are_refused(labels):
    with pytest.raises((TypeError, ValueError), match="abels"):
        labels_csr(labels, TREE)


def test_columns_that_are_no_labels():
    with pytest.raises(TypeError, match="names such as 'sport'; they become ids with the taxonomy"):
        label_csr(Dataset.from_dict({"labels": [["sport"]]}))
    with pytest.raises(TypeError, match="single numbers"):
        label_csr(Dataset.from_dict({"labels": [0.5, 1.0]}))
    with pytest.raises(ValueError, match="Row 1 of the labels has an empty value"):
        label_csr(Dataset.from_dict({"labels": [[1], [2, None]]}))
    empty = Dataset.from_dict({"labels": [[], None]}, features=Features({"labels": Sequence(Value("int32"))}))
    assert rows_of(label_csr(empty, TREE)) == [[], []]


def test_a_large_column_is_read_without_a_loop_over_rows(monkeypatch):
    """A million rows of 30,000 labels, in another order than they are stored in: no Python object per row is made."""
    rows = np.sort(np.random.default_rng(0).integers(0, 30_000, (1_000_000, 2)), axis=1)
    rows = rows[rows[:, 0] < rows[:, 1]]
    dataset = Dataset(pa.table({"labels": to_arrow(np.arange(0, 2 * len(rows) + 1, 2), rows.ravel())}))
    monkeypatch.setattr("hf_htc.models.label_sets.flat_labels", None)
    indptr, indices = label_csr(dataset)
    assert np.array_equal(indices.reshape(-1, 2), rows) and len(indptr) == len(rows) + 1
