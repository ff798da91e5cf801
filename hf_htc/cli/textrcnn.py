"""`hf-htc textrcnn`: a TextRCNN text encoder with a corpus's vocabulary and word vectors, for `--text_encoder`."""

import time
from dataclasses import dataclass, field, fields

from hf_htc.cli.common import DataArguments, parse, set_up_logging
from hf_htc.models.errors import HTCError
from hf_htc.models.whole_files import whole_folder_update


@dataclass
class TextRCNNArguments:
    """What is built."""

    group = "model"

    output_dir: str | None = field(default=None, metadata={"help": "Where encoder and tokenizer go."})
    word_vectors: str = field(
        default="corpus", metadata={"help": "'corpus' trains them, 'random' has none; else a file in GloVe's format."}
    )
    embedding_size: int | None = field(
        default=None, metadata={"range": "[1, inf)", "help": "Width of the word vectors; 300, or the file's."}
    )
    min_count: int = field(
        default=2, metadata={"range": "[1, inf)", "help": "A word must occur this often in the training texts."}
    )
    max_size: int = field(default=50_000, metadata={"range": "[1, inf)", "help": "Most words of the vocabulary."})
    lowercase: bool = field(default=True, metadata={"help": "Lower-case the texts."})
    max_length: int = field(default=256, metadata={"range": "[1, inf)", "help": "Texts are cut at this many words."})
    gru_hidden_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Width of the GRU in each direction."})
    num_filters: int = field(default=100, metadata={"range": "[1, inf)", "help": "n-gram features of each kernel."})
    top_k: int = field(
        default=1, metadata={"range": "[1, inf)", "help": "Largest values over time that are kept of every feature."}
    )
    seed: int = field(default=42, metadata={"range": "[0, 4294967295]", "help": "Of everything random."})


def run(arguments):
    data, options = parse(
        [DataArguments, TextRCNNArguments],
        arguments,
        "hf-htc textrcnn",
        "Builds a TextRCNN text encoder from the training texts, for `hf-htc train --text_encoder`.",
        "hf-htc textrcnn --train_file train.csv --output_dir textrcnn",
    )
    set_up_logging()
    from transformers import set_seed

    from hf_htc.training.word_vectors import build_text_rcnn

    if options.output_dir is None:
        raise HTCError("`--output_dir` is missing: name the folder of the encoder.")
    started = time.time()
    dataset = data.load(seed=options.seed).dataset
    if "train" not in dataset:
        raise HTCError(f"There is no training data; the splits are {list(dataset)}. Give `--train_file` or a `--dataset`.")
    set_seed(options.seed)
    settings = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "output_dir"}
    if settings["embedding_size"] is None:
        settings.pop("embedding_size")
    encoder, tokenizer = build_text_rcnn(dataset["train"]["text"], **settings)
    with whole_folder_update(options.output_dir) as partial:
        tokenizer.save_pretrained(partial)
        encoder.save_pretrained(partial)
    size = sum(parameter.numel() for parameter in encoder.parameters())
    print(
        f"Saved to {options.output_dir}: a TextRCNN with {len(tokenizer):,} words, vectors of {encoder.config.embedding_size} "
        f"numbers ({options.word_vectors if options.word_vectors in ('corpus', 'random') else 'file'}), {size / 1e6:.1f} M "
        f"parameters; {time.time() - started:.0f} seconds. Train with `hf-htc train --text_encoder {options.output_dir} ...`."
    )
