"""`predict`: from texts to label names, whole paths and scores; and the decoders, from logits to label sets. These all take
`(B, N)` logits and give `(B, N)` booleans; `predict` and the command line choose one by its name.

Legend: `B` documents, `N` labels, `M` nodes, `E` edges, `L` levels.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
import torch
from transformers.utils import logging

from .coherence import CoherentMax, PathPruning, label_edges
from .configuration_htc import HTCConfig, check_thresholds, plain_numbers
from .errors import HTCError, HTCFloatingPointError, HTCTypeError
from .label_sets import row_ids
from .modules import CachingModule
from .prediction_conformal import ConformalSets


DecoderKind = Literal["threshold", "top_down", "coherent", "single_path", "one_per_level", "expected_f"]
DECODERS = get_args(DecoderKind)


class Decoder:
    """
    A decision rule over a hierarchy. A label is above its boundary, or not; labels are ranked by their logits. The boundary
    takes no part in the ranking, so that an infinite one (a threshold of 0 or 1: all labels or none are above) decides as any
    other.

    * `"threshold"`: labels above the boundary, each for itself.
    * `"top_down"`: of these, those to which a path of labels above the boundary leads ([`PathPruning`]).
    * `"coherent"`: labels of which a descendant or they themselves lie above the boundary ([`CoherentMax`]).
    * `"single_path"`: the label with the largest logit on the first level, whatever the boundary, then its child with the largest
      logit, and so on while that lies above the boundary; always one path. It goes down to a leaf with `to_leaf` or where all
      labels are above; with a threshold of 1 it is the first label alone.
    * `"one_per_level"`: the label with the largest logit of every level, where it lies above the boundary; always one on the
      first level.
    * `"expected_f"`: the closed set with the largest `2 sum of its p / (its size + sum of all p)`, the F1 of the expected counts,
      `p` the coherent probabilities; for micro- and hierarchical F1 without any threshold. Empty only where every `p` is 0.

    Tables over the hierarchy are made here, once, and copied once to each device; several threads may share a decoder.

    Args:
        kind (`str`): One of [`DECODERS`].
        config ([`HTCConfig`]): Its hierarchy.
        to_leaf (`bool`, *optional*, defaults to `False`): See above.

    Raises:
        `ValueError`: an unknown decoder.
    """

    def __init__(self, kind, config, to_leaf=False):
        if kind not in DECODERS:
            raise HTCError(f"`decoder` is {kind!r}; allowed are {', '.join(map(repr, DECODERS))}.")
        self.kind, self.to_leaf = kind, to_leaf
        self.hierarchy = config.get_hierarchy()
        self.module, tables = None, {}
        if kind == "single_path":
            tables = _family_tables(self.hierarchy)
        elif kind == "one_per_level":
            tables = {"levels": [torch.as_tensor(labels) for labels in self.hierarchy.level_units()]}
        elif kind == "expected_f":
            levels = torch.as_tensor(self.hierarchy.levels[: self.hierarchy.num_labels])
            tables = {"by_level": torch.argsort(levels, stable=True)}
        module = {"top_down": PathPruning, "coherent": CoherentMax, "expected_f": CoherentMax}.get(kind)
        if module is not None:
            self.module = module(config)
            self.module.init_weights(config)
        self._tables = {torch.device("cpu"): (self.module, tables)}

    def _on(self, device):
        """The module and the tables on a device."""
        if device not in self._tables:
            module, tables = self._tables[torch.device("cpu")]
            module = None if module is None else copy.deepcopy(module).to(device)
            tables = {
                name: [part.to(device) for part in table] if isinstance(table, list) else table.to(device)
                for name, table in tables.items()
            }
            self._tables[device] = module, tables  # as a whole: another thread finds all of it or nothing
        return self._tables[device]

    @torch.no_grad()
    def __call__(self, logits, boundary=0.0):
        """
        Args:
            logits (`torch.Tensor` of shape `(B, N)`): Of the contract, a label's log-odds; finite.
            boundary (`float` or `torch.Tensor` of shape `(N,)`, *optional*, defaults to 0.0): Above which a label is predicted;
                may be infinite.

        Returns:
            `torch.BoolTensor` of shape `(B, N)`.
        """
        if self.kind == "expected_f":
            # Sums of many probabilities need float64, which Apple's GPUs have not.
            device = torch.device("cpu") if logits.device.type == "mps" else logits.device
            module, tables = self._on(device)
            return self._expected_f(module(logits.to(device)), **tables).to(logits.device)
        module, tables = self._on(logits.device)
        is_above = logits > (boundary.to(logits.device) if isinstance(boundary, torch.Tensor) else boundary)
        if self.kind == "threshold":
            return is_above
        if module is not None:  # a walk over yes and no, as 1 and -1
            return module(torch.where(is_above, 1.0, -1.0)) > 0
        return (self._single_path if self.kind == "single_path" else self._one_per_level)(logits, is_above, **tables)

    def _one_per_level(self, logits, is_above, levels):
        chosen, rows = torch.zeros_like(is_above), torch.arange(len(logits), device=logits.device)
        for place, columns in enumerate(levels):
            if len(columns):
                best = columns[logits[:, columns].argmax(1)]
                chosen[rows, best] = is_above[rows, best] if place else torch.ones_like(is_above[:, 0])
        return chosen

    def _single_path(self, logits, is_above, child, counts, starts):
        num_labels, device, lowest = logits.shape[1], logits.device, torch.finfo(logits.dtype).min
        chosen = torch.zeros_like(is_above)
        rows = torch.arange(len(logits), device=device)
        current = torch.full_like(rows, num_labels)
        is_first = True
        while len(rows):
            sizes = counts[current]
            rows, current, sizes = rows[sizes > 0], current[sizes > 0], sizes[sizes > 0]
            if not len(rows):
                break
            unit = torch.repeat_interleave(torch.arange(len(rows), device=device), sizes)
            place = torch.arange(len(unit), device=device) + (starts[current] - sizes.cumsum(0) + sizes)[unit]
            scores = logits[rows[unit], child[place]]
            best = scores.new_full((len(rows),), lowest).scatter_reduce(0, unit, scores, "amax")
            # Equal scores: the label with the smaller number.
            label = torch.where(scores == best[unit], child[place], num_labels)
            current = label.new_full((len(rows),), num_labels).scatter_reduce(0, unit, label, "amin")
            if not (is_first or self.to_leaf):
                goes_on = is_above[rows, current]
                rows, current = rows[goes_on], current[goes_on]
            chosen[rows, current] = True
            is_first = False
        return chosen

    def _expected_f(self, logits, by_level):
        p = torch.sigmoid(logits.double())
        # Equal probabilities: parents before children, so that every beginning of the order is closed.
        order = by_level[torch.argsort(p[:, by_level], dim=1, descending=True, stable=True)]
        gains = p.gather(1, order).cumsum(1)
        sizes = torch.arange(1, p.shape[1] + 1, device=p.device)
        value = gains / (sizes + gains[:, -1:])
        best = value.argmax(1, keepdim=True)
        kept = (torch.arange(p.shape[1], device=p.device) <= best) & (gains[:, -1:] > 0)
        return torch.zeros_like(kept).scatter(1, order, kept)


def _family_tables(hierarchy):
    """The labels below each label, and those on top below the number N: `child`, one family behind the other, and the families'
    `counts` and `starts`, `(N + 1,)`."""
    edges, _ = label_edges(hierarchy)
    num_labels = hierarchy.num_labels
    tops = sorted(set(range(num_labels)) - set(edges[:, 1].tolist()))
    pairs = torch.as_tensor([*edges.tolist(), *([num_labels, top] for top in tops)])
    pairs = pairs[torch.argsort(pairs[:, 0], stable=True)]
    parent, child = pairs.unbind(1)
    counts = torch.bincount(parent, minlength=num_labels + 1)
    return {"child": child, "counts": counts, "starts": counts.cumsum(0) - counts}


if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

    from .hierarchy import LabelHierarchy


logger = logging.get_logger(__name__)

# A label of a DAG can hang on very many paths; a prediction shows this many of them.
MAX_PATHS = 16
Closure = Literal["none", "up", "prune"]
CLOSURES = get_args(Closure)


class PredictionMixin:
    """What a model does with texts once it is trained."""

    if TYPE_CHECKING:  # what it is mixed into has: a model, or an exported graph
        config: HTCConfig
        device: Any
        modules: Any
        train: Any
        eval: Any
        __call__: Any

    # A `str` is a sequence of strings, too; the first that fits counts.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        texts: str,
        tokenizer: PreTrainedTokenizerBase,
        threshold: float | Sequence[float] | None = ...,
        top_k: int | None = ...,
        closure: Closure | None = ...,
        batch_size: int = ...,
        show_progress_bar: bool | None = ...,
        decoder: DecoderKind = ...,
    ) -> dict[str, Any]: ...

    @overload
    def predict(
        self,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        threshold: float | Sequence[float] | None = ...,
        top_k: int | None = ...,
        closure: Closure | None = ...,
        batch_size: int = ...,
        show_progress_bar: bool | None = ...,
        decoder: DecoderKind = ...,
    ) -> list[dict[str, Any]]: ...

    def predict(
        self,
        texts: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        threshold: float | Sequence[float] | None = None,
        top_k: int | None = None,
        closure: Closure | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        decoder: DecoderKind = "threshold",
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """
        Label names, whole paths and scores of texts.

        Args:
            texts (`str` or `list[str]`): One or many texts; longer ones are cut at `config.max_text_length` tokens, with one
                warning.
            tokenizer (`PreTrainedTokenizer`): The checkpoint's tokenizer.
            threshold (`float` or `list[float]`, *optional*): Score above which a label is predicted, in [0, 1], one for all or
                one per label, also as an array. 0 is below every score, 1 above. Defaults to `config.thresholds`, else 0.5.
            top_k (`int`, *optional*): At most this many of the labels that the decoder gives, those with the best scores. Without
                `threshold` no label is below its threshold, `config.thresholds` included: the decoders `"threshold"`,
                `"top_down"` and `"coherent"` then give exactly the best `top_k` labels, `"single_path"` the best of a path down
                to a leaf, `"one_per_level"` the best of one label per level. `"expected_f"` takes no threshold, with `top_k` or
                without.
            closure (`str`, *optional*): `"up"` adds the ancestors of predicted labels, `"prune"` drops labels without their
                ancestors, `"none"` leaves them. Defaults to `"up"` for a model trained on closed labels, else `"none"`; to
                `"none"` with `top_k`.
            batch_size (`int`, *optional*, defaults to 32): Texts a forward pass, batched by length; the order is kept.
            show_progress_bar (`bool`, *optional*): Defaults to a bar for long work in a terminal.
            decoder (`str`, *optional*, defaults to `"threshold"`): How scores become labels, before the closure: one of
                `"threshold"`, `"top_down"`, `"coherent"`, `"single_path"`, `"one_per_level"`, `"expected_f"`; see [`Decoder`].

        Several threads may predict with one model and one tokenizer at a time, also while the model is in training mode.

        Returns:
            `list[dict]`, or one `dict` for a single `str`: `labels` (names, best first), `scores` (their sigmoid scores in
            [0, 1]) and `paths` (for each most specific predicted label, the texts of the nodes from the top to it).

        Raises:
            `TypeError`: something that is no text. `ValueError`: an empty text, a threshold outside [0, 1], an unknown
            closure or decoder, `top_k` or `batch_size` below 1.

        Example:

        ```python
        >>> model.predict("The match went to penalties.", tokenizer)
        {'labels': ['sport', 'sport/football'], 'scores': [0.97, 0.91], 'paths': [['sport', 'football']]}
        ```
        """
        single = isinstance(texts, str)
        texts = [texts] if isinstance(texts, str) else text_list(texts)
        check_texts(texts)
        for name, value in (("top_k", top_k), ("batch_size", batch_size)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise HTCError(f"`{name}` is {value!r}; it must be a whole number of at least 1.")
        boundary = self.decision_boundary(0.0 if top_k is not None and threshold is None else threshold)
        closure = self.default_closure(closure if closure is not None or top_k is None else "none")
        hierarchy, decode = self.config.get_hierarchy(), self.label_decoder(decoder)
        predictions: list[Any] = [None] * len(texts)
        for rows, logits in self.iter_logits(texts, tokenizer, batch_size, show_progress_bar):
            for row, prediction in zip(rows, self._decode(logits, boundary, top_k, closure, hierarchy, decode)):
                predictions[row] = prediction
        return predictions[0] if single else predictions

    def predict_sets(
        self,
        texts: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> dict[str, Any] | list[dict[str, Any]]:
        """
        Label sets that hold what `config.conformal` promises, calibrated on held-out documents by `hf-htc calibrate --conformal`.

        Args:
            texts, tokenizer, batch_size, show_progress_bar: As in [`~PredictionMixin.predict`].

        Returns:
            `list[dict]`, or one `dict` for a single `str`: `labels`, `scores` and `paths` as in [`~PredictionMixin.predict`], and
            `size`. With `kind="back_off"` they are one path, as deep as certainty allows, empty for the root, and `size` is the
            number of leaves below its end; with `"risk"` all labels above the calibrated score, `size` their number.

        Raises:
            `ValueError`: the checkpoint is not calibrated; else as [`~PredictionMixin.predict`].
        """
        conformal, hierarchy = self.config.conformal, self.config.get_hierarchy()
        if conformal is None:
            raise HTCError("The checkpoint is not calibrated; run `hf-htc calibrate CHECKPOINT --conformal 0.9` with its data.")
        single = isinstance(texts, str)
        texts = [texts] if isinstance(texts, str) else text_list(texts)
        check_texts(texts)
        sets: list[Any] = [None] * len(texts)
        sets_of = ConformalSets(hierarchy, conformal)
        for rows, logits in self.iter_logits(texts, tokenizer, batch_size, show_progress_bar):
            chosen, sizes = sets_of(logits.cpu().numpy())
            scores = torch.sigmoid(logits).cpu().numpy()
            for place, row in enumerate(rows):
                labels = np.flatnonzero(chosen[place])
                labels = labels[np.argsort(-scores[place, labels], kind="stable")]
                found = prediction_of(labels.tolist(), scores[place, labels].tolist(), hierarchy)
                sets[row] = {**found, "size": int(sizes[place])}
        return sets[0] if single else sets

    @torch.no_grad()
    def iter_logits(
        self,
        texts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """
        Yields `(rows, logits)`: indices into `texts` and their float32 logits `(B, N)` on the model's device, longest texts
        first, in eval mode. Longer texts than the model takes are cut, with one warning at the end.
        """
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        starts = range(0, len(order), batch_size)
        if show_progress_bar is None:
            show_progress_bar = len(starts) > 10 and sys.stderr.isatty()
        num_cut = 0
        with self.predicting():
            for start in logging.tqdm(starts, desc="Predicting", unit="batch", disable=not show_progress_bar):
                rows = order[start : start + batch_size]
                batch, cut = encode_texts(tokenizer, [texts[i] for i in rows], self.config.max_text_length)
                num_cut += cut
                logits = self(**batch.to(self.device)).logits.float()
                if not bool(torch.isfinite(logits).all()):
                    raise HTCFloatingPointError(
                        "The model gave NaN or infinite logits; its weights are broken or overflow in half precision."
                    )
                yield rows, logits
        if num_cut:
            logger.warning(
                f"{num_cut} of {len(texts)} texts are longer than {self.config.max_text_length} tokens and were cut there."
            )

    @contextlib.contextmanager
    def predicting(self) -> Iterator[None]:
        """
        The model in eval mode, its weights held to be constant, for any number of threads: the first one that comes switches
        the mode, the last one that goes gives every module back the mode it had.
        """
        shared = _shared_by_threads(self)
        with shared.lock:
            if not shared.num_predicting:
                shared.modes = [(module, module.training) for module in self.modules()]
                if any(is_training for _, is_training in shared.modes):
                    self.eval()
                _hold(self, object())
            shared.num_predicting += 1
        try:
            yield
        finally:
            with shared.lock:
                shared.num_predicting -= 1
                if not shared.num_predicting:
                    _hold(self, None)
                    if any(is_training for _, is_training in shared.modes):
                        self.train(shared.modes[0][1])
                    for module, is_training in shared.modes:
                        module.training = is_training
                    shared.modes = []

    def decision_boundary(self, threshold: float | Sequence[float] | None = None) -> float | torch.Tensor:
        """
        The logit above which a label is predicted: the log-odds of `threshold`, of `config.thresholds` when it is `None`, 0 when
        that is too.

        Returns:
            `float`, or `torch.Tensor` of shape `(N,)` for one threshold per label. Of a threshold of 0 or 1 it is infinite: to be
            compared with, never to be calculated with.

        Raises:
            `ValueError`: a threshold outside [0, 1], or not one per label.
        """
        threshold = plain_numbers(self.config.thresholds if threshold is None else threshold)
        if threshold is None:
            return 0.0
        check_thresholds(threshold, self.config.num_labels)
        if isinstance(threshold, list):
            return torch.logit(torch.tensor(threshold, dtype=torch.float64)).float().to(self.device)
        return math.inf if threshold == 1 else -math.inf if threshold == 0 else math.log(threshold / (1 - threshold))

    def default_closure(self, closure: Closure | None = None) -> Closure:
        """`closure` if given, else what fits `config.label_closure`. Raises `ValueError` for an unknown policy."""
        if closure is None:
            return "up" if self.config.label_closure == "closed" else "none"
        if closure not in CLOSURES:
            raise HTCError(f"`closure` is {closure!r}; allowed are {', '.join(map(repr, CLOSURES))}.")
        return closure

    def label_decoder(self, kind: DecoderKind = "threshold") -> Decoder:
        """The [`Decoder`] of this name, made once per hierarchy. Raises `ValueError` for an unknown one."""
        shared, hierarchy = _shared_by_threads(self), self.config.get_hierarchy()
        with shared.lock:
            made = shared.decoders.get(kind)
            if made is None or made.hierarchy is not hierarchy:
                made = shared.decoders[kind] = Decoder(kind, self.config)
        return made

    def _decode(self, logits, boundary, top_k, closure, hierarchy, decode):
        return self._predictions_of(logits, self._chosen(logits, boundary, top_k, decode), closure, hierarchy)

    def _chosen(self, logits, boundary, top_k, decode):
        """Which labels are predicted before any closure, `(B, N)` bool; see [`~PredictionMixin.predict`]."""
        chosen = decode(logits, boundary)
        if top_k is not None and top_k < logits.shape[1]:
            ranked = logits.masked_fill(~chosen, torch.finfo(logits.dtype).min)
            chosen = chosen & torch.zeros_like(chosen).scatter(1, ranked.topk(top_k, dim=1).indices, True)
        return chosen

    def _predictions_of(self, logits, chosen, closure, hierarchy):
        """Yields the `dict` of every document; see [`~PredictionMixin.predict`]."""
        rows, labels = (x.cpu().numpy() for x in chosen.nonzero(as_tuple=True))
        indptr = np.searchsorted(rows, np.arange(len(logits) + 1)).astype(np.int64)
        if closure != "none":
            indptr, labels = (hierarchy.close if closure == "up" else hierarchy.prune)((indptr, labels))
            rows = row_ids(indptr)
        # Only the scores of predicted labels leave the device.
        index = torch.as_tensor(rows, device=logits.device), torch.as_tensor(labels, device=logits.device)
        scores = torch.sigmoid(logits[index]).cpu().numpy()
        for start, end in zip(indptr, indptr[1:]):
            best_first = start + np.argsort(-scores[start:end], kind="stable")
            yield prediction_of(labels[best_first].tolist(), scores[best_first].tolist(), hierarchy)


class _SharedByThreads:
    """What threads that use one object share, beside the object: it is copied, pickled and compared without."""

    def __init__(self):
        self.lock = threading.RLock()
        self.num_predicting, self.modes, self.decoders = 0, [], {}


_SHARED: weakref.WeakKeyDictionary[Any, _SharedByThreads] = weakref.WeakKeyDictionary()
_SHARED_LOCK = threading.Lock()


def _shared_by_threads(owner):
    with _SHARED_LOCK:
        return _SHARED.setdefault(owner, _SharedByThreads())


def _hold(model, holder):
    for module in model.modules():
        if isinstance(module, CachingModule):
            module.hold(holder)


def prediction_of(labels: Sequence[int], scores: Sequence[float], hierarchy: LabelHierarchy) -> dict[str, Any]:
    """The `dict` of one document's predicted label ids and scores, see [`~PredictionMixin.predict`]."""
    inner = {a for label in labels for a in hierarchy.ancestors(label)}
    paths = [path for label in labels if label not in inner for path in hierarchy.paths(label, MAX_PATHS)]
    return {
        "labels": [hierarchy.names[i] for i in labels],
        **({} if hierarchy.ids is None else {"ids": [hierarchy.ids[i] for i in labels]}),
        "scores": [round(float(s), 6) for s in scores],
        "paths": [[hierarchy.texts[i] for i in path] for path in paths],
    }


