"""`.eval_results/*.yaml`: the scores of a checkpoint in the form that the Hub lists on the page of the data set."""

import re
from pathlib import Path

import yaml

from hf_htc.hub.card import HEADLINE_SCORES, SCORE_NAMES, scores_of
from hf_htc.logging import get_logger
from hf_htc.models.whole_files import write_text


logger = get_logger(__name__)

FOLDER = ".eval_results"
FILE = f"{FOLDER}/hf_htc.yaml"


def eval_results_yaml(run):
    """
    The entries of a run as YAML text, one a headline score.

    Args:
        run (`dict`): A run manifest ([`run_manifest`]).

    Returns:
        `str` or `None`: nothing without scores, for data that has no id on the Hub (an entry belongs to a data set there), or
        with a huggingface_hub that does not know the format.
    """
    split, scores = scores_of(run or {})
    dataset = (run or {}).get("dataset", {}).get("name") or ""
    if not scores or not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        return None
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        logger.warning(
            f"This huggingface_hub does not know `{FOLDER}`; the scores stand in the model card only. Update with "
            "`pip install -U huggingface_hub`."
        )
        return None
    count = f", {scores['num_documents']:,} documents" if scores.get("num_documents") else ""
    entries = [
        EvalResultEntry(
            dataset_id=dataset,
            task_id=f"{split}_{key}",
            value=round(float(scores[key]), 6),
            notes=f"{SCORE_NAMES[key]} on the {split} split, closure {scores['closure']}{count}",
        )
        for key in HEADLINE_SCORES
        if key in scores
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)


def write_eval_results(run, folder):
    """Writes `.eval_results/hf_htc.yaml`, or removes that of an older checkpoint when there is nothing to say."""
    path = Path(folder) / FILE
    content = eval_results_yaml(run)
    if content is None:
        path.unlink(missing_ok=True)
        return
    write_text(path, content)
