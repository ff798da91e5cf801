"""Loading a checkpoint or an exported model to predict with, with errors that name the culprit."""

from __future__ import annotations

import contextlib
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCImportError, HTCOSError, reason_of, refusing


if TYPE_CHECKING:
    from hf_htc.annotations import StrPath, Tokenizer
    from hf_htc.models.modeling_htc import HTCPreTrainedModel
    from hf_htc.models.prediction import PredictionMixin


_TOKENIZER_FILES = ("*tokenizer*", "vocab*", "merges.txt", "*.model", "*.bpe", "*.tiktoken")


@contextlib.contextmanager
def naming(what, name):
    """
    Names the culprit of a failed loading, whatever the libraries raise of damaged files: without a network, and of a file that is
    no JSON, not what it should be or nested too deeply, their messages do not.
    """
    try:
        yield
    except HTCError:
        raise
    except ImportError as error:  # a package that a tokenizer or an encoder needs
        raise HTCImportError(f"The {what} {str(name)!r} cannot be loaded: {reason_of(error)}.") from error
    except OSError as error:
        raise HTCOSError(
            f"There is no {what} {str(name)!r} that can be loaded. Give a folder or a model id of the Hub. The reason: {error}"
        ) from error
    except Exception as error:
        raise HTCOSError(
            f"The {what} {str(name)!r} cannot be loaded: {type(error).__name__}, {reason_of(error)}.",
            mend="Its files are damaged or of another kind; save or download them again.",
        ) from error


