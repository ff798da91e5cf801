"""The one place of the package's version; among the models, because a checkpoint's config records it."""

__version__ = "0.1.0"
