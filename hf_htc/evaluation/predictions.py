"""Prediction files: one JSON object a document, and the scores of a model over a data set.

A record: `id`, `labels` (names, best first), `scores`, `paths`, `top_k` (`[name, score]` pairs whatever the threshold),
`closure`, `checkpoint` (a name, never a local path).

Legend: `B` documents, `N` labels.
"""

import itertools
import json
from pathlib import Path

import torch
from transformers.utils import logging

from hf_htc.data import label_csr
from hf_htc.evaluation.details import EvaluationDetails
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError, HTCFileNotFoundError
from hf_htc.models.label_sets import from_csr
from hf_htc.models.prediction import check_texts
from hf_htc.models.whole_files import whole_file


logger = logging.get_logger(__name__)


class EvaluationResult:
    """
    What [`evaluate_model`] gives.

    Args:
        scores (`dict`): All scores of [`HierarchicalScorer.compute`], the policy echoed.
        scorer ([`HierarchicalScorer`]): The counts, for per-label tables.
        records (`list[dict]`): One prediction record a document.
        details ([`EvaluationDetails`], *optional*): What a report shows beside, where it was asked for.
        threshold (`float` or `list[float]`, *optional*): The score from which labels were predicted, or one a label; `None` for a
            decoder that compares no score with a threshold.
    """

    def __init__(self, scores, scorer, records, details=None, threshold=None):
        self.scores, self.scorer, self.records, self.details = scores, scorer, records, details
        self.threshold = threshold


def evaluate_model(
    model,
    tokenizer,
    dataset,
    hierarchy=None,
    closure=None,
    threshold=None,
    top_k=10,
    batch_size=64,
    checkpoint="",
    show_progress_bar=None,
    decoder="threshold",
    details=False,
):
    """
    Predicts a data set and counts.

    Args:
        model ([`HTCPreTrainedModel`]), tokenizer: The checkpoint.
        dataset (`datasets.Dataset`): Columns `text` and `labels` (ids of the model's labels).
        hierarchy ([`LabelHierarchy`], *optional*): The data's taxonomy, to be sure that it is the model's.
        closure (`str`, *optional*): Defaults to what fits the training labels.
        threshold (`float`, *optional*): Defaults to the checkpoint's, else 0.5.
        top_k (`int`, *optional*, defaults to 10): Scores kept in each record.
        decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, see [`Decoder`].
        details (`bool`, *optional*, defaults to `False`): Whether to count what [`EvaluationDetails`] holds, for a report.

    Returns:
        [`EvaluationResult`]

    Raises:
        `ValueError`: the checkpoint has other labels than the data.
    """
    own = model.config.get_hierarchy()
    if hierarchy is not None:
        check_same_labels(own, hierarchy)
    closure = model.default_closure(closure)
    scorer = HierarchicalScorer(own.parents, own.num_labels, closure=closure, names=own.names)
    records, gold = [None] * len(dataset), from_csr(*label_csr(dataset, own), False)
    texts = list(dataset["text"])
    check_texts(texts)
    options = (closure, threshold, top_k, batch_size, decoder, show_progress_bar)
    counted = EvaluationDetails(own, closure) if details else None
    for rows, batch, logits in predict_batches(model, tokenizer, texts, *options):
        predicted, wanted = [labels for labels, _ in batch], [gold[row] for row in rows]
        scorer.add(predicted, wanted)
        if counted is not None:
            chosen = model.label_decoder(decoder)(logits, model.decision_boundary(threshold))
            raw = [row.nonzero().flatten().tolist() for row in chosen]
            counted.add(rows, raw, predicted, wanted, torch.sigmoid(logits).cpu().numpy())
        for row, (_, record) in zip(rows, batch):
            records[row] = record
    ids = dataset["id"] if "id" in dataset.column_names else range(len(dataset))
    made_by = _made_by(closure, checkpoint, decoder)
    records = [{"id": i, **record, **made_by} for i, record in zip(ids, records)]
    if threshold is None:
        threshold = 0.5 if model.config.thresholds is None else model.config.thresholds
    return EvaluationResult(scorer.compute(), scorer, records, counted, None if decoder == "expected_f" else threshold)


def _made_by(closure, checkpoint, decoder):
    """What a record says of its making; the decoder only where it is none that compares each score with a threshold."""
    return {"closure": closure, "checkpoint": checkpoint} | ({} if decoder == "threshold" else {"decoder": decoder})


def check_same_labels(model_hierarchy, data_hierarchy):
    """Raises `ValueError` naming the first label that only one of the two hierarchies has, or that has another id."""
    mine, theirs = model_hierarchy.label_names, data_hierarchy.label_names
    if mine == theirs:
        return
    extra, missing = sorted(set(theirs) - set(mine)), sorted(set(mine) - set(theirs))
    if extra or missing:
        which = f"{extra[0]!r} only in the data" if extra else f"{missing[0]!r} only in the checkpoint"
        raise HTCError(
            f"The checkpoint has other labels than the data ({len(mine)} and {len(theirs)}): {which}. Give the taxonomy the "
            "checkpoint was trained with, or another checkpoint."
        )
    place = next(i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b)
    raise HTCError(
        f"The checkpoint and the data number their labels differently: id {place} is {mine[place]!r} and {theirs[place]!r}. "
        "Load the data with the checkpoint's hierarchy: `taxonomy=model.config.get_hierarchy()`."
    )


