"""Loaded means whole: what a checkpoint must bring before a model of it may predict.

A checkpoint without its classifier loads in transformers with random weights and a table in the log; here it is an error.
"""

import json
import math
import os
from contextlib import contextmanager

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from transformers.utils import logging

from .errors import HTCError, HTCOSError, reason_of


logger = logging.get_logger(__name__)

CONFIG_FILE = "config.json"
AGAIN = "Save or download the checkpoint again."
# What reading a damaged file ends in, beside the exceptions of safetensors, which do not travel with transformers.
_OF_FILES = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, ImportError, OverflowError)


# ---------------------------------------------------------------------------------------------------------------- configs


def find_config(name_or_path, subfolder=None, revision=None, cache_dir=None):
    """The path of a checkpoint's config.json: in its folder, or in the Hub's cache; `None` where there is none."""
    if os.path.isdir(name_or_path):
        path = os.path.join(name_or_path, subfolder or "", CONFIG_FILE)
        return path if os.path.isfile(path) else None
    file = f"{subfolder}/{CONFIG_FILE}" if subfolder else CONFIG_FILE
    try:
        found = try_to_load_from_cache(str(name_or_path), file, cache_dir=cache_dir, revision=revision)
    except HFValidationError:  # neither a folder nor a name that the Hub could have
        return None
    return found if isinstance(found, str) else None


