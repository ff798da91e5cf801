"""Checkpoints: written whole or not at all, never more than asked for, found again, and read without running what is in them.

The accelerate loop's hold weights and random numbers as safetensors, the schedule and the counters as JSON, and the optimizer in
PyTorch's format, read with `weights_only=True`: nothing is unpickled.
"""

import json
import os
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from transformers.trainer_callback import TrainerState

from hf_htc.models.errors import HTCError, HTCFileNotFoundError, HTCFloatingPointError, HTCOSError, reason_of
from hf_htc.training.callbacks import any_process
from hf_htc.training.loop_settings import is_sharded
from hf_htc.training.random_states import load_random_state, save_random_state


STATE_NAME = "trainer_state.json"
# Written by the accelerate loop; the Trainer's checkpoints have none.
LOOP_STATE_NAME = "loop_state.json"
OPTIMIZER_NAME, SCALER_NAME = "optimizer.bin", "scaler.bin"
RANDOM_STATE_NAME = "random_state_{}.safetensors"
# Of version 0.1.0, which pickled.
OLD_MARK = "random_states_0.pkl"
PARTIAL = ".partial"

# What reading a damaged or foreign file ends in, in torch, safetensors, transformers and JSON.
UNREADABLE = (
    pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError,
    OSError,
)  # fmt: skip


@contextmanager
def reading(folder, what):
    """Turns what reading a part of a checkpoint may raise into an [`HTCError`] that names checkpoint and part."""
    try:
        yield
    except (HTCError, torch.OutOfMemoryError):
        raise
    except UNREADABLE as error:
        reason = "it holds Python objects, and only tensors and numbers are read"
        reason = reason if isinstance(error, pickle.UnpicklingError) else reason_of(error)
        raise HTCOSError(
            f"Training cannot go on from {Path(folder).name!r}: {what} is damaged, or of another model or program ({reason}). "
            "Resume from an earlier checkpoint."
        ) from error


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
    except (SafetensorError, FileNotFoundError, RuntimeError, ValueError) as error:
        raise HTCOSError(f"The weights in {folder.name!r} are missing, damaged or of another model: {error}") from error


def nan_error(step, learning_rates):
    """The [`HTCFloatingPointError`] of a loss that is no number."""
    rates = " and ".join(f"{rate:.3g}" for rate in dict.fromkeys(learning_rates))
    return HTCFloatingPointError(
        f"The loss is NaN or infinite at step {step} (learning rate {rates}); the checkpoints before it stay. Lower the learning "
        "rates, or train in float32."
    )


def check_finite_weights(model, step, device):
    """Raises [`HTCFloatingPointError`], in all processes, when weights are NaN or infinite: no such checkpoint is written."""
    local = (parameter.to_local() if hasattr(parameter, "to_local") else parameter for parameter in model.parameters())
    finite = [torch.isfinite(parameter).all().to(device) for parameter in local if parameter.numel()]
    (wrong,) = any_process([~torch.stack(finite).all() if finite else False], device)
    if wrong:
        raise HTCFloatingPointError(
            f"The weights are NaN or infinite after step {step}, and no checkpoint is written; those before it stay. Lower the "
            "learning rates, or train in float32."
        )


