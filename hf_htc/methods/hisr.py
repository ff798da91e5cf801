"""HiSR: what is known of the method beside its config and its model."""

from .hiagm import INFO as HIAGM
from .registry import MethodInfo, built_in_settings


INFO = MethodInfo(
    name="hisr",
    model_type="htc_hisr",
    config="hf_htc.models.configuration_hisr:HiSRConfig",
    model="hf_htc.models.modeling_hisr:HiSRForHierarchicalTextClassification",
    title="HiSR",
    citation="""@inproceedings{zhou-etal-2025-novel,
  title = {A Novel Negative Sample Generation Method for Contrastive Learning in Hierarchical Text Classification},
  author = {Zhou, Juncheng and Zhang, Lijuan and He, Yachen and Fan, Rongli and Zhang, Lei and Wan, Jian},
  booktitle = {Proceedings of the 31st International Conference on Computational Linguistics},
  year = {2025}
}""",
    # HiSR states single values too: weight 0.01, margins 0.5 and 0.15; the rest is HiAGM's.
    search_space={
        **HIAGM.search_space,
        "ranking_weight": {"type": "log_uniform", "low": 1e-3, "high": 1e-1},
        "positive_margin": {"type": "uniform", "low": 0.1, "high": 0.9},
        "negative_margin": {"type": "uniform", "low": 0.05, "high": 0.3},
    },
    paper_settings=built_in_settings("hisr"),
    tiny_options={"node_dim": 6},
)
