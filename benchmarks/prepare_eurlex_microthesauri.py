"""Makes the 148-label EURLEX57K task: EuroVoc domains (21) and microthesauri (127), a two-level tree, several paths a law.

    python benchmarks/prepare_eurlex_microthesauri.py EURLEX57K_FOLDER OUTPUT_FOLDER --train_documents 6000

The input folder holds `train.parquet`, `validation.parquet`, `test.parquet` (`id`, `text`, `label_ids`: concept ids) and
`microthesauri.tsv` (concept, microthesaurus, domain) and `taxonomy_mt.tsv`. The output is a data set folder for
`load_htc_dataset`: parquet files and `taxonomy.tsv`. The training documents are those with the smallest SHA-256 of their id,
so that every machine draws the same ones.
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from datasets import Dataset

from hf_htc.data.archives import text_lines
from hf_htc.dataset_scripts.eurlex57k import read_microthesauri


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--train_documents", type=int, default=6000)
    parser.add_argument("--eval_documents", type=int, default=None, help="also cut validation and test to this many")
    options = parser.parse_args(arguments)
    with open(options.source / "microthesauri.tsv", "rb") as stream:
        labels_of, _ = read_microthesauri(text_lines(stream, stream.name), "microthesauri.tsv")
    options.target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.source / "taxonomy_mt.tsv", options.target / "taxonomy.tsv")
    for split in ("train", "validation", "test"):
        dataset = Dataset.from_parquet(str(options.source / f"{split}.parquet"))
        limit = options.train_documents if split == "train" else options.eval_documents
        if limit is not None:
            order = (
                sorted(range(len(dataset)), key=lambda i: hashlib.sha256(ids[i].encode()).hexdigest())
                if (ids := dataset["id"])
                else []
            )
            dataset = dataset.select(sorted(order[:limit]))
        dataset = dataset.map(
            lambda row: {"labels": sorted(set().union(*(labels_of.get(concept, ()) for concept in row["label_ids"])))},
            remove_columns=["label_ids"],
        )
        dataset = dataset.filter(lambda row: len(row["labels"]) > 0)
        dataset.select_columns(["id", "text", "labels"]).to_parquet(str(options.target / f"{split}.parquet"))
        print(f"{split}: {len(dataset)} documents")


if __name__ == "__main__":
    main()
