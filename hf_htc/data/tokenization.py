"""Texts to token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from datasets import Dataset, DatasetDict, Features

from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCTypeError

from .readers import PROGRESS_BYTES, quiet_unless_big


if TYPE_CHECKING:
    from hf_htc.annotations import Tokenizer


logger = get_logger(__name__)

# Tokenizers without a limit of their own say something like 1e30.
LARGEST_LIMIT = 1_000_000
PROGRESS_ROWS = 20_000

SplitsT = TypeVar("SplitsT", Dataset, DatasetDict)


def tokenize_dataset(
    dataset: SplitsT, tokenizer: Tokenizer, max_length: int | None = None, num_proc: int | None = None
) -> SplitsT:
    """
    Tokenizes the texts of a data set.

    Texts are not padded; [`HTCDataCollator`] pads them batch by batch. The result is cached by `datasets` where the
    source is (Parquet files, built-in data sets).

    Args:
        dataset (`Dataset` or `DatasetDict`): With a column `text`, and `labels` unless it is for prediction.
        tokenizer (`PreTrainedTokenizerBase`): Of the text encoder.
        max_length (`int`, *optional*): Tokens a text keeps, special tokens included. Defaults to the tokenizer's own
            limit (`model_max_length`), and to no limit if it has none. Methods with a prompt leave less room: pass
            `config.max_text_length`.
        num_proc (`int`, *optional*): Processes.

    Returns:
        The same kind, with what the tokenizer gives (`input_ids`, `attention_mask`, ...) and `labels`; other columns
            go. Without a row it has the same columns, empty.

    Raises:
        `ValueError`: no column `text`, or `max_length` that leaves no room for the text.
        `TypeError`: neither a `Dataset` nor a `DatasetDict`.

    Logs one warning that says how many texts were cut, if any.
    """
    if max_length is None and tokenizer.model_max_length <= LARGEST_LIMIT:
        max_length = tokenizer.model_max_length
    if max_length is not None and max_length <= tokenizer.num_special_tokens_to_add():
        raise HTCError(
            f"`max_length` is {max_length}, but the tokenizer adds "
            f"{tokenizer.num_special_tokens_to_add()} special tokens; it must be larger."
        )
    if not isinstance(dataset, (Dataset, DatasetDict)):
        raise HTCTypeError(f"`dataset` must be a `Dataset` or a `DatasetDict`, got {type(dataset).__name__}.")
    splits = dataset if isinstance(dataset, DatasetDict) else {"": dataset}
    # The first call sets the state of a fast tokenizer, which is part of the cache key of `map`.
    _encode(["a"], tokenizer, max_length)
    tokenized, cut, total = {}, 0, 0
    for name, split in splits.items():
        tokenized[name], cut_here = _tokenize_split(split, name, tokenizer, max_length, num_proc)
        cut, total = cut + cut_here, total + len(split)
    if cut:
        logger.warning(
            f"{cut} of {total} texts ({cut / total:.1%}) are longer than {max_length} tokens "
            "and were cut. Pass a larger `max_length` if the encoder allows it."
        )
    return DatasetDict(tokenized) if isinstance(dataset, DatasetDict) else tokenized[""]


def _encode(texts, tokenizer, max_length):
    """Token ids of texts, and which of them were cut."""
    encoded = tokenizer(texts, truncation=max_length is not None, max_length=max_length, padding=False)
    if max_length is None:
        return encoded, [False] * len(texts)
    if encoded.encodings is not None:
        return encoded, [len(e.overflowing) > 0 for e in encoded.encodings]
    # Slow tokenizers do not tell; only full rows can have been cut.
    full = [len(ids) >= max_length for ids in encoded["input_ids"]]
    whole = tokenizer([t for t, is_full in zip(texts, full) if is_full], truncation=False, verbose=False) if any(full) else None
    lengths = iter([] if whole is None else [len(ids) for ids in whole["input_ids"]])
    return encoded, [is_full and next(lengths) > max_length for is_full in full]


def _tokenize_split(split, name, tokenizer, max_length, num_proc):
    if "text" not in split.column_names:
        where = f" of the split {name!r}" if name else ""
        raise HTCError(
            f"The data{where} has no column 'text'; its columns are {split.column_names}. "
            "`load_htc_dataset(text_column=...)` renames the column."
        )

    if not len(split):
        return _empty(split, tokenizer, max_length), 0

    def tokenize(batch):
        encoded, cut = _encode(batch["text"], tokenizer, max_length)
        return {**encoded, "was_cut": cut}

    drop = [column for column in split.column_names if column != "labels"]
    # A process per few rows costs more than it gives.
    workers = None if not num_proc or num_proc < 2 or len(split) < 2 * num_proc else num_proc
    with quiet_unless_big(PROGRESS_BYTES if len(split) >= PROGRESS_ROWS else 0):
        result = split.map(tokenize, batched=True, remove_columns=drop, num_proc=workers, desc="Tokenizing")
    cut = sum(int(sum(batch["was_cut"])) for batch in result.select_columns("was_cut").with_format("numpy").iter(10_000))
    return result.remove_columns("was_cut"), cut


def _empty(split, tokenizer, max_length):
    """What a split without rows becomes; `map` would call nothing and leave its columns as they are."""
    encoded, _ = _encode(["a"], tokenizer, max_length)
    labels = {name: feature for name, feature in split.features.items() if name == "labels"}
    features = Features({**labels, **Dataset.from_dict(dict(encoded)).features})
    return Dataset.from_dict({name: [] for name in features}, features=features, split=split.split)
