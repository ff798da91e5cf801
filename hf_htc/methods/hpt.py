"""HPT: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="hpt",
    model_type="htc_hpt",
    config="hf_htc.models.configuration_hpt:HPTConfig",
    model="hf_htc.models.modeling_hpt:HPTForHierarchicalTextClassification",
    title="HPT",
    citation="""@inproceedings{wang-etal-2022-hpt,
  title = {HPT: Hierarchy-aware Prompt Tuning for Hierarchical Text Classification},
  author = {Wang, Zihan and Wang, Peiyi and Liu, Tianyu and Lin, Binghuai and Cao, Yunbo and Sui, Zhifang and Wang, Houfeng},
  booktitle = {Proceedings of the 2022 Conference on Empirical Methods in Natural Language Processing},
  year = {2022}
}""",
    # HPT states single values: Adam 3e-5, batch 16; the HBM paper tries alpha and margin on EURLEX57K (its Figure 5).
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 5e-4, "high": 5e-2},
        "unit_loss": {"type": "categorical", "choices": ["bce", "zlpr", "hbm"]},
        "hbm_alpha": {"type": "categorical", "choices": [0.01, 0.1, 1.0]},
        "hbm_margin": {"type": "categorical", "choices": [0.01, 0.1, 0.2]},
        "num_graph_layers": {"type": "integer", "low": 0, "high": 2},
        "mlm_weight": {"type": "categorical", "choices": [0.0, 0.5, 1.0]},
    },
    paper_settings=built_in_settings("hpt"),
    decides_in_units=True,
)
