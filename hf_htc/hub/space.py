"""The files of a Space that runs the demo, and their push."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from huggingface_hub import HfApi

from hf_htc.models.saving import public_name
from hf_htc.models.version import __version__
from hf_htc.models.whole_files import finish_update, new_folder

from .demo import import_gradio, read_examples
from .loading import load_classifier
from .local_paths import remove_local_paths
from .onnx_classifier import FLOAT_FILE, REPORT_FILE
from .sharing import CHECKPOINT_FILES, check_adapter_base, clear_errors, copy_files, gradio_space


if TYPE_CHECKING:
    from collections.abc import Sequence

    from huggingface_hub import CommitInfo

    from hf_htc.annotations import DecoderKind, StrPath, Thresholds


_APP = '''\
"""The demo of {name}. `hf-htc demo --space` wrote this file."""

{imports}from hf_htc.hub import launch_demo


if __name__ == "__main__":
    launch_demo({arguments})
'''
_README = """\
# {title}

Hierarchical text classification with {checkpoint}: type a text, and see its paths in the taxonomy as a tree with scores.

`app.py` runs anywhere: `pip install -r requirements.txt`, then `python app.py`.
"""
ONNX_FILES = ("config.json", FLOAT_FILE, f"{FLOAT_FILE}*data", REPORT_FILE, "tokenizer*", "vocab*", "merges.txt", "*.model",
              "special_tokens_map.json", "added_tokens.json", "taxonomy.json", "README.md")  # fmt: skip
_NAME = "checkpoint"


def write_space(
    checkpoint: str,
    folder: StrPath,
    examples: StrPath | Sequence[str] | None = None,
    threshold: Thresholds | None = None,
    decoder: DecoderKind = "threshold",
    title: str | None = None,
) -> Path:
    """
    Writes `app.py`, `requirements.txt`, `README.md` and, of a local checkpoint, the folder `checkpoint`. The checkpoint is loaded
    once, to be sure that it does. The folder is there as a whole or not at all.

    Args:
        checkpoint, examples, threshold, decoder, title: As in [`launch_demo`].
        folder (`str`): New or empty.

    Returns:
        `pathlib.Path`: the folder.

    Raises:
        `FileExistsError`: `folder` is not empty. `ValueError`: an adapter whose base checkpoint is a folder. Else as
        [`launch_demo`].
    """
    with new_folder(folder) as partial:
        gradio, texts = import_gradio(), None if examples is None else read_examples(examples)
        source = Path(checkpoint) if os.path.isdir(checkpoint) else None
        if source is not None:
            finish_update(source)
            check_adapter_base(source)
        model, _, name = load_classifier(checkpoint)
        model.decision_boundary(threshold)
        model.label_decoder(decoder)
        if source is not None:
            copy_files(source, partial / _NAME, ONNX_FILES if (source / REPORT_FILE).is_file() else CHECKPOINT_FILES)
        if texts is not None:
            lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
            (partial / "examples.jsonl").write_text("".join(lines), encoding="utf-8")
        (partial / "app.py").write_text(
            _app(name, source is not None, texts is not None, threshold, decoder, title), encoding="utf-8"
        )
        packages = [f"hf_htc[demo]>={__version__}", *(["onnxruntime"] if (partial / _NAME / REPORT_FILE).is_file() else [])]
        (partial / "requirements.txt").write_text("".join(f"{package}\n" for package in packages), encoding="utf-8")
        (partial / "README.md").write_text(_readme(name, source, title, gradio.__version__), encoding="utf-8")
        remove_local_paths(partial, [] if source is None else [source])
    return Path(folder)


def push_space(
    folder: StrPath, repo_id: str, private: bool | None = None, token: str | None = None, commit_message: str | None = None
) -> CommitInfo:
    """
    Pushes what [`write_space`] wrote as a Space, in one commit.

    Args:
        folder (`str`): The folder.
        repo_id (`str`): e.g. `"me/news-demo"`; made if missing.
        private (`bool`, *optional*): Whether a new Space is private.
        token (`str`, *optional*): Access token; defaults to the stored one.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        `ValueError`: a bad `repo_id`; a Space that runs something else. `OSError`: the Hub refused, or there is no connection.
    """
    api = HfApi(token=token)
    with clear_errors(repo_id):
        remove_local_paths(folder)
        repo_id = gradio_space(api, repo_id, private, "the demo")
        return api.upload_folder(
            repo_id=repo_id, repo_type="space", folder_path=str(folder), commit_message=commit_message or "Upload hf_htc demo"
        )


def _app(name, is_local, has_examples, threshold, decoder, title):
    arguments = [f'HERE / "{_NAME}"' if is_local else repr(name)]
    if has_examples:
        arguments.append('examples=HERE / "examples.jsonl"')
    if threshold is not None:
        arguments.append(f"threshold={threshold!r}")
    if decoder != "threshold":
        arguments.append(f"decoder={decoder!r}")
    if title is not None or is_local:
        arguments.append(f"title={title or name!r}")
    here = is_local or has_examples
    text = _APP.format(
        name=name.replace("\\", "/").replace('"', "'"),
        imports="from pathlib import Path\n\n" if here else "",
        arguments=", ".join(arguments),
    )
    return text.replace("\n\n\nif", "\n\n\nHERE = Path(__file__).parent\n\nif") if here else text


def _readme(name, source, title, sdk_version):
    """The card of the Space; its front matter is what the Hub starts it by."""
    header = {
        "title": title or name,
        "emoji": "🌳",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": sdk_version,
        "app_file": "app.py",
        "tags": ["hierarchical-text-classification", "hf_htc"],
    }
    models = [name] if source is None else _adapter_base(source)
    if models:
        header["models"] = models
    shown = f"[{name}](https://huggingface.co/{name})" if source is None else f"the checkpoint in `{_NAME}`"
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + _README.format(title=" ".join((title or name).split()), checkpoint=shown)


def _adapter_base(source):
    file = source / "adapter_config.json"
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") if file.is_file() else None
    return [base] if base and public_name(base) else []
