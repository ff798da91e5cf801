"""Word-level tokenizers, word vectors from files and from a corpus, and the encoder built of them."""

import numpy as np
import pytest
import torch
from tiny_models import make_texts, make_tree
from transformers import AutoModel, AutoTokenizer

import hf_htc
from hf_htc.training.word_vectors import build_text_rcnn, read_word_vectors, train_word_tokenizer, train_word_vectors


TEXTS = ["The cat sat on the mat.", "the CAT sat!", "A dog sat on a log", "dog, dog"]


def test_the_tokenizer_keeps_frequent_words_and_survives_saving(tmp_path):
    tokenizer = train_word_tokenizer(TEXTS)
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    assert words[:2] == ["[PAD]", "[UNK]"] and tokenizer.pad_token_id == 0 and tokenizer.model_max_length == 256
    assert set(words[2:]) == {"the", "cat", "sat", "on", "a", "dog"}  # those that occur twice, lower-cased
    assert set(words[2:5]) == {"the", "sat", "dog"}  # the three that occur three times come first
    assert tokenizer.tokenize("The LOG sat, on") == ["the", "[UNK]", "sat", "[UNK]", "on"]
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    encoded = loaded(["the cat", "dog"], padding=True, return_tensors="pt")
    assert sorted(encoded) == ["attention_mask", "input_ids"]
    assert torch.equal(encoded["attention_mask"], torch.tensor([[1, 1], [1, 0]]))
    assert encoded["input_ids"].tolist() == tokenizer(["the cat", "dog"], padding=True)["input_ids"]


def test_options_of_the_tokenizer():
    assert len(train_word_tokenizer(TEXTS, min_count=1)) == 2 + 11
    assert len(train_word_tokenizer(TEXTS, max_size=3)) == 2 + 3
    assert "The" in train_word_tokenizer(TEXTS, min_count=1, lowercase=False).get_vocab()
    extra = train_word_tokenizer(TEXTS, max_size=8, extra_words=["Cat", "zebra", "lion", "tiger"])
    assert len(extra) == 10 and extra.tokenize("zebra lion tiger cat") == ["zebra", "lion", "[UNK]", "cat"]
    for options in ({"min_count": 0}, {"max_size": 0}, {"max_length": 0}):
        with pytest.raises(ValueError, match="is 0; it is at least 1"):
            train_word_tokenizer(TEXTS, **options)
    with pytest.raises(ValueError, match="No word of the corpus occurs 9 times"):
        train_word_tokenizer(TEXTS, min_count=9)


