"""Prediction files: one JSON object per document, and the scores of a model over a data set.

A record: `id`, `labels` (names, best first), `scores`, `paths`, `top_k` (`[name, score]` pairs whatever the threshold),
`closure`, `checkpoint` (a name, never a local path).

Legend: `B` documents, `N` labels.
"""

import codecs
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import torch
from transformers.utils import logging

from hf_htc.data import label_csr
from hf_htc.evaluation.details import EvaluationDetails
from hf_htc.evaluation.fingerprint import (
    OVERWRITE,
    check_same,
    digest,
    fingerprint,
    read_run_file,
    run_file,
    write_run_file,
)
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError, HTCFileNotFoundError, reason_of
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
    overwrite=False,
):
    """
    Predicts a JSONL file into a JSONL file, in order. Interrupted and started again, it goes on behind the last whole chunk, so
    that the documents share the same batches and the file is the same, byte for byte, as that of an uninterrupted run.

    Beside the output lies its run file, `OUTPUT.run.jsonl`: the [`fingerprint`] of model and options, and a digest of every
    document that was predicted. A run goes on only with an equal fingerprint and unchanged documents; later lines of the input
    may be mended or added meanwhile.

    Args:
        input_file (`str`): JSON objects with `text_column` and, if there is one, `id`.
        output_file (`str`): Records as described above; written chunk by chunk, and not before the first chunk was read.
        chunk_size (`int`, *optional*, defaults to 1024): Documents between two writes.
        decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, see [`Decoder`].
        overwrite (`bool`, *optional*, defaults to `False`): Starts anew, whatever is there.

    Returns:
        `tuple[int, int]`: documents predicted now, and documents found done.

    Raises:
        `FileNotFoundError`: no input file. `ValueError`: an unreadable line (numbered), a missing column, an empty text, an
        output that was made from another input or with other settings, or of which nothing says how it was made. `TypeError`: a
        text that is no string.
    """
    output = Path(output_file)
    _check_files(input_file, output)
    closure = model.default_closure(closure)
    model.decision_boundary(threshold)
    model.label_decoder(decoder)
    made_by = _made_by(closure, checkpoint, decoder)
    options = {
        "command": "predict", "checkpoint": checkpoint, "threshold": threshold, "top_k": top_k, "closure": closure,
        "decoder": decoder, "text_column": text_column, "batch_size": batch_size, "chunk_size": chunk_size,
    }  # fmt: skip
    found = fingerprint(options, model, tokenizer)
    documents, num_done, digests = _read_documents(input_file, text_column), 0, []
    is_started = not overwrite and output.exists() and output.stat().st_size > 0
    if is_started:
        before, notes = read_run_file(output)
        check_same(before, found, output.name)
        documents, num_done, digests = _resume(output, Path(input_file).name, documents, chunk_size, notes)
    chunk = list(itertools.islice(documents, chunk_size))
    if is_started and not chunk:
        return 0, num_done
    output.parent.mkdir(parents=True, exist_ok=True)
    if not is_started:
        output.unlink(missing_ok=True)  # before its run file is replaced: a kill between leaves nothing that looks like ours
    write_run_file(output, found, *([digests] if digests else []))
    count = 0
    with (
        open(run_file(output), "a", encoding="utf-8", newline="\n") as notes,
        open(output, "a", encoding="utf-8", newline="\n") as stream,
    ):
        while chunk:
            records, texts = [None] * len(chunk), [document.text for document in chunk]
            for rows, batch, _ in predict_batches(model, tokenizer, texts, closure, threshold, top_k, batch_size, decoder):
                for row, (_, record) in zip(rows, batch):
                    records[row] = {"id": chunk[row].id, **record, **made_by}
            # The digests first: what is in the output is known to the run file, whenever the process ends.
            notes.write(json.dumps([document.digest for document in chunk]) + "\n")
            notes.flush()
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            count += len(chunk)
            chunk = list(itertools.islice(documents, chunk_size))
    return count, num_done


class _Document(NamedTuple):
    """A document of an input file: its line, its id, its text, and a digest of both."""

    line: int
    id: object
    text: str
    digest: str


