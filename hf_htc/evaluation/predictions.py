"""Prediction files: one JSON object per document, and the scores of a model over a data set.

A record: `id`, `labels` (names, best first), `scores`, `paths`, `top_k` (`[name, score]` pairs whatever the threshold),
`closure`, `checkpoint` (a name, never a local path).

Legend: `B` documents, `N` labels.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hf_htc.data import label_csr
from hf_htc.data.documents import LINE_SUFFIXES, check_output, read_documents, write_predictions
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
from hf_htc.logging import get_logger
from hf_htc.metrics.hierarchical_f1 import HierarchicalScorer
from hf_htc.models.errors import HTCError, HTCFileNotFoundError
from hf_htc.models.label_sets import from_csr
from hf_htc.models.prediction import check_texts


if TYPE_CHECKING:
    from datasets import Dataset

    from hf_htc.annotations import Closure, DecoderKind, StrPath, Thresholds, Tokenizer
    from hf_htc.models.hierarchy import LabelHierarchy
    from hf_htc.models.modeling_htc import HTCPreTrainedModel


logger = get_logger(__name__)


class EvaluationResult:
    """
    What [`evaluate_model`] gives.

    Args:
        scores (`dict`): All scores of [`HierarchicalScorer.compute`], the policy echoed.
        scorer ([`HierarchicalScorer`]): The counts, for per-label tables.
        records (`list[dict]`): One prediction record per document.
        details ([`EvaluationDetails`], *optional*): What a report shows beside, where it was asked for.
        threshold (`float` or `list[float]`, *optional*): The score from which labels were predicted, or one per label; `None` for
            a decoder that compares no score with a threshold.
    """

    def __init__(
        self,
        scores: dict[str, float],
        scorer: HierarchicalScorer,
        records: list[dict[str, Any]],
        details: EvaluationDetails | None = None,
        threshold: Thresholds | None = None,
    ) -> None:
        self.scores, self.scorer, self.records, self.details = scores, scorer, records, details
        self.threshold = threshold


def evaluate_model(
    model: HTCPreTrainedModel,
    tokenizer: Tokenizer,
    dataset: Dataset,
    hierarchy: LabelHierarchy | None = None,
    closure: Closure | None = None,
    threshold: Thresholds | None = None,
    top_k: int = 10,
    batch_size: int = 64,
    checkpoint: str = "",
    show_progress_bar: bool | None = None,
    decoder: DecoderKind = "threshold",
    details: bool = False,
) -> EvaluationResult:
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
    records: list[Any] = [None] * len(dataset)
    gold = from_csr(*label_csr(dataset, own), False)
    texts = list(dataset["text"])
    check_texts(texts)
    options = (closure, threshold, top_k, batch_size, decoder, show_progress_bar)
    counted = EvaluationDetails(own, closure) if details else None
    for rows, batch, logits, chosen in predict_batches(model, tokenizer, texts, *options):
        predicted, wanted = [labels for labels, _ in batch], [gold[row] for row in rows]
        scorer.add(predicted, wanted)
        if counted is not None:
            chosen_rows, chosen_labels = (x.cpu().numpy() for x in chosen.nonzero(as_tuple=True))
            raw = np.split(chosen_labels, np.searchsorted(chosen_rows, np.arange(1, len(logits))))
            counted.add(rows, [labels.tolist() for labels in raw], predicted, wanted, torch.sigmoid(logits).cpu().numpy())
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


def check_same_labels(model_hierarchy: LabelHierarchy, data_hierarchy: LabelHierarchy) -> None:
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
    """
    Yields `(rows, [(label ids, record), ...], logits, chosen)` of texts, longest first; `chosen`, `(B, N)` bool, are the labels
    before any closure.
    """
    hierarchy, decode = model.config.get_hierarchy(), model.label_decoder(decoder)
    boundary = model.decision_boundary(threshold)
    for rows, logits in model.iter_logits(texts, tokenizer, batch_size, show_progress_bar):
        chosen = model._chosen(logits, boundary, None, decode)
        best = logits.topk(min(top_k, logits.shape[1]), dim=1)
        best_ids, best_scores = best.indices.tolist(), torch.sigmoid(best.values).tolist()
        batch = []
        for record, ids, scores in zip(model._predictions_of(logits, chosen, closure, hierarchy), best_ids, best_scores):
            record["top_k"] = [[hierarchy.names[i], round(score, 6)] for i, score in zip(ids, scores)]
            batch.append(([hierarchy.id(name) for name in record["labels"]], record))
        yield rows, batch, logits, chosen


def predict_file(
    model: HTCPreTrainedModel,
    tokenizer: Tokenizer,
    input_file: StrPath,
    output_file: StrPath,
    text_column: str = "text",
    threshold: Thresholds | None = None,
    top_k: int = 10,
    closure: Closure | None = None,
    batch_size: int = 64,
    checkpoint: str = "",
    chunk_size: int = 1024,
    decoder: DecoderKind = "threshold",
    overwrite: bool = False,
    reading: dict[str, Any] | None = None,
) -> tuple[int, int]:
    """
    Predicts a file of documents, in any form that [`read_documents`] takes, into a file of predictions, in order. Interrupted
    and started again, it goes on behind the last whole chunk, so that the documents share the same batches and the file is the
    same, byte for byte, as that of an uninterrupted run.

    Beside the output lies its run file, `OUTPUT.run.jsonl`: the [`fingerprint`] of model and options, and a digest of every
    document that was predicted. A run goes on only with an equal fingerprint and unchanged documents; later lines of the input
    may be mended or added meanwhile.

    Args:
        input_file (`str`): Documents with `text_column` and, if there is one, `id`; one without a text gets an empty record.
        output_file (`str`): Records as described above, by the ending JSON lines (`.jsonl`), written chunk by chunk and not
            before the first chunk was read, or a table (`.csv`, `.tsv`, `.parquet`), written at the end.
        chunk_size (`int`, *optional*, defaults to 1024): Documents between two writes.
        decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, see [`Decoder`].
        overwrite (`bool`, *optional*, defaults to `False`): Starts anew, whatever is there.
        reading (`dict`, *optional*): `delimiter`, `encoding`, `quoting`, `header` of the input, where they are not recognised
            rightly.

    Returns:
        `tuple[int, int]`: documents predicted now, and documents found done.

    Raises:
        `FileNotFoundError`: no input file. `ValueError`: an unreadable line (numbered), a missing column, an
        output that was made from another input or with other settings, or of which nothing says how it was made. `TypeError`: a
        text that is no string.
    """
    output, reading = Path(output_file), reading or {}
    _check_files(input_file, output)
    is_table = check_output(output) not in LINE_SUFFIXES
    closure = model.default_closure(closure)
    model.decision_boundary(threshold)
    model.label_decoder(decoder)
    made_by = _made_by(closure, checkpoint, decoder)
    options = {
        "command": "predict", "checkpoint": checkpoint, "threshold": threshold, "top_k": top_k, "closure": closure,
        "decoder": decoder, "text_column": text_column, "batch_size": batch_size, "chunk_size": chunk_size, **reading,
    }  # fmt: skip
    found = fingerprint(options, model, tokenizer)
    documents, num_done, digests = _documents(input_file, text_column, reading), 0, []
    if is_table and output.exists() and not overwrite and not _lines_of(output).exists():
        before, notes = read_run_file(output)
        check_same(before, found, output.name)
        return 0, _check_table(output, Path(input_file).name, documents, _flat(notes))
    # A table is written when all its records are there; until then they are lines beside it, behind which a run goes on.
    lines = _lines_of(output) if is_table else output
    is_started = not overwrite and lines.exists() and lines.stat().st_size > 0
    if is_started:
        before, notes = read_run_file(output)
        check_same(before, found, output.name)
        documents, num_done, digests = _resume(lines, Path(input_file).name, documents, chunk_size, _flat(notes))
    chunk = list(itertools.islice(documents, chunk_size))
    if is_started and not chunk:
        _finish(lines, output)
        return 0, num_done
    output.parent.mkdir(parents=True, exist_ok=True)
    if not is_started:
        lines.unlink(missing_ok=True)  # before its run file is replaced: a kill between leaves nothing that looks like ours
        output.unlink(missing_ok=True)
    write_run_file(output, found, *([digests] if digests else []))
    count = 0
    empty: dict[str, list[Any]] = {"labels": [], "scores": [], "paths": [], "top_k": []}
    if model.config.get_hierarchy().ids is not None:
        empty["ids"] = []
    with (
        open(run_file(output), "a", encoding="utf-8", newline="\n") as notes,
        open(lines, "a", encoding="utf-8", newline="\n") as stream,
    ):
        while chunk:
            records = [{"id": document.id, **empty, **made_by} for document in chunk]  # what a document without a text gets
            filled = [row for row, document in enumerate(chunk) if document.text.strip()]
            texts = [chunk[row].text for row in filled]
            for rows, batch, *_ in predict_batches(model, tokenizer, texts, closure, threshold, top_k, batch_size, decoder):
                for row, (_, record) in zip(rows, batch):
                    records[filled[row]] = {"id": chunk[filled[row]].id, **record, **made_by}
            # The digests first: what is in the output is known to the run file, whenever the process ends.
            notes.write(json.dumps([document.digest for document in chunk]) + "\n")
            notes.flush()
            stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            stream.flush()
            count += len(chunk)
            chunk = list(itertools.islice(documents, chunk_size))
    _finish(lines, output)
    return count, num_done


def _lines_of(output):
    return output.with_name(f".{output.name}.jsonl")


def _finish(lines, output):
    """Makes a table of its lines, where the output is one."""
    if lines != output:
        with open(lines, encoding="utf-8") as stream:
            write_predictions(map(json.loads, stream), output)
        lines.unlink()


def _flat(notes):
    """The digests of a run file, in the order of the documents."""
    return [value for part in notes for value in (part if isinstance(part, list) else [part])]


def _check_table(output, input_name, documents, known):
    """How many documents a finished table has; raises [`HTCError`] where the input has others by now."""
    place = 0
    for place, document in enumerate(documents, 1):
        if place > len(known):
            raise HTCError(
                f"{input_name!r} has more documents than the {len(known)} of {output.name!r}, and a table is not continued. "
                f"{OVERWRITE}"
            )
        if document.digest != known[place - 1]:
            raise HTCError(
                f"Line {document.line} of {input_name!r} has changed since it was predicted into {output.name!r}. {OVERWRITE}"
            )
    if place < len(known):
        raise HTCError(
            f"{output.name!r} was made from another input: {input_name!r} has {place} documents, the table {len(known)}. "
            f"{OVERWRITE}"
        )
    return place


class _Document(NamedTuple):
    """A document of an input file: its line, its id, its text, and a digest of both."""

    line: int
    id: object
    text: str
    digest: str


def _documents(input_file, text_column, reading):
    for document in read_documents(input_file, text_column, **reading):
        yield _Document(*document, digest(document.id, document.text)[:16])


def _check_files(input_file, output):
    if not Path(input_file).is_file():
        raise HTCFileNotFoundError(f"There is no input file {str(input_file)!r}.")
    if output.is_dir():
        raise HTCError(f"The output {str(output)!r} is a folder; give a file.")
    for path in (output, run_file(output)):
        if path.exists() and path.samefile(input_file):
            raise HTCError(f"{str(path)!r} is the input file, which would be lost; give another output.")


def _resume(output, input_name, documents, chunk_size, known):
    """
    Compares the input with the digests of what was predicted, and cuts the output back to the last whole chunk, or to the last
    whole line when that is the input's last document.

    Args:
        output (`Path`), input_name (`str`), documents (`Iterator`): Of the input, from its beginning.
        known (`list[str]`): Digests of the run file, in the order of the documents.

    Returns:
        `tuple[Iterator, int, list]`: the documents still to do, how many are done, and their digests.
    """
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
