"""`hf-htc calibrate CHECKPOINT`: thresholds and conformal sets from held-out documents, kept in the checkpoint."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, load_checkpoint, parse, set_up_logging
from hf_htc.models.errors import HTCError


@dataclass
class CalibrateArguments:
    """What is set, and on which documents."""

    checkpoint: str = field(metadata={"help": "A checkpoint folder; its config.json is changed unless --output_dir is given."})
    split: str = field(default="validation", metadata={"help": "The held-out documents; never those of the test split."})
    thresholds: str | None = field(
        default=None, metadata={"help": "'global', 'level' or 'label': thresholds of the largest F1; 'none' takes them out."}
    )
    least_support: int = field(
        default=5, metadata={"range": "[1, inf)", "help": "Documents that a label needs for a threshold of its own."}
    )
    conformal: float | None = field(
        default=None, metadata={"range": "(0, 1)", "help": "Coverage of conformal label sets, e.g. 0.9."}
    )
    conformal_kind: str = field(
        default="auto", metadata={"help": "'back_off' (single paths), 'risk' or 'auto', which takes what fits the documents."}
    )
    output_dir: str | None = field(default=None, metadata={"help": "Where a changed copy of the checkpoint goes."})
    batch_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Documents a step."})


def run(arguments):
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--checkpoint", *arguments]
    data, options = parse(
        [DataArguments, CalibrateArguments], arguments, "hf-htc calibrate", "hf-htc calibrate CHECKPOINT [options]"
    )
    set_up_logging()
    if options.split == "test":
        raise HTCError("Nothing is tuned on test data; give `--split validation`, or a split of your own for it.")
    if options.thresholds is None and options.conformal is None:
        raise HTCError("Give `--thresholds global|level|label|none`, `--conformal 0.9`, or both.")
    import torch

    from hf_htc.data import as_split
    from hf_htc.evaluation.conformal import calibrate, fitting_kind
    from hf_htc.evaluation.predictions import check_same_labels
    from hf_htc.evaluation.thresholds import tune_thresholds

    model, tokenizer, _ = load_checkpoint(options.checkpoint)
    own = model.config.get_hierarchy()
    changes = {}
    if options.thresholds != "none" or options.conformal is not None:
        dataset, hierarchy = data.load(taxonomy=own if data.taxonomy is None else None)
        check_same_labels(own, hierarchy)
        rows = as_split(dataset, options.split)
        gold = own.close(rows["labels"]) if model.default_closure() == "up" else rows["labels"]
        logits = torch.zeros(len(rows), own.num_labels)
        for places, part in model.iter_logits(rows["text"], tokenizer, options.batch_size):
            logits[places] = part.cpu()
        logits = logits.numpy()
    if options.thresholds is not None:
        wanted = options.thresholds != "none"
        changes["thresholds"] = tune_thresholds(logits, gold, own, options.thresholds, options.least_support) if wanted else None
    if options.conformal is not None:
        kind = fitting_kind(gold, own) if options.conformal_kind == "auto" else options.conformal_kind
        changes["conformal"] = calibrate(logits, gold, own, kind, options.conformal)
    for key, value in changes.items():
        setattr(model.config, key, value)
        shown = f"{len(value):,} thresholds" if isinstance(value, list) else json.dumps(value)
        print(f"{key}: {shown}")
    target = Path(options.output_dir or options.checkpoint)
    if options.output_dir is not None:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    else:
        if not target.is_dir():
            raise HTCError(f"{options.checkpoint!r} is no folder; give `--output_dir` for a changed copy.")
        model.config.save_pretrained(target)
    print(f"Written to {target}.")
