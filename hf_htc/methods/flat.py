"""Flat: the multi-label classifier without a hierarchy, the baseline."""

from .registry import SHARED_SEARCH_SPACE, MethodInfo


INFO = MethodInfo(
    name="flat",
    model_type="htc_flat",
    config="hf_htc.models.configuration_flat:FlatConfig",
    model="hf_htc.models.modeling_flat:FlatForHierarchicalTextClassification",
    title="a flat multi-label classifier",
    # No paper: the baseline. Our default is 5e-3 for the classifier, 1e-4 for the encoder.
    search_space={
        **SHARED_SEARCH_SPACE,
        "classifier_learning_rate": {"type": "log_uniform", "low": 3e-4, "high": 3e-2},
    },
)
