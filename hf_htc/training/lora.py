"""Low-rank adapters: which layers of any text encoder they go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from hf_htc.models.errors import HTCError


if TYPE_CHECKING:
    from peft import PeftModel

    from hf_htc.models.modeling_htc import HTCPreTrainedModel


def add_lora(model: HTCPreTrainedModel, rank: int = 16) -> PeftModel:
    """
    Wraps a model with PEFT: LoRA on every linear layer inside the text encoder, the `classifier` trained and saved whole.

    Args:
        model ([`HTCPreTrainedModel`]): With its label statistics already set.
        rank (`int`, *optional*, defaults to 16): At least 1.

    Returns:
        `peft.PeftModelForSequenceClassification`
    """
    from peft import LoraConfig, get_peft_model

    if rank < 1:
        raise HTCError(f"`rank` is {rank}; the rank of an adapter is at least 1.")
    targets = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name.startswith("model.")]
    if not targets:
        kind = getattr(model.config.text_config, "model_type", "given")
        raise HTCError(f"The {kind} encoder has no linear layers for LoRA; train without `--lora`.")
    wrapped = get_peft_model(
        model, LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules=targets)
    )
    # Gradients must reach the first adapter also when the encoder's activations are checkpointed.
    model.enable_input_require_grads()
    return wrapped