def save_checkpoint(accelerator, model, optimizer, scheduler, epoch_start, new_model, tokenizer, state, args):
    """
    Writes `checkpoint-<step>`: weights, config and code (`save_pretrained`), tokenizer, optimizer, schedule, random numbers of
    every process, and the state of the run. Called by all processes. The folder gets its name when everything is in it.

    Args:
        accelerator (`Accelerator`), model (`nn.Module`), optimizer (`AcceleratedOptimizer`): Prepared.
        scheduler (`LRScheduler`), epoch_start ([`EpochStart`]): Of the run.
        new_model (`Callable`): Makes a model of the same class; that of sharded weights has become another, without our code.
        tokenizer (`PreTrainedTokenizer`): Saved beside it.
        state (`TrainerState`): Gets the path of the best checkpoint.
        args ([`HTCTrainingArguments`]): `output_dir`, `save_total_limit`.

    Raises:
        `FloatingPointError`: weights that are NaN or infinite.
    """
    check_finite_weights(model, state.global_step, accelerator.device)
    folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    partial = folder.with_name(f".{folder.name}{PARTIAL}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    is_main, is_deepspeed = accelerator.is_main_process, accelerator.distributed_type == DistributedType.DEEPSPEED
    save_random_state(partial / RANDOM_STATE_NAME.format(accelerator.process_index), epoch_start)
    if is_deepspeed:
        accelerator.save_state(str(partial))
    optimizer_state = None if is_deepspeed else whole_optimizer_state(accelerator, model, optimizer)
    weights = accelerator.get_state_dict(model)  # all processes take part in bringing sharded weights together
    if is_main:
        plain = new_model() if is_sharded(accelerator) else accelerator.unwrap_model(model)
        plain.save_pretrained(partial, state_dict=weights)
        if not is_deepspeed:
            torch.save(optimizer_state, partial / OPTIMIZER_NAME)
        if accelerator.scaler is not None:
            torch.save(accelerator.scaler.state_dict(), partial / SCALER_NAME)
        counters = {"processes": accelerator.num_processes, "accelerator_step": accelerator.step}
        text = json.dumps({**counters, "scheduler": scheduler.state_dict()})
        (partial / LOOP_STATE_NAME).write_text(text, encoding="utf-8")
    if state.best_global_step:
        best = folder.with_name(f"checkpoint-{state.best_global_step}")
        if best == folder or best.is_dir():
            state.best_model_checkpoint = str(best)
    if is_main:
        tokenizer.save_pretrained(partial)
        state.save_to_json(str(partial / STATE_NAME))
    accelerator.wait_for_everyone()
    if is_main:
        replaced = folder.with_name(f".{folder.name}.replaced{PARTIAL}")
        if folder.exists():  # of an earlier run, or of this step already
            os.replace(folder, replaced)
        os.replace(partial, folder)
        shutil.rmtree(replaced, ignore_errors=True)
        delete_old_checkpoints(args.output_dir, args.save_total_limit, {str(folder), state.best_model_checkpoint})
    accelerator.wait_for_everyone()


def whole_optimizer_state(accelerator, model, optimizer):
    """The optimizer's state, that of sharded weights brought together on the main process. Called by all processes."""
    if not is_sharded(accelerator):
        return optimizer.state_dict()
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # an evaluation leaves whole weights behind, which are not the optimizer's
    return get_optimizer_state_dict(model, optimizer.optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_model_weights(accelerator, model, new_model, folder):
    """Loads the weights of a checkpoint into the prepared model, sharded or not. Called by all processes."""
    if not is_sharded(accelerator):
        load_weights(accelerator.unwrap_model(model), folder)
        return
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # written by this very run: others are not resumed
        accelerator.load_state(str(folder))
        return
    weights = {}
    if accelerator.is_main_process:
        whole = new_model()
        load_weights(whole, folder)
        weights = whole.state_dict()
    set_model_state_dict(model, weights, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))


def delete_old_checkpoints(output_dir, limit, keep):
    """Deletes the oldest checkpoints above `limit` (`None`: none); those in `keep` stay, also when they are more."""
    if not limit:
        return
    found = sorted(_checkpoints(output_dir), key=lambda pair: (pair[1].stat().st_mtime_ns, pair[0]))
    surplus = len(found) - limit
    for _, folder in found:
        if surplus > 0 and str(folder) not in keep:
            deleted = folder.with_name(f".{folder.name}.deleted{PARTIAL}")
            shutil.rmtree(deleted, ignore_errors=True)
            os.replace(folder, deleted)  # a run that is killed here leaves no half of a checkpoint under its name
            shutil.rmtree(deleted, ignore_errors=True)
            surplus -= 1


def delete_partial_checkpoints(output_dir):
    """Deletes what a killed run has left half written or half deleted."""
    for folder in Path(output_dir).glob(".checkpoint-*"):
        shutil.rmtree(folder, ignore_errors=True)


def last_checkpoint(output_dir):
    """The newest whole checkpoint in a folder; one that was cut off while it was written or deleted is passed over."""
    found = [(step, folder) for step, folder in _checkpoints(output_dir) if missing_part(folder) is None]
    if not found:
        raise HTCFileNotFoundError(f"There is no whole checkpoint to resume from in {str(output_dir)!r}.")
    return str(max(found)[1])


def missing_part(folder):
    """The name of a part that a checkpoint of either loop lacks; `None` for a whole one."""
    try:
        json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))  # written last
    except (OSError, ValueError):
        return STATE_NAME
    weights = ("model*.safetensors*", "adapter_model.*", "pytorch_model*", "global_step*")
    if not any(any(folder.glob(pattern)) for pattern in weights):
        return "model.safetensors"
    parts = {
        "optimizer": ("optimizer*", "global_step*"),
        "scheduler": ("scheduler.pt", LOOP_STATE_NAME, OLD_MARK),
        "random numbers": ("rng_state*.pth", RANDOM_STATE_NAME.format("*"), OLD_MARK),
    }
    missing = [name for name, patterns in parts.items() if not any(any(folder.glob(pattern)) for pattern in patterns)]
    return missing[0] if 0 < len(missing) < len(parts) else None  # `save_only_model` leaves them all out


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
    missing = missing_part(folder)
    if missing:
        raise HTCFileNotFoundError(
            f"There is no whole checkpoint {str(folder)!r}: {missing} is missing or damaged. Resume from another, or train anew."
        )
    is_old = (folder / OLD_MARK).exists() and not (folder / LOOP_STATE_NAME).exists()
    written_by = "accelerate" if (folder / LOOP_STATE_NAME).exists() or is_old else "trainer"
    if written_by != loop:
        raise HTCError(
            f"{folder.name!r} was written by `--loop {written_by}`; its optimizer state cannot be read by `--loop {loop}`. "
            f"Go on with `--loop {written_by}`."
        )
    if is_old:
        raise HTCError(
            f"{folder.name!r} was written by hf_htc 0.1.0, whose state would have to be unpickled, which can run code; it is not "
            "read. Its weights can be: start a new training from `from_pretrained` of that folder."
        )
    return str(folder)


