"""PTMTTaxoFormer: what is known of the method beside its config and its model."""

from .registry import MethodInfo, built_in_settings


INFO = MethodInfo(
    name="ptmt",
    model_type="htc_ptmt",
    config="hf_htc.models.configuration_ptmt:PTMTTaxoFormerConfig",
    model="hf_htc.models.modeling_ptmt:PTMTTaxoFormerForHierarchicalTextClassification",
    title="PTMTTaxoFormer",
    citation="""@misc{ptmt-taxoformer,
  title = {Prompt-Tuned Multi-Task Taxonomic Transformer (PTMTTaxoFormer)},
  author = {Vasantha, Rajashekar and Nguyen, Nhan and Zhang, Yue}
}""",
    # Table 4 of PTMTTaxoFormer, where alpha may be 1 and nothing is learnt; it has one learning rate. Fixed there: 15 % of the
    # words masked, warm-up 0.05, weight decay 0.01, gradient norm 5, weight 1 of the L1 loss.
    search_space={
        "learning_rate": {"type": "log_uniform", "low": 1e-6, "high": 1e-2},
        "classifier_learning_rate": {"type": "log_uniform", "low": 5e-4, "high": 1e-1},
        "per_device_train_batch_size": {"type": "integer", "low": 2, "high": 32},
        "text_dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
        "mlm_alpha": {"type": "uniform", "low": 0.7, "high": 0.99},
        "asl_gamma_positive": {"type": "integer", "low": 1, "high": 10},
        "asl_gamma_negative": {"type": "integer", "low": 1, "high": 10},
        "asl_margin": {"type": "uniform", "low": 0.02, "high": 0.1},
        "num_prompts": {"type": "integer", "low": 2, "high": 10},
    },
    paper_settings=built_in_settings("ptmt"),
    decides_in_units=True,
)
