"""`OnnxClassifier`: predicts from an exported folder with the same decoding as `model.predict`, without PyTorch's weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig

from hf_htc.hub.loading import load_tokenizer, naming
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCImportError, HTCOSError, refusing
from hf_htc.models.modeling_htc import HTCOutput
from hf_htc.models.prediction import PredictionMixin
from hf_htc.models.text_encoders import check_widths
from hf_htc.models.whole_files import finish_update


if TYPE_CHECKING:
    from hf_htc.annotations import StrPath, Tokenizer


FLOAT_FILE, INT8_FILE, REPORT_FILE = "model.onnx", "model_int8.onnx", "export.json"


def require(*packages):
    """
    Imports optional packages of the export.

    Raises:
        `ImportError`: one is missing; the message says how to install it.
    """
    import importlib

    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise HTCImportError(
                f"The package {package!r} is missing, which ONNX models need. Install it with `pip install 'hf_htc[export]'`."
            ) from error


class OnnxClassifier(PredictionMixin):
    """
    A model that was exported by [`export_onnx`], run by onnxruntime. It predicts as a checkpoint does, with the same methods,
    options and results; the tokenizer may be left out everywhere, it is then the folder's.

    Args:
        folder (`str`): What `hf-htc export` wrote.
        int8 (`bool`, *optional*, defaults to `False`): Takes the quantised model.
        providers (`list[str]`, *optional*, defaults to `["CPUExecutionProvider"]`): onnxruntime's execution providers.

    Raises:
        `OSError`: no such folder, or none with an exported model; no quantised model in it; damaged files. `ImportError`:
        onnxruntime is missing.

    Example:

    ```python
    >>> OnnxClassifier("exported").predict("The match went to penalties.")
    {'labels': ['sport', 'sport/football'], 'scores': [0.97, 0.91], 'paths': [['sport', 'football']]}
    ```
    """

    def __init__(self, folder: StrPath, int8: bool = False, providers: Sequence[str] | None = None) -> None:
        require("onnxruntime")
        import onnxruntime

        folder = Path(folder)
        with contextlib.suppress(OSError):  # a folder that one may only read loads all the same
            finish_update(folder)
        if not (folder / REPORT_FILE).is_file():
            raise HTCFileNotFoundError(
                f"{str(folder)!r} is no exported model: it has no {REPORT_FILE}. Write one with `hf-htc export`."
            )
        file = folder / (INT8_FILE if int8 else FLOAT_FILE)
        if not file.is_file():
            raise HTCFileNotFoundError(
                f"{str(folder)!r} has no {file.name}." + (" Export the checkpoint again with `--int8`." if int8 else "")
            )
        self.file = file
        with refusing(
            "is no report of an export",
            (OSError, ValueError, TypeError, KeyError, RecursionError),
            file=folder / REPORT_FILE,
            kind=HTCOSError,
        ):
            self.report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
            self.fixed_length = self.report["fixed_length"]
        with naming("exported model", folder):
            self.config = AutoConfig.from_pretrained(folder)
            self.session = onnxruntime.InferenceSession(str(file), providers=providers or ["CPUExecutionProvider"])
        self.tokenizer = load_tokenizer(folder)
        self.input_names = [node.name for node in self.session.get_inputs()]
        self.device = torch.device("cpu")  # where `PredictionMixin` has its boundaries and gets its logits

    def predict(self, texts: Any, tokenizer: Tokenizer | None = None, *args: Any, **kwargs: Any) -> Any:
        """As [`~PredictionMixin.predict`]."""
        return super().predict(texts, self.tokenizer if tokenizer is None else tokenizer, *args, **kwargs)

    def predict_sets(self, texts: str | Sequence[str], tokenizer: Tokenizer | None = None, *args: Any, **kwargs: Any) -> Any:
        """As [`~PredictionMixin.predict_sets`]."""
        return super().predict_sets(texts, self.tokenizer if tokenizer is None else tokenizer, *args, **kwargs)

    def iter_logits(
        self, texts: Sequence[str], tokenizer: Tokenizer | None = None, *args: Any, **kwargs: Any
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """As [`~PredictionMixin.iter_logits`]."""
        return super().iter_logits(texts, self.tokenizer if tokenizer is None else tokenizer, *args, **kwargs)

    def predicting(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """An exported model has one mode and no weights that could change."""
        return contextlib.nullcontext()

    def __call__(self, **batch: torch.Tensor) -> HTCOutput:
        """
        The [`HTCOutput`] with `logits` `(B, N)` of a tokenised batch; a model of fixed length gets it padded to that length.

        Raises:
            `ValueError`: an input is missing, or is longer than the model's fixed length.
        """
        missing = [name for name in self.input_names if name not in batch]
        if missing:
            raise HTCError(f"The exported model needs {self.input_names}; {missing[0]!r} is missing.")
        inputs = {name: torch.as_tensor(batch[name]) for name in self.input_names}
        check_widths(inputs["input_ids"], **inputs)
        if self.fixed_length is not None:
            inputs = {name: self._padded(name, tensor) for name, tensor in inputs.items()}
        feeds = {name: tensor.cpu().to(torch.int64).numpy() for name, tensor in inputs.items()}
        logits: Any = torch.from_numpy(self.session.run(["logits"], feeds)[0])
        return HTCOutput(logits=logits)

    def _padded(self, name, tensor):
        missing = self.fixed_length - tensor.shape[1]
        if missing < 0:
            raise HTCError(
                f"The input has {tensor.shape[1]} tokens; the exported model takes {self.fixed_length}. Cut longer texts there."
            )
        value = self.tokenizer.pad_token_id or 0 if name == "input_ids" else 0
        return torch.nn.functional.pad(tensor, (0, missing), value=value)
