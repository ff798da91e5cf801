"""Fingerprints: what decided an output, kept beside it, so that a command goes on only from what is the same.

A fingerprint is a `dict` of four parts: `version` (major and minor of hf_htc), `options` (of the command), and for a model its
`config`, `tokenizer` and `weights`. Values that fit into a sentence are kept as they are, so that a difference can be told;
larger ones as a digest. Two devices or two versions of PyTorch may differ in the last digits of a score; neither is a part.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from hf_htc.models.errors import HTCError
from hf_htc.models.version import __version__
from hf_htc.models.whole_files import whole_file


# Of a config: what says where it came from and not what it computes.
_INDIFFERENT = {
    "_name_or_path", "transformers_version", "hf_htc_version", "auto_map", "architectures", "custom_pipelines", "use_cache",
    "label_counts", "num_train_documents",
}  # fmt: skip
_LONGEST_VALUE = 60
_CHUNK = 1 << 24
OVERWRITE = "Give `--overwrite` to start anew, or another output."


def digest(*parts):
    """32 hexadecimal digits of bytes, text or JSON-able values."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if not isinstance(part, (bytes, bytearray, memoryview)):
            text = part if isinstance(part, str) else json.dumps(part, sort_keys=True, default=str)
            part = text.encode("utf-8", "surrogatepass")
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def shown(value):
    """A JSON-able value as it is, where it fits into a sentence; else its digest, behind `"digest:"`."""
    return value if len(json.dumps(value, default=str)) <= _LONGEST_VALUE else f"digest:{digest(value)}"


def fingerprint(options, model=None, tokenizer=None):
    """
    What decides an output.

    Args:
        options (`dict`): Of the command, JSON-able: everything that changes a byte of what is written.
        model ([`HTCPreTrainedModel`] or [`OnnxClassifier`], *optional*), tokenizer (`PreTrainedTokenizer`, *optional*)

    Returns:
        `dict`: JSON-able; equal for equal work.
    """
    found = {"version": ".".join(__version__.split(".")[:2]), "options": {key: shown(value) for key, value in options.items()}}
    if model is not None:
        found["config"] = config_facts(model.config)
    if tokenizer is not None:
        found["tokenizer"] = tokenizer_digest(tokenizer)
    if model is not None:
        found["weights"] = weights_digest(model)
    return found


def config_facts(config):
    """A config's options, labels, thresholds and taxonomy, each as [`shown`]; without what only says where it came from."""
    content = json.loads(config.to_json_string(use_diff=False))
    if isinstance(content.get("text_config"), dict):
        content["text_config"] = {key: value for key, value in content["text_config"].items() if key not in _INDIFFERENT}
    return {key: shown(value) for key, value in sorted(content.items()) if key not in _INDIFFERENT}


def tokenizer_digest(tokenizer):
    """Digest of what a tokenizer makes of a text; of a fast one without the padding and cutting of its last call."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content = tokenizer.get_vocab()
    else:
        content = {key: value for key, value in json.loads(backend.to_str()).items() if key not in ("truncation", "padding")}
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    sides = [tokenizer.padding_side, tokenizer.truncation_side, str(tokenizer.model_max_length)]
    return digest(type(tokenizer).__name__, content, special, sides)


def weights_digest(model):
    """Digest of all parameters and buffers that are saved, by name, kind and shape; of an exported model that of its files."""
    if not hasattr(model, "state_dict"):
        file = Path(model.file)
        return digest(*(value for path in sorted(file.parent.glob(f"{file.name}*")) for value in (path.name, _file_digest(path))))
    tensors = sorted(model.state_dict().items())
    with ThreadPoolExecutor() as pool:  # hashing gives the interpreter free
        return digest(*pool.map(_tensor_digest, tensors))


def _tensor_digest(named):
    name, tensor = named
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return digest(name, str(tensor.dtype), list(tensor.shape), memoryview(content))


def _file_digest(path):
    found = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while block := stream.read(_CHUNK):
            found.update(block)
    return found.hexdigest()


def check_same(before, now, output, mend=OVERWRITE):
    """
    Raises [`HTCError`] naming the first thing in which two fingerprints differ.

    Args:
        before (`dict`), now (`dict`): From [`fingerprint`]; `before` is that of the output that is there.
        output (`str`): Its name, for the message.
        mend (`str`, *optional*): What to do.
    """
    if not isinstance(before, dict) or not isinstance(before.get("options"), dict):
        raise unknown_maker(output, mend)
    made = f"{output!r} was made with"
    if before.get("version") != now["version"]:
        raise HTCError(f"{made} hf_htc {before.get('version')}, this is {now['version']}. {mend}")
    for part, what in (("options", "`{}`"), ("config", "the model's `{}`")):
        mine, theirs = now.get(part) or {}, before.get(part) or {}
        for key in {**mine, **theirs}:
            if mine.get(key) != theirs.get(key):
                raise HTCError(f"{made} {_difference(what.format(key), theirs.get(key), mine.get(key))}. {mend}")
    for part in ("tokenizer", "weights"):
        if before.get(part) != now.get(part):
            what = "weights of the model have" if part == "weights" else "tokenizer has"
            raise HTCError(f"The {what} changed since {output!r} was made. {mend}")


def _difference(what, before, now):
    if any(isinstance(value, str) and value.startswith("digest:") for value in (before, now)):
        return f"another value of {what}"
    return f"{what} {before!r}, this run has {now!r}"


def unknown_maker(output, mend=OVERWRITE):
    """The [`HTCError`] for an output of which nothing says what it was made with."""
    return HTCError(f"Nothing says what {output!r} was made with: it has no run file of this version beside it. {mend}")


def run_file(output):
    """The path of the run file of an output: `out.jsonl` has `out.jsonl.run.jsonl` beside it."""
    output = Path(output)
    return output.with_name(f"{output.name}.run.jsonl")


def write_run_file(output, found, *lines):
    """Writes an output's run file as a whole: the fingerprint, and what the command notes behind it, one JSON value per line."""
    with whole_file(run_file(output)) as partial:
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (found, *lines))
        partial.write_text(content, encoding="utf-8", newline="\n")


def read_run_file(output):
    """
    What stands in an output's run file.

    Returns:
        `tuple[dict, list]`: the fingerprint, and the values of the whole lines behind it; a half-written last one is left out.

    Raises:
        [`HTCError`]: there is none, or it holds something else.
    """
    path, name = run_file(output), Path(output).name
    if not path.is_file():
        raise unknown_maker(name)
    try:
        first, *lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    except (ValueError, RecursionError):
        raise HTCError(f"{path.name!r} is damaged, which says what {name!r} was made with. {OVERWRITE}") from None
    return first, lines
