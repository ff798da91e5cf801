"""Fixtures of the models' tests."""

import pytest
import torch
from tiny_models import make_encoder_config
from transformers import AutoModel


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(0)
    AutoModel.from_config(make_encoder_config()).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"
