"""Pushing what is no model in memory: the metric, data sets, folders; and what the Hub's refusals mean."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from hf_htc.hub.dataset_card import describe_dataset
from hf_htc.hub.local_paths import remove_local_paths
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCOSError, HTCTypeError
from hf_htc.models.whole_files import finish_update, write_text


if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

    from hf_htc.annotations import StrPath
    from hf_htc.data import HTCDataset


METRIC = "hierarchical_f1"
# Files of a checkpoint folder that belong on the Hub; training state, logs and prediction files do not.
CHECKPOINT_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "adapter_config.json", "*.py", "tokenizer*", "vocab*",
    "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json", "chat_template*", "taxonomy.json", "run.json",
    "README.md", "report_*.md", "report_*.html", ".eval_results/*.yaml",
)  # fmt: skip
DATASET_FILES = ("*.md", "LICENSE*", "taxonomy.txt", "**/*.parquet", "**/*.jsonl", "**/*.csv", "**/*.tsv", "**/*.json")


@contextlib.contextmanager
def clear_errors(repo_id):
    """
    Turns what the Hub answers into one sentence that says what to do.

    Raises:
        `ValueError`: a `repo_id` that is none. `OSError`: a refusal of the Hub, or no connection to it.
    """
    try:
        yield
    except HFValidationError as error:
        raise HTCError(
            f"{str(repo_id)!r} is no repository id. Write `name` or `user/name`, without `models/`, `datasets/` or `spaces/`."
        ) from error
    except LocalTokenNotFoundError as error:
        raise HTCOSError(f"Nothing was pushed to {repo_id!r}: {_NO_TOKEN}") from error
    except OfflineModeIsEnabled as error:
        raise HTCOSError(f"Nothing was pushed to {repo_id!r}: HF_HUB_OFFLINE is set; unset it to push.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        said = error.server_message or (str(error).strip().splitlines() or [""])[0]
        reason = {
            401: _NO_TOKEN,
            403: f"the token has no right to write there ({said}). Take a token with write access, or a name of your own.",
            404: f"the Hub does not find it ({said}). Private repositories need a token that may see them.",
            409: f"the name is taken by something else ({said}). Take another name.",
        }.get(status, f"the Hub answered {status}: {said}")
        raise HTCOSError(f"Nothing was pushed to {repo_id!r}: {reason}") from error
    except Exception as error:
        # Connection errors of the HTTP client, which differs between versions of huggingface_hub.
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "requests") and not isinstance(
            error, ConnectionError
        ):
            raise
        raise HTCOSError(f"Nothing was pushed to {repo_id!r}: there is no connection to the Hub ({error}).") from error


_NO_TOKEN = "the Hub does not know who you are. Log in with `hf auth login`, or pass a token with write access."


def push_metric(
    repo_id: str, private: bool | None = None, token: str | None = None, commit_message: str | None = None
) -> CommitInfo:
    """
    Pushes the metric as a Space: page, card and code. `evaluate.load(repo_id)` then works without the package.

    Args:
        repo_id (`str`): Must end in `hierarchical_f1`: `evaluate.load` looks for a script of the Space's name.
        private (`bool`, *optional*): Whether a new Space is private.
        token (`str`, *optional*): Access token; defaults to the stored one.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        `ValueError`: another name; a Space that runs something else. `OSError`: the Hub refused, or there is no connection.

    Example:

    ```python
    push_metric("me/hierarchical_f1")
    ```
    """
    if repo_id.split("/")[-1] != METRIC:
        raise HTCError(f"`repo_id` is {repo_id!r}; a Space of this metric must be named `{METRIC}`, e.g. 'me/{METRIC}'.")
    api = HfApi(token=token)
    with clear_errors(repo_id), tempfile.TemporaryDirectory() as folder:
        repo_id = gradio_space(api, repo_id, private, "a metric")
        for source in resources.files("hf_htc.metrics.hierarchical_f1").iterdir():
            if source.is_file() and source.name != "__init__.py":
                content = source.read_bytes()
                if source.name == "README.md":
                    content = content.replace(f'"metrics/{METRIC}")  # the folder, or'.encode(), f'"{repo_id}")  #'.encode())
                (Path(folder) / source.name).write_bytes(content)
        return api.upload_folder(
            repo_id=repo_id, repo_type="space", folder_path=folder, commit_message=commit_message or "Upload hierarchical F1"
        )


def gradio_space(api, repo_id, private, what):
    """The full id of a Space that runs Gradio, made if missing. Raises `ValueError` for a Space that runs something else."""
    repo_id = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True).repo_id
    sdk = getattr(api.space_info(repo_id), "sdk", None)
    if sdk not in (None, "gradio"):
        raise HTCError(f"{repo_id!r} is already a Space of another kind ({sdk}); {what} is a gradio Space. Take another name.")
    return repo_id


def push_dataset(
    loaded: HTCDataset | StrPath,
    repo_id: str,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> CommitInfo:
    """
    Pushes a data set in the Hub's layout: `load_htc_dataset(repo_id)` and `datasets.load_dataset(repo_id)` then load it.

    Args:
        loaded ([`HTCDataset`] or `str`): What [`load_htc_dataset`] gave, or a folder that it reads. A folder whose `README.md`
            declares `configs` goes up as it is; another is brought into that form.
        repo_id (`str`): e.g. `"me/news"`; made if missing.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): Access token; defaults to the stored one.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        `FileNotFoundError`, `ValueError`, `TypeError`: no data set, a faulty one, or one with paths of this machine. `OSError`:
        the Hub refused, or there is no connection.
    """
    from hf_htc.data import HTCDataset, load_htc_dataset

    api, as_it_is = HfApi(token=token), None
    if isinstance(loaded, (str, Path)):
        from hf_htc.data.sources import has_configs

        folder = Path(loaded)
        if folder.exists():
            as_it_is = folder if has_configs(folder / "README.md") else None
        loaded = load_htc_dataset(loaded, validation_fraction=0)  # also a check of every row
    elif not isinstance(loaded, HTCDataset):
        if not (isinstance(loaded, tuple) and len(loaded) == 2):
            raise HTCTypeError(f"`loaded` is a {type(loaded).__name__}; pass what `load_htc_dataset` gave, or a folder.")
        loaded = HTCDataset(*loaded)
    with clear_errors(repo_id), tempfile.TemporaryDirectory() as temporary:
        repo_id = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True).repo_id
        staged = Path(temporary) / "dataset"
        if as_it_is is None:
            loaded.save(staged)
            describe_dataset(staged / "README.md", loaded, repo_id)
        else:
            copy_files(as_it_is, staged, DATASET_FILES)
        remove_local_paths(staged, [] if as_it_is is None else [as_it_is])
        return api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=staged,
            commit_message=commit_message or "Upload hierarchical text classification data set",
        )


def push_checkpoint(
    folder: StrPath, repo_id: str, private: bool | None = None, token: str | None = None, commit_message: str | None = None
) -> CommitInfo:
    """
    Pushes a checkpoint folder as it stands, without training state; the card is written where there is none.

    Args:
        folder (`str`): What [`save`] or a Trainer wrote: a model or an adapter. It is loaded once, to be sure that it does.
        repo_id (`str`): e.g. `"me/hiagm-news"`; made if missing. The card's snippet gets this id.

    Returns:
        `huggingface_hub.CommitInfo`

    Raises:
        `ValueError`: the folder holds no model of hf_htc, an adapter whose base checkpoint is a folder, or paths of this machine.
        `OSError`: it does not load; the Hub refused; there is no connection.
    """
    folder, api = Path(folder), HfApi(token=token)
    finish_update(folder)
    check_adapter_base(folder)
    model = _load(folder)
    with clear_errors(repo_id), tempfile.TemporaryDirectory() as temporary:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        staged = Path(temporary) / "checkpoint"
        copy_files(folder, staged, CHECKPOINT_FILES)
        _complete(staged, folder.resolve().name, repo_id, model)
        remove_local_paths(staged, [folder])
        return api.upload_folder(repo_id=repo_id, folder_path=staged, commit_message=commit_message or "Upload hf_htc model")


def _load(folder):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from hf_htc.models.modeling_htc import HTCPreTrainedModel

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    if not isinstance(model, HTCPreTrainedModel):
        raise HTCError(f"{str(folder)!r} holds a {type(model).__name__}, not a model of hf_htc.")
    AutoTokenizer.from_pretrained(folder)
    return model


def check_adapter_base(folder):
    """Raises `ValueError` for an adapter that only this machine can load."""
    file = folder / "adapter_config.json"
    if file.is_file():
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
        if Path(base).exists() or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base):
            raise HTCError(
                f"The adapter in {str(folder)!r} belongs to the base checkpoint {base!r}, a folder that nobody else can load. "
                'Push the base, and save the adapter with its Hub id: `save(..., base_model="me/base")`.'
            )


def _complete(staged, old_id, repo_id, model):
    """A card that names the repository, and the taxonomy file."""
    from hf_htc.hub.card import model_card, write_card

    card = staged / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        text = re.sub(rf'(from_pretrained\((?:base, )?)"{re.escape(old_id)}"', rf'\1"{repo_id}"', text)
        write_text(card, text)
    else:
        run = staged / "run.json"
        run = json.loads(run.read_text(encoding="utf-8")) if run.is_file() else None
        write_card(model_card(model, repo_id, run=run), staged)
    if not (staged / "taxonomy.json").is_file():
        model.config.get_hierarchy().save(staged / "taxonomy.json")


def copy_files(source, target, patterns):
    """Copies what matches one of the patterns; hidden files and everything else stay on this machine."""
    target.mkdir(parents=True)
    for pattern in patterns:
        for file in sorted(source.glob(pattern)):
            relative = file.relative_to(source)
            hidden = any(part.startswith(".") for part in relative.parts) and relative.parts[0] != ".eval_results"
            if file.is_file() and not hidden:
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / relative)


def kind_of(folder):
    """
    What a folder holds: `"model"`, `"dataset"`, `"metric"` or `"space"`, a demo.

    Raises:
        `FileNotFoundError`: no such folder. `ValueError`: none of these.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise HTCFileNotFoundError(f"There is no folder {str(folder)!r}.")
    names = {file.name for file in folder.iterdir()}
    if {"config.json", "adapter_config.json"} & names:
        if "export.json" in names:
            raise HTCError(f"{str(folder)!r} is an exported model; push the checkpoint it was made from.")
        return "model"
    if f"{METRIC}.py" in names:
        return "metric"
    if {"app.py", "requirements.txt", "README.md"} <= names:
        return "space"
    if {"taxonomy.json", "taxonomy.tsv", "taxonomy.txt", "data"} & names or any(name.startswith("train") for name in names):
        return "dataset"
    raise HTCError(
        f"{str(folder)!r} holds neither a checkpoint (config.json), nor a data set (taxonomy.tsv, data/), nor the metric "
        f"({METRIC}.py), nor a demo (app.py); it has {sorted(names)[:20]}."
    )
