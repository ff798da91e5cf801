"""`hf-htc predict CHECKPOINT`: a file of documents in, a file of predictions out, resumable."""

from dataclasses import dataclass, field

from hf_htc.cli.common import COHERENCE_HELP, DECODER_HELP, LoadingArguments, parse, run_settings, set_up_logging


# Options of reading that are passed on where they are given.
READING = ("delimiter", "encoding", "quoting", "header")


@dataclass
class PredictArguments:
    """What is predicted and how."""

    checkpoint: str = field(
        metadata={"positional": True, "help": "A checkpoint folder, a Hub id, or a folder that `hf-htc export` wrote."}
    )
    input: str = field(
        metadata={"help": "File of documents: JSON lines, CSV or another table, Parquet, Excel, or one text per line."}
    )
    output: str = field(
        metadata={
            "help": "File of predictions: .jsonl, .csv, .tsv or .parquet. Started again with the same checkpoint, options and "
            "documents, the command goes on where it was stopped."
        }
    )
    text_column: str | None = field(
        default=None, metadata={"help": "Column of the texts, or several, comma-separated; by default that of the training."}
    )
    delimiter: str | None = field(default=None, metadata={"help": "Delimiter of a table; recognised."})
    encoding: str | None = field(default=None, metadata={"help": "Encoding of a text file, e.g. 'cp1252'; recognised."})
    quoting: str | None = field(default=None, metadata={"help": "'quotes' or 'none', as in `hf-htc train`; recognised."})
    header: str | None = field(
        default=None, metadata={"help": "'yes' or 'no': whether the first line of a table names the columns; recognised."}
    )
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
    loading, options = parse(
        [LoadingArguments, PredictArguments],
        arguments,
        "hf-htc predict",
        "Predicts a file of documents into a file of predictions; a run that was stopped goes on.",
        "hf-htc predict my_model --input new.jsonl --output predictions.jsonl",
    )
    set_up_logging()
    from hf_htc.evaluation.predictions import predict_file
    from hf_htc.hub.loading import load_classifier

    model, tokenizer, name = load_classifier(options.checkpoint, options.coherence, **loading.options())
    reading = {key: getattr(options, key) for key in READING if getattr(options, key) is not None}
    text_column = options.text_column or run_settings(options.checkpoint, loading.revision).get("text_column", "text")
    count, done = predict_file(
        model,
        tokenizer,
        options.input,
        options.output,
        text_column,
        options.threshold,
        options.top_k,
        options.closure,
        options.batch_size,
        checkpoint=name,
        decoder=options.decoder,
        overwrite=options.overwrite,
        reading=reading,
    )
    if done and not count:
        print(f"Nothing to do: all {done:,} documents are in {options.output} already.")
    else:
        print(f"{count:,} documents predicted into {options.output}" + (f", {done:,} were there already." if done else "."))
