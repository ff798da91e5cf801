"""What every other file may build on: `HTCModule`, the base of every block with parameters or buffers that transformers cannot
initialise by itself; `CachingModule`, one of which something is the same for all documents, and computed once at inference; and
two functions on tensors.

Legend: `B` documents, `T` tokens.
"""

import torch
from torch import nn

from .errors import HTCTypeError


def at_least_float32(tensor):
    """Half precision types become float32; float32 and float64 stay."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def left_align(attention_mask, *tensors):
    """
    Moves every row's real tokens to the front, in order, so that left padding gives the states of right padding also in
    encoders with absolute positions.

    Args:
        attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real tokens.
        tensors (`torch.Tensor` of shape `(B, T, ...)` or `None`): Moved along.

    Returns:
        `list`: the aligned mask, then the aligned tensors.
    """
    order = torch.sort((attention_mask == 0).to(torch.int8), dim=1, stable=True).indices  # (B, T)
    aligned = [attention_mask.gather(1, order)]
    for tensor in tensors:
        if tensor is not None:
            index = order if tensor.dim() == 2 else order.unsqueeze(-1).expand(-1, -1, tensor.shape[-1])
            tensor = tensor.gather(1, index)
        aligned.append(tensor)
    return aligned


class HTCModule(nn.Module):
    """A block with parameters or buffers that transformers cannot initialise by itself.

    `init_weights` must set all of them through `transformers.initialization`: non-persistent buffers are uninitialised
    memory after `from_pretrained`, and only these functions respect values that a checkpoint brought."""

    def init_weights(self, config):
        raise HTCTypeError(f"{type(self).__name__} does not say how its parameters and buffers are initialised.")


class CachingModule(HTCModule):
    """
    A block that computes something from its weights alone, once as long as these are the same.

    Whether they are is asked of their contents: a swap for averaged weights through `.data`, as DeepSpeed does it too, changes
    neither a tensor's address nor its version. `predict` calls [`~CachingModule.hold`], and then it is asked once per call.
    """

    def __init__(self):
        super().__init__()
        self._kept = self._holder = None

    def computed_once(self, compute, sources):
        """
        What `compute` gives: in training, with gradients and while compiling always computed, else kept.

        Args:
            compute (`Callable`): Takes nothing and gives a tensor.
            sources (`Iterable[torch.Tensor]`): All that decides its result.
        """
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return compute()
        sources = [tensor.detach() for tensor in sources]
        if any(tensor.device.type == "meta" or hasattr(tensor, "full_tensor") for tensor in sources):
            return compute()  # there are no contents here, or only a part of them
        device = sources[0].device.type
        kind = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        kept, holder = self._kept, self._holder  # read once: another thread may replace them
        if kept is None or kept.kind != kind or not kept.is_of(sources, holder):
            kept = _Kept(kind, [tensor.clone() for tensor in sources], compute())
        kept.holder = holder
        self._kept = kept
        return kept.value

    def hold(self, holder):
        """The weights will not change from now on until `hold(None)`; `holder` is any new object."""
        self._holder = holder

    def train(self, mode=True):
        if mode:
            self._kept = None
        return super().train(mode)

    def __getstate__(self):
        return {**self.__dict__, "_kept": None, "_holder": None}


class _Kept:
    """A value, copies of what it was computed from, and for whom it was last compared with that."""

    def __init__(self, kind, copies, value):
        self.kind, self.copies, self.value, self.holder = kind, copies, value, None

    def is_of(self, sources, holder):
        if holder is not None and self.holder is holder:
            return True
        looks = [(a.device, a.dtype, a.shape) == (b.device, b.dtype, b.shape) for a, b in zip(self.copies, sources)]
        if not all(looks):
            return False
        if sources[0].device.type == "cpu":
            return all(torch.equal(a, b) for a, b in zip(self.copies, sources))
        return not bool(torch.stack([(a != b).any() for a, b in zip(self.copies, sources)]).any())  # one read of the device
