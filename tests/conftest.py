"""Offline, in a home of its own, with one thread: what every test of the suite shares."""

import os
import tempfile


# Before transformers is imported: no network, and caches that no other run has touched.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_htc-tests-")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("HF_ENDPOINT", None)

import atexit
import shutil

import pytest
import torch
from tiny_models import make_dag, make_tokenizer, make_tree
from transformers import set_seed


atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
torch.set_num_threads(1)  # the models are tiny: a second thread only waits


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Whatever a test draws is the same in every run, and whichever tests ran before."""
    set_seed(0)


@pytest.fixture
def tree():
    return make_tree()


@pytest.fixture
def dag():
    return make_dag()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()