def load_checkpoint_state(accelerator, model, optimizer, scheduler, epoch_start, new_model, folder, args):
    """
    Loads weights, optimizer, schedule and random numbers, and returns the `TrainerState` of the run.

    Raises:
        `ValueError`: the checkpoint was written by another number of processes, or with another batch size: the documents that
        are still to come in its epoch would be others. `OSError`: a part that is damaged, or that holds more than tensors and
        numbers.
    """
    folder = Path(folder)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise HTCError(
            "Checkpoints of DeepSpeed would have to be unpickled, which can run code; they are not resumed. Shard with FSDP2: "
            "see examples/accelerate."
        )
    with reading(folder, STATE_NAME):
        state = TrainerState.load_from_json(str(folder / STATE_NAME))
    with reading(folder, LOOP_STATE_NAME):
        saved = json.loads((folder / LOOP_STATE_NAME).read_text(encoding="utf-8"))
        written, step, schedule = saved["processes"], saved["accelerator_step"], saved["scheduler"]
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps
    for name, then, now in (
        ("processes", written, accelerator.num_processes),
        ("documents per step and process", state.train_batch_size, batch_size),
    ):
        if then != now:
            raise HTCError(
                f"{folder.name!r} was written with {then} {name}, and this run has {now}: it would leave documents out or take "
                "them twice. Resume with the same."
            )
    load_model_weights(accelerator, model, new_model, folder)
    with reading(folder, OPTIMIZER_NAME):
        sharded = is_sharded(accelerator)
        read_here = not sharded or accelerator.is_main_process
        optimizer_state = _tensors(folder / OPTIMIZER_NAME) if read_here else {}
        if sharded:
            options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            set_optimizer_state_dict(model, optimizer.optimizer, optimizer_state, options=options)
        else:
            optimizer.load_state_dict(optimizer_state)
    if accelerator.scaler is not None:
        with reading(folder, SCALER_NAME):
            accelerator.scaler.load_state_dict(_tensors(folder / SCALER_NAME))
    with reading(folder, LOOP_STATE_NAME):
        scheduler.load_state_dict(schedule)
        accelerator.step = int(step)
    name = RANDOM_STATE_NAME.format(accelerator.process_index)
    with reading(folder, name):
        load_random_state(folder / name, epoch_start)
    best = folder.with_name(f"checkpoint-{state.best_global_step}")
    state.best_model_checkpoint = str(best) if state.best_global_step and best.is_dir() else None
    return state


def _tensors(path):
    return torch.load(path, map_location="cpu", weights_only=True)
