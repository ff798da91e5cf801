"""PEFT adapters on the Hub: small repositories that name the checkpoint they belong to.

transformers and PEFT load an adapter by loading `base_model_name_or_path` first, so that must be a whole checkpoint with a
taxonomy in its config. Its classifier is replaced by the adapter's; its encoder and its settings are used as they are.

Thresholds and conformal sets belong to a classifier, so that a calibrated adapter brings its own, in `htc_calibration.json`: both
take the place of the base's when the adapter is loaded by one of our classes or through transformers' Auto classes. PEFT itself
does not know the file: after `PeftModel.from_pretrained(base, adapter)` call `load_calibration(model, adapter)`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hf_htc.logging import get_logger
from hf_htc.models.calibration import CALIBRATION_FILE, KEYS, read_calibration, set_calibration
from hf_htc.models.errors import HTCError, HTCOSError, HTCTypeError
from hf_htc.models.saving import ADAPTER_FILES, public_name
from hf_htc.models.whole_files import whole_file


if TYPE_CHECKING:
    from hf_htc.annotations import Model, StrPath


logger = get_logger(__name__)

# An earlier whole checkpoint in an adapter's folder would be taken for its base.
WHOLE_CHECKPOINT = ("config.json", "model.safetensors", "model.safetensors.index.json")

# What two configs of one model may differ in.
_INDIFFERENT = {
    "_name_or_path", "transformers_version", "hf_htc_version", "auto_map", "architectures", "dtype", "use_cache",
    "attn_implementation", "custom_pipelines", "transformers_weights", "label_counts", "num_train_documents",
}  # fmt: skip


def is_peft_model(model, base_model=None):
    """
    Whether a model is a PEFT model around one of ours.

    Raises:
        `ValueError`: `base_model` given for a model without an adapter. `TypeError`: an adapter attached by transformers.
    """
    if hasattr(model, "merge_and_unload") and hasattr(model, "get_base_model"):
        return True
    if getattr(model, "_hf_peft_config_loaded", False):
        raise HTCTypeError(
            "`model` carries an adapter that transformers attached. Load it with `PeftModel.from_pretrained(base, adapter)` and "
            "pass that, or its `merge_and_unload()`."
        )
    if base_model is not None:
        raise HTCError(f"`base_model` is {str(base_model)!r}, but the model has no adapter; leave it out.")
    return False


def make_base(model, tokenizer, base_model, write, api=None):
    """
    The base checkpoint of an adapter, written when it does not exist, compared with the model when it does.

    Args:
        model (`peft.PeftModel`), tokenizer: The model with its adapter.
        base_model (`str` or `None`): Folder (one that does not exist yet as `./name` or absolute) or Hub id.
        write (`Callable`): [`save`] or a push; called with the base model, the tokenizer and `base_model`.
        api (`huggingface_hub.HfApi`, *optional*): When pushing; `base_model` must then be a Hub id.

    Returns:
        `str`: what `base_model_name_or_path` becomes.

    Raises:
        `ValueError`: no base is known; it is a folder, where a Hub id is needed; it is another model than the adapter's.
    """
    under = model.get_base_model()
    base_model = str(base_model or public_name(getattr(under.config, "_name_or_path", "") or ""))
    if not base_model:
        raise HTCError(
            "`model` is a PEFT model, and an adapter needs a saved base checkpoint to be loaded on. Pass `base_model=`: "
            + ("a Hub id" if api else "a folder or Hub id")
            + ", made if missing. Or save `model.merge_and_unload()`, which needs no base."
        )
    is_folder = Path(base_model).exists() or not public_name(base_model)
    if api is not None and is_folder:
        raise HTCError(
            f"`base_model` is the folder {base_model!r}, where nobody else can load it; give the Hub id it has or shall have."
        )
    if Path(base_model).exists() if is_folder else (api is None or api.repo_exists(base_model)):
        _check_same(under, base_model, api)
        return base_model
    logger.warning(f"There is no base checkpoint {base_model!r} yet; it is written from the model.")
    write(without_adapter(under), tokenizer, base_model, model_name="A base for adapters; its classifier is not trained")
    return base_model


def write_adapter(model, folder, base_model):
    """Writes `adapter_config.json` and `adapter_model.safetensors` into a partial folder; gives the model under the adapter."""
    under, folder = model.get_base_model(), Path(folder)
    under._clean_names()
    config = model.peft_config[model.active_adapter]
    before, config.base_model_name_or_path = config.base_model_name_or_path, base_model
    try:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            # The embeddings are the base's; PEFT would ask the Hub whether they are.
            model.save_pretrained(temporary, selected_adapters=[model.active_adapter], save_embedding_layers=False)
            written = Path(temporary) / ("" if model.active_adapter == "default" else model.active_adapter)
            for name in ADAPTER_FILES:
                os.replace(written / name, folder / name)
    finally:
        config.base_model_name_or_path = before
    if is_calibrated(under.config):
        write_calibration(under.config, folder)
    return under


def write_calibration(config, folder):
    """Writes a config's thresholds and conformal sets into an adapter's folder, as a whole; also where there are none, which then
    are not the base's."""
    with whole_file(Path(folder) / CALIBRATION_FILE) as partial:
        partial.write_text(json.dumps({key: getattr(config, key) for key in KEYS}, indent=2) + "\n", encoding="utf-8")


