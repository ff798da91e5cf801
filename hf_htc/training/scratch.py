"""A small text encoder from nothing, for a machine without a pretrained one."""

from transformers import BertConfig, PreTrainedTokenizerFast


def train_tokenizer(texts, vocab_size=8000, max_length=128):
    """
    A lower-casing WordPiece tokenizer, trained on a corpus.

    Args:
        texts (`Iterable[str]`): The training texts only.
        vocab_size (`int`, *optional*, defaults to 8000): Largest vocabulary.
        max_length (`int`, *optional*, defaults to 128): Its `model_max_length`.

    Returns:
        `PreTrainedTokenizerFast`
    """
    from tokenizers import BertWordPieceTokenizer

    pieces = BertWordPieceTokenizer(lowercase=True)
    pieces.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces._tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def small_encoder_config(tokenizer, hidden_size=256, num_layers=1):
    """A BERT configuration that learns on two cores in minutes: wide word vectors, few layers."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=tokenizer.model_max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
