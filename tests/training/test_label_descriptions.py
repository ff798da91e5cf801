"""Label descriptions by TF-IDF, against scikit-learn's own vectorizer on each label's documents."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from tiny_models import make_model, make_tokenizer, make_tree
from training_data import make_dataset

from hf_htc import LabelHierarchy
from hf_htc.training.label_descriptions import tfidf_descriptions


@pytest.mark.parametrize(("max_df", "min_df"), [(0.8, 0.1), (1.0, 0.0), (0.5, 0.3)])
def test_words_are_those_of_a_vectorizer_a_label(max_df, min_df):
    hierarchy, dataset = make_tree(), make_dataset(120)
    descriptions = tfidf_descriptions(
        dataset["text"], dataset["labels"], hierarchy, max_df=max_df, min_df=min_df, max_words=None, stop_words=["the", "of"]
    )
    for label in range(13):
        texts = [text for text, labels in zip(dataset["text"], dataset["labels"]) if label in labels]
        vectorizer = TfidfVectorizer(max_df=max_df, min_df=min_df, stop_words=["the", "of"])
        weights = np.asarray(vectorizer.fit_transform(texts).mean(axis=0)).ravel()
        expected = dict(zip(vectorizer.get_feature_names_out(), weights))
        found = descriptions[label].split()
        assert set(found) == set(expected) and len(found) > 1
        assert [expected[word] for word in found] == sorted(expected.values(), reverse=True)


def test_labels_without_words_keep_their_text():
    hierarchy = LabelHierarchy(["sport", "tax law", "empty", "top"], [[3], [3], [], []], num_labels=3)
    texts = ["goal match goal", "match ball", "tax"]
    found = tfidf_descriptions(texts, [[0], [0], [1]], hierarchy)
    # "match" is in all documents of its label; one document has no word that is not.
    assert sorted(found[0].split()) == ["ball", "goal"] and found[1:] == ["tax law", "empty", "top"]
    assert tfidf_descriptions(texts, [[0], [0], [1]], hierarchy, max_words=1)[0] in ("ball", "goal")
    assert tfidf_descriptions(["1", "?", "."], [[0], [0], [1]], hierarchy) == hierarchy.texts


def test_a_model_takes_them():
    dataset, model = make_dataset(60), make_model("himatch", make_tree())
    before = model.classifier.matching.label_embeddings.detach().clone()
    model.set_label_texts(make_tokenizer(), tfidf_descriptions(dataset["text"], dataset["labels"], make_tree()))
    assert (model.classifier.matching.label_embeddings != before).any(1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [[0]]}, "There are 2 texts and 1 rows of labels"),
        ({"min_df": 0.9}, "`min_df` is 0.9 and `max_df` is 0.8"),
        ({"max_df": 3}, "shares"),
        ({"max_words": 0}, "`max_words` is 0"),
        ({"labels": [[0], [77]]}, "77"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tfidf_descriptions(**{"texts": ["a", "b"], "labels": [[0], [1]], "hierarchy": make_tree(), **options})
