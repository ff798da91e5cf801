"""The units of one document: scores, thresholds, and what HBM makes of them (HBM paper, Figure 3)."""

import torch

from hf_htc.evaluation.figures import drawing
from hf_htc.methods import METHODS
from hf_htc.models.errors import HTCError
from hf_htc.models.prediction import check_texts, encode_texts
from hf_htc.models.unit_losses import BIAS_FUNCTIONS
from hf_htc.models.units import Units


@torch.no_grad()
def unit_view(model, tokenizer, text, labels=None):
    """
    What a unit method decided about a text.

    Args:
        model ([`HTCPreTrainedModel`]): Of a method that decides in units (`MethodInfo.decides_in_units`).
        tokenizer (`PreTrainedTokenizer`): The checkpoint's.
        text (`str`): The document.
        labels (`list[int]`, *optional*): Its label ids; then the units are those of the labels (HiDEC), and every entry says
            whether it holds.

    Returns:
        `list[dict]`, one per unit: `name` (its level, or the path of the parent that decides), `threshold` (the score from which
        an entry is chosen: HBM's bound, else 0), with `labels` and HBM `positive_bound` and `negative_bound` (the threshold with
        the biases), and `entries`, best first: `name`, `score`, `is_chosen`, with `labels` also `is_gold` and, with HBM,
        `is_left_out` (by the margin).

    Raises:
        `ValueError`: the model is no unit method, an empty text. `TypeError`: the text is no string.
    """
    config, hierarchy = model.config, model.config.get_hierarchy()
    if not hasattr(config, "unit_loss"):
        names = [info.name for info in METHODS.values() if info.decides_in_units]
        raise HTCError(f"A {config.model_type} model does not decide in units; those of {', '.join(names)} do.")
    check_texts([text])
    was_training = model.training
    model.eval()
    batch, _ = encode_texts(tokenizer, [text], config.max_text_length)
    known = {} if labels is None else {"labels": torch.tensor([labels], dtype=torch.long, device=model.device)}
    try:
        found = model(**batch.to(model.device), **known, output_units=True).units
    finally:
        model.train(was_training)
    scores, unit, names = found["scores"].float(), found["unit"], _unit_names(found, hierarchy)
    bounds = torch.zeros(len(names), device=scores.device) if found["bounds"] is None else found["bounds"].float()
    gold = found["targets"]
    biased = left_out = None
    if gold is not None and config.unit_loss == "hbm":
        biased, left_out = _biased_bounds(config, scores, gold > 0.5, Units(unit, found["document"], 1), bounds)
    views = []
    for number, name in enumerate(names):
        view = {"name": name, "threshold": float(bounds[number])}
        if biased is not None:
            view.update(positive_bound=float(biased[0][number]), negative_bound=float(biased[1][number]))
        places = (unit == number).nonzero().flatten()
        view["entries"] = []
        for place in places[torch.argsort(-scores[places])].tolist():
            label = int(found["label"][place])
            entry = {"name": "[END]" if label < 0 else hierarchy.names[label], "score": float(scores[place])}
            entry["is_chosen"] = bool(scores[place] > bounds[number])
            if gold is not None:
                entry["is_gold"] = bool(gold[place] > 0.5)
            if left_out is not None:
                entry["is_left_out"] = bool(left_out[place])
            view["entries"].append(entry)
        views.append(view)
    return views


def _unit_names(found, hierarchy):
    if "level" in found:
        return [f"level {level}" for level in found["level"].tolist()]
    return ["root" if node < 0 else hierarchy.names[node] for node in found["node"].tolist()]


def _biased_bounds(config, scores, gold, units, bounds):
    """The bound that positives are to lie above and the one that negatives are to lie below, and what the margin leaves out."""
    spread = BIAS_FUNCTIONS[config.hbm_bias]
    biased = [bounds + sign * config.hbm_alpha * spread(scores, side, units) for sign, side in ((1, gold), (-1, ~gold))]
    probability = torch.sigmoid(2 * (scores - bounds[units.unit]))
    wrong = torch.where(gold, 1 - probability, probability)
    return biased, wrong <= config.hbm_margin


def unit_text(views, most=8):
    """The views as lines of text; of every unit the chosen, the gold and the best other entries, `most` of them."""
    lines = []
    for view in views:
        head = f"{view['name']}: threshold {view['threshold']:+.2f}"
        if "positive_bound" in view:
            head += f", biased bounds {view['positive_bound']:+.2f} / {view['negative_bound']:+.2f}"
        lines.append(head)
        wanted = [e for e in view["entries"] if e["is_chosen"] or e.get("is_gold")]
        shown = (wanted + [e for e in view["entries"] if e not in wanted])[: max(most, len(wanted))]
        for entry in sorted(shown, key=lambda e: -e["score"]):
            marks = ["chosen"] * entry["is_chosen"] + ["gold"] * entry.get("is_gold", False)
            marks += ["left out"] * entry.get("is_left_out", False)
            lines.append(f"  {entry['score']:+8.2f}  {entry['name']}" + (f"  ({', '.join(marks)})" if marks else ""))
        if len(view["entries"]) > len(shown):
            lines.append(f"            {len(view['entries']) - len(shown)} more below")
    return "\n".join(lines)


_LINES = {
    "threshold": ("threshold", "tab:blue"),
    "positive_bound": ("bound of gold labels", "tab:green"),
    "negative_bound": ("bound of the others", "tab:red"),
}


def plot_units(views, path):
    """Draws every score of every unit, gold ones apart, with the thresholds and HBM's biased bounds, and says which is which."""
    with drawing(3.7 + 1.2 * len(views), 4.5, path) as made:
        for place, view in enumerate(views):
            points = {}
            for entry in view["entries"]:
                points.setdefault((entry.get("is_gold", False), entry.get("is_left_out", False)), []).append(entry["score"])
            for (is_gold, is_left_out), scores in sorted(points.items()):
                made.axes.scatter(
                    [place] * len(scores), scores, s=18, zorder=2 + is_gold, c="tab:green" if is_gold else "0.35",
                    marker="x" if is_left_out else "o",
                    label=("gold label" if is_gold else "label") + ", beyond the margin" * is_left_out,
                )  # fmt: skip
            for key, (name, colour) in _LINES.items():
                if key in view:
                    made.axes.hlines(view[key], place - 0.4, place + 0.4, color=colour, label=name)
        made.axes.set_xticks(range(len(views)), [view["name"] for view in views], rotation=30, ha="right")
        made.axes.set_ylabel("score")
        handles = dict(reversed(pair) for pair in zip(*made.axes.get_legend_handles_labels()))  # each once
        made.axes.legend(handles.values(), handles, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
