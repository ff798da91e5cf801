"""Batches: texts padded to the longest of the batch, labels as padded label ids."""

# Legend: B batch, T tokens, N labels of the taxonomy, K most labels of a document in the batch.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_htc.models.errors import HTCError, HTCTypeError
from hf_htc.models.label_sets import IGNORED, check_multi_hot, csr_of_values, flat_labels


if TYPE_CHECKING:
    from hf_htc.annotations import Tokenizer


class HTCDataCollator:
    """
    Pads texts and labels of a batch.

    Label ids stay label ids, `(B, K)`: a dense multi-hot row per document would cost `N` numbers, however few labels
    the document has.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Its padding token and padding side are used.
        pad_to_multiple_of (`int`, *optional*): Pads `T` to a multiple, for tensor cores.

    Call it with a list of examples with `input_ids` and, each of them or none of them, `labels`:

    * a list of label ids (possibly empty), or one label id -> int64 `(B, K)`, padded with -100, `K >= 1`;
    * a multi-hot row of floats or booleans, `N` values in every example -> float32 `(B, N)`.

    Other numbers and tensors of equal shape are stacked. Examples are not changed.

    Returns:
        `dict[str, torch.Tensor]`

    Raises:
        `ValueError`: no padding token, examples without `input_ids`, labels in some examples only, a label id twice in
        a document, multi-hot rows of unequal length, values that cannot be stacked.
        `TypeError`: labels that are neither ids nor multi-hot rows.

    Example:

    ```python
    >>> collator = HTCDataCollator(tokenizer)  # doctest: +SKIP
    >>> examples = [{"input_ids": [5, 6], "labels": [0, 3]}, {"input_ids": [7], "labels": [2]}]
    >>> collator(examples)["labels"]  # doctest: +SKIP
    tensor([[   0,    3],
            [   2, -100]])
    ```
    """

    # Of the columns that follow the tokens, what stands behind the text.
    PADDING = {"attention_mask": 0, "special_tokens_mask": 1, "token_type_ids": None, "input_ids": None}

    def __init__(self, tokenizer: Tokenizer, pad_to_multiple_of: int | None = None) -> None:
        if tokenizer.pad_token_id is None:
            raise HTCError("The tokenizer has no padding token; set one, e.g. `tokenizer.pad_token = tokenizer.eos_token`.")
        if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
            raise HTCError(f"`pad_to_multiple_of` is {pad_to_multiple_of}; it must be at least 1, or None.")
        self.tokenizer = tokenizer
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        features = list(features)
        if not features:
            raise HTCError("The batch is empty; the collator needs at least one example.")
        wrong = next((f for f in features if not isinstance(f, Mapping) or "input_ids" not in f), None)
        if wrong is not None:
            columns = list(wrong) if isinstance(wrong, Mapping) else type(wrong).__name__
            raise HTCError(f"An example has no `input_ids` ({columns}); call `tokenize_dataset` first.")
        batch = self._texts(features)
        if any("labels" in feature for feature in features):
            batch["labels"] = collate_labels([feature.get("labels") for feature in features])
        for name in features[0]:
            if name not in batch and name != "labels":
                batch[name] = self._stacked(name, features)
        return batch

    def _texts(self, features):
        """`input_ids`, `attention_mask` and what else follows the tokens, `(B, T)` int64."""
        lengths = [len(feature["input_ids"]) for feature in features]
        width = max(*lengths, 1)
        if self.pad_to_multiple_of:
            width = -(-width // self.pad_to_multiple_of) * self.pad_to_multiple_of
        fill = {
            **self.PADDING,
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }
        names = [name for name in fill if name in features[0]]
        rows = {name: np.full((len(features), width), fill[name], dtype=np.int64) for name in {*names, "attention_mask"}}
        left = self.tokenizer.padding_side == "left"
        for i, (feature, length) in enumerate(zip(features, lengths)):
            place = slice(width - length, width) if left else slice(0, length)
            rows["attention_mask"][i, place] = 1
            for name in names:
                values = np.asarray(feature[name])
                if values.shape != (length,):
                    raise HTCError(f"Example {i} has {length} `input_ids` and {name!r} of shape {values.shape}; they must match.")
                rows[name][i, place] = values
        return {name: torch.from_numpy(array) for name, array in rows.items()}

    @staticmethod
    def _stacked(name, features):
        try:
            values = [torch.as_tensor(feature[name]) for feature in features]
            return torch.stack(values)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise HTCError(
                f"The column {name!r} cannot be stacked into a tensor ({type(error).__name__}: "
                f"{error}). Remove it, as `tokenize_dataset` does."
            ) from error


def collate_labels(rows: Sequence[Any]) -> torch.Tensor:
    """
    Labels of a batch as one tensor; see [`HTCDataCollator`].

    Args:
        rows (`list`): Label ids, one label id or a multi-hot row of each example; `None` where there is none.

    Returns:
        `torch.Tensor`: int64 `(B, K)` padded with -100, or float32 `(B, N)`.
    """
    missing = [i for i, row in enumerate(rows) if row is None]
    if missing:
        raise HTCError(f"Example {missing[0]} has no labels, others have; give all of them labels, or none for prediction.")
    lengths, values = flat_labels(rows)
    if values.dtype.kind not in "iufb":
        raise HTCTypeError(
            f"Labels of a batch are label ids (integers) or multi-hot rows (floats); got {values[0].item()!r}. Label names "
            "become ids with `load_htc_dataset` or `hierarchy.encode`."
        )
    if values.dtype.kind in "fb":
        check_multi_hot(lengths, values, int(lengths[0]))
        return torch.from_numpy(values.reshape(len(lengths), -1).astype(np.float32))
    indptr, ids = csr_of_values(lengths, values)
    lengths = np.diff(indptr)
    table = np.full((len(lengths), max(1, lengths.max())), IGNORED, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = ids
    return torch.from_numpy(table)