def test_vectors_from_a_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\nzebra 4 5 6\nnew york 7 8 9\ncat -1e-2 0 .5\ncat 9 9 9\n", encoding="utf-8")
    tokenizer = train_word_tokenizer(TEXTS)
    vectors = read_word_vectors(path, tokenizer)
    assert vectors.shape == (len(tokenizer), 3) and vectors.dtype == np.float32
    ids = tokenizer.get_vocab()
    assert vectors[ids["the"]].tolist() == [1, 2, 3] and vectors[ids["cat"]] == pytest.approx([-0.01, 0, 0.5])
    assert np.isnan(vectors[ids["dog"]]).all() and np.isnan(vectors[0]).all()
    assert read_word_vectors(path) == ["the", "zebra", "new york", "cat", "cat"]
    path.write_text("2 3\nthe 1 2 3\ndog 4 5 6\n")  # word2vec's first line
    assert read_word_vectors(path, tokenizer)[ids["dog"]].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\ncat 1\n", r"Line 2 of 'v.txt' has 1 numbers; the first line has 3"),
        ("the 1 2 3\ncat 1 2 x\n", "Line 2 of 'v.txt': the vector of 'cat'"),
        ("zebra 1 2\n", "none of the tokenizer's 8 words"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    (tmp_path / "v.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_word_vectors(tmp_path / "v.txt", train_word_tokenizer(TEXTS))
    with pytest.raises(FileNotFoundError, match="nothing.txt"):
        read_word_vectors(tmp_path / "nothing.txt")


def test_vectors_of_a_corpus_are_the_factors_of_its_mutual_information():
    """Against a dense table counted in loops; with full rank, the factors' products are the table's symmetric square root."""
    texts, window = make_texts(60, longest=9), 3
    tokenizer = train_word_tokenizer(texts, min_count=4)
    number = len(tokenizer)
    counts = np.zeros((number, number))
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        for i, left in enumerate(ids):
            for distance in range(1, window + 1):
                if i + distance < len(ids) and left > 1 and ids[i + distance] > 1:
                    counts[left, ids[i + distance]] += 1 / distance
                    counts[ids[i + distance], left] += 1 / distance
    context = counts.sum(0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        table = np.log(counts * context.sum() / np.outer(counts.sum(1), context))
    table = np.where(counts > 0, np.maximum(table, 0), 0)
    left, values, _ = np.linalg.svd(table)
    size = number - 4  # with so many the decomposition is exact
    expected = left[:, :size] * np.sqrt(values[:size])
    vectors = train_word_vectors(texts, tokenizer, size=size, window=window)
    known = ~np.isnan(vectors[:, 0])
    assert not known[:2].any() and known.sum() == (table > 0).any(1).sum()
    expected *= 0.25 / np.sqrt(np.square(expected[known]).mean())
    # Signs and order within a pair of equal values are free; the products are not.
    assert vectors[known] @ vectors[known].T == pytest.approx(expected[known] @ expected[known].T, abs=1e-3)
    assert np.sqrt(np.square(vectors[known]).mean()) == pytest.approx(0.25, rel=1e-5)
    assert np.array_equal(train_word_vectors(texts, tokenizer, size=size, window=window), vectors, equal_nan=True)


def test_words_of_one_subject_stand_together():
    animals, tools = ["cat", "dog", "cow"], ["saw", "axe", "nail"]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(group, 6)) for group in (animals, tools) for _ in range(200)]
    tokenizer = train_word_tokenizer(texts)
    vectors = train_word_vectors(texts, tokenizer, size=4)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = tokenizer.get_vocab()
    within = unit[ids["cat"]] @ unit[ids["dog"]]
    assert within > 0.7 > 0.3 > unit[ids["cat"]] @ unit[ids["saw"]]


def test_a_corpus_without_neighbours_is_refused():
    texts = ["cat"] * 5
    with pytest.raises(ValueError, match="No two words"):
        train_word_vectors(texts, train_word_tokenizer(texts))
    with pytest.raises(ValueError, match="`window` is 0"):
        train_word_vectors(TEXTS, train_word_tokenizer(TEXTS), window=0)


def test_an_encoder_is_built_saved_and_used(tmp_path):
    texts = make_texts(80)
    path = tmp_path / "glove.txt"
    path.write_text("court 1 2 3 4\nunheard 5 6 7 8\n")
    for kind, size in (("corpus", 12), ("random", 12), (str(path), 4)):
        options = {} if kind == str(path) else {"embedding_size": size}
        torch.manual_seed(0)
        encoder, tokenizer = build_text_rcnn(texts, kind, num_filters=5, gru_hidden_size=4, **options)
        weight = encoder.word_embeddings.weight.detach()
        assert weight.shape == (len(tokenizer), size) and (weight[0] == 0).all() and torch.isfinite(weight).all()
        ids = tokenizer.get_vocab()
        if kind == "corpus":
            assert torch.equal(weight[ids["court"]], torch.tensor(train_word_vectors(texts, tokenizer, 12)[ids["court"]]))
        if kind == str(path):
            assert weight[ids["court"]].tolist() == [1, 2, 3, 4] and weight[ids["unheard"]].tolist() == [5, 6, 7, 8]
        folder = tmp_path / f"encoder{size}{kind == 'random'}"
        encoder.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        assert torch.equal(AutoModel.from_pretrained(folder).word_embeddings.weight, encoder.word_embeddings.weight)
        model = hf_htc.model_class("hiagm").from_text_encoder(
            str(folder), hierarchy=make_tree(), tokenizer=AutoTokenizer.from_pretrained(folder), node_dim=4
        )
        assert model.config.max_text_length == 256 and model.config.recommended_training["learning_rate"] == 2e-3
        assert len(model.predict("the court", tokenizer, top_k=3)["labels"]) == 3
    with pytest.raises(ValueError, match="`embedding_size` is 7, but the vectors of the file have 4"):
        build_text_rcnn(texts, str(path), embedding_size=7)
    with pytest.raises(ValueError, match=r"no option 'filters'"):
        build_text_rcnn(texts, filters=3)
