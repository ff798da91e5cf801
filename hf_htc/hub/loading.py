"""Loading a checkpoint or an exported model to predict with, with errors that name the culprit."""

import contextlib
import os
from pathlib import Path

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCOSError


@contextlib.contextmanager
def naming(what, name):
    """Names the culprit of a failed loading: without a network, transformers' message does not."""
    try:
        yield
    except OSError as error:
        raise HTCOSError(
            f"There is no {what} {str(name)!r} that can be loaded. Give a folder or a model id of the Hub. The reason: {error}"
        ) from error


def load_checkpoint(name_or_path, coherence=None):
    """Model, tokenizer and public name of a checkpoint; `coherence` (`"decoder"` or `"none"`) replaces that of its config."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    import hf_htc
    from hf_htc.hub.onnx_classifier import FLOAT_FILE, REPORT_FILE
    from hf_htc.models.configuration_htc import HTCConfig
    from hf_htc.models.modeling_htc import HTCPreTrainedModel, public_name
    from hf_htc.models.whole_files import finish_update

    hf_htc.register()
    if os.path.isfile(name_or_path):
        raise HTCError(
            f"{str(name_or_path)!r} is a file, not a checkpoint folder. Two files of predictions are scored by `hf-htc compare`."
        )
    if os.path.sep in str(name_or_path) and not os.path.isdir(name_or_path) and str(name_or_path).count("/") != 1:
        raise HTCFileNotFoundError(f"There is no checkpoint folder {str(name_or_path)!r}.")
    if all((Path(name_or_path) / file).is_file() for file in (FLOAT_FILE, REPORT_FILE)):
        raise HTCError(f"{str(name_or_path)!r} is an ONNX export, which only predicts; give the checkpoint it was made from.")
    if coherence not in (None, "decoder", "none"):
        raise HTCError(f"`coherence` is {coherence!r}; allowed are 'decoder', 'none'.")
    with contextlib.suppress(OSError):  # a folder that one may only read loads all the same
        finish_update(name_or_path)
    with naming("checkpoint", name_or_path):
        # A model of another kind does not know the option; it is refused below, by what it is.
        ours = coherence is not None and isinstance(AutoConfig.from_pretrained(name_or_path), HTCConfig)
        changes = {"coherence": coherence} if ours else {}
        model = AutoModelForSequenceClassification.from_pretrained(name_or_path, **changes)
    if not isinstance(model, HTCPreTrainedModel):
        raise HTCError(f"{str(name_or_path)!r} holds a {type(model).__name__}, not a model of hf_htc.")
    with naming("tokenizer in the checkpoint", name_or_path):
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model, tokenizer, public_name(name_or_path) or Path(name_or_path).name


def load_classifier(name_or_path):
    """As [`load_checkpoint`], and the [`OnnxClassifier`] of a folder that `hf-htc export` wrote."""
    from .onnx_classifier import REPORT_FILE, OnnxClassifier

    if not (Path(name_or_path) / REPORT_FILE).is_file():
        return load_checkpoint(name_or_path)
    model = OnnxClassifier(name_or_path)
    return model, model.tokenizer, Path(name_or_path).resolve().name
