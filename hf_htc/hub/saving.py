"""Saving a checkpoint with everything a stranger needs, and pushing it to the Hub."""

import json
import os
import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from .card import model_card, write_card


def save(model, tokenizer, folder, run=None, model_id=None, model_name=None, example_text="A text of your own."):
    """
    Writes weights, config, code, tokenizer, `taxonomy.json`, `run.json` and a model card into a folder.

    The folder loads (a) with `import hf_htc` through `AutoModel` and `AutoModelForSequenceClassification`, (b) without the
    package through the same classes with `trust_remote_code=True`.

    Args:
        model ([`HTCPreTrainedModel`]): The model; a PEFT model after `merge_and_unload()`.
        tokenizer (`PreTrainedTokenizer`): Saved beside it.
        folder (`str`): Made if missing; an older checkpoint in it stays loadable until the new one is whole.
        run (`dict`, *optional*): From [`run_manifest`]; fills the card.
        model_id (`str`, *optional*): What the card's snippet loads; defaults to the folder's name.
        model_name, example_text (`str`, *optional*): For the card.

    Returns:
        `pathlib.Path`: the folder.

    Raises:
        `TypeError`: a PEFT model that is not merged.
    """
    if hasattr(model, "merge_and_unload"):
        raise TypeError(
            "`model` is a PEFT model. Save `model.merge_and_unload()`, which loads like any checkpoint, or the adapter alone "
            "with `model.save_pretrained(folder)`."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.name_or_path = model.config.text_config._name_or_path or ""
    for key in ("is_local", "local_files_only"):  # how this machine found it; transformers would write it down
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(folder)
    model.config.get_hierarchy().save(folder / "taxonomy.json")
    model.save_pretrained(folder)
    if run is not None:
        temporary = folder / ".run.json"
        temporary.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, folder / "run.json")
    write_card(model_card(model, model_id or folder.name, model_name, run, example_text), folder)
    return folder


def push(model, tokenizer, repo_id, run=None, private=None, token=None, commit_message=None, **card):
    """
    Saves as [`save`] does and uploads the folder to the Hub.

    Args:
        repo_id (`str`): e.g. `"me/hiagm-python-docs"`; made if missing.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): Access token; defaults to the stored one.

    Returns:
        `huggingface_hub.CommitInfo`
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as folder:
        save(model, tokenizer, folder, run, model_id=repo_id, **card)
        return api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message or "Upload hf_htc model")
