"""Export to ONNX: written aside, compared with PyTorch, and only then kept.

Legend: `B` documents, `T` tokens, `N` labels.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hf_htc.data import dataset_fingerprint
from hf_htc.evaluation.fingerprint import check_same, fingerprint
from hf_htc.hub.export_card import export_card
from hf_htc.hub.local_paths import remove_local_paths
from hf_htc.hub.onnx_classifier import FLOAT_FILE, INT8_FILE, REPORT_FILE, OnnxClassifier, require
from hf_htc.hub.saving import save_tokenizer
from hf_htc.logging import get_logger
from hf_htc.models.errors import HTCError, HTCFloatingPointError
from hf_htc.models.version import __version__
from hf_htc.models.whole_files import finish_update, new_folder, whole_folder_update


if TYPE_CHECKING:
    from datasets import Dataset

    from hf_htc.annotations import StrPath, Tokenizer
    from hf_htc.models.modeling_htc import HTCPreTrainedModel


logger = get_logger(__name__)

# Largest difference between the two sets of logits that an export may have. Logits above 10 in size may differ by their last
# digits in float32, relative to the largest.
TOLERANCE, RELATIVE_TOLERANCE = 1e-4, 1e-5
# (B, T); a length of `None` is the longest text that the model takes.
SHAPES = ((1, 1), (1, 2), (2, 3), (3, 7), (1, 16), (4, 16), (5, 33), (8, 24), (2, 64), (1, None))
# What stands for "any length" where an encoder has relative positions.
DEFAULT_MAX_LENGTH = 512


class Logits(nn.Module):
    """The model as a function of tensors to a tensor, which is what an ONNX graph is."""

    def __init__(self, model):
        super().__init__()
        self.wrapped = model

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        return self.wrapped(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


def export_onnx(
    model: HTCPreTrainedModel,
    tokenizer: Tokenizer,
    folder: StrPath,
    int8: bool = False,
    max_length: int | None = None,
    dataset: Dataset | None = None,
    split: str | None = None,
    batch_size: int = 32,
    overwrite: bool = False,
) -> dict[str, Any]:
    """
    Writes a model as ONNX, with everything that is needed to predict with onnxruntime.

    The folder holds `model.onnx` (dynamic in the batch and, where the encoder allows it, in the text length), `config.json`,
    the tokenizer, `taxonomy.json`, `export.json` (versions, shapes, differences, sizes, scores) and a `README.md`. The logits
    of onnxruntime and PyTorch are compared on ten shapes, padded left and right; unless they agree to 1e-4 (logits above 10 in
    size: to 1e-5 of the largest), nothing is left.

    Args:
        model ([`HTCPreTrainedModel`]): Not changed.
        tokenizer (`PreTrainedTokenizer`): Of the checkpoint.
        folder (`str`): New or empty. An export of the same model with the same options in it is left as it is.
        int8 (`bool`, *optional*, defaults to `False`): Also `model_int8.onnx`, quantised dynamically.
        max_length (`int`, *optional*): Tokens at which texts are cut, at least 1; at most and by default the checkpoint's.
        dataset (`datasets.Dataset`, *optional*): Columns `text` and `labels` (ids), on which the F1 of both models is
            measured.
        split (`str`, *optional*): Its name, for the report.
        batch_size (`int`, *optional*, defaults to 32): Documents per step of that.
        overwrite (`bool`, *optional*, defaults to `False`): Whether an export in the folder is replaced, once the new one is
            whole.

    Returns:
        `dict`: the content of `export.json`.

    Raises:
        `ImportError`: onnx, onnxscript or onnxruntime is missing. `FileExistsError`: `folder` is not empty and holds no export.
        `ValueError`: it holds another export; a model of another package, a bad `max_length`, a model that cannot be exported.
        `FloatingPointError`: the logits differ.
    """
    require("onnx", "onnxscript", "onnxruntime")
    if hasattr(model, "merge_and_unload") or not hasattr(getattr(model, "config", None), "get_hierarchy"):
        raise HTCError(
            f"`model` is a {type(model).__name__}; what is exported is a model of hf_htc, merged if it is a PEFT model."
        )
    data = None if dataset is None else dataset_fingerprint({split or "data": dataset}, model.config.get_hierarchy())
    options = {
        "command": "export",
        "int8": int8,
        "max_length": max_length,
        "split": split,
        "data": data,
        "batch_size": batch_size,
    }
    found, folder = fingerprint(options, model, tokenizer), Path(os.path.realpath(folder))
    finish_update(folder)
    if (folder / REPORT_FILE).is_file() and not overwrite:
        report = _read_report(folder)
        check_same(report.get("fingerprint"), found, folder.name)
        logger.warning(f"{folder.name!r} holds this export already; nothing to do.")
        return report
    is_replaced = overwrite and (folder / REPORT_FILE).is_file()
    graphs = [path.name for path in folder.glob("*.onnx*")] if is_replaced else []
    with whole_folder_update(folder, removes=graphs) if is_replaced else new_folder(folder) as partial:
        model = copy.deepcopy(model).to("cpu", torch.float32).eval()  # type: ignore[arg-type]
        _limit_length(model, max_length)
        report = {"fingerprint": found, **_write(model, tokenizer, partial, int8, dataset, split, batch_size)}
        _write_report(report, partial)
        (partial / "README.md").write_text(export_card(model, tokenizer, report, partial), encoding="utf-8")
        remove_local_paths(partial)
    return report


def _read_report(folder):
    try:
        report = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        report = None
    return report if isinstance(report, dict) else {}


def _limit_length(model, max_length):
    limit = model.config.max_text_length
    if max_length is not None:
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise HTCError(f"`max_length` is {max_length!r}; it must be a whole number of at least 1.")
        if limit is not None and max_length > limit:
            raise HTCError(f"`max_length` is {max_length}, but the checkpoint takes {limit} tokens; give at most {limit}.")
        model.config.max_text_length = max_length
    elif limit is None:
        model.config.max_text_length = DEFAULT_MAX_LENGTH


def _write(model, tokenizer, folder, int8, dataset, split, batch_size):
    """Everything but the README; returns the report."""
    model._clean_names()
    save_tokenizer(model, tokenizer, folder)
    config = json.loads(model.config.to_json_string())
    config.pop("auto_map", None)  # the folder holds no code
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    model.config.get_hierarchy().save(folder / "taxonomy.json")
    dynamic = getattr(model.model, "supports_dynamic_length", True)
    if not dynamic:
        logger.warning(
            f"The {model.config.text_config.model_type} encoder reads word by word: the exported model has one text length, "
            f"{model.config.max_text_length}, to which texts are padded. PyTorch writes it out word by word, too, which takes "
            "its time; a shorter `max_length` is quicker."
        )
    report = {
        "hf_htc_version": __version__,
        "versions": _versions(),
        "inputs": _input_names(model, tokenizer),
        "max_length": model.config.max_text_length,
        "fixed_length": None if dynamic else model.config.max_text_length,
    }
    report["opset"] = export_graph(model, report["inputs"], report["fixed_length"], folder / FLOAT_FILE)
    _write_report(report, folder)
    exported = OnnxClassifier(folder)
    compared = compare(model, exported)
    report["shapes"], report["largest_logit_difference"] = compared["shapes"], compared["logits"]
    allowed = max(TOLERANCE, RELATIVE_TOLERANCE * compared["largest"])
    if not compared["logits"] <= allowed:
        raise HTCFloatingPointError(
            f"The exported model is wrong and was not kept: its logits differ from PyTorch's by up to {compared['logits']:.3g}, "
            f"where {allowed:.3g} is allowed."
        )
    if int8:
        quantize(folder)
        quantized = OnnxClassifier(folder, int8=True)
        compared = compare(model, quantized)
        report["int8"] = {
            "largest_logit_difference": compared["logits"],
            "largest_probability_difference": compared["probabilities"],
        }
    if dataset is not None:
        report["scores"] = {"split": split, **_scores(exported, tokenizer, dataset, batch_size)}
        if int8:
            scores = _scores(quantized, tokenizer, dataset, batch_size)
            report["int8"]["scores"] = {"split": split, **scores}
            report["int8"]["loss_of_f1"] = {
                key: round(report["scores"][key] - scores[key], 6) for key in ("micro_f1", "macro_f1")
            }
    report["bytes"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.name.startswith("model")}
    _write_report(report, folder)
    return report


def _write_report(report, folder):
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _versions():
    import onnx
    import onnxruntime
    import onnxscript
    import transformers

    packages = {"torch": torch, "transformers": transformers, "onnx": onnx, "onnxscript": onnxscript}
    return {name: package.__version__ for name, package in {**packages, "onnxruntime": onnxruntime}.items()}


def _input_names(model, tokenizer):
    """The tensors of a tokenised text that the model reads."""
    names = ["input_ids", "attention_mask"]
    reads_types = model._uses_token_types
    return [*names, "token_type_ids"] if reads_types and "token_type_ids" in tokenizer.model_input_names else names


# ---------------------------------------------------------------------- the graph


def export_graph(model, input_names, fixed_length, file):
    """
    Writes the ONNX graph of a model; returns its opset.

    Args:
        model ([`HTCPreTrainedModel`]): On the CPU, in eval mode.
        input_names (`list[str]`): Of `input_ids`, `attention_mask`, `token_type_ids`.
        fixed_length (`int`, *optional*): The only text length of the graph; any, when `None`.
        file (`pathlib.Path`): Weights that do not fit into it are written beside it.

    Raises:
        `ValueError`: PyTorch cannot export this encoder.
    """
    dimension = torch.export.Dim.DYNAMIC
    # A length of 1 would become a constant of the graph.
    length = fixed_length or min(model.config.max_text_length, 9)
    batch = _batch(model, 3, length, "right")
    batch = {name: batch[name] for name in input_names}
    shape = {0: dimension} if fixed_length or length < 2 else {0: dimension, 1: dimension}
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Logits(model).eval(),
                (),
                kwargs=batch,
                dynamo=True,
                dynamic_shapes=dict.fromkeys(batch, shape),
                input_names=input_names,
                output_names=["logits"],
                custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise HTCError(
            f"PyTorch {torch.__version__} cannot export a {model.config.model_type} model on a "
            f"{model.config.text_config.model_type} encoder to ONNX: {reason}"
        ) from error
    finally:
        for logger, level in zip(noisy, levels):
            logger.setLevel(level)
    _strip_traces(program.model)
    program.save(str(file))
    _strip_value_info(file)
    return program.model.opset_imports[""]


def _stable_sort(values, stable: bool = True, dim: int = -1, descending: bool = False):
    """`torch.sort(stable=True)` along the last dimension in ONNX operators; PyTorch brings no translation of its own.

    Whole numbers are made unique by their place, so that nothing depends on how a runtime orders equal ones."""
    from onnxscript import opset20 as op

    if dim not in (-1, len(values.shape) - 1):
        raise NotImplementedError(
            f"A stable sort along dimension {dim} of {len(values.shape)} has no ONNX form here; take the last."
        )
    last = len(values.shape) - 1
    length = op.Shape(values, start=last, end=last + 1)
    if values.dtype.is_integer():
        place = op.Range(op.Constant(value_int=0), op.Squeeze(length), op.Constant(value_int=1))
        key = op.Cast(values, to=7)
        key = op.Add(op.Mul(op.Neg(key) if descending else key, length), place)
        key, _ = op.TopK(key, length, axis=last, largest=0, sorted=1)
        order = op.Mod(key, length)
    else:
        _, order = op.TopK(values, length, axis=last, largest=int(descending), sorted=1)
    return op.GatherElements(values, order, axis=last), order


def _strip_traces(graph_model):
    """Removes what PyTorch notes at every node: stack traces with the paths of this machine."""
    import onnx_ir

    graph_model.metadata_props.clear()
    graphs = [graph_model.graph, *(function.graph for function in graph_model.functions.values())]
    for graph in graphs:
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


def _strip_value_info(file):
    """Removes the noted shapes of inner values: quantisation changes some weights' and then finds a contradiction."""
    import onnx

    graph_model = onnx.load(str(file), load_external_data=False)
    del graph_model.graph.value_info[:]
    onnx.save(graph_model, str(file))


