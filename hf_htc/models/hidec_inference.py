"""The two ways in which HiDEC scores units without knowing labels: all of them, or those that chosen labels lead to.

Both give the margin of every candidate, `decision_logits` of its unit, which is positive where the candidate is chosen; a
candidate that was not scored has an infinite one, so that it never is the smallest on a path.

Legend: `B` documents, `P` inner copies, `K` candidates of all copies, `D` width, `S` pairs of a document and a copy.
"""

import math

import torch

from .losses import at_least_float32


# Pairs of a document and a copy that are decoded together; with more, memory grows and speed does not.
_PAIRS_AT_ONCE = 2048


def dense_margins(classifier, text):
    """
    All candidates, in parts of the hierarchy, so that no tensor has the size of documents x copies x width. Nothing here depends
    on the numbers, so it can be exported.

    Args:
        classifier ([`HiDECClassifier`]).
        text ([`TextMemory`]): Of `B` documents.

    Returns:
        `torch.Tensor` of shape `(B, K)`.
    """
    copies, margins = classifier.copies, []
    for (start, stop), above, (first, last) in zip(copies.chunks, copies.above_chunk, copies.chunk_candidates):
        sequence = torch.arange(start, stop, device=copies.end.device)
        if above:
            sequence = torch.cat([torch.tensor(above, device=sequence.device), sequence])
        mask = copies.is_above(sequence.unsqueeze(0), sequence.unsqueeze(1)).unsqueeze(0)
        states = classifier.decoder(classifier.embed(sequence).unsqueeze(0), mask, text)[:, len(above) :]  # (B, stop - start, D)
        candidates = slice(first, last)
        unit = copies.unit[candidates] - start
        rows = torch.nn.functional.embedding(copies.candidate[candidates], classifier.label_embedding)
        # Every state with every candidate: beside the decoder that is little, and gathered states would be memory.
        products = (classifier.unit_dropout(states) @ rows.T).flatten(1)
        index = unit * (last - first) + torch.arange(last - first, device=unit.device)
        logits = classifier.add_bias(at_least_float32(products[:, index]), copies.bias[candidates])
        bounds = None if classifier.bounds is None else classifier.bounds(states)[:, unit]
        margins.append(classifier.margins(logits, bounds))
    return torch.cat(margins, dim=1)


@torch.no_grad()
def expand_margins(classifier, text):
    """
    Level by level the candidates of the root, then those of chosen inner copies. Each pair of a document and a reached copy is
    decoded once, with the keys and values of its ancestors; the cost is that of the reached pairs.

    For `empty_prediction="best"`, documents without a label are followed as [`~HierarchyCopies.nearest_labels`] says.

    Args, returns: as [`dense_margins`]; carries no gradient.
    """
    copies, number = classifier.copies, len(text)
    kind = at_least_float32(classifier.label_embedding[:0]).dtype
    device = classifier.label_embedding.device
    margins = torch.full((number, copies.num_candidates), math.inf, dtype=kind, device=device)
    documents = torch.arange(number, device=device)
    # Pairs by document; `source` is where a pair's parent stands in what the parents left behind. The last in is the first out,
    # so that what waits never holds more than one part of each level.
    waiting = [(documents, torch.zeros_like(documents), documents, None)]
    while waiting:
        documents, copy, source, past = waiting.pop()
        if len(documents) > _PAIRS_AT_ONCE:
            parts = (values.split(_PAIRS_AT_ONCE) for values in (documents, copy, source))
            waiting.extend((*part, past) for part in zip(*parts))
            continue
        states, past = _advance(classifier, text, documents, copy, source, past)
        unit, entry = classifier.candidates_of(copy)
        bounds = None if classifier.bounds is None else classifier.bounds(states)[unit]
        margin = classifier.margins(classifier.candidate_logits(states, unit, entry, copy), bounds)
        margins[documents[unit], entry] = margin.to(kind)
        child = copies.child[entry]
        chosen = ((margin > 0) & (child >= 0)).nonzero().flatten()
        if len(chosen):
            parent = unit[chosen]
            waiting.append((documents[parent], child[chosen], parent, past))
    if classifier.config.empty_prediction == "best":
        _follow_nearest(classifier, text, margins)
    return margins


def _advance(classifier, text, documents, copy, source, past):
    """States `(S, D)` of pairs whose copies lie at one depth, and the keys and values of them and their ancestors in each layer,
    `(S, depth + 1, D)`."""
    decoder = classifier.decoder
    found, inverse, counts = torch.unique_consecutive(documents, return_inverse=True, return_counts=True)
    if len(found) < len(text):
        text = text.select(found)
    # Pairs of a document read its text together: they stand in one row of a padded layout.
    width = int(counts.max())
    place = inverse * width + torch.arange(len(documents), device=copy.device) - (counts.cumsum(0) - counts)[inverse]
    states, behind = classifier.embed(copy), []
    for number, (layer, (text_keys, text_values)) in enumerate(zip(decoder.layers, text.layers)):

        def attend(query, key, value, number=number):
            key, value = key.unsqueeze(1), value.unsqueeze(1)
            if past is not None:
                keys, values = past[number]
                key, value = torch.cat([keys[source], key], dim=1), torch.cat([values[source], value], dim=1)
            behind.append((key, value))
            query = decoder.split(query.unsqueeze(1))
            return decoder.merge(decoder.attention(query, decoder.split(key), decoder.split(value))).squeeze(1)

        def read(query, keys=text_keys, values=text_values):
            rows = query.new_zeros(len(found) * width, query.shape[-1]).index_copy(0, place, query)
            rows = decoder.split(rows.unflatten(0, (-1, width)))
            return decoder.merge(decoder.attention(rows, keys, values, text.mask)).flatten(0, 1)[place]

        states = layer(states, attend, read)
    return decoder.norm(states), behind


def _follow_nearest(classifier, text, margins):
    """Scores, for documents without a label, the units that [`~HierarchyCopies.nearest_labels`] looks at; `margins` is
    changed."""
    copies = classifier.copies
    path = copies.path_margins(margins)
    rows = (copies.label_logits(margins, path) <= 0).all(1).nonzero().flatten()
    if not len(rows):
        return
    copy = copies.child[copies.nearest_candidate(margins[rows], path[rows])]
    everywhere = torch.arange(copies.num_copies, device=copy.device)
    while True:
        alive = (copy >= 0).nonzero().flatten()
        if not len(alive):
            return
        row, copy = rows[alive], copy[alive]
        scores = classifier.score_units(copies.is_above(everywhere, copy.unsqueeze(1)), text.select(row))
        new = torch.full_like(margins[row], math.inf)
        new[scores.units.document[scores.units.unit], scores.entry] = scores.margins().to(new.dtype)
        margins[row] = torch.where(margins[row] == math.inf, new, margins[row])
        best = torch.where(copies.unit == copy.unsqueeze(1), margins[row], -math.inf).argmax(1)
        rows, copy = row, copies.child[best]
