"""Compares HiDEC's ways of inference on one decoder: expansion of whole batches, dense, and expansion node by node.

    python benchmarks/hidec_inference.py                        # 4,271 labels, batch 32, MiniLM's width
    python benchmarks/hidec_inference.py --labels 141 --batch_size 8 --chosen 10

Weights are random; one shift of all biases makes documents choose about `--chosen` labels each. The text encoder is left out:
token states are random too. Times are processor time on a CPU and wall time on a GPU, the median of some turns, in which the ways
take turns; ratios are to the batched expansion.
"""

import argparse
import statistics
import time

import torch

from hf_htc import HiDECConfig, LabelHierarchy
from hf_htc.models.hidec_decoder import dense_margins, expand_margins
from hf_htc.models.modeling_hidec import HiDECClassifier


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=4271, help="(%(default)s)")
    parser.add_argument("--children", type=int, default=6, help="children of every inner node (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--tokens", type=int, default=128, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=384, help="of the text encoder (%(default)s)")
    parser.add_argument("--chosen", type=float, default=5, help="labels that a document chooses on average (%(default)s)")
    parser.add_argument("--repetitions", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    options = parser.parse_args(arguments)
    classifier, tokens, mask = make_case(options)
    ways = {"expand": expand_once, "dense": dense_once, "node by node": expand_node_by_node}
    results = measure(ways, classifier, tokens, mask, options)
    units = classifier.copies.num_copies
    chosen = results["chosen"]
    print(f"{options.labels} labels, {units} units, {options.batch_size} documents, {chosen:.1f} labels chosen a document")
    for name in ways:
        seconds = results[name]
        print(f"  {name:13} {1000 * seconds:9.1f} ms   {seconds / results['expand']:6.2f} x")


def make_case(options):
    """A classifier on random weights, whose biases are shifted until documents choose about as many labels as wanted."""
    torch.manual_seed(0)
    number, width = options.labels, options.children
    parents = [[] if i < 20 else [(i - 20) // width] for i in range(number)]
    hierarchy = LabelHierarchy([f"label {i}" for i in range(number)], parents)
    text_config = {"model_type": "bert", "hidden_size": options.width, "num_attention_heads": 12}
    config = HiDECConfig(text_config=text_config, hierarchy=hierarchy, empty_prediction="allow", label_closure="as_given")
    classifier = HiDECClassifier(config)
    for module in classifier.modules():
        if hasattr(module, "init_weights"):
            module.init_weights(config)
    classifier = classifier.to(options.device).eval()
    tokens = torch.randn(options.batch_size, options.tokens, options.width, device=options.device)
    mask = torch.ones(options.batch_size, options.tokens, device=options.device)
    with torch.no_grad():
        text = classifier.decoder.read_text(tokens, mask)
        low, high = -8.0, 8.0
        margins = dense_margins(classifier, text)
        for _ in range(30):
            middle = (low + high) / 2
            shifted = margins + 2 * middle
            chosen = (classifier.copies.label_logits(shifted, classifier.copies.path_margins(shifted)) > 0).sum(1).float().mean()
            low, high = (low, middle) if chosen > options.chosen else (middle, high)
        classifier.out_bias.fill_(low)
    return classifier, tokens, mask


def expand_once(classifier, tokens, mask):
    return expand_margins(classifier, classifier.decoder.read_text(tokens, mask))


def dense_once(classifier, tokens, mask):
    return dense_margins(classifier, classifier.decoder.read_text(tokens, mask))


def expand_node_by_node(classifier, tokens, mask):
    """One document, one copy at a time, its ancestors decoded again with it: what a plain loop does. The text's keys and values
    are projected once a document here too."""
    copies, rows = classifier.copies, []
    for row in range(len(tokens)):
        text = classifier.decoder.read_text(tokens[row : row + 1], mask[row : row + 1])
        margins = torch.full((copies.num_candidates,), torch.inf, device=tokens.device)
        waiting = [torch.zeros(1, dtype=torch.long, device=tokens.device)]
        while waiting:
            path = waiting.pop()
            above = torch.ones(1, len(path), len(path), dtype=torch.bool, device=path.device).tril()
            state = classifier.decoder(classifier.embed(path).unsqueeze(0), above, text)[0, -1:]
            unit, entry = classifier.candidates_of(path[-1:])
            bounds = None if classifier.bounds is None else classifier.bounds(state)[unit]
            margins[entry] = classifier.margins(classifier.candidate_logits(state, unit, entry, path[-1:]), bounds)
            child = copies.child[entry]
            waiting.extend(torch.cat([path, one.view(1)]) for one in child[(margins[entry] > 0) & (child >= 0)])
        rows.append(margins)
    return torch.stack(rows)


@torch.no_grad()
def measure(ways, classifier, tokens, mask, options):
    """Median seconds of every way, and how many labels were chosen; refuses to compare ways that do not agree."""
    clock = time.perf_counter if options.device != "cpu" else time.process_time
    seconds, predictions = {name: [] for name in ways}, {}
    for turn in range(options.repetitions + 1):
        for name, way in ways.items():
            start = clock()
            margins = way(classifier, tokens, mask)
            if options.device != "cpu":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(clock() - start)
            predictions[name] = classifier.copies.label_logits(margins, classifier.copies.path_margins(margins)) > 0
    for name in ways:
        if not torch.equal(predictions[name], predictions["expand"]):
            raise RuntimeError(f"{name!r} and 'expand' predict different labels.")
    return {name: statistics.median(values) for name, values in seconds.items()} | {
        "chosen": float(predictions["expand"].sum(1).float().mean())
    }


if __name__ == "__main__":
    main()
