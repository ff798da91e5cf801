"""HiMTL: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="himtl",
    model_type="htc_himtl",
    config="hf_htc.models.configuration_himtl:HiMTLConfig",
    model="hf_htc.models.modeling_himtl:HiMTLForHierarchicalTextClassification",
    title="HiMTL",
    citation="""@misc{himtl,
  title = {HiMTL: Hierarchy-aware Multi-Task Learning for Hierarchical Text Classification},
  author = {Anonymous},
  note = {ACL submission}
}""",
    # HiMTL states those of its bases and L2 0.01, which is the weight decay; here what both bases have.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
        "transformation_dropout": {"type": "uniform", "low": 0.0, "high": 0.6},
        "bce_mean": {"type": "categorical", "choices": ["branch", "all"]},
        "recursive_regularization": {"type": "log_uniform", "low": 1e-7, "high": 1e-5},
    },
    paper_settings=built_in_settings("himtl"),
    tiny_options={"node_dim": 6},
)
