"""HiDEC: what is known of the method beside its config and its model."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo, built_in_settings


INFO = MethodInfo(
    name="hidec",
    model_type="htc_hidec",
    config="hf_htc.models.configuration_hidec:HiDECConfig",
    model="hf_htc.models.modeling_hidec:HiDECForHierarchicalTextClassification",
    title="HiDEC, in the form of the HBM paper",
    citation="""@article{im-etal-2023-hidec,
  title = {Hierarchical Text Classification as Sub-hierarchy Sequence Generation},
  author = {Im, SangHun and Kim, GiBaeg and Oh, Heung-Seon and Jo, Seongung and Kim, Dong Hwan},
  journal = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume = {37},
  number = {11},
  pages = {12933--12941},
  year = {2023}
}

@inproceedings{kim-etal-2024-hbm,
  title = {Hierarchy-aware Biased Bound Margin Loss Function for Hierarchical Text Classification},
  author = {Kim, Gibaeg and Im, SangHun and Oh, Heung-Seon},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2024},
  pages = {7672--7682},
  year = {2024}
}""",
    # HiDEC and HBM state 2 layers, dropout 0.1, alpha 1 (0.1 for HPT) and margins of 0.1 and 0.01; their rate is 5e-5 for
    # everything, with 100 epochs.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 5e-5, "high": 3e-3},
        "unit_loss": {"type": "categorical", "choices": ["bce", "zlpr", "hbm"]},
        "num_decoder_layers": {"type": "integer", "low": 1, "high": 3},
        "decoder_dropout": {"type": "uniform", "low": 0.0, "high": 0.3},
        "hbm_alpha": {"type": "categorical", "choices": [0.1, 0.5, 1.0]},
        "hbm_margin": {"type": "categorical", "choices": [0.01, 0.05, 0.1]},
    },
    paper_settings=built_in_settings("hidec"),
    decides_in_units=True,
)
