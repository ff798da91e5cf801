"""Configuration of TextRCNN, the text encoder of the papers without BERT."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .errors import HTCError


@strict
class TextRCNNConfig(PreTrainedConfig):
    """
    Configuration of [`TextRCNNModel`]: word vectors, a bidirectional GRU, convolutions, the largest values over time.

    Args:
        vocab_size (`int`, *optional*, defaults to 50002): Words, special tokens included.
        embedding_size (`int`, *optional*, defaults to 300): Width of the word vectors.
        gru_hidden_size (`int`, *optional*, defaults to 64): Width of the GRU in each direction. HTCInfoMax has 150, HiMatch 100.
        kernel_sizes (`list[int]`, *optional*, defaults to `[2, 3, 4]`): Words an n-gram feature sees.
        num_filters (`int`, *optional*, defaults to 100): n-gram features of each kernel.
        top_k (`int`, *optional*, defaults to 1): Largest values over time that are kept of every feature, in descending order.
        embedding_dropout (`float`, *optional*, defaults to 0.5): Dropout on the word vectors.
        gru_dropout (`float`, *optional*, defaults to 0.1): Dropout on the GRU's states.
        mask_padding (`bool`, *optional*, defaults to `True`): n-gram features behind a text's end take no part, so that a
            document's vector does not depend on its neighbours. `False` is the behaviour of the authors' code.
        initializer_range (`float`, *optional*, defaults to 0.1): Standard deviation of random word vectors.
        pad_token_id (`int`, *optional*, defaults to 0): Its vector is zero and stays zero.

    Raises:
        `StrictDataclassError` (with the `ValueError` as its cause): a size below 1, a dropout outside [0, 1), no kernel.
    """

    model_type = "htc_textrcnn"
    # A text encoder that starts from nothing, or from word vectors, learns at a higher rate than a pretrained transformer.
    recommended_learning_rate = 2e-3

    vocab_size: int = 50002
    embedding_size: int = 300
    gru_hidden_size: int = 64
    kernel_sizes: list | tuple = (2, 3, 4)
    num_filters: int = 100
    top_k: int = 1
    embedding_dropout: float | int = 0.5
    gru_dropout: float | int = 0.1
    mask_padding: bool = True
    initializer_range: float | int = 0.1
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs):
        self.kernel_sizes = list(self.kernel_sizes)
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self):
        """Width of a token's state: its n-gram features of all kernels."""
        return len(self.kernel_sizes) * self.num_filters

    @property
    def pooler_size(self):
        """Width of the text vector."""
        return self.hidden_size * self.top_k

    @property
    def num_hidden_layers(self):
        """The GRU; what `output_hidden_states` gives is the word vectors, then its states."""
        return 1

    def validate_sizes(self):
        sizes = {key: getattr(self, key) for key in ("vocab_size", "embedding_size", "gru_hidden_size", "num_filters", "top_k")}
        for key, value in sizes.items():
            if value < 1:
                raise HTCError(f"`{key}` is {value}; it is at least 1.")
        if not self.kernel_sizes or any(not isinstance(k, int) or k < 1 for k in self.kernel_sizes):
            raise HTCError(f"`kernel_sizes` is {self.kernel_sizes}; give one or several whole numbers of at least 1.")
        for key in ("embedding_dropout", "gru_dropout"):
            if not 0 <= getattr(self, key) < 1:
                raise HTCError(f"`{key}` is {getattr(self, key)}; a dropout probability lies in [0, 1).")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise HTCError(f"`pad_token_id` is {self.pad_token_id}; it is a word of the vocabulary, in [0, {self.vocab_size}).")


def is_text_rcnn(text_config):
    """Whether a text encoder is our own. By name: code that came with a checkpoint may be there twice, and then a class does not
    recognise the objects of its double."""
    return text_config.model_type == TextRCNNConfig.model_type
