"""A map of texts and labels: their vectors in two dimensions, by t-SNE.

Legend: `S` documents, `B` documents of a batch, `T` tokens, `D` size of a text vector, `J` size of a joint embedding, `K` labels.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch

from hf_htc.models.errors import HTCError, HTCImportError


LEAST_DOCUMENTS = 10
NO_LABEL = "no label"


@dataclass
class EmbeddingMap:
    """
    Where texts and labels lie.

    Args:
        text_points (`np.ndarray` of shape `(S, 2)`), label_points (`np.ndarray` of shape `(K, 2)`).
        text_groups (`list[str]`): The first-level label of each document, of several the first.
        labels (`list[int]`): `K` nodes, none where the method has no label vectors in the space of the texts.
        label_groups (`list[str]`): Their first-level labels.
        num_documents (`int`): Of how many documents these were drawn.
        seed (`int`): Of the draw and of t-SNE.
    """

    text_points: np.ndarray
    label_points: np.ndarray
    text_groups: list
    labels: list
    label_groups: list
    num_documents: int
    seed: int

    def caption(self):
        """What the picture shows: `str`."""
        shown, all_of_them = f"{len(self.text_groups):,}", f"{self.num_documents:,}"
        documents = f"{shown} documents" if shown == all_of_them else f"{shown} of {all_of_them} documents, drawn at random"
        if self.labels:
            what = f"Texts (dots: {documents}) and labels (diamonds: {len(self.labels):,}) in the method's joint space"
            more = "Large diamonds are first-level labels, named where there is room."
        else:
            what = f"Texts ({documents}) as the classifier gets them"
            more = "The method has no label vectors in the same space."
        return (
            f"{what}, by t-SNE (seed {self.seed}). Colours are first-level labels; a document of several has the first. Near "
            f"points are alike; distances between groups say little. {more}"
        )


def check_embeddings(num_documents):
    """
    Raises what [`embedding_map`] would, before any work is done.

    Raises:
        `ImportError`: scikit-learn or matplotlib is missing. `ValueError`: fewer than ten documents.
    """
    for package, extra in (("sklearn", "baseline"), ("matplotlib", "plot")):
        if find_spec(package) is None:
            name = {"sklearn": "scikit-learn"}.get(package, package)
            raise HTCImportError(f"A map of the embeddings needs {name}: pip install 'hf_htc[{extra}]'.")
    if num_documents < LEAST_DOCUMENTS:
        raise HTCError(f"A map of the embeddings needs at least {LEAST_DOCUMENTS} documents; there are {num_documents}.")


def embedding_map(model, tokenizer, texts, gold, seed=42, batch_size=64, most_documents=2000, most_labels=300):
    """
    A map of some documents and, where the method embeds both in one space (HiMatch), of their labels.

    Args:
        model ([`HTCPreTrainedModel`]), tokenizer (`PreTrainedTokenizer`): The checkpoint.
        texts (`list[str]`), gold (`list[list[int]]`): Of all documents.
        seed (`int`, *optional*, defaults to 42): Of the draw and of t-SNE: the same documents have the same map.
        batch_size (`int`, *optional*, defaults to 64): Documents a forward pass.
        most_documents, most_labels (`int`, *optional*): Documents are drawn at random; labels are the most frequent ones, with
            their ancestors.

    Returns:
        [`EmbeddingMap`]

    Raises:
        `ImportError`, `ValueError`: as [`check_embeddings`]; or all texts have the same vector.
    """
    check_embeddings(len(texts))
    hierarchy = model.config.get_hierarchy()
    rows = np.arange(len(texts))
    if len(rows) > most_documents:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), most_documents, replace=False))
    drawn = [gold[row] for row in rows]
    vectors, of_nodes = text_vectors(model, tokenizer, [texts[row] for row in rows], batch_size)
    labels = [] if of_nodes is None else _frequent_nodes(drawn, hierarchy, most_labels)
    if labels:
        vectors = np.concatenate([vectors, of_nodes[labels]])
    points = tsne(vectors, seed)
    return EmbeddingMap(
        points[: len(rows)],
        points[len(rows) :],
        [first_level(hierarchy, row) for row in drawn],
        labels,
        [first_level(hierarchy, [node]) for node in labels],
        len(texts),
        seed,
    )


@torch.no_grad()
def text_vectors(model, tokenizer, texts, batch_size=64):
    """
    The texts as the classifier gets them: the pooled text vector; the mean of the tokens where it reads those (HiDEC, HiAGM-LA);
    the states of all slots side by side (HPT, PTMTTaxoFormer). HiMatch's are the semantics in the joint space, at length 1.

    Returns:
        `tuple`: `np.ndarray` of shape `(S, D)` or `(S, J)`, and the nodes' in the same space, `(M, J)`, or `None`.
    """
    classifier, seen, result = model.classifier, {}, None
    joint = getattr(classifier, "text_semantics", None) if getattr(classifier, "matching", None) is not None else None

    def note(module, inputs):
        seen["text"] = inputs[0]
        seen["mask"] = inputs[1] if len(inputs) > 1 else None

    handle, was_training = classifier.register_forward_pre_hook(note), model.training
    model.eval()
    try:
        for rows, _ in model.iter_logits(texts, tokenizer, batch_size):
            vectors = _one_a_document(**seen) if joint is None else torch.nn.functional.normalize(joint(seen["text"]), dim=-1)
            vectors = vectors.float().cpu().numpy()
            result = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32) if result is None else result
            result[rows] = vectors
        of_nodes = None if joint is None else classifier.matching.label_semantics()
    finally:
        handle.remove()
        model.train(was_training)
    if of_nodes is not None:
        of_nodes = torch.nn.functional.normalize(of_nodes, dim=-1).float().cpu().numpy()
    return result, of_nodes


def _one_a_document(text, mask):
    """`(B, D)` of a text vector `(B, D)`, of tokens `(B, T, D)` with their mask `(B, T)`, or of positions without one."""
    if text.dim() == 2:
        return text
    if mask is None:
        return text.flatten(1)
    weights = mask.unsqueeze(-1).to(text.dtype)
    return (text * weights).sum(1) / weights.sum(1).clamp(min=1)


def tsne(vectors, seed=42):
    """
    Two dimensions in which near vectors are near.

    Args:
        vectors (`np.ndarray` of shape `(S, D)`).
        seed (`int`, *optional*, defaults to 42).

    Returns:
        `np.ndarray` of shape `(S, 2)`.

    Raises:
        `ValueError`: all vectors are the same.
    """
    from sklearn.manifold import TSNE

    if not np.ptp(vectors, axis=0).any():
        raise HTCError("All texts have the same vector, so that there is no map of them; is the model trained?")
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)


def first_level(hierarchy, labels):
    """The text of the first-level node above the first of a document's labels; [`NO_LABEL`] without one."""
    if not len(labels):
        return NO_LABEL
    return hierarchy.texts[next(iter(hierarchy.ancestors(labels[0])), labels[0])]


def _frequent_nodes(label_sets, hierarchy, most):
    """Ids of the labels and their ancestors that most documents have, ascending; the first level first of all."""
    counts = np.zeros(hierarchy.num_nodes, dtype=np.int64)
    for labels in label_sets:
        counts[list({node for label in labels for node in (label, *hierarchy.ancestors(label))})] += 1
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda node: (hierarchy.levels[node] > 1, -counts[node], node))
    return sorted(order[:most])
