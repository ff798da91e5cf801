"""Types that the signatures of several rooms name: for type checkers and readers. Nothing imports this module at run time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, Union

import numpy as np
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from hf_htc.models.modeling_htc import HTCPreTrainedModel
from hf_htc.models.prediction import Closure as Closure
from hf_htc.models.prediction import DecoderKind as DecoderKind


StrPath: TypeAlias = Union[str, "os.PathLike[str]"]
# A frame of pandas or polars is told by what it can do; neither is a dependency.
Frame: TypeAlias = Any
Source: TypeAlias = StrPath | Dataset | Frame
# What `train_dataset` and `eval_dataset` may be.
Documents: TypeAlias = Dataset | IterableDataset | torch.utils.data.Dataset | Sequence[Mapping[str, Any]]
# A CSR pair `(indptr, indices)`.
Csr: TypeAlias = tuple[np.ndarray, np.ndarray]
LabelSets: TypeAlias = Sequence[Sequence[int]] | Csr
# Labels in any of the forms that `labels_csr` reads.
Labels: TypeAlias = Sequence[Any] | np.ndarray | torch.Tensor | Csr
Model: TypeAlias = HTCPreTrainedModel | PeftModel
Tokenizer: TypeAlias = PreTrainedTokenizerBase
Splits: TypeAlias = Dataset | DatasetDict
Thresholds: TypeAlias = float | Sequence[float]
LabelClosure: TypeAlias = Literal["closed", "as_given"]
Record: TypeAlias = dict[str, Any]
Records: TypeAlias = Iterable[Record]
