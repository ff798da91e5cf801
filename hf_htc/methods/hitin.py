"""HiTIN: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="hitin",
    model_type="htc_hitin",
    config="hf_htc.models.configuration_hitin:HiTINConfig",
    model="hf_htc.models.modeling_hitin:HiTINForHierarchicalTextClassification",
    title="HiTIN",
    citation="""@inproceedings{zhu-etal-2023-hitin,
  title = {HiTIN: Hierarchy-aware Tree Isomorphism Network for Hierarchical Text Classification},
  author = {Zhu, He and Zhang, Chong and Huang, Junjie and Wu, Junran and Xu, Ke},
  booktitle = {Proceedings of the 61st Annual Meeting of the Association for Computational Linguistics (Volume 1: Long Papers)},
  year = {2023}
}""",
    # HiTIN reports heights of the coding tree with 2 as the best; its settings have widths of 512 and 768, dropout 0.1 and 0.5 on
    # the projected text and 0.5 on the readout, and four poolings of which sum is used.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-2},
        "tree_depth": {"type": "integer", "low": 2, "high": 4},
        "num_mlp_layers": {"type": "integer", "low": 1, "high": 3},
        "tree_pooling": {"type": "categorical", "choices": ["sum", "mean", "max", "root"]},
        "transformation_dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
        "readout_dropout": {"type": "uniform", "low": 0.0, "high": 0.6},
        "recursive_regularization": {"type": "log_uniform", "low": 1e-7, "high": 1e-5},
    },
    paper_settings=built_in_settings("hitin"),
    tiny_options={"hidden_dim": 8},
)