def encode_texts(
    tokenizer: PreTrainedTokenizerBase | None, texts: Sequence[str], max_length: int | None
) -> tuple[BatchEncoding, int]:
    """A padded batch (`BatchEncoding` of tensors) of texts cut at `max_length` tokens, and how many were cut."""
    options = {"truncation": max_length is not None, "max_length": max_length, "padding": True, "return_tensors": "pt"}
    if tokenizer is None:
        raise HTCTypeError("`tokenizer` is missing; give the one that was saved beside the model.")
    with _shared_by_threads(tokenizer).lock:  # a fast tokenizer keeps truncation and padding as a state of its own
        batch = tokenizer(texts, **options)
    if max_length is None:
        return batch, 0
    if batch.encodings is not None:
        return batch, sum(bool(encoding.overflowing) for encoding in batch.encodings)
    return batch, int((batch["attention_mask"].sum(1) >= max_length).sum())


def text_list(texts: Iterable[str]) -> list[str]:
    """Several texts as a list. Raises `TypeError` for what holds none."""
    try:
        return list(texts)
    except TypeError:
        raise HTCTypeError(f"`texts` is a {type(texts).__name__}; give a string or a list of strings.") from None


def check_texts(texts: Iterable[str]) -> None:
    """Raises `TypeError` for what is no text and `ValueError` for an empty one, naming its row."""
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise HTCTypeError(f"Text {row} is a {type(text).__name__}; `predict` takes a string or a list of strings.")
        if not text.strip():
            raise HTCError(f"Text {row} is empty; leave it out or give it words.")
