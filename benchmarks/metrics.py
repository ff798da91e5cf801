"""Time and memory of the metrics beside scikit-learn and hiclass, on random closed label sets.

    python benchmarks/metrics.py

Two shapes: RCV1's (781,265 documents, 103 labels, about 3.2 labels a document) for the set scores, and EURLEX57K's test set
(6,000 documents, 4,271 labels) for ranking, curves and calibration. Times are CPU seconds of this process
(`time.process_time`), so a busy machine does not change them much; memory is the peak of the memory that numpy and Python
allocate (`tracemalloc`), measured in a second run of ours. hiclass runs on the first `--hiclass_documents`; its time is scaled to
all of them.
"""

import argparse
import time
import tracemalloc
import warnings

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.metrics import accuracy_score, f1_score, ndcg_score, precision_recall_fscore_support

from hf_htc.metrics.hierarchical_f1 import (
    CalibrationScorer,
    CurveScorer,
    HierarchicalLosses,
    HierarchicalScorer,
    LcaScorer,
    RankingScorer,
)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=781_265)
    parser.add_argument("--ranked_documents", type=int, default=6_000)
    parser.add_argument("--ranked_labels", type=int, default=4_271)
    parser.add_argument("--hiclass_documents", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    sets(options)
    scores(options)


def sets(options):
    rng = np.random.default_rng(options.seed)
    parents = random_tree(rng, (4, 30, 69))
    gold, predicted = random_sets(rng, parents, options.documents)
    mean = len(gold[1]) / options.documents
    print(f"{options.documents:,} documents x {len(parents)} labels, {mean:.2f} labels a document", flush=True)

    def ours(closure="none"):
        scorer = HierarchicalScorer(parents, closure=closure)
        scorer.add(predicted, gold)
        return scorer.compute()

    mine, seconds = timed("micro, macro, samples, weighted, per level, C- and P-F1, exact match", ours)
    peak("the same", ours)
    closed, more = timed('the same, hierarchical (closure="up")', lambda: ours("up"))
    timed("losses", lambda: run(HierarchicalLosses(parents, closure="up"), predicted, gold))
    timed("LCA scores and distances", lambda: run(LcaScorer(parents), predicted, gold))
    given = [matrix(pair, len(parents)) for pair in (gold, predicted)]
    name = "scikit-learn, sparse matrices: the same without C- and P-F1"
    theirs, other = timed(name, lambda: scikit_learn(*given, parents))
    name = "scikit-learn, hierarchical: closed by a sparse product, the same"
    also, another = timed(name, lambda: scikit_learn(*(close(sets, parents) for sets in given), parents))
    for found, expected in ((mine, theirs), (closed, also)):
        for name, value in expected.items():
            assert abs(found[name] - value) < 1e-9, name
    share = (seconds + more) / (other + another)
    print(f"  equal numbers; ours takes {share:.2f} of scikit-learn's time", flush=True)
    number = min(options.hiclass_documents, options.documents)
    try:
        from hiclass.metrics import f1
    except ImportError:
        print("  hiclass is not installed")
        return
    paths = [padded_paths(pair, parents, number) for pair in (gold, predicted)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, other = timed(f"hiclass, micro F1 alone, {number:,} documents", lambda: f1(*paths, average="micro"))
    whole = other * options.documents / number
    print(f"  scaled to all documents: {whole:.1f} s; ours takes {seconds / whole:.3f} of it", flush=True)


def scores(options):
    rng = np.random.default_rng(options.seed)
    number, num_labels = options.ranked_documents, options.ranked_labels
    parents = random_tree(rng, (num_labels // 40, num_labels // 8, num_labels - num_labels // 40 - num_labels // 8))
    gold, _ = random_sets(rng, parents, number)
    logits = rng.standard_normal((number, len(parents)), dtype=np.float32) * 2 - 6
    logits[np.repeat(np.arange(number), np.diff(gold[0])), gold[1]] += 5
    values = 1 / (1 + np.exp(-logits))
    print(f"\n{number:,} documents x {len(parents):,} labels, all scores", flush=True)

    def rank():
        return run(RankingScorer(parents, ks=(1, 3, 5, 10)), values, gold)

    mine, seconds = timed("ranking: P, R, RP, nDCG, MAP at 1, 3, 5, 10, R-precision", rank)
    peak("the same", rank)
    timed("curves: AU(PRC), hF1-AUC, Fmax, closed", lambda: run(CurveScorer(parents), values, gold))
    peak("the same", lambda: run(CurveScorer(parents), values, gold))
    timed("calibration, per level", lambda: run(CalibrationScorer(parents), values, gold))
    theirs, other = timed("scikit-learn: nDCG at 5", lambda: scikit_learn_ndcg(gold, values))
    assert abs(mine["ndcg_at_5"] - theirs) < 1e-6
    print(f"  equal numbers; all our ranking scores take {seconds / other:.2f} of scikit-learn's time for that one", flush=True)


def run(scorer, given, gold):
    (scorer.add_scores if isinstance(given, np.ndarray) else scorer.add)(given, gold)
    return scorer.compute()


def timed(name, function):
    started = time.process_time()
    result = function()
    seconds = time.process_time() - started
    print(f"  {name}: {seconds:.2f} s", flush=True)
    return result, seconds


def peak(name, function):
    tracemalloc.start()
    function()
    print(f"  {name}: peak {tracemalloc.get_traced_memory()[1] / 2**20:,.0f} MiB", flush=True)
    tracemalloc.stop()


def random_tree(rng, widths):
    """Parents of a tree with so many nodes on each level."""
    parents, above = [], []
    for width in widths:
        level = range(len(parents), len(parents) + width)
        parents += [[int(rng.choice(above))] if len(above) else [] for _ in level]
        above = list(level)
    return parents


def random_sets(rng, parents, number):
    """Gold and predicted closed sets of one or two paths, CSR pairs; two thirds of the predicted ends are right."""
    num_labels = len(parents)
    table = np.full((num_labels, 3), -1)
    for label in range(num_labels):
        node, place = label, 0
        while True:
            table[label, place] = node
            if not parents[node]:
                break
            node, place = parents[node][0], place + 1
    ends = rng.integers(0, num_labels, size=(number, 2))
    ends[rng.random(number) < 0.75, 1] = -1
    guessed = np.where(rng.random(ends.shape) < 2 / 3, ends, rng.integers(0, num_labels, size=ends.shape))
    guessed[:, 1] = np.where(ends[:, 1] < 0, -1, guessed[:, 1])
    return tuple(closed_pair(table, chosen, num_labels) for chosen in (ends, guessed))


def closed_pair(table, ends, num_labels):
    rows = np.repeat(np.arange(len(ends)), 6)
    labels = np.where(ends[:, :, None] < 0, -1, table[ends]).reshape(-1)
    keys = np.unique(rows[labels >= 0] * num_labels + labels[labels >= 0])
    return np.searchsorted(keys // num_labels, np.arange(len(ends) + 1)), keys % num_labels


def matrix(pair, num_labels):
    return csr_matrix((np.ones(len(pair[1]), dtype=np.int8), pair[1], pair[0]), shape=(len(pair[0]) - 1, num_labels))


def close(sets, parents):
    """A matrix of sets with all ancestors added, for trees."""
    above = np.eye(len(parents), dtype=np.int32)
    for label in sorted(range(len(parents)), key=lambda label: level_of(parents, label)):
        for parent in parents[label]:
            above[label] |= above[parent]
    closed = sets.astype(np.int32) @ csr_matrix(above)
    closed.data[:] = 1
    return closed


def scikit_learn(gold, predicted, parents):
    levels = np.array([level_of(parents, label) for label in range(len(parents))])
    found = {}
    for average in ("micro", "macro", "samples", "weighted"):
        values = precision_recall_fscore_support(gold, predicted, average=average, zero_division=0)
        found.update(zip((f"{average}_precision", f"{average}_recall", f"{average}_f1"), values))
    found["exact_match"] = accuracy_score(gold, predicted)
    for average in ("micro", "macro"):
        for level in np.unique(levels).tolist():
            here = np.flatnonzero(levels == level)
            score = f1_score(gold[:, here], predicted[:, here], average=average, zero_division=0)
            found[f"level_{level}_{average}_f1"] = score
    return found


def scikit_learn_ndcg(gold, values):
    dense = matrix(gold, values.shape[1]).toarray()
    # In blocks: it needs several arrays of the size of the scores.
    starts = range(0, len(values), 500)
    blocks = [ndcg_score(dense[i : i + 500], values[i : i + 500], k=5) * len(values[i : i + 500]) for i in starts]
    return sum(blocks) / len(values)


def level_of(parents, label):
    return 1 + (level_of(parents, parents[label][0]) if parents[label] else 0)


def padded_paths(pair, parents, number):
    """The paths of the first documents as hiclass takes them: names, `(documents, 2, 3)`, padded with empty strings."""
    rows = []
    for row in range(number):
        labels = pair[1][pair[0][row] : pair[0][row + 1]].tolist()
        above = {parents[label][0] for label in labels if parents[label]}
        ways = []
        for label in [label for label in labels if label not in above]:
            way = [label]
            while parents[way[0]]:
                way.insert(0, parents[way[0]][0])
            ways.append([str(node) for node in way] + [""] * (3 - len(way)))
        rows.append(ways + [["", "", ""]] * (2 - len(ways)))
    return np.array(rows)


if __name__ == "__main__":
    main()
