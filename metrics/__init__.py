"""Metrics of hf_htc, each a folder that `evaluate.load` takes as it stands."""
