"""Checkpoints of the accelerate loop: written whole or not at all, never more than asked for, found again."""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_model
from transformers.trainer_callback import TrainerState

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCOSError
from hf_htc.training.loop_settings import is_sharded


STATE_NAME = "trainer_state.json"
# Written by accelerate for every process; the Trainer's checkpoints have none.
LOOP_MARK = "random_states_0.pkl"
PARTIAL = ".partial"


class EpochStart:
    """
    The state of torch's random numbers at the beginning of the epoch, saved with every checkpoint.

    A data loader draws when its iteration begins (its workers' seeds, the order of `group_by_length`). A run that goes on in the
    middle of an epoch must draw the same there, and then take up the numbers where the checkpoint was written.
    """

    def __init__(self):
        self.random_state = torch.get_rng_state()

    def note(self):
        self.random_state = torch.get_rng_state()

    def state_dict(self):
        return {"random_state": self.random_state}

    def load_state_dict(self, state):
        self.random_state = state["random_state"]


def keep_weights_to_ourselves(accelerator):
    """
    Makes `save_state` and `load_state` leave the weights to `save_pretrained` and [`load_weights`], so that a checkpoint holds
    them once, and loads with `from_pretrained` too. Sharded weights stay with accelerate.
    """

    def save(models, weights, folder):
        if not is_sharded(accelerator):
            weights.clear()

    def load(models, folder):
        while models:
            load_weights(accelerator.unwrap_model(models.pop()), folder)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def load_weights(model, folder):
    """
    Loads the weights of a checkpoint into a model (a PEFT model: its adapter and its classifier), in place.

    Raises:
        `OSError`: the file is missing or damaged, or is not of this model.
    """
    folder = Path(folder)
    try:
        if hasattr(model, "peft_config"):
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
        else:
            load_model(model, folder / "model.safetensors", strict=True, device="cpu")
    except Exception as error:
        if type(error).__name__ not in ("SafetensorError", "FileNotFoundError", "RuntimeError", "ValueError"):
            raise
        raise HTCOSError(f"The weights in {folder.name!r} are missing, damaged or of another model: {error}") from error


def save_checkpoint(accelerator, model, new_model, tokenizer, state, args):
    """
    Writes `checkpoint-<step>`: weights, config and code (`save_pretrained`), tokenizer, optimizer, schedule, random numbers of
    every process, and the state of the run. Called by all processes. The folder gets its name when everything is in it.

    Args:
        accelerator (`Accelerator`), model (`nn.Module`): The prepared model.
        new_model (`Callable`): Makes a model of the same class; that of sharded weights has become another, without our code.
        tokenizer (`PreTrainedTokenizer`): Saved beside it.
        state (`TrainerState`): Gets the path of the best checkpoint.
        args ([`HTCTrainingArguments`]): `output_dir`, `save_total_limit`.
    """
    folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    partial = folder.with_name(f".{folder.name}{PARTIAL}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    weights = accelerator.get_state_dict(model)  # all processes take part in bringing sharded weights together
    if accelerator.is_main_process:
        plain = new_model() if is_sharded(accelerator) else accelerator.unwrap_model(model)
        plain.save_pretrained(partial, state_dict=weights)
    if state.best_global_step:
        best = folder.with_name(f"checkpoint-{state.best_global_step}")
        if best == folder or best.is_dir():
            state.best_model_checkpoint = str(best)
    if accelerator.is_main_process:
        tokenizer.save_pretrained(partial)
        state.save_to_json(str(partial / STATE_NAME))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        replaced = folder.with_name(f".{folder.name}.replaced{PARTIAL}")
        if folder.exists():  # of an earlier run, or of this step already
            os.replace(folder, replaced)
        os.replace(partial, folder)
        shutil.rmtree(replaced, ignore_errors=True)
        delete_old_checkpoints(args.output_dir, args.save_total_limit, {str(folder), state.best_model_checkpoint})
    accelerator.wait_for_everyone()


def delete_old_checkpoints(output_dir, limit, keep):
    """Deletes the oldest checkpoints above `limit` (`None`: none); those in `keep` stay, also when they are more."""
    if not limit:
        return
    found = sorted(_checkpoints(output_dir), key=lambda pair: (pair[1].stat().st_mtime_ns, pair[0]))
    surplus = len(found) - limit
    for _, folder in found:
        if surplus > 0 and str(folder) not in keep:
            shutil.rmtree(folder, ignore_errors=True)
            surplus -= 1


def delete_partial_checkpoints(output_dir):
    """Deletes what a killed run has left half written."""
    for folder in Path(output_dir).glob(f".checkpoint-*{PARTIAL}"):
        shutil.rmtree(folder, ignore_errors=True)


def last_checkpoint(output_dir):
    """The newest whole checkpoint in a folder; one that was cut off while it was written is passed over."""
    found = [(step, folder) for step, folder in _checkpoints(output_dir) if (folder / STATE_NAME).exists()]
    if not found:
        raise HTCFileNotFoundError(f"There is no whole checkpoint to resume from in {str(output_dir)!r}.")
    return str(max(found)[1])


def _checkpoints(output_dir):
    pairs = [(folder.name.rsplit("-", 1)[-1], folder) for folder in Path(output_dir).glob("checkpoint-*")]
    return [(int(step), folder) for step, folder in pairs if step.isdigit()]


def checkpoint_to_resume(resume, output_dir, loop):
    """
    The checkpoint folder that a run goes on from.

    Args:
        resume (`str` or `bool`, *optional*): A checkpoint folder; `True` (or `"true"`) for the last whole one in `output_dir`.
        output_dir (`str`): The run's folder.
        loop (`str`): `"trainer"` or `"accelerate"`: which of them goes on.

    Returns:
        `str`, or `None` for a run from the beginning.

    Raises:
        `FileNotFoundError`: no such checkpoint. `ValueError`: one that the other loop has written.
    """
    if isinstance(resume, str) and resume.lower() in ("true", "1", "yes"):
        resume = True
    if not resume or (isinstance(resume, str) and resume.lower() in ("false", "0", "no")):
        return None
    folder = Path(last_checkpoint(output_dir) if resume is True else resume)
    if not (folder / STATE_NAME).is_file():
        raise HTCFileNotFoundError(f"There is no whole checkpoint {str(folder)!r}: it has no {STATE_NAME}.")
    written_by = "accelerate" if (folder / LOOP_MARK).exists() else "trainer"
    if written_by != loop:
        raise HTCError(
            f"{folder.name!r} was written by `--loop {written_by}`; its optimizer state cannot be read by `--loop {loop}`. "
            f"Go on with `--loop {written_by}`."
        )
    return str(folder)


def load_checkpoint_state(accelerator, folder, args):
    """
    Loads optimizer, schedule, weights and random numbers, and returns the `TrainerState` of the run.

    Raises:
        `ValueError`: the checkpoint was written by another number of processes, or with another batch size: the documents that
        are still to come in its epoch would be others.
    """
    folder = Path(folder)
    state = TrainerState.load_from_json(str(folder / STATE_NAME))
    written = len(list(folder.glob("random_states_*.pkl")))
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
    for name, then, now in (
        ("processes", written, accelerator.num_processes),
        ("documents a step and process", state.train_batch_size, batch_size),
    ):
        if then != now:
            raise HTCError(
                f"{folder.name!r} was written with {then} {name}, and this run has {now}: it would leave documents out or take "
                "them twice. Resume with the same."
            )
    accelerator.load_state(str(folder))
    best = folder.with_name(f"checkpoint-{state.best_global_step}")
    state.best_model_checkpoint = str(best) if state.best_global_step and best.is_dir() else None
    return state
