"""`HTCModule`: the base of every block with parameters or buffers that transformers cannot initialise by itself."""

from torch import nn

from .errors import HTCTypeError


class HTCModule(nn.Module):
    """A block with parameters or buffers that transformers cannot initialise by itself.

    `init_weights` must set all of them through `transformers.initialization`: non-persistent buffers are uninitialised
    memory after `from_pretrained`, and only these functions respect values that a checkpoint brought."""

    def init_weights(self, config):
        raise HTCTypeError(f"{type(self).__name__} does not say how its parameters and buffers are initialised.")
