"""The random numbers of a run, kept in a file of tensors: Python's, numpy's, torch's, and those of the device."""

import json
import random

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hf_htc.logging import get_logger


logger = get_logger(__name__)


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


def save_random_state(path, epoch_start):
    """Writes the random state of this process, and `epoch_start`, as a safetensors file."""
    version, words, gauss = random.getstate()
    algorithm, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(keys.astype(np.int64)),
        "torch": torch.get_rng_state(),
        "epoch_start": epoch_start.random_state,
        **{f"device.{index}": state for index, state in enumerate(_device_states())},
    }
    more = {"python": [version, gauss], "numpy": [algorithm, int(position), int(has_gauss), float(cached)]}
    save_file(tensors, path, metadata={"state": json.dumps(more)})


def load_random_state(path, epoch_start):
    """Sets the random state of this process, and `epoch_start`, to what [`save_random_state`] wrote."""
    with safe_open(path, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118, no mapping
        more = json.loads(stream.metadata()["state"])
    (version, gauss), (algorithm, position, has_gauss, cached) = more["python"], more["numpy"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    np.random.set_state((algorithm, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    epoch_start.random_state = tensors["epoch_start"]
    states = [tensors[f"device.{index}"] for index in range(sum(name.startswith("device.") for name in tensors))]
    if len(states) != len(_device_states()):
        logger.warning(
            "The checkpoint was written with other devices: their random numbers, such as those of dropout, are not continued."
        )
    elif states:
        module = _device_module()
        if hasattr(module, "set_rng_state_all"):
            module.set_rng_state_all(states)
        else:
            module.set_rng_state(states[0])


def _device_module():
    return torch.get_device_module(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else None


def _device_states():
    module = _device_module()
    if module is None:
        return []
    return list(module.get_rng_state_all()) if hasattr(module, "get_rng_state_all") else [module.get_rng_state()]