# ---------------------------------------------------------------------- the check


def _batch(model, num_documents, length, side):
    """Random token ids with rows of different lengths, padded on a side; the same in every run."""
    generator = torch.Generator().manual_seed(97 * num_documents + length)
    vocabulary = model.get_input_embeddings().num_embeddings
    input_ids = torch.randint(0, vocabulary, (num_documents, length), generator=generator)
    real = torch.tensor([length - (3 * row) % length for row in range(num_documents)])
    if num_documents == 1 and length > 4:
        real[0] = length - 2  # padding in a batch of one, too
    places = torch.arange(length)
    mask = (places < real[:, None] if side == "right" else places >= length - real[:, None]).long()
    padding = getattr(model.config.text_config, "pad_token_id", None) or 0
    return {
        "input_ids": input_ids.masked_fill(mask == 0, padding),
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(mask),
    }


@torch.no_grad()
def compare(model, exported):
    """
    Largest differences between the two models on [`SHAPES`], padded right and left.

    Returns:
        `dict`: `shapes`; the largest difference of `logits` and of `probabilities`, `nan` when an output is; the `largest`
        logit in size.
    """
    longest = model.config.max_text_length
    shapes = [(b, min(t or longest, longest)) for b, t in SHAPES]
    found = {"logits": [0.0], "probabilities": [0.0], "largest": [0.0]}
    for num_documents, length in shapes:
        for side in ("right", "left"):
            batch = _batch(model, num_documents, length, side)
            batch = {name: batch[name] for name in exported.input_names}
            one, other = model(**batch).logits, exported(**batch).logits
            if one.shape != other.shape:
                raise HTCFloatingPointError(
                    f"The exported model is wrong and was not kept: its logits have the shape {tuple(other.shape)}, PyTorch's "
                    f"{tuple(one.shape)}."
                )
            found["logits"].append(float((one - other).abs().max()))
            found["probabilities"].append(float((one.sigmoid() - other.sigmoid()).abs().max()))
            found["largest"].append(float(one.abs().max()))
    # torch's maximum keeps a nan, Python's may not.
    return {"shapes": [list(shape) for shape in shapes], **{key: float(torch.tensor(v).max()) for key, v in found.items()}}


