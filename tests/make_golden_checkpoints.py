"""Writes the golden checkpoint of each method and variant for the present version: python tests/make_golden_checkpoints.py

Run once a release, before it is tagged; a folder that is there already is never changed.
"""

import json
from pathlib import Path

import torch
from tiny_models import VARIANTS, ids_tensor, make_batch, make_dag, make_label_sets, make_model

import hf_htc


def main():
    root = Path(__file__).parent / "fixtures" / "checkpoints"
    for method in [*hf_htc.METHODS, *VARIANTS]:
        folder = root / f"{method.replace(', ', '_').replace(' ', '_').lower()}-{hf_htc.__version__}"
        if folder.exists():
            continue
        hierarchy = make_dag()
        model, batch, labels = (
            make_model(method, hierarchy, seed=7),
            make_batch(3, 8, seed=7),
            ids_tensor(make_label_sets(hierarchy, 3, seed=7)),
        )
        model.save_pretrained(folder)
        for file in folder.glob("*.py"):
            file.unlink()  # the package's own code must go on loading it
        with torch.no_grad():
            output = model(**batch, labels=labels)
        stored = {
            "batch": {key: value.tolist() for key, value in batch.items()},
            "labels": labels.tolist(),
            "logits": output.logits.tolist(),
            "loss": float(output.loss),
            "hierarchy": hierarchy.fingerprint(),
        }
        (folder / "expected.json").write_text(json.dumps(stored) + "\n")
        print(folder)


if __name__ == "__main__":
    main()
