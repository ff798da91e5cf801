"""`hf-htc evaluate CHECKPOINT`: scores, a report and a prediction file."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import (
    COHERENCE_HELP,
    DECODER_HELP,
    DataArguments,
    LoadingArguments,
    load_checkpoint,
    parse,
    score_table,
    set_up_logging,
)
from hf_htc.models.errors import HTCError
from hf_htc.models.whole_files import write_text


@dataclass
class EvaluateArguments:
    """What is evaluated and how."""

    checkpoint: str = field(metadata={"positional": True, "help": "A checkpoint folder or Hub id."})
    split: str = field(default="test", metadata={"help": "The split that is scored."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Where report, scores and predictions go; by default nowhere."}
    )
    threshold: float | None = field(
        default=None,
        metadata={"range": "[0, 1]", "help": "Score above which a label is predicted; by default the checkpoint's, else 0.5."},
    )
    score_closure: str | None = field(
        default=None,
        metadata={"help": "Closure of the scores: 'none', 'up' or 'prune'; by default what fits the training labels."},
    )
    coherence: str | None = field(default=None, metadata={"help": COHERENCE_HELP})
    decoder: str = field(default="threshold", metadata={"help": DECODER_HELP})
    batch_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Documents per step."})
    unknown_labels: str = field(
        default="refuse",
        metadata={"help": "'missed': labels of documents that the checkpoint does not know count as missed, and are counted."},
    )
    embeddings: bool = field(
        default=False,
        metadata={"help": "Adds a map of the texts (and of HiMatch's labels) by t-SNE to the page; needs scikit-learn."},
    )
    overwrite: bool = field(
        default=False, metadata={"help": "Replaces results in --output_dir that another checkpoint, option or data set gave."}
    )


def run(arguments):
    data, loading, options = parse(
        [DataArguments, LoadingArguments, EvaluateArguments],
        arguments,
        "hf-htc evaluate",
        "Scores a checkpoint on a split; with `--output_dir` it writes a report and the predictions, too.",
        "hf-htc evaluate my_model --test_file test.csv --output_dir report",
    )
    set_up_logging()
    from hf_htc.cli.train import write_predictions, write_reports
    from hf_htc.data import as_split
    from hf_htc.evaluation.embeddings import check_embeddings, embedding_map
    from hf_htc.evaluation.figures import drawn_or_left_out
    from hf_htc.evaluation.fingerprint import write_run_file
    from hf_htc.evaluation.predictions import check_same_labels, evaluate_model
    from hf_htc.evaluation.unknown_labels import count_missed, known_only

    if options.embeddings and options.output_dir is None:
        raise HTCError("`--embeddings` adds to the report; give `--output_dir` for it.")
    model, tokenizer, name = load_checkpoint(options.checkpoint, options.coherence, **loading.options())
    own = model.config.get_hierarchy()
    remembered = data.remember(options.checkpoint, loading.revision)
    if remembered:
        print("Read as in training: " + ", ".join(f"--{name} {value}" for name, value in remembered.items()))
    dataset, hierarchy = data.load(taxonomy=own if data.taxonomy is None else None, unknown_labels=options.unknown_labels)
    rows = every_label = as_split(dataset, options.split)
    more_labels = options.unknown_labels == "missed" and hierarchy.num_labels > own.num_labels
    if more_labels and hierarchy.label_names[: own.num_labels] == own.label_names:
        rows = known_only(rows, own.num_labels)
    else:
        check_same_labels(own, hierarchy)
    if options.embeddings:
        check_embeddings(len(rows))
    made_from = None if options.output_dir is None else _check_output(model, tokenizer, name, rows, own, options)
    result = evaluate_model(
        model,
        tokenizer,
        rows,
        closure=options.score_closure,
        threshold=options.threshold,
        batch_size=options.batch_size,
        checkpoint=name,
        decoder=options.decoder,
        details=options.output_dir is not None,
    )
    if rows is not every_label:
        count = count_missed(result, every_label["labels"], hierarchy, own.num_labels)
        print(f"{count:,} labels of documents are unknown to the checkpoint and count as missed.")
    print(score_table([(options.split, result.scores)]))
    print(f"closure {result.scores['closure']}, {len(rows):,} documents")
    if options.output_dir is not None:
        folder, results = Path(options.output_dir), {options.split: result}
        # From here on the files may be of two evaluations; the last line of the run file says that they are of one again.
        write_run_file(folder / f"scores_{options.split}.json", made_from)
        texts, gold = list(rows["text"]), rows["labels"]
        # In the order of their worth: whatever fails, what was written before is there.
        write_predictions(results, folder)
        write_text(folder / f"scores_{options.split}.json", json.dumps(result.scores, indent=2) + "\n")
        found = None
        if options.embeddings:
            with drawn_or_left_out("map of the embeddings"):
                found = embedding_map(model, tokenizer, texts, gold, batch_size=options.batch_size)
        write_reports(
            results,
            folder,
            model,
            f"{name} on {data.name()}",
            texts=texts,
            gold=gold,
            log=_training_log(options.checkpoint),
            intervals=_intervals(result, gold, own),
            embeddings=found,
        )
        write_run_file(folder / f"scores_{options.split}.json", made_from, {"finished": True})
        print(f"Report, scores and predictions are in {folder}.")


def _check_output(model, tokenizer, name, rows, hierarchy, options):
    """The fingerprint of an evaluation; raises [`HTCError`] where results of another one would be replaced."""
    from hf_htc.data import dataset_fingerprint
    from hf_htc.evaluation.fingerprint import check_same, fingerprint, read_run_file, run_file, unknown_maker

    split, folder = options.split, Path(options.output_dir)
    settings = {
        "command": "evaluate", "checkpoint": name, "split": split, "data": dataset_fingerprint({split: rows}, hierarchy),
        "threshold": options.threshold, "closure": model.default_closure(options.score_closure), "decoder": options.decoder,
        "embeddings": options.embeddings, "batch_size": options.batch_size,
    }  # fmt: skip
    found, scores = fingerprint(settings, model, tokenizer), folder / f"scores_{split}.json"
    if options.overwrite:
        return found
    if run_file(scores).is_file():
        check_same(read_run_file(scores)[0], found, scores.name)
        return found
    for file in (scores, folder / f"predictions_{split}.jsonl", folder / f"report_{split}.md"):
        if file.exists():
            raise unknown_maker(file.name)
    return found


def _intervals(result, gold, hierarchy):
    """95 % intervals by the key of a score, from documents drawn anew; none where scipy is missing."""
    from importlib.util import find_spec

    from hf_htc.evaluation.significance import bootstrap_intervals

    if find_spec("scipy") is None:
        return None
    predicted = hierarchy.encode([record["labels"] for record in result.records])
    gold = hierarchy.close(gold) if result.scores["closure"] == "up" else gold
    found = bootstrap_intervals(gold, predicted, hierarchy.num_labels, num_resamples=1000)
    return {key: entry["interval"] for key, entry in found.items()}


def _training_log(checkpoint):
    """
    The log of the run that a checkpoint folder comes from, or `None`. A step's folder has it beside its weights, whichever loop
    wrote it; a final one in its manifest or, made without ours, in the last step's folder below it.
    """
    steps = [folder for folder in Path(checkpoint).glob("checkpoint-*") if folder.name.rsplit("-", 1)[-1].isdigit()]
    steps.sort(key=lambda folder: int(folder.name.rsplit("-", 1)[-1]))
    for file in (Path(checkpoint) / "run.json", *(folder / "trainer_state.json" for folder in [Path(checkpoint), *steps[::-1]])):
        if file.is_file():
            content = json.loads(file.read_text(encoding="utf-8"))
            log = content.get("log_history") or content.get("log")
            if log:
                return log
    return None
