"""Saving a checkpoint with everything a stranger needs, and pushing it to the Hub."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi

from hf_htc.models.calibration import CALIBRATION_FILE
from hf_htc.models.errors import HTCError
from hf_htc.models.saving import ADAPTER_FILES
from hf_htc.models.whole_files import whole_folder_update, write_text

from .adapters import WHOLE_CHECKPOINT, is_peft_model, make_base, write_adapter
from .card import model_card, write_card
from .eval_results import FILE, write_eval_results
from .local_paths import cut_local_paths, remove_local_paths
from .sharing import clear_errors


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from hf_htc.annotations import Model, StrPath, Tokenizer
    from hf_htc.models.modeling_htc import HTCPreTrainedModel


def save(
    model: Model,
    tokenizer: Tokenizer,
    folder: StrPath,
    run: dict[str, Any] | None = None,
    model_id: str | None = None,
    model_name: str | None = None,
    example_text: str = "A text of your own.",
    base_model: str | None = None,
) -> Path:
    """
    Writes weights, config, code, tokenizer, `taxonomy.json`, `run.json`, a model card and, for scores on a data set of the Hub,
    `.eval_results/hf_htc.yaml` into a folder; all of them or nothing, see [`whole_folder_update`].

    The folder loads (a) with `import hf_htc` through `AutoModel` and `AutoModelForSequenceClassification`, (b) without the
    package through the same classes with `trust_remote_code=True`.

    Of a PEFT model the adapter is written: the low-rank matrices and the trained classifier. What they belong to is the *base
    checkpoint* `base_model`, a saved hf_htc model with the same encoder, taxonomy and settings; the bare text encoder cannot be
    it, because it knows no labels. The folder then loads in the same two ways and through `PeftModel.from_pretrained(base,
    folder)`, as long as the base is there. Save `model.merge_and_unload()` instead for one checkpoint without a base.

    Args:
        model ([`HTCPreTrainedModel`] or a PEFT model around one): The model.
        tokenizer (`PreTrainedTokenizer`): Saved beside it.
        folder (`str`): Made if missing; an older checkpoint in it stays loadable until the new one is whole.
        run (`dict`, *optional*): From [`run_manifest`]; fills the card.
        model_id (`str`, *optional*): What the card's snippet loads; defaults to the folder's name.
        model_name, example_text (`str`, *optional*): For the card.
        base_model (`str`, *optional*): For a PEFT model: Hub id or folder of its base checkpoint. A folder that does not exist
            (`"./base"`, or absolute) is made from the model. Defaults to the Hub id from which the base was loaded.

    Returns:
        `pathlib.Path`: the folder.

    Raises:
        `ValueError`: a PEFT model whose base checkpoint is not known, or has other weights or settings than the model;
        `base_model` for a model that is none; a local path in what was written, where it cannot be taken out: the folder is
        there, but not to be published. `TypeError`: an adapter that was attached without PEFT's model class.
    """
    if is_peft_model(model, base_model):
        if base_model is not None and Path(base_model).resolve() == Path(folder).resolve():
            raise HTCError(f"`folder` and `base_model` are both {str(folder)!r}; the adapter needs a folder of its own.")
        base_model = make_base(model, tokenizer, base_model, save)
    return _write(model, tokenizer, Path(folder), run, model_id, model_name, example_text, base_model)


def _write(model, tokenizer, folder, run, model_id, model_name=None, example_text="A text of your own.", base_model=None):
    """What [`save`] writes; `base_model` has been found to fit."""
    problem, removes = None, ADAPTER_FILES if base_model is None else WHOLE_CHECKPOINT
    # What tells of an earlier checkpoint goes with it.
    with whole_folder_update(folder, removes=(*removes, CALIBRATION_FILE, "run.json", FILE)) as partial:
        if base_model is None:
            under = model
            model.save_pretrained(partial)
        else:
            under = write_adapter(model, partial, base_model)
        save_tokenizer(under, tokenizer, partial)
        under.config.get_hierarchy().save(partial / "taxonomy.json")
        _describe(under, partial, run, model_id or folder.name, model_name, example_text, base_model)
        try:
            remove_local_paths(partial)
        except HTCError as error:
            problem = error  # no reason to lose the model
    if problem is not None:
        raise problem
    return folder


def save_run(
    model: HTCPreTrainedModel,
    folder: StrPath,
    run: dict[str, Any] | None,
    model_id: str | None = None,
    model_name: str | None = None,
    example_text: str = "A text of your own.",
    base_model: str | None = None,
) -> None:
    """
    Writes what a run says of a checkpoint that [`save`] has written: `run.json`, card and `.eval_results/hf_htc.yaml`.

    Args:
        model, folder, run, model_id, model_name, example_text, base_model: As in [`save`].

    Raises:
        `ValueError`: a local path in what was written.
    """
    folder = Path(folder)
    with whole_folder_update(folder, removes=(FILE,)) as partial:
        _describe(model, partial, run, model_id or folder.name, model_name, example_text, base_model)
        remove_local_paths(partial)


def _describe(model, folder, run, model_id, model_name, example_text, base_model):
    if run is not None:
        run = cut_local_paths(run)
        write_text(folder / "run.json", json.dumps(run, indent=2, ensure_ascii=False) + "\n")
    write_eval_results(run, folder)
    write_card(model_card(model, model_id, model_name, run, example_text, base_model), folder)


def save_tokenizer(model: HTCPreTrainedModel, tokenizer: Tokenizer, folder: StrPath) -> None:
    """Writes the tokenizer without a word about where this machine found it, as a whole or not at all."""
    before = tokenizer.name_or_path, tokenizer.init_kwargs
    tokenizer.name_or_path = model.config.text_config._name_or_path or ""  # type: ignore[union-attr]
    # transformers would write them down.
    tokenizer.init_kwargs = {k: v for k, v in before[1].items() if k not in ("is_local", "local_files_only")}
    try:
        with whole_folder_update(folder) as partial:
            tokenizer.save_pretrained(partial)
    finally:
        tokenizer.name_or_path, tokenizer.init_kwargs = before


def push(
    model: Model,
    tokenizer: Tokenizer,
    repo_id: str,
    run: dict[str, Any] | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    base_model: str | None = None,
    **card: str,
) -> CommitInfo:
    """
    Saves as [`save`] does and uploads the folder to the Hub, in one commit.

    Args:
        repo_id (`str`): e.g. `"me/hiagm-python-docs"`; made if missing.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): Access token; defaults to the stored one.
        base_model (`str`, *optional*): For a PEFT model: the Hub id of its base checkpoint. Pushed first, from the model, when
            there is no such repository. Defaults to the id from which the base was loaded.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        `OSError`: the Hub refused (no token, no right to write, no connection); nothing is left on this machine, and a
        repository that was there keeps its content. `ValueError`: a bad `repo_id`, or as in [`save`].

    Example:

    ```python
    push(model, tokenizer, "me/hiagm-news")
    push(peft_model, tokenizer, "me/hiagm-news-lora", base_model="me/hiagm-news-base")
    ```
    """
    api = HfApi(token=token)
    with clear_errors(repo_id):
        if is_peft_model(model, base_model):

            def push_base(base, tokenizer, base_id, **options):
                push(base, tokenizer, base_id, private=private, token=token, **options)

            base_model = make_base(model, tokenizer, base_model, push_base, api)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            _write(model, tokenizer, Path(folder), run, repo_id, base_model=base_model, **card)
            return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message or "Upload hf_htc model")
