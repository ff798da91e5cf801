"""`SavingMixin`: whole checkpoints, on disk and on the Hub."""

import os
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from transformers.utils.hub import create_and_tag_model_card

from .errors import HTCError, HTCOSError, reason_of
from .whole_files import stale_weights, whole_folder_update


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
# Options of `save_pretrained` that are about the push alone.
_HUB_KEYWORDS = ("repo_id", "private", "token", "revision", "create_pr", "commit_message", "commit_description", "tags")


class SavingMixin:
    """Saving of [`HTCPreTrainedModel`], a part of its own as saving is nothing that a method changes."""

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, push_to_hub=False, **kwargs):
        """
        Writes config, weights and code as transformers does, but all of them or nothing (see [`whole_folder_update`]): an
        interruption leaves an older checkpoint at `save_directory` as it was. Weights of another `variant` stay.

        Of weights spread by FSDP2, `state_dict` must be the whole, as `trainer.save_model` and `accelerator.get_state_dict` make
        it.

        Args:
            save_directory (`str`): A folder, made if missing.
            is_main_process (`bool`, *optional*, defaults to `True`): Whether this process writes.
            state_dict (`dict`, *optional*): The weights, where they are not the model's own.
            push_to_hub (`bool`, *optional*, defaults to `False`): Whether to push the written files, too; with `repo_id`,
                `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`.
            kwargs: `max_shard_size`, `variant` and the other options of transformers.

        Raises:
            `ValueError`: `save_directory` is a file, or weights spread by FSDP2 without `state_dict`. `OSError`: one cannot write
            there; the disk is full.
        """
        own_class = next(base for base in type(self).__mro__ if base.__module__.partition(".")[0] != "torch")
        if own_class is not type(self):
            self._check_whole_weights(state_dict)
            # FSDP2 has put a class of torch's over ours, whose code transformers would save. The same model in our class:
            model = own_class.__new__(own_class)
            object.__setattr__(model, "__dict__", self.__dict__)
            return model.save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, **kwargs)
        target = Path(save_directory)
        if target.is_file():
            raise HTCError(f"{str(target)!r} is a file; `save_directory` must be a folder.")
        hub = {key: kwargs.pop(key) for key in _HUB_KEYWORDS if key in kwargs}
        # A process that does not write takes part in gathering the weights; of a distributed checkpoint all processes write.
        if not is_main_process or kwargs.get("distributed_checkpoint"):
            return super().save_pretrained(target, is_main_process, state_dict, push_to_hub, **hub, **kwargs)
        self._clean_names()
        if self._auto_class is not None:  # transformers itself records one Auto class only
            self.config.auto_map = {"AutoModel": f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"}
        is_adapter = getattr(self, "_hf_peft_config_loaded", False)  # one that transformers has attached
        # An adapter's config would be read before the checkpoint's.
        with whole_folder_update(target, removes=() if is_adapter else ADAPTER_FILES) as folder:
            try:
                # transformers takes the weights out of the dict while it writes them.
                super().save_pretrained(folder, state_dict=None if state_dict is None else dict(state_dict), **kwargs)
            except Exception as error:
                if type(error).__name__ != "SafetensorError":
                    raise
                raise HTCOSError(f"The weights cannot be written to {str(target)!r}: {reason_of(error)}.") from error
            written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        if push_to_hub:
            self._push_files(target, written, **{"repo_id": target.resolve().name, **hub})

    def _push_files(
        self,
        folder,
        names,
        repo_id,
        private=None,
        token=None,
        revision=None,
        create_pr=False,
        commit_message=None,
        commit_description=None,
        tags=None,
    ):
        """Pushes files of a folder, in one commit; with a card where the repository has none."""
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        card = create_and_tag_model_card(repo_id, [*(self.model_tags or []), *(tags or [])], token=token)
        there = api.list_repo_files(repo_id, revision=revision)
        contents = {name: str(folder / name) for name in names} | {"README.md": str(card).encode()}
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]
        operations += [CommitOperationDelete(path_in_repo=name) for name in stale_weights(there, names)]
        api.create_commit(
            repo_id,
            operations,
            commit_message=commit_message or "Upload model",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
        )

    def _check_whole_weights(self, state_dict):
        # Weights that transformers itself has spread while loading (`distributed_config`), it also brings together.
        is_given = state_dict is not None or getattr(self.config, "distributed_config", None) is not None
        if not is_given and any(hasattr(parameter, "full_tensor") for parameter in self.parameters()):
            raise HTCError(
                "The weights are spread over the processes (FSDP), and this process has only a part. In all processes, call "
                "`trainer.save_model(folder)` (with `state_dict_type` FULL_STATE_DICT), or take "
                "`weights = accelerator.get_state_dict(model)` and pass `state_dict=weights`."
            )

    def _clean_names(self):
        """Blanks local paths in the config: a published file must not tell where it was made."""
        for config in (self.config, self.config.text_config):
            config._name_or_path = public_name(getattr(config, "_name_or_path", "") or "")


def public_name(name_or_path):
    """A model id as it is; nothing for a local path."""
    text = str(name_or_path)
    return "" if os.path.isabs(text) or text.startswith((".", "~")) or os.path.exists(text) else text
