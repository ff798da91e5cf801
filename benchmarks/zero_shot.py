"""Labels that never occur in training: HiMatch's dot product on EURLEX57K, with the ranking scores of its Table 4.

    python benchmarks/zero_shot.py EURLEX57K_FOLDER --text_encoder ENCODER --epochs 2 --bf16

The folder holds `train.parquet`, `validation.parquet`, `test.parquet` (`text`, `labels`: concept names) and `taxonomy.tsv`; the
labels are the concepts that any document has (4,271), their other ancestors are structure-only nodes. Recall@5 and nDCG@5 are
means over documents, overall and for three groups of labels by the documents they have in the whole training split, however much
of it is trained on: frequent (more than 50), few (1 to 50), zero. A group's documents are those with a label of the group, and
only such labels count as right. They are ranked twice: among the labels of their group, as Chalkidis et al. (2019) and Lu et al.
(2020) do, and among all labels. Beside each stands what a random order gives.

Settings are chosen with `--splits validation`.
"""

import argparse
import json
import shlex
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, set_seed

import hf_htc
from hf_htc.cli.common import set_up_logging
from hf_htc.data import label_csr
from hf_htc.metrics.hierarchical_f1 import RankingScorer
from hf_htc.training import HTCTrainingArguments, build_trainer
from hf_htc.training.manifest import run_manifest, source_commit


RESULTS = Path(__file__).resolve().parent / "results" / "zero_shot"
FEW = 50
TOP = 5
GROUPS = ("overall", "frequent", "few", "zero")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--text_encoder", required=True)
    parser.add_argument("--encoder_name", default=None, help="the encoder's public name, for the results")
    parser.add_argument("--train_documents", type=int, default=None, help="draw this many, by the seed (default: all)")
    parser.add_argument("--eval_documents", type=int, default=None, help="draw this many of each other split")
    parser.add_argument("--splits", nargs="+", default=["validation", "test"], choices=["validation", "test"])
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=None)
    parser.add_argument("--classifier_learning_rate", type=float, default=None)
    parser.add_argument("--method_options", default="{}", help="options of HiMatch's config as JSON")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, default=RESULTS / "eurlex57k.json")
    parser.add_argument("--work", default="runs/zero_shot")
    options = parser.parse_args(arguments)
    set_up_logging()
    source_commit()  # the code that runs, not what is committed by the end
    started = time.time()
    loaded = hf_htc.load_htc_dataset(options.dataset, labels="used")
    counts = label_counts(loaded.dataset["train"], loaded.hierarchy)
    dataset = cut(loaded.dataset, options)
    model, tokenizer, settings, log = train(dataset, loaded.hierarchy, options)
    trained = time.time()
    groups = label_groups(counts)
    scores = {split: evaluate(model, tokenizer, dataset[split], groups, options) for split in options.splits}
    seconds = {"train": round(trained - started, 1), "total": round(time.time() - started, 1)}
    result = run_manifest(
        command(options, parser), Path(options.dataset).name, dataset, loaded.hierarchy, settings, options.seed,
        options.encoder_name, scores, seconds,
    )  # fmt: skip
    result["log"] = log
    result["labels"] = {group: int(len(labels)) for group, labels in groups.items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for split in options.splits:
        print(f"\n{split}\n\n{table(scores[split])}")
    print(f"\nWritten to {options.output.name}.")
    return result


def command(options, parser):
    """The command line, without local paths."""
    words = ["python", "benchmarks/zero_shot.py", Path(options.dataset).name]
    hidden = ("dataset", "text_encoder", "encoder_name", "output", "work")
    for key, value in vars(options).items():
        if key in hidden or value == parser.get_default(key):
            continue
        words += [f"--{key}"] if value is True else [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def label_counts(dataset, hierarchy):
    """Documents of each label, `(N,)`."""
    return np.bincount(label_csr(dataset)[1], minlength=hierarchy.num_labels)


def label_groups(counts):
    """`dict` of group to label ids; a group without labels is left out."""
    groups = {
        "overall": np.arange(len(counts)),
        "frequent": np.flatnonzero(counts > FEW),
        "few": np.flatnonzero((counts > 0) & (counts <= FEW)),
        "zero": np.flatnonzero(counts == 0),
    }
    return {group: labels for group, labels in groups.items() if len(labels)}


def cut(dataset, options):
    """The documents that are trained on and looked at, drawn by the seed."""
    limits = {"train": options.train_documents, "validation": options.eval_documents, "test": options.eval_documents}
    for split, limit in limits.items():
        if limit is not None and limit < len(dataset[split]):
            dataset[split] = dataset[split].shuffle(seed=options.seed).select(range(limit))
    return dataset


def train(dataset, hierarchy, options):
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.text_encoder)
    own = {"prediction": "dot_product", **json.loads(options.method_options)}
    model = hf_htc.HiMatchForHierarchicalTextClassification.from_text_encoder(
        options.text_encoder, hierarchy=hierarchy, tokenizer=tokenizer, **own
    )
    args = HTCTrainingArguments(
        options.work, num_train_epochs=options.epochs, seed=options.seed, logging_steps=20, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False, per_device_train_batch_size=options.batch_size, bf16=options.bf16,
        use_cpu=not torch.cuda.is_available(), learning_rate=options.learning_rate,
        classifier_learning_rate=options.classifier_learning_rate,
    )  # fmt: skip
    trainer = build_trainer(model, args, dataset["train"], None, tokenizer, max_length=options.max_length)
    trainer.train()
    settings = {
        key: getattr(trainer.args, key)
        for key in ("learning_rate", "classifier_learning_rate", "per_device_train_batch_size", "num_train_epochs", "bf16")
    }
    settings.update(own, max_length=options.max_length, pooling=model.config.pooling, threads=torch.get_num_threads())
    log = [{key: entry[key] for key in ("step", "epoch", "loss")} for entry in trainer.state.log_history if "loss" in entry]
    return model, tokenizer, settings, log


@torch.no_grad()
def evaluate(model, tokenizer, dataset, groups, options):
    """Scores of a split, see [`RankingScores`]."""
    scores = RankingScores(groups, model.config.num_labels)
    gold, texts = dataset["labels"], dataset["text"]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=options.bf16):
        for rows, logits in model.iter_logits(texts, tokenizer, options.batch_size):
            scores.add(logits.cpu().numpy(), [gold[row] for row in rows])
    return scores.compute()


