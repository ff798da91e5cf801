"""Tokenization and collation."""

import copy
import logging

import datasets
import numpy as np
import pytest
import torch
from transformers import CanineTokenizer

from hf_htc.data import HTCDataCollator, tokenize_dataset
from hf_htc.data.collator import collate_labels


def rows(texts=("a b c", "d", "e f g h a b"), labels=((0, 2), (1,), ())):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.List(datasets.Value("int32")),
            "id": datasets.Value("int64"),
        }
    )
    columns = {"text": list(texts), "labels": [list(x) for x in labels], "id": list(range(len(texts)))}
    return datasets.Dataset.from_dict(columns, features=features)


def test_tokens_labels_and_nothing_else(word_tokenizer, caplog):
    tokenized = tokenize_dataset(rows(), word_tokenizer)
    assert set(tokenized.column_names) == {"labels", *word_tokenizer.model_input_names}
    assert tokenized["input_ids"][0] == [2, 4, 5, 6, 3]
    assert [list(x) for x in tokenized["labels"]] == [[0, 2], [1], []]
    assert tokenized.features["labels"] == datasets.List(datasets.Value("int32"))
    assert "cut" not in caplog.text


@pytest.mark.parametrize("tokenizer", ["fast", "slow"])
def test_cut_texts_are_counted_once(tokenizer, word_tokenizer, caplog):
    if tokenizer == "fast":
        tokenizer, texts, longest = word_tokenizer, ["a b c", "d", "e f g h a b", "a b c d"], 5
    else:
        tokenizer, texts, longest = CanineTokenizer(), ["abc", "d", "efghab", "abcd"], 5
    data = datasets.DatasetDict(train=rows(texts, [[0]] * 4).select_columns(["text", "labels"]), test=rows(texts[:2], [[0]] * 2))
    with caplog.at_level(logging.WARNING, logger="hf_htc"):
        tokenized = tokenize_dataset(data, tokenizer, max_length=longest)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("hf_htc")] == [
        "2 of 6 texts (33.3%) are longer than 5 tokens and were cut. Pass a larger `max_length` if the encoder allows it."
    ]
    assert max(len(ids) for ids in tokenized["train"]["input_ids"]) == 5
    assert isinstance(tokenized, datasets.DatasetDict) and list(tokenized) == ["train", "test"]


def test_the_limit_of_the_tokenizer_is_the_default(word_tokenizer, monkeypatch):
    monkeypatch.setattr(word_tokenizer, "model_max_length", 4)
    assert [len(ids) for ids in tokenize_dataset(rows(), word_tokenizer)["input_ids"]] == [4, 3, 4]
    assert [len(ids) for ids in tokenize_dataset(rows(), word_tokenizer, max_length=6)["input_ids"]] == [5, 3, 6]


def test_prediction_data_and_two_processes(word_tokenizer):
    texts = rows().select_columns(["text"])
    assert "labels" not in tokenize_dataset(texts, word_tokenizer).column_names
    many = rows(["a b"] * 50 + ["c"] * 50, [[0]] * 50 + [[1]] * 50)
    one, two = tokenize_dataset(many, word_tokenizer), tokenize_dataset(many, word_tokenizer, num_proc=2)
    assert list(one["input_ids"]) == list(two["input_ids"])


def test_data_without_rows_has_the_columns_of_other_data(word_tokenizer):
    full = rows()
    for tokenizer in (word_tokenizer, CanineTokenizer()):
        expected = tokenize_dataset(full, tokenizer, max_length=5)
        for labels in (True, False):
            empty = full.select([]) if labels else full.select([]).remove_columns("labels")
            tokenized = tokenize_dataset(empty, tokenizer, max_length=5)
            features = {name: feature for name, feature in expected.features.items() if labels or name != "labels"}
            assert len(tokenized) == 0 and tokenized.features == features
        both = tokenize_dataset(datasets.DatasetDict(train=full, test=full.select([])), tokenizer, max_length=5)
        assert [len(both[split]) for split in both] == [3, 0]
        assert len(datasets.concatenate_datasets([both["test"], both["train"]])) == 3
    with pytest.raises(ValueError, match="no column 'text'"):
        tokenize_dataset(full.select([]).remove_columns("text"), word_tokenizer)


def test_tokenization_of_cached_data_is_cached(word_tokenizer, tmp_path):
    rows().to_parquet(str(tmp_path / "rows.parquet"))
    data = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "rows.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    files = [tokenize_dataset(data, word_tokenizer).cache_files[0]["filename"] for _ in range(2)]
    assert files[0] == files[1]


def test_tokenization_errors(word_tokenizer):
    with pytest.raises(ValueError, match=r"no column 'text'; its columns are \['labels', 'id'\]"):
        tokenize_dataset(rows().remove_columns("text"), word_tokenizer)
    with pytest.raises(ValueError, match=r"The data of the split 'dev' has no column 'text'"):
        tokenize_dataset(datasets.DatasetDict(dev=rows().remove_columns("text")), word_tokenizer)
    with pytest.raises(ValueError, match="`max_length` is 2, but the tokenizer adds 2 special tokens"):
        tokenize_dataset(rows(), word_tokenizer, max_length=2)
    with pytest.raises(TypeError, match="must be a `Dataset` or a `DatasetDict`, got list"):
        tokenize_dataset(["text"], word_tokenizer)


