"""Model cards, saving and pushing."""

from .card import model_card
from .saving import push, save


__all__ = ["model_card", "push", "save"]