def load_checkpoint(
    name_or_path: StrPath,
    coherence: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[HTCPreTrainedModel, Tokenizer, str]:
    """
    Model, tokenizer and public name of a checkpoint.

    Args:
        name_or_path (`str`): A folder or Hub id.
        coherence (`str`, *optional*): `"decoder"` or `"none"`, replaces that of its config.
        device (`str`, *optional*): Where the model goes, e.g. `"cpu"` or `"cuda:1"`. Defaults to a GPU where there is one.
        dtype (`str`, *optional*): Of the weights, e.g. `"bfloat16"`. Defaults to that of the checkpoint.
        revision (`str`, *optional*): Branch, tag or commit of a Hub repository.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether code that lies in the repository may run, of its
            text encoder or tokenizer.

    Raises:
        `HTCOSError`: no such checkpoint, or one that is not whole: damaged files, weights that are missing or not finite, no
        tokenizer, a tokenizer with more words than the model has vectors for. `HTCError`: a file, an ONNX export, a model of
        another package, an unknown `coherence`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from hf_htc.hub.onnx_classifier import FLOAT_FILE, REPORT_FILE
    from hf_htc.models.configuration_htc import HTCConfig
    from hf_htc.models.modeling_htc import HTCPreTrainedModel
    from hf_htc.models.saving import public_name
    from hf_htc.models.whole_files import finish_update

    if os.path.isfile(name_or_path):
        raise HTCError(
            f"{str(name_or_path)!r} is a file, not a checkpoint folder. Two files of predictions are scored by `hf-htc compare`."
        )
    if os.path.sep in str(name_or_path) and not os.path.isdir(name_or_path) and str(name_or_path).count("/") != 1:
        raise HTCFileNotFoundError(f"There is no checkpoint folder {str(name_or_path)!r}.")
    if all((Path(name_or_path) / file).is_file() for file in (FLOAT_FILE, REPORT_FILE)):
        raise HTCError(f"{str(name_or_path)!r} is an ONNX export, which only predicts; give the checkpoint it was made from.")
    _check_coherence(coherence)
    with contextlib.suppress(OSError):  # a folder that one may only read loads all the same
        finish_update(name_or_path)
    with naming("checkpoint", name_or_path):
        _check_config_file(name_or_path, revision)
        # A model of another kind does not know the option; it is refused below, by what it is.
        hub = {"revision": revision, "trust_remote_code": trust_remote_code}
        ours = coherence is not None and isinstance(AutoConfig.from_pretrained(name_or_path, **hub), HTCConfig)
        changes = {"coherence": coherence} if ours else {}
        model = AutoModelForSequenceClassification.from_pretrained(name_or_path, dtype=dtype or "auto", **hub, **changes)
    if not isinstance(model, HTCPreTrainedModel):
        raise HTCError(f"{str(name_or_path)!r} holds a {type(model).__name__}, not a model of hf_htc.")
    tokenizer = load_tokenizer(name_or_path, **hub)
    num_words, num_vectors = _vocabulary_size(tokenizer), model.get_input_embeddings().num_embeddings
    if num_words > num_vectors:
        raise HTCOSError(
            f"The tokenizer in the checkpoint {str(name_or_path)!r} has {num_words:,} tokens, the model has vectors for "
            f"{num_vectors:,}: it is another model's.",
            mend="Save the tokenizer that the model was trained with beside it, e.g. by `hf_htc.save(model, tokenizer, folder)`.",
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    # torch.device raises a RuntimeError, and a torch without CUDA an AssertionError.
    with refusing(f"The model cannot go to the device {device!r}", (RuntimeError, AssertionError)):
        model.to(device)  # type: ignore[arg-type]
    return model, tokenizer, public_name(name_or_path) or Path(name_or_path).name


def load_classifier(
    name_or_path: StrPath, coherence: str | None = None, **loading: Any
) -> tuple[PredictionMixin, Tokenizer, str]:
    """As [`load_checkpoint`], and the [`OnnxClassifier`] of a folder that `hf-htc export` wrote; it predicts with the same
    options, but for `coherence`, which its graph has or has not, and has none of the others."""
    from .onnx_classifier import REPORT_FILE, OnnxClassifier

    if not (Path(name_or_path) / REPORT_FILE).is_file():
        return load_checkpoint(name_or_path, coherence, **loading)
    _check_coherence(coherence)
    for name, value in loading.items():
        if value:
            raise HTCError(
                f"`{name}` is {value!r}, but {str(name_or_path)!r} is an ONNX export: what it runs on and in which precision is "
                "settled in it.",
                mend=f"Leave `{name}` out, or give the checkpoint that it was made from.",
            )
    model = OnnxClassifier(name_or_path)
    own = "none" if model.config.coherence == "none" else "decoder"
    if coherence not in (None, own):
        raise HTCError(
            f"`coherence` is {coherence!r}, but the export {str(name_or_path)!r} has {own!r} in its graph. Give the checkpoint "
            "that it was made from, or export that again."
        )
    return model, model.tokenizer, Path(name_or_path).resolve().name


def load_tokenizer(name_or_path: StrPath, **hub: Any) -> Tokenizer:
    """
    The tokenizer of a checkpoint or an export.

    Args:
        name_or_path (`str`): A folder or Hub id.
        hub: `revision`, `trust_remote_code`, ... of `AutoTokenizer.from_pretrained`.

    Raises:
        `HTCOSError`: there is none, or its files are damaged; the folder is named.
    """
    from transformers import AutoTokenizer

    if os.path.isdir(name_or_path) and not any(
        fnmatch(file, pattern) for file in os.listdir(name_or_path) for pattern in _TOKENIZER_FILES
    ):
        raise HTCFileNotFoundError(
            f"There is no tokenizer in the checkpoint {str(name_or_path)!r}.",
            mend="Save it beside the model: `tokenizer.save_pretrained(folder)`, or both by `hf_htc.save`.",
        )
    with naming("tokenizer in the checkpoint", name_or_path):
        return AutoTokenizer.from_pretrained(name_or_path, **hub)


def _check_coherence(coherence):
    if coherence not in (None, "decoder", "none"):
        raise HTCError(f"`coherence` is {coherence!r}; allowed are 'decoder', 'none'.")


def _check_config_file(name_or_path, revision):
    """What transformers says of a config.json that it cannot read does not name it, or it takes what nobody should."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from hf_htc.models.version import __version__
    from hf_htc.models.whole_checkpoints import find_config, read_config

    file = find_config(name_or_path, revision=revision)
    kind = None if file is None else read_config(file).get("model_type")
    if kind is not None and kind not in CONFIG_MAPPING:
        raise HTCOSError(
            f"The `model_type` in the config.json of {str(name_or_path)!r} is {kind!r}, which neither hf_htc {__version__} nor "
            "transformers knows.",
            mend="Update hf_htc, or import the package that the model belongs to first.",
        )


def _vocabulary_size(tokenizer):
    """One more than the largest token id: ids may have gaps."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1