@torch.no_grad()
def predict_batches(model, tokenizer, texts, closure, threshold, top_k, batch_size, decoder="threshold", show_progress_bar=None):
    """Yields `(rows, [(label ids, record), ...], logits)` of texts, longest first."""
    hierarchy, decode = model.config.get_hierarchy(), model.label_decoder(decoder)
    boundary = model.decision_boundary(threshold)
    for rows, logits in model.iter_logits(texts, tokenizer, batch_size, show_progress_bar):
        best = logits.topk(min(top_k, logits.shape[1]), dim=1)
        best_ids, best_scores = best.indices.tolist(), torch.sigmoid(best.values).tolist()
        batch = []
        for record, ids, scores in zip(model._decode(logits, boundary, None, closure, hierarchy, decode), best_ids, best_scores):
            record["top_k"] = [[hierarchy.names[i], round(score, 6)] for i, score in zip(ids, scores)]
            batch.append(([hierarchy.id(name) for name in record["labels"]], record))
        yield rows, batch, logits


def write_records(records, path):
    """Writes JSON lines beside the target first, so that a file is either whole or not there."""
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def predict_file(
    model,
    tokenizer,
    input_file,
    output_file,
    text_column="text",
    threshold=None,
    top_k=10,
    closure=None,
    batch_size=64,
    checkpoint="",
    chunk_size=1024,
    decoder="threshold",
):
    """
    Predicts a JSONL file into a JSONL file, in order. Interrupted and started again, it goes on behind the last whole chunk, so
    that the documents share the same batches and the file is the same, byte for byte, as that of an uninterrupted run.

    Args:
        input_file (`str`): JSON objects with `text_column` and, if there is one, `id`.
        output_file (`str`): Records as described above; written chunk by chunk.
        chunk_size (`int`, *optional*, defaults to 1024): Documents between two writes.
        decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, see [`Decoder`].

    Returns:
        `tuple[int, int]`: documents predicted now, and documents found done.

    Raises:
        `FileNotFoundError`: no input file. `ValueError`: an unreadable line (numbered), a missing column, an empty text, an
        output that belongs to another input, checkpoint, closure or decoder. `TypeError`: a text that is no string.
    """
    if not Path(input_file).is_file():
        raise HTCFileNotFoundError(f"There is no input file {str(input_file)!r}.")
    closure = model.default_closure(closure)
    output = Path(output_file)
    output.parent.mkdir(parents=True, exist_ok=True)
    documents = _read_documents(input_file, text_column)
    made_by = _made_by(closure, checkpoint, decoder)
    documents, num_done = _resume(output, documents, chunk_size, {"decoder": None, **made_by})
    count = 0
    with open(output, "a", encoding="utf-8", newline="\n") as stream:
        while chunk := list(itertools.islice(documents, chunk_size)):
            records = [None] * len(chunk)
            texts = [text for _, text in chunk]
            for rows, batch, _ in predict_batches(model, tokenizer, texts, closure, threshold, top_k, batch_size, decoder):
                for row, (_, record) in zip(rows, batch):
                    records[row] = {"id": chunk[row][0], **record, **made_by}
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            count += len(chunk)
    return count, num_done


def _resume(output, documents, chunk_size, expected):
    """
    Compares an earlier run's records with the input and cuts the output back to the last whole chunk, or to the last whole line
    when that is the input's last document.

    Returns:
        `tuple[Iterator, int]`: the documents still to do, and how many are done.
    """
    if not output.exists():
        return documents, 0
    lines = output.read_bytes().split(b"\n")[:-1]  # what follows the last line break is a half-written line
    again = []
    for place, line in enumerate(lines):
        record = _record(line, place, output)
        document = next(documents, None)
        if document is None or document[0] != record["id"]:
            raise HTCError(
                f"{output.name!r} was made from another input: its line {place + 1} has the id {record['id']!r}. Remove it, or "
                "give another output file."
            )
        for key, value in expected.items():
            if record.get(key) != value:
                raise HTCError(
                    f"{output.name!r} was made with another {key}: its line {place + 1} has {record.get(key)!r}, this run has "
                    f"{value!r}. Remove it, or give another output file."
                )
        again.append(document)
        if len(again) == chunk_size:
            again.clear()
    following = next(documents, None)
    if following is None:
        again = []
    else:
        documents = itertools.chain(again, [following], documents)
    kept = lines[: len(lines) - len(again)]
    with open(output, "r+b") as stream:
        stream.truncate(sum(len(line) + 1 for line in kept))
    return documents, len(kept)


def _record(line, place, output):
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or not {"id", "closure", "checkpoint"} <= set(record):
        raise HTCError(
            f"Line {place + 1} of the output file {output.name!r} is no prediction record. Remove the file, or give another one."
        )
    return record


def _read_documents(input_file, text_column):
    name, number = Path(input_file).name, 0
    with open(input_file, encoding="utf-8-sig") as stream:
        for line_number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise HTCError(f"Line {line_number} of {name!r} is not valid JSON: {error}.") from error
            if not isinstance(row, dict) or text_column not in row:
                columns = sorted(row) if isinstance(row, dict) else type(row).__name__
                raise HTCError(
                    f"Line {line_number} of {name!r} has no column {text_column!r}; it has {columns}. Pass `--text_column`."
                )
            try:
                check_texts([row[text_column]])
            except (TypeError, ValueError) as error:
                raise type(error)(f"Line {line_number} of {name!r}: {str(error).replace('Text 0', 'the text')}") from None
            yield row.get("id", number), row[text_column]
            number += 1
