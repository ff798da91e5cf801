"""The README of an exported model: a snippet that needs onnxruntime and tokenizers only."""

from hf_htc.hub.citations import title_and_citation
from hf_htc.hub.onnx_classifier import FLOAT_FILE, INT8_FILE


_SNIPPET = """\
import json

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

with open("config.json", encoding="utf-8") as file:
    config = json.load(file)
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation({max_length})
tokenizer.enable_padding(pad_id={pad_id}, pad_token={pad_token!r}{length})
session = onnxruntime.InferenceSession("{file}")


def predict(texts):
    encodings = tokenizer.encode_batch(texts)
    inputs = {{
        "input_ids": np.array([encoding.ids for encoding in encodings]),
        "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
{types}    }}
    (logits,) = session.run(["logits"], inputs)
    scores = 1 / (1 + np.exp(-logits))
    threshold = config.get("thresholds")
    chosen = [set(np.flatnonzero(row > (0.5 if threshold is None else threshold)).tolist()) for row in scores]
{closure}    return [{{config["id2label"][str(i)]: float(row[i]) for i in ids}} for ids, row in zip(chosen, scores)]


print(predict(["A text of your own."]))
"""
_TYPES = '        "token_type_ids": np.array([encoding.type_ids for encoding in encodings]),\n'
_CLOSURE = """\
    with open("taxonomy.json", encoding="utf-8") as file:
        taxonomy = json.load(file)
    for ids in chosen:  # a predicted label brings its ancestors
        above = list(ids)
        while above:
            above += taxonomy["parents"][above.pop()]
            ids.update(i for i in above if i < len(config["id2label"]))
"""
_OWN_SNIPPET = """\
from hf_htc.hub import OnnxClassifier

print(OnnxClassifier(".").predict(["A text of your own."]))
"""


def export_card(model, tokenizer, report, folder):
    """The text of `README.md`; the snippet runs in the folder."""
    config = model.config
    title = title_and_citation(config.model_type)[0]
    length = f", length={report['fixed_length']}" if report["fixed_length"] else ""
    if (folder / "tokenizer.json").exists():
        snippet = _SNIPPET.format(
            max_length=report["max_length"],
            pad_id=tokenizer.pad_token_id or 0,
            pad_token=str(tokenizer.pad_token or "[PAD]"),
            length=length,
            file=FLOAT_FILE,
            types=_TYPES if "token_type_ids" in report["inputs"] else "",
            closure=_CLOSURE if config.label_closure == "closed" else "",
        )
        intro = "With onnxruntime, tokenizers and numpy, in this folder:"
    else:
        snippet, intro = _OWN_SNIPPET, "This tokenizer has no tokenizer.json, so the package is needed:"
    lines = [
        f"# {title}, exported to ONNX",
        "",
        f"Hierarchical text classification: {config.num_labels:,} labels, text encoder {config.text_config.model_type}.",
        "A label is predicted when its logit is above 0" + (" (tuned thresholds: `config.json`)." if config.thresholds else "."),
        "",
        intro,
        "",
        "```python",
        snippet.rstrip("\n"),
        "```",
        "",
        "`hf_htc.hub.OnnxClassifier` gives whole paths, too, and takes the options of `model.predict`.",
        "",
        f"`{FLOAT_FILE}` differs from PyTorch by at most {report['largest_logit_difference']:.1e} in any logit of the shapes in "
        "`export.json`" + (f"; texts are padded to {report['fixed_length']} tokens." if report["fixed_length"] else "."),
    ]
    if "int8" in report:
        lines += ["", f"`{INT8_FILE}`: {int8_sentence(report)}"]
    return "\n".join(lines) + "\n"


def int8_sentence(report):
    """What the quantisation costs, as far as it was measured."""
    int8 = report["int8"]
    if "scores" not in int8:
        return (
            f"logits differ by up to {int8['largest_logit_difference']:.3g}, probabilities by up to "
            f"{int8['largest_probability_difference']:.3g} on random tokens. That is no measure of F1, which needs labelled data."
        )
    scores, split = int8["scores"], int8["scores"]["split"]
    parts = [
        f"{name} {scores[key]:.4f} instead of {report['scores'][key]:.4f} ({-int8['loss_of_f1'][key]:+.4f})"
        for key, name in (("micro_f1", "micro-F1"), ("macro_f1", "macro-F1"))
    ]
    return (
        ", ".join(parts)
        + f" on {scores['num_documents']:,} documents"
        + (f" of the {split} split" if split else "")
        + f", closure {scores['closure']}."
    )
