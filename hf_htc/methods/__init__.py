"""The registry of methods: one file per built-in method, and those that other packages bring.

A method is a [`MethodInfo`]: where its config and its model are, and what cards, `hf-htc tune`, `--paper_settings`, the
benchmarks and the tests need of it. Nothing here imports torch or transformers.
"""

from .registry import ENTRY_POINTS, METHODS, SHARED_SEARCH_SPACE, MethodInfo, method_info, method_of, register_method


__all__ = ["ENTRY_POINTS", "METHODS", "SHARED_SEARCH_SPACE", "MethodInfo", "method_info", "method_of", "register_method"]
