"""HiMatch: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="himatch",
    model_type="htc_himatch",
    config="hf_htc.models.configuration_himatch:HiMatchConfig",
    model="hf_htc.models.modeling_himatch:HiMatchForHierarchicalTextClassification",
    title="HiMatch",
    citation="""@inproceedings{chen-etal-2021-hierarchy,
  title = {Hierarchy-aware Label Semantics Matching Network for Hierarchical Text Classification},
  author = {Chen, Haibin and Ma, Qianli and Lin, Zhenxi and Yan, Jiangyue},
  booktitle = {Proceedings of the 59th Annual Meeting of the Association for Computational Linguistics and the 11th
               International Joint Conference on Natural Language Processing},
  year = {2021}
}""",
    # HiMatch tries gamma 0.02, 0.2, 2 and alpha, beta 0.01, 0.5, 1 (its Table 6); both weights are 1, the joint embedding has 200
    # dimensions. The rest is HiAGM's.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
        "node_dim": {"type": "categorical", "choices": [100, 200, 300]},
        "transformation_dropout": {"type": "uniform", "low": 0.0, "high": 0.6},
        "structure_dropout": {"type": "uniform", "low": 0.0, "high": 0.2},
        "joint_dim": {"type": "categorical", "choices": [100, 200, 400]},
        "joint_dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
        "lambda_joint": {"type": "log_uniform", "low": 0.01, "high": 10.0},
        "lambda_match": {"type": "log_uniform", "low": 0.01, "high": 10.0},
        "gamma": {"type": "log_uniform", "low": 0.02, "high": 2.0},
        "alpha": {"type": "categorical", "choices": [0.01, 0.5, 1.0]},
        "beta": {"type": "categorical", "choices": [0.01, 0.5, 1.0]},
    },
    paper_settings=built_in_settings("himatch"),
    tiny_options={"node_dim": 6, "joint_dim": 12},
)
