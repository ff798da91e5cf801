"""HiAGM: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="hiagm",
    model_type="htc_hiagm",
    config="hf_htc.models.configuration_hiagm:HiAGMConfig",
    model="hf_htc.models.modeling_hiagm:HiAGMForHierarchicalTextClassification",
    title="HiAGM",
    citation="""@inproceedings{zhou-etal-2020-hierarchy,
  title = {Hierarchy-Aware Global Model for Hierarchical Text Classification},
  author = {Zhou, Jie and Ma, Chunping and Long, Dingkun and Xu, Guangwei and Ding, Ning and Zhang, Haoyu and
            Xie, Pengjun and Liu, Gongshen},
  booktitle = {Proceedings of the 58th Annual Meeting of the Association for Computational Linguistics},
  year = {2020}
}""",
    # HiAGM states single values: node dimension 300, dropout 0.5 on the transformation and 0.05 on the structure, regularization
    # 1e-6; one layer (a fork stacks two); the prior is a ratio in the paper, normalised over siblings in the code.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
        "node_dim": {"type": "categorical", "choices": [100, 200, 300]},
        "num_structure_layers": {"type": "integer", "low": 1, "high": 2},
        "prior": {"type": "categorical", "choices": ["ratio", "sibling"]},
        "transformation_dropout": {"type": "uniform", "low": 0.0, "high": 0.6},
        "structure_dropout": {"type": "uniform", "low": 0.0, "high": 0.2},
        "recursive_regularization": {"type": "log_uniform", "low": 1e-7, "high": 1e-5},
    },
    paper_settings=built_in_settings("hiagm"),
    tiny_options={"node_dim": 6},
)
