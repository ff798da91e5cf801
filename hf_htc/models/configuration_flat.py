"""Configuration of the flat classifier, the baseline of every table."""

from huggingface_hub.dataclasses import strict

from .configuration_htc import HTCConfig


@strict
class FlatConfig(HTCConfig):
    """
    Configuration of [`FlatForHierarchicalTextClassification`]: one linear layer on the text vector, binary cross-entropy.

    It has the options of [`HTCConfig`] and none of its own. Defaults: `text_dropout` 0.1 as in BERT's classifier.

    Example:

    ```python
    >>> from hf_htc import FlatConfig, LabelHierarchy
    >>> config = FlatConfig(hierarchy=LabelHierarchy.from_paths(["sport/football", "politics"]))
    >>> config.num_labels
    3
    ```
    """

    model_type = "htc_flat"