# ---------------------------------------------------------------- collator


EXAMPLES = [
    {"input_ids": [5, 6, 7], "labels": [0, 3]},
    {"input_ids": [8], "labels": [2]},
    {"input_ids": [9, 9], "labels": []},
]


@pytest.fixture
def side(word_tokenizer, monkeypatch):
    return lambda value: monkeypatch.setattr(word_tokenizer, "padding_side", value)


def test_padding_on_both_sides(word_tokenizer, side):
    side("right")
    batch = HTCDataCollator(word_tokenizer)(EXAMPLES)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0], [9, 9, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    side("left")
    batch = HTCDataCollator(word_tokenizer, pad_to_multiple_of=4)(EXAMPLES)
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7], [0, 0, 0, 8], [0, 0, 9, 9]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1]]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == torch.int64


def test_batches_equal_the_tokenizers_own_padding(word_tokenizer):
    texts = ["a b c", "d", "e f g h"]
    features = [dict(word_tokenizer(text)) for text in texts]
    expected = word_tokenizer(texts, padding=True, return_tensors="pt")
    batch = HTCDataCollator(word_tokenizer)(features)
    assert set(batch) == set(expected)
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_label_ids_stay_label_ids(word_tokenizer):
    batch = HTCDataCollator(word_tokenizer)(EXAMPLES)
    assert batch["labels"].dtype == torch.int64
    assert batch["labels"].tolist() == [[0, 3], [2, -100], [-100, -100]]
    assert EXAMPLES[0] == {"input_ids": [5, 6, 7], "labels": [0, 3]}


@pytest.mark.parametrize(
    "labels, expected",
    [
        ([[], []], [[-100], [-100]]),
        ([4, 2], [[4], [2]]),
        ([np.int32(4), np.array([1, 2])], [[4, -100], [1, 2]]),
        ([torch.tensor([1, -100]), torch.tensor([2, 3])], [[1, -100], [2, 3]]),
        ([[1.0, 0.0, 1.0], np.array([0.0, 0.0, 0.0])], [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        ([[True, False], [False, False]], [[1.0, 0.0], [0.0, 0.0]]),
    ],
)
def test_forms_of_labels(labels, expected):
    table = collate_labels(labels)
    assert table.tolist() == expected
    assert table.dtype == (torch.float32 if isinstance(expected[0][0], float) else torch.int64)


def test_examples_without_labels_and_other_columns(word_tokenizer):
    features = [{"input_ids": [1], "token_type_ids": [1], "weight": 0.5, "vector": [1, 2]}] * 2
    batch = HTCDataCollator(word_tokenizer)([*features, {**features[0], "input_ids": [1, 2], "token_type_ids": [1, 1]}])
    assert "labels" not in batch
    assert batch["weight"].tolist() == [0.5, 0.5, 0.5] and batch["vector"].shape == (3, 2)
    assert batch["token_type_ids"].tolist() == [[1, 0], [1, 0], [1, 1]]


def test_collator_errors(word_tokenizer):
    collator = HTCDataCollator(word_tokenizer)
    with pytest.raises(ValueError, match=r"no `input_ids` \(\['text'\]\); call `tokenize_dataset` first"):
        collator([{"text": "x"}])
    with pytest.raises(ValueError, match="batch is empty"):
        collator([])
    with pytest.raises(ValueError, match="Example 1 has no labels, others have"):
        collator([EXAMPLES[0], {"input_ids": [1]}])
    with pytest.raises(ValueError, match=r"Row 0 of the labels is \[0, 1, 1\]: a multi-hot row of integers.*must be floats"):
        collate_labels([[0, 1, 1]])
    with pytest.raises(ValueError, match="Row 1 of the multi-hot labels has 3 values; it needs one for each of the 2 labels"):
        collate_labels([[0.0, 1.0], [0.0, 1.0, 1.0]])
    with pytest.raises(TypeError, match="labels mix forms"):
        collate_labels([[0.0, 1.0], [1]])
    with pytest.raises(TypeError, match="Label names become ids with `load_htc_dataset`"):
        collate_labels([["sport"], ["politics"]])
    with pytest.raises(ValueError, match="column 'title' cannot be stacked.*Remove it"):
        collator([{"input_ids": [1], "title": "x"}])
    with pytest.raises(ValueError, match="Example 0 has 2 `input_ids` and 'attention_mask' of shape"):
        collator([{"input_ids": [1, 2], "attention_mask": [1]}])
    with pytest.raises(ValueError, match="`pad_to_multiple_of` is 0"):
        HTCDataCollator(word_tokenizer, pad_to_multiple_of=0)
    unpadded = copy.deepcopy(word_tokenizer)
    unpadded.pad_token = None
    with pytest.raises(ValueError, match="no padding token; set one"):
        HTCDataCollator(unpadded)


def test_thirty_thousand_labels_cost_nothing(word_tokenizer):
    batch = HTCDataCollator(word_tokenizer)([{"input_ids": [1], "labels": [i, 29_999]} for i in range(8)])
    assert batch["labels"].shape == (8, 2)
