"""Errors about what a metric was given. The metric also works alone, so they are no part of the package's own family."""


class MetricError(ValueError):
    """Predictions, references, a taxonomy or an option that cannot be used; the message names the culprit and the mend."""


class MetricTypeError(MetricError, TypeError):
    """A value of a type that cannot be used."""