def read_config(path):
    """
    The content of a config.json, read more strictly than transformers does, which takes the last of two equal keys, and `NaN`.

    Raises:
        `HTCOSError`: unreadable, no JSON object, a key that stands twice, a NaN, nested too deeply; the file is named.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream, object_pairs_hook=_unique_keys, parse_constant=_no_nan)
    except (OSError, ValueError, RecursionError) as error:
        raise HTCOSError(f"is no config that can be read: {reason_of(error)}.", file=path, mend=AGAIN) from error
    if not isinstance(content, dict):
        raise HTCOSError(f"holds a {type(content).__name__}; a config is a JSON object.", file=path, mend=AGAIN)
    return content


def _unique_keys(pairs):
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in content if keys.count(key) > 1)!r} stands twice in one object")
    return content


def _no_nan(literal):
    if literal == "NaN":
        raise ValueError("NaN is no value of an option")
    return float(literal)  # some text encoders have an infinite limit


def check_config_content(content, model_type):
    """
    Raises [`HTCError`] unless a config as it was saved is one of the method `model_type`, with its taxonomy and its labels.

    Args:
        content (`dict`): Of config.json.
        model_type (`str`): Of the config class that it shall become.
    """
    if not isinstance(content, dict):
        raise HTCError(f"It is a {type(content).__name__}; a config is a JSON object.")
    check_model_type(content, model_type)
    for key, value in content.items():
        if key != "text_config" and _has_non_finite(value):
            raise HTCError(f"`{key}` holds a number that is NaN or infinite.", field=key)
    if content.get("hierarchy") is None:
        raise HTCError(
            "It has lost its `hierarchy`, so that nothing is known of the labels' parents.",
            field="hierarchy",
        )
    labels = content.get("id2label")
    if labels is None:  # transformers does not write the names that it gives two labels by itself
        return
    if not isinstance(labels, dict):
        raise HTCError(
            f"`id2label` is a {type(labels).__name__}; it must be an object from label ids to names.", field="id2label"
        )
    missing = next((i for i in range(len(labels)) if i not in labels and str(i) not in labels), None)
    if missing is not None:
        raise HTCError(
            f"`id2label` has {len(labels)} labels, but none of the id {missing}; ids are 0 to {len(labels) - 1}.",
            field="id2label",
        )


def check_model_type(content, model_type):
    """Raises [`HTCError`] where a config names another method than the class that shall be made of it."""
    said = content.get("model_type", model_type)
    if said != model_type:
        raise HTCError(
            f"Its `model_type` is {said!r}, and this is a class of {model_type!r}. Load it with "
            "`AutoModelForSequenceClassification.from_pretrained`, which takes the class that fits.",
            field="model_type",
            value=said,
        )


def _has_non_finite(value):
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return True
    return False


@contextmanager
def option_errors():
    """The [`HTCError`] behind the exception in which a strict dataclass wraps it."""
    try:
        yield
    except StrictDataclassError as error:
        raise _unwrapped(error) from error


def _unwrapped(error):
    cause = error.__cause__
    if isinstance(cause, HTCError):
        return cause
    return HTCError(f"{reason_of(cause or error)}.")


@contextmanager
def config_errors(place):
    """
    Whatever is wrong with the content of a config, as one error that names it.

    Args:
        place (`str`, `os.PathLike` or `None`): The folder or Hub id of the config, where it is known.
    """
    try:
        yield
    except HTCOSError:
        raise
    except (StrictDataclassError, *_OF_FILES) as error:
        error = _unwrapped(error) if isinstance(error, StrictDataclassError) else error
        is_plain = isinstance(error, HTCError)  # and says how to mend it
        kind, mend = ("", None) if is_plain else (f"{type(error).__name__}, ", AGAIN)
        if not place:
            raise HTCError(f"The config is wrong: {kind}{reason_of(error)}.") from error
        raise HTCOSError(f"The config of {str(place)!r} is wrong: {kind}{reason_of(error)}.", mend=mend) from error


# ---------------------------------------------------------------------------------------------------------------- weights


@contextmanager
def loading_errors(place):
    """What transformers and safetensors raise of damaged files, as one [`HTCOSError`] that names the checkpoint."""
    try:
        yield
    except HTCError:
        raise
    except StrictDataclassError as error:
        raise _unwrapped(error) from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":
            raise HTCOSError(f"The weights of {place!r} are incomplete or damaged ({reason_of(error)}).", mend=AGAIN) from error
        if not isinstance(error, _OF_FILES):
            raise
        raise HTCOSError(f"The checkpoint {place!r} cannot be loaded: {reason_of(error)}.", mend=_mend_of(error)) from error


def _mend_of(error):
    """An `OSError` of transformers says itself what to do; of the others the file is at fault."""
    return None if isinstance(error, OSError) else AGAIN


def check_weights(model, info, place, may_be_partial=False):
    """
    Raises [`HTCOSError`] unless all weights of a model come from its checkpoint and are finite numbers.

    Args:
        model ([`HTCPreTrainedModel`]): Just loaded.
        info (`dict`): The `output_loading_info` of transformers: `missing_keys`, `unexpected_keys`, `mismatched_keys`.
        place (`str`): The checkpoint, for messages.
        may_be_partial (`bool`, *optional*, defaults to `False`): Whether parts of the classifier may be missing, and any weight
            may have another shape; these are named in a warning. Parts of the text encoder may never be missing.
    """
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = sorted(info["mismatched_keys"], key=lambda entry: entry[0])
    foreign = [] if getattr(model, "hf_quantizer", None) else [key for key in unexpected if _is_weight_of_ours(key)]
    lost = [key for key in missing if not (may_be_partial and key.startswith("classifier."))]
    train = "To start a training from it, pass `ignore_mismatched_sizes=True`, or take its text encoder with `from_text_encoder`."
    if lost:
        other = f"; instead it has {_named(foreign)}, as of another method or other options" if foreign else ""
        raise HTCOSError(
            f"The checkpoint {place!r} is not whole: it has no {_named(lost)}{other}.",
            mend=AGAIN if may_be_partial else f"{AGAIN} {train}",
        )
    if mismatched and not may_be_partial:
        key, found, wanted = mismatched[0]
        more = f" (and {len(mismatched) - 1} more)" if len(mismatched) > 1 else ""
        raise HTCOSError(
            f"The checkpoint {place!r} does not fit its config: {key!r} has the shape {tuple(found)}, the config asks for "
            f"{tuple(wanted)}{more}; a mismatch as of other labels, another encoder or other options.",
            mend=train,
        )
    if foreign and not may_be_partial:
        raise HTCOSError(
            f"The checkpoint {place!r} does not fit its config: it has {_named(foreign)}, for which a model of this config "
            "has no place.",
            mend="To leave them out knowingly, pass `ignore_mismatched_sizes=True`.",
        )
    fresh = [*missing, *(key for key, _, _ in mismatched)]
    if fresh:
        logger.warning(f"Newly initialised, since {place!r} has none that fit: {', '.join(fresh)}. Train the model before use.")
    broken = non_finite(model)
    if broken:
        raise HTCOSError(
            f"The checkpoint {place!r} has weights that are NaN or infinite as {model.dtype}: {_named(broken)}.",
            mend="It was saved after a training that diverged, is damaged, or needs a wider `dtype`.",
        )


def check_encoder_weights(model, encoder, info, place):
    """
    Raises [`HTCOSError`] unless all weights of a text encoder come from its checkpoint and are finite numbers.

    Args:
        model (`PreTrainedModel`): As transformers loaded it.
        encoder (`nn.Module`): The part of it that encodes text; a head or a decoder may be new, and so may a pooler, which
            checkpoints of language models do not have.
        info (`dict`): The `output_loading_info` of transformers.
        place (`str`): The checkpoint, for messages.
    """
    inside = {id(tensor) for tensor in encoder.parameters()}
    kept = {name for name, tensor in model.named_parameters() if id(tensor) in inside and "pooler." not in name}
    lost = sorted(kept & set(info["missing_keys"]))
    if lost:
        raise HTCOSError(f"The text encoder {place!r} is not whole: it has no {_named(lost)}.", mend=AGAIN)
    broken = non_finite(encoder)
    if broken:
        raise HTCOSError(f"The text encoder {place!r} has weights that are NaN or infinite: {_named(broken)}.", mend=AGAIN)


def _is_weight_of_ours(key):
    """Whether a weight that has no place shows another model: encoders may bring a pooler or a buffer that nobody reads."""
    return key.startswith("classifier.") or (
        key.startswith("model.") and key.endswith((".weight", ".bias")) and not key.startswith("model.pooler.")
    )


def _named(keys, limit=3):
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(map(repr, keys[:limit])) + more


def non_finite(model):
    """
    Names of the weights and saved buffers that hold a NaN or an infinity.

    One pass without copies, and one read per device; weights that are elsewhere (on the meta device, on disk, in the first
    process) are skipped.
    """
    if _waits_for_the_first_process():
        return []
    bounds = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, torch.Tensor):  # the extra state of a module
            continue
        tensor = tensor.detach()
        tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        # Eight-bit floats of quantised models have no infinities, nor the operation.
        is_wide = tensor.is_floating_point() and tensor.element_size() > 1
        if is_wide and tensor.device.type != "meta" and tensor.numel():
            bounds.setdefault(tensor.device, []).append((name, torch.stack(torch.aminmax(tensor)).isfinite().all()))
    return [
        name
        for rows in bounds.values()
        for (name, _), is_fine in zip(rows, torch.stack([fine for _, fine in rows]).tolist())
        if not is_fine
    ]


def _waits_for_the_first_process():
    """Whether FSDP will bring the weights from the first process of this machine: until then they are unset memory."""
    wants = all(
        os.environ.get(key, "false").lower() in ("true", "1", "yes")
        for key in ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    )
    is_running = torch.distributed.is_available() and torch.distributed.is_initialized()
    return wants and is_running and os.environ.get("LOCAL_RANK", "0") != "0"