def is_calibrated(config):
    """Whether a config has thresholds or conformal sets."""
    return any(getattr(config, key) is not None for key in KEYS)


def load_calibration(model: Model, adapter: StrPath) -> Model:
    """
    Gives a PEFT model the thresholds and conformal sets that lie beside its adapter; without such a file it keeps its base's.

    Args:
        model (`peft.PeftModel` around a [`HTCPreTrainedModel`]): From `PeftModel.from_pretrained(base, adapter)`.
        adapter (`str`): Folder or Hub id of the adapter.

    Returns:
        The model.
    """
    calibration = read_calibration(adapter)
    if calibration is not None:
        set_calibration(model.get_base_model().config, calibration)  # type: ignore[operator]
    return model


def without_adapter(under):
    """A copy of the model under an adapter as it was before the adapter; weights are shared, not copied."""
    with torch.device("meta"):
        plain = type(under)(under.config)
    wanted, tensors = plain.state_dict(), {}
    for name, tensor in under.state_dict().items():
        name = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if name in wanted:
            tensors[name] = tensor
    plain.load_state_dict(tensors, assign=True, strict=True)
    return plain.eval()


def _check_same(under, base_model, api):
    """Raises `ValueError` unless the base checkpoint has the model's settings and the weights under its adapter."""
    from transformers import AutoModelForSequenceClassification

    token = {} if api is None or api.token is None else {"token": api.token}
    try:
        saved = AutoModelForSequenceClassification.from_pretrained(base_model, **token)
    except OSError as error:
        raise HTCOSError(
            f"There is no base checkpoint {base_model!r} that can be loaded. A folder that shall be made is written as "
            f"{'./' + base_model!r}. The reason: {error}"
        ) from error
    mine, theirs = (_settings(model.config.to_dict()) for model in (under, saved))
    own = KEYS if is_calibrated(under.config) else ()  # written beside the adapter
    for key in sorted((mine.keys() | theirs.keys()) - set(own)):
        if mine.get(key) != theirs.get(key):
            shown = "" if len(f"{mine.get(key)}{theirs.get(key)}") > 200 else f": {theirs.get(key)!r}, here {mine.get(key)!r}"
            raise HTCError(
                f"The base checkpoint {base_model!r} has another `{key}` than the model under the adapter{shown}. Whoever loads "
                "the adapter gets the base's; give another `base_model`, which is made if missing."
            )
    theirs = saved.state_dict()
    for name, tensor in without_adapter(under).state_dict().items():
        # The adapter brings its own classifier.
        if not name.startswith("classifier.") and not torch.equal(tensor.cpu().float(), theirs[name].cpu().float()):
            raise HTCError(
                f"The base checkpoint {base_model!r} has other weights than the model under the adapter, first in {name!r}. Give "
                "the checkpoint it was trained from, or another `base_model`, which is made if missing."
            )


def _settings(config):
    plain = json.loads(json.dumps(config, default=str))
    return {
        key: _settings(value) if key == "text_config" else value
        for key, value in plain.items()
        if key not in _INDIFFERENT and not key.startswith("_")
    }
