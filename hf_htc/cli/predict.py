"""`hf-htc predict CHECKPOINT`: JSONL in, JSONL out, resumable."""

from dataclasses import dataclass, field

from hf_htc.cli.common import COHERENCE_HELP, DECODER_HELP, load_checkpoint, parse, set_up_logging


@dataclass
class PredictArguments:
    """What is predicted and how."""

    checkpoint: str = field(metadata={"help": "A checkpoint folder or Hub id."})
    input: str = field(metadata={"help": "JSONL file of documents."})
    output: str = field(metadata={"help": "JSONL file of predictions; started again, the command goes on behind its last line."})
    text_column: str = field(default="text", metadata={"help": "Key of the texts."})
    threshold: float | None = field(
        default=None,
        metadata={"range": "[0, 1]", "help": "Score above which a label is predicted; by default the checkpoint's, else 0.5."},
    )
    top_k: int = field(
        default=10, metadata={"range": "[1, inf)", "help": "Best labels listed with their scores, whatever the threshold."}
    )
    closure: str | None = field(
        default=None, metadata={"help": "'none', 'up' or 'prune'; by default what fits the training labels."}
    )
    coherence: str | None = field(default=None, metadata={"help": COHERENCE_HELP})
    decoder: str = field(default="threshold", metadata={"help": DECODER_HELP})
    batch_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Documents a step."})


def run(arguments):
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--checkpoint", *arguments]
    (options,) = parse(
        [PredictArguments], arguments, "hf-htc predict", "hf-htc predict CHECKPOINT --input IN.jsonl --output OUT.jsonl"
    )
    set_up_logging()
    from hf_htc.evaluation.predictions import predict_file

    model, tokenizer, name = load_checkpoint(options.checkpoint, options.coherence)
    count, done = predict_file(
        model,
        tokenizer,
        options.input,
        options.output,
        options.text_column,
        options.threshold,
        options.top_k,
        options.closure,
        options.batch_size,
        checkpoint=name,
        decoder=options.decoder,
    )
    print(f"{count:,} documents predicted into {options.output}" + (f", {done:,} were there already." if done else "."))
