"""`hf-htc calibrate CHECKPOINT`: thresholds and conformal sets from held-out documents, kept in the checkpoint."""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hf_htc.cli.common import DataArguments, LoadingArguments, load_checkpoint, parse, set_up_logging
from hf_htc.models.errors import HTCError, HTCOSError


THRESHOLDS = ("global", "level", "label", "none")
CONFORMAL = ("auto", "back_off", "risk")
# What a training goes on from; a calibrated copy of one of its checkpoints is for predicting.
_OF_TRAINING = (
    "optimizer",
    "scheduler",
    "scaler",
    "rng_state",
    "random_states",
    "trainer_state",
    "training_args",
    "pytorch_model_fsdp",
)


@dataclass
class CalibrateArguments:
    """What is set, and on which documents."""

    checkpoint: str = field(
        metadata={
            "positional": True,
            "help": "A checkpoint or adapter folder; its thresholds are changed in it unless --output_dir is given.",
        }
    )
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
    output_dir: str | None = field(
        default=None, metadata={"help": "New folder for a changed copy of the checkpoint, which is then left as it is."}
    )
    batch_size: int = field(default=64, metadata={"range": "[1, inf)", "help": "Documents per step."})


def run(arguments):
    data, loading, options = parse(
        [DataArguments, LoadingArguments, CalibrateArguments],
        arguments,
        "hf-htc calibrate",
        "Sets thresholds and conformal label sets of a checkpoint from held-out documents.",
        "hf-htc calibrate my_model --thresholds label --conformal 0.9 --validation_file validation.csv",
    )
    set_up_logging()
    check_options(options)
    from hf_htc.data import as_split
    from hf_htc.evaluation.conformal import calibrate, check_kind, fitting_kind
    from hf_htc.evaluation.predictions import check_same_labels
    from hf_htc.evaluation.thresholds import tune_thresholds

    model, tokenizer, _ = load_checkpoint(options.checkpoint, **loading.options())
    own = model.config.get_hierarchy()
    changes = {}
    if options.thresholds == "none":
        changes["thresholds"] = None
    if options.thresholds not in (None, "none") or options.conformal is not None:
        dataset, hierarchy = data.load(taxonomy=own if data.taxonomy is None else None)
        check_same_labels(own, hierarchy)
        rows = as_split(dataset, options.split)
        if not len(rows):
            raise HTCError(f"The split {options.split!r} holds no documents to calibrate on.")
        gold = own.close(rows["labels"]) if model.default_closure() == "up" else rows["labels"]
        if options.conformal is not None:
            kind = fitting_kind(gold, own) if options.conformal_kind == "auto" else options.conformal_kind
            check_kind(kind, gold, own)
        with logits_in_a_file(model, tokenizer, list(rows["text"]), options.batch_size) as logits:
            if options.thresholds not in (None, "none"):
                changes["thresholds"] = tune_thresholds(logits, gold, own, options.thresholds, options.least_support)
            if options.conformal is not None:
                changes["conformal"] = calibrate(logits, gold, own, kind, options.conformal)
    target = write(model, tokenizer, changes, options.checkpoint, options.output_dir)
    for key, value in changes.items():
        print(f"{key}: " + (f"{len(value):,} thresholds" if isinstance(value, list) else json.dumps(value)))
    print(f"Written to {target}.")


def check_options(options):
    """Raises [`HTCError`] for options that exclude each other and a folder that cannot be written, before anything is read."""
    if options.split == "test":
        raise HTCError("Nothing is tuned on test data; give `--split validation`, or a split of your own for it.")
    if options.thresholds is None and options.conformal is None:
        raise HTCError("Give `--thresholds global|level|label|none`, `--conformal 0.9`, or both.")
    for name, allowed in (("thresholds", (None, *THRESHOLDS)), ("conformal_kind", CONFORMAL)):
        value = getattr(options, name)
        if value not in allowed:
            raise HTCError(f"`--{name}` is {value!r}; it is {', '.join(repr(kind) for kind in allowed if kind)}.")
    if options.output_dir is None:
        folder = Path(options.checkpoint)
        if not folder.is_dir():
            raise HTCError(f"{options.checkpoint!r} is no folder; give `--output_dir` for a changed copy.")
        if not os.access(folder, os.W_OK):
            raise HTCOSError(f"The folder {options.checkpoint!r} cannot be written; give `--output_dir` for a changed copy.")
        return
    folder = Path(options.output_dir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HTCError(f"`--output_dir` is {options.output_dir!r}, which exists and is not empty; give a new folder.")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise HTCOSError(f"`--output_dir` is {options.output_dir!r}, but nothing can be written into {str(above)!r}.")


@contextlib.contextmanager
def logits_in_a_file(model, tokenizer, texts, batch_size):
    """
    Gives the float32 logits of texts, `(S, N)`, as an array that lies in a temporary file and not in memory: 10,000 documents
    with 30,000 labels are 1.2 GB. The file has no name, and is gone when the block or the process ends.
    """
    import numpy as np

    shape = (len(texts), model.config.num_labels)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and would be a crash when a page is written
            os.posix_fallocate(file.fileno(), 0, 4 * shape[0] * shape[1])
        else:
            file.truncate(4 * shape[0] * shape[1])
        logits = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
        for places, part in model.iter_logits(texts, tokenizer, batch_size):
            logits[places] = part.cpu().numpy()
        yield logits


def write(model, tokenizer, changes, checkpoint, output_dir=None):
    """
    Puts thresholds and conformal sets into a checkpoint: into its config.json, or, beside an adapter, into its
    `htc_calibration.json`. One file is replaced as a whole, so that a kill leaves the old one or the new one; the others stay.

    Args:
        model ([`HTCPreTrainedModel`]), tokenizer: Loaded from `checkpoint`; the model's config gets the changes too.
        changes (`dict`): `thresholds`, `conformal` or both.
        checkpoint (`str`): A folder, or a Hub id with `output_dir`.
        output_dir (`str`, *optional*): New folder for a changed copy.

    Returns:
        `pathlib.Path`: the folder that was written.
    """
    from hf_htc.models.whole_files import new_folder

    for key, value in changes.items():
        setattr(model.config, key, value)
    model.config.validate()
    source = Path(checkpoint)
    if output_dir is None:
        _write_into(source, model.config, changes)
        return source
    with new_folder(output_dir) as partial:
        if source.is_dir():
            for file in source.iterdir():
                if file.is_file() and not file.name.startswith(_OF_TRAINING):
                    shutil.copy2(file, partial / file.name)
            _write_into(partial, model.config, changes)
        else:
            if getattr(model, "_hf_peft_config_loaded", False):
                raise HTCError(f"{checkpoint!r} is an adapter on the Hub; download it into a folder and calibrate that.")
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
    return Path(output_dir)


def _write_into(folder, config, changes):
    from hf_htc.hub.adapters import write_calibration
    from hf_htc.models.whole_files import whole_file

    if (folder / "adapter_config.json").is_file():
        write_calibration(config, folder)
        return
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    with whole_file(file) as partial:
        partial.write_text(json.dumps({**content, **changes}, indent=2) + "\n", encoding="utf-8")
