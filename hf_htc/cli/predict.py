"""`hf-htc predict CHECKPOINT`: JSONL in, JSONL out, resumable."""

from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import COHERENCE_HELP, DECODER_HELP, load_checkpoint, parse, set_up_logging
from hf_htc.models.errors import HTCError


@dataclass
class PredictArguments:
    """What is predicted and how."""

    checkpoint: str = field(metadata={"help": "A checkpoint folder, a Hub id, or a folder that `hf-htc export` wrote."})
    input: str = field(metadata={"help": "JSONL file of documents."})
    output: str = field(
        metadata={
            "help": "JSONL file of predictions; started again with the same checkpoint, options and documents, the command "
            "goes on behind its last line."
        }
    )
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
    batch_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Documents per step."})
    overwrite: bool = field(default=False, metadata={"help": "Starts anew, whatever is in the output file."})


def run(arguments):
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--checkpoint", *arguments]
    (options,) = parse(
        [PredictArguments], arguments, "hf-htc predict", "hf-htc predict CHECKPOINT --input IN.jsonl --output OUT.jsonl"
    )
    set_up_logging()
    from hf_htc.evaluation.predictions import predict_file

    model, tokenizer, name = load(options.checkpoint, options.coherence)
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
        overwrite=options.overwrite,
    )
    if done and not count:
        print(f"Nothing to do: all {done:,} documents are in {options.output} already.")
    else:
        print(f"{count:,} documents predicted into {options.output}" + (f", {done:,} were there already." if done else "."))


def load(name_or_path, coherence=None):
    """Model, tokenizer and public name of a checkpoint or an exported model; what is exported has its coherence built in."""
    from hf_htc.hub.loading import load_classifier
    from hf_htc.hub.onnx_classifier import REPORT_FILE

    if coherence is None:
        return load_classifier(name_or_path)
    if (Path(name_or_path) / REPORT_FILE).is_file():
        raise HTCError(
            f"`--coherence` is {coherence!r}, but {str(name_or_path)!r} is an ONNX export, whose graph holds the checkpoint's. "
            "Leave it out, or export a checkpoint that has it."
        )
    return load_checkpoint(name_or_path, coherence)