def _check_files(input_file, output):
    if not Path(input_file).is_file():
        raise HTCFileNotFoundError(f"There is no input file {str(input_file)!r}.")
    if output.is_dir():
        raise HTCError(f"The output {str(output)!r} is a folder; give a file.")
    for path in (output, run_file(output)):
        if path.exists() and path.samefile(input_file):
            raise HTCError(f"{str(path)!r} is the input file, which would be lost; give another output.")


def _resume(output, input_name, documents, chunk_size, notes):
    """
    Compares the input with the digests of what was predicted, and cuts the output back to the last whole chunk, or to the last
    whole line when that is the input's last document.

    Args:
        output (`Path`), input_name (`str`), documents (`Iterator`): Of the input, from its beginning.
        notes (`list`): Of the run file: lists of digests, in the order of the documents.

    Returns:
        `tuple[Iterator, int, list]`: the documents still to do, how many are done, and their digests.
    """
    known = [value for part in notes for value in (part if isinstance(part, list) else [part])]
    num_done, size, ends = 0, 0, [0]
    again = []
    with open(output, "rb") as stream:
        for place, line in enumerate(stream):
            if not line.endswith(b"\n"):  # half-written
                break
            record = _record(line, place, output)
            if place >= len(known):
                raise HTCError(f"{output.name!r} has more lines than its run file knows of. {OVERWRITE}")
            document = next(documents, None)
            if document is None:
                raise HTCError(
                    f"{output.name!r} was made from another input: {input_name!r} has {place} documents, its line {place + 1} "
                    f"has the id {record['id']!r}. {OVERWRITE}"
                )
            if document.digest != known[place]:
                raise HTCError(
                    f"Line {document.line} of {input_name!r} has changed since it was predicted into line {place + 1} of "
                    f"{output.name!r}. {OVERWRITE}"
                )
            num_done, size = num_done + 1, size + len(line)
            again.append(document)
            if len(again) == chunk_size:
                again.clear()
                ends.append(size)
    following = next(documents, None)
    if following is None:
        kept = num_done
    else:
        documents = itertools.chain(again, [following], documents)
        kept, size = num_done - len(again), ends[-1]
    if size != output.stat().st_size:
        with open(output, "r+b") as stream:
            stream.truncate(size)
    return documents, kept, known[:kept]


def _record(line, place, output):
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or not {"id", "closure", "checkpoint"} <= set(record):
        raise HTCError(f"Line {place + 1} of the output file {output.name!r} is no prediction record. {OVERWRITE}")
    return record


def _read_documents(input_file, text_column):
    name, number = Path(input_file).name, 0
    with open(input_file, "rb") as stream:
        for line_number, line in enumerate(stream, 1):
            if line_number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise HTCError(f"Line {line_number} of {name!r} is not UTF-8: {error.reason} at byte {error.start}.") from error
            except (ValueError, RecursionError) as error:
                raise HTCError(f"Line {line_number} of {name!r} is not valid JSON: {reason_of(error)}.") from error
            if not isinstance(row, dict) or text_column not in row:
                columns = sorted(row) if isinstance(row, dict) else type(row).__name__
                raise HTCError(
                    f"Line {line_number} of {name!r} has no column {text_column!r}; it has {columns}. Pass `--text_column`."
                )
            try:
                check_texts([row[text_column]])
            except (TypeError, ValueError) as error:
                raise type(error)(f"Line {line_number} of {name!r}: {str(error).replace('Text 0', 'the text')}") from None
            content = row.get("id", number), row[text_column]
            for what, value in zip(("id", "text"), content):
                try:
                    json.dumps(value, ensure_ascii=False).encode("utf-8")
                except UnicodeEncodeError as error:
                    half = error.object[error.start : error.start + 1].encode("ascii", "backslashreplace").decode()
                    raise HTCError(
                        f"Line {line_number} of {name!r}: the {what} holds {half}, half of a pair of surrogates and no "
                        "character. Mend or leave out the line."
                    ) from None
            yield _Document(line_number, *content, digest(*content)[:16])
            number += 1