class RankingScores:
    """
    Recall@5 and nDCG@5 of groups of labels over batches, as [`RankingScorer`] counts them, and what a random order would give.

    Args:
        groups (`dict[str, np.ndarray]`): Label ids of each group.
        num_labels (`int`): `N`.
    """

    def __init__(self, groups, num_labels):
        self.groups = groups
        flat = [[]] * num_labels
        self.within = {group: RankingScorer(flat, ks=TOP, labels=labels) for group, labels in groups.items()}
        self.among_all = {group: RankingScorer(flat, ks=TOP) for group in groups}
        self.sizes = {group: [] for group in groups}

    def add(self, logits, gold):
        """Scores `(B, N)` and the label ids of the documents."""
        for group, labels in self.groups.items():
            right = [np.intersect1d(row, labels) for row in gold]
            self.within[group].add_scores(logits, gold)
            self.among_all[group].add_scores(logits, right)
            self.sizes[group] += [len(row) for row in right if len(row)]

    def compute(self):
        """`dict` of group to `documents` and, as far as there are any, the means: `recall`, `ndcg` (within the group),
        `recall_among_all`, `ndcg_among_all`, `recall_by_chance`, `ndcg_by_chance` (within the group)."""
        result = {}
        for group, sizes in self.sizes.items():
            means = {}
            if sizes:
                for ending, scorers in (("", self.within), ("_among_all", self.among_all)):
                    scores = scorers[group].compute()
                    means.update({f"{name}{ending}": scores[f"{name}_at_{TOP}"] for name in ("recall", "ndcg")})
                means.update(zip(("recall_by_chance", "ndcg_by_chance"), by_chance(len(self.groups[group]), np.array(sizes))))
            result[group] = {"documents": len(sizes), **{name: round(float(value), 4) for name, value in means.items()}}
        return result


def by_chance(num_labels, sizes):
    """Mean recall@5 and nDCG@5 of a random order of the labels, for documents with so many right ones."""
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    top = min(TOP, num_labels)
    ideal = np.cumsum(discounts)[np.minimum(sizes, TOP) - 1]
    return top / num_labels, (sizes / num_labels * discounts[:top].sum() / ideal).mean()


def table(scores):
    """Markdown; the group columns rank among the labels of the group, those behind among all labels."""
    lines = [
        f"| labels | documents | R@{TOP} | nDCG@{TOP} | R@{TOP} among all | nDCG@{TOP} among all | R@{TOP} by chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for group in GROUPS:
        row = scores.get(group, {"documents": 0})
        values = [row.get(key) for key in ("recall", "ndcg", "recall_among_all", "ndcg_among_all", "recall_by_chance")]
        shown = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
        lines.append(f"| {group} | {row['documents']:,} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