# ---------------------------------------------------------------------- int8


def quantize(folder):
    """Writes `model_int8.onnx` beside `model.onnx`: weights in eight bits, activations quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)  # onnxruntime recommends a preparation that dynamic quantisation does not need
    graph_model = onnx.load(str(folder / FLOAT_FILE), load_external_data=False)
    separate_weights(graph_model.graph)
    onnx.save(graph_model, str(folder / INT8_FILE))  # in the folder of the weights that may stand beside it
    try:
        quantize_dynamic(
            str(folder / INT8_FILE),
            str(folder / INT8_FILE),
            weight_type=QuantType.QInt8,
            per_channel=True,  # one scale a row: on MiniLM a third of the error of one scale a matrix, at the same size
            use_external_data_format=any(folder.glob(f"{FLOAT_FILE}.data")),
        )
    finally:
        root.setLevel(level)


def separate_weights(graph):
    """
    Gives each Gemm of an ONNX graph that reads its weight transposed a weight of its own.

    onnxruntime's quantisation transposes such a weight in its place, for all its readers: one that is shared would be wrong
    for the others, without an error where it is square.
    """
    weights = {weight.name: weight for weight in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    for number, node in enumerate(graph.node):
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        if node.op_type != "Gemm" or not transposed or node.input[1] not in weights or readers[node.input[1]] == 1:
            continue
        own = graph.initializer.add()
        own.CopyFrom(weights[node.input[1]])
        own.name = f"{node.input[1]}.{number}"
        readers[node.input[1]] -= 1
        node.input[1] = own.name


def _scores(classifier, tokenizer, dataset, batch_size):
    from hf_htc.evaluation.predictions import evaluate_model

    scores = evaluate_model(classifier, tokenizer, dataset, batch_size=batch_size).scores
    return {key: scores[key] for key in ("micro_f1", "macro_f1", "closure", "num_documents")}
