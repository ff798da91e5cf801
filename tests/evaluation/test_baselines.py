"""The linear baseline on texts that words separate."""

import pytest
from datasets import Dataset, DatasetDict

from hf_htc import LabelHierarchy
from hf_htc.evaluation.baselines import svm_baseline


pytest.importorskip("sklearn")

HIERARCHY = LabelHierarchy.from_paths(["sport/tennis", "sport/chess", "politics", "weather"])
TEXTS = {  # label names by text
    "the racket hit the ball on the court": ["sport", "sport/tennis"],
    "a serve and a ball over the net of the court": ["sport", "sport/tennis"],
    "the knight takes the bishop on the board": ["sport", "sport/chess"],
    "a pawn before the bishop on the board": ["sport", "sport/chess"],
    "the minister lost the vote on the law": ["politics"],
    "a party and a law before the vote": ["politics"],
}


def rows(texts, names):
    return Dataset.from_dict({"text": texts, "labels": HIERARCHY.encode(names)})


@pytest.fixture
def dataset():
    train = rows(list(TEXTS) * 3, list(TEXTS.values()) * 3)
    tests = {
        "ball on the court": ["sport", "sport/tennis"],
        "bishop on the board": ["sport", "sport/chess"],
        "vote on the law": ["politics"],
    }
    return DatasetDict(train=train, test=rows(list(tests), list(tests.values())))


def test_separable_texts_are_learned(dataset):
    scores = svm_baseline(dataset, HIERARCHY, closure="up")
    assert list(scores) == ["test"]  # there is no validation split
    assert scores["test"]["micro_f1"] == 1
    assert scores["test"]["macro_f1_supported"] == 1
    assert scores["test"]["closure"] == "up"
    assert scores["test"]["num_documents"] == 3
    assert svm_baseline(dataset, HIERARCHY, closure="up") == scores


def test_a_label_without_training_data_is_never_predicted(dataset):
    dataset["test"] = rows(
        ["ball on the court", "vote on the law"], [["sport", "sport/tennis", "weather"], ["politics", "weather"]]
    )
    scores = svm_baseline(dataset, HIERARCHY)["test"]
    assert scores["micro_precision"] == 1
    assert scores["micro_recall"] == pytest.approx(3 / 5)  # weather is missed twice, everything else found


def test_a_label_of_every_training_document_is_always_predicted():
    hierarchy = LabelHierarchy.from_paths(["all/tennis", "all/politics"])
    texts = ["ball court racket", "vote law party"] * 3
    dataset = DatasetDict(
        train=Dataset.from_dict({"text": texts, "labels": [[0, 1], [0, 2]] * 3}),
        test=Dataset.from_dict({"text": ["ball court", "law party"], "labels": [[0, 1], [0, 2]]}),
    )
    assert svm_baseline(dataset, hierarchy)["test"]["exact_match"] == 1


def test_labels_matter(dataset):
    """Trained on dealt labels, the same texts do not get their labels."""
    labels = dataset["train"]["labels"]
    dataset["train"] = dataset["train"].remove_columns("labels").add_column("labels", [*labels[2:], *labels[:2]])
    assert svm_baseline(dataset, HIERARCHY)["test"]["micro_f1"] < 0.5
