"""The contract of every model: `HTCPreTrainedModel` and `HTCOutput`.

A model is a text encoder `model` and one child module `classifier`, which holds everything else. `logits[:, n] > 0` means
that label `n` is predicted; `sigmoid(logits)` are the scores.

Legend: `B` documents, `T` tokens, `D` hidden size, `N` labels, `K` label ids in a row.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, logging

from .calibration import read_calibration, set_calibration
from .coherence import CoherentMax, coherent_bce
from .configuration_htc import HTCConfig, check_coherence, check_config_keywords
from .errors import HTCError, HTCOSError
from .labels import label_statistics, multi_hot
from .losses import multi_label_bce
from .modules import HTCModule
from .prediction import PredictionMixin
from .prompts import append_prompts
from .text_encoders import (
    build_text_encoder,
    default_pooling,
    encoder_takes,
    left_align,
    load_text_encoder,
    max_positions,
    pool,
    strip_text_encoder,
)


logger = logging.get_logger(__name__)


@dataclass
class HTCOutput(ModelOutput):
    """
    Output of every model.

    Args:
        loss (`torch.FloatTensor` of shape `(1,)`, *optional*): Mean over documents, float32, when `labels` are given.
        logits (`torch.FloatTensor` of shape `(B, N)`): float32; label `n` is predicted when `logits[:, n] > 0`.
        losses (`dict[str, torch.FloatTensor]`, *optional*): The named parts of `loss`, each already weighted.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*): The text encoder's, on left-aligned tokens.
        units (`dict`, *optional*): What a unit method decided, with `output_units=True`; flat, of every entry of all units its
            `scores (K,)`, `label (K,)` (a node, -1 for [END]), `unit (K,)` and, with labels, `targets (K,)`; of every unit its
            `document (U,)`, `bounds (U,)` (HBM) and `level (U,)` or `node (U,)`, the parent that decides, -1 for the root.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    losses: dict | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    units: dict | None = None


class HTCPreTrainedModel(PredictionMixin, PreTrainedModel):
    """
    Base of all models for hierarchical text classification.

    A subclass sets `self.classifier` and defines `forward`; see [`FlatForHierarchicalTextClassification`], the shortest.
    Build one by [`~HTCPreTrainedModel.from_text_encoder`] (pretrained encoder), `Method(config)` (from nothing) or
    `from_pretrained` (a checkpoint).
    """

    config: HTCConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # The loss is a mean over documents: the Trainer divides by the accumulation steps, it must not be divided by labels.
    accepts_loss_kwargs = False
    _whole_layers = frozenset()

    def __init__(self, config):
        super().__init__(config)
        config.validate()  # `from_pretrained(..., option=value)` sets options on a config that is already made
        if config.pooling == "auto":
            config.pooling = default_pooling(config.text_config)
        self.model = build_text_encoder(config.text_config, keep_pooler=config.pooling == "pooler")
        if config.pooling == "pooler" and getattr(self.model, "pooler", None) is None:
            raise HTCError(
                f"`pooling='pooler'`, but a {config.text_config.model_type} encoder has no pooler; use 'cls' or 'mean'."
            )
        self._note_max_text_length()
        self.text_dropout = nn.Dropout(config.text_dropout)
        self.coherence = None if config.coherence == "none" else CoherentMax(config)

    # ------------------------------------------------------------------ building

    @classmethod
    def from_text_encoder(
        cls,
        name_or_path,
        hierarchy,
        tokenizer=None,
        train_labels=None,
        dtype=torch.float32,
        attn_implementation=None,
        hub_kwargs=None,
        **config,
    ):
        """
        A model on a pretrained text encoder, with a new classifier.

        Args:
            name_or_path (`str`): Whatever `AutoModel.from_pretrained` takes.
            hierarchy ([`LabelHierarchy`]): The taxonomy.
            tokenizer (`PreTrainedTokenizer`, *optional*): Its length limit, padding token and vocabulary are reconciled with
                the encoder's.
            train_labels (`list[list[int]]`, *optional*): Label ids of every training document; starts the classifier at the
                label frequencies, see [`~HTCPreTrainedModel.set_label_statistics`].
            dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): One type for encoder and classifier.
            attn_implementation (`str`, *optional*): As in `from_pretrained`.
            hub_kwargs (`dict`, *optional*): `revision`, `token`, `cache_dir`, ... for the encoder.
            config: Options of the method's config class.

        Raises:
            `ValueError`: an unknown option (close names are given). `OSError`: the encoder does not exist.

        Example:

        ```python
        model = HiAGMForHierarchicalTextClassification.from_text_encoder("bert-base-uncased", hierarchy=hierarchy, node_dim=100)
        ```
        """
        check_config_keywords(cls.config_class, config)
        hub_kwargs = hub_kwargs or {}
        encoder, extras = cls._load_encoder(name_or_path, config, dtype, attn_implementation, hub_kwargs)
        text_config = encoder.config
        text_config._name_or_path = public_name(name_or_path)
        if config.get("pooling", "auto") == "auto":
            config["pooling"] = default_pooling(text_config, name_or_path, **hub_kwargs)
            logger.info(f"Pooling: {config['pooling']!r}, the encoder's own.")
        model = cls._from_config(cls.config_class(text_config=text_config, hierarchy=hierarchy, **config), dtype=dtype)
        # The encoder's config object is `config.text_config` itself, so that resizing the embeddings changes both.
        model.model = strip_text_encoder(encoder, keep_pooler=model.config.pooling == "pooler")
        if tokenizer is not None:
            model.fit_tokenizer(tokenizer)
        model._start(extras, tokenizer)
        if train_labels is not None:
            model.set_label_statistics(train_labels)
        return model

    @classmethod
    def _load_encoder(cls, name_or_path, config, dtype, attn_implementation, hub_kwargs):
        """The pretrained encoder, and what else a method takes from its checkpoint; may set options in `config`."""
        return load_text_encoder(name_or_path, dtype, attn_implementation, **hub_kwargs), None

    def _start(self, extras, tokenizer):
        """What a method's classifier takes from the encoder's checkpoint, its words and the tokenizer: nothing."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As transformers' own; a damaged weights file is an `OSError` that names the checkpoint."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise HTCOSError(
                f"The weights of {str(pretrained_model_name_or_path)!r} are incomplete or damaged ({error}). Save or download "
                "the checkpoint again."
            ) from error

    def load_adapter(self, peft_model_id=None, *args, **kwargs):
        """As transformers' own, which `from_pretrained` of an adapter calls; thresholds and conformal sets that lie beside the
        adapter become those of the config."""
        info = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            of_hub = kwargs.get("adapter_kwargs") or {}
            names = ("revision", "token", "cache_dir", "local_files_only", "subfolder")
            calibration = read_calibration(peft_model_id, **{name: of_hub[name] for name in names if name in of_hub})
            if calibration is not None:
                set_calibration(self.config, calibration)
        return info

    def fit_tokenizer(self, tokenizer):
        """Reconciles the model with a tokenizer: text length, padding token, size of the embedding table."""
        limit = min((n for n in (self.config.max_text_length, tokenizer.model_max_length) if n), default=None)
        self.config.max_text_length = limit if limit is not None and limit < 10**6 else None
        text_config = self.config.text_config
        if getattr(text_config, "pad_token_id", None) is None and tokenizer.pad_token_id is not None:
            text_config.pad_token_id = tokenizer.pad_token_id
        if len(tokenizer) > self.get_input_embeddings().num_embeddings:
            logger.info(f"The tokenizer has {len(tokenizer)} tokens; the embedding table grows to that size.")
            self.resize_token_embeddings(len(tokenizer))

    def _note_max_text_length(self):
        self._max_positions = max_positions(self.model)
        if self._max_positions is not None:
            self._max_positions -= self.config.num_prompt_tokens
            if self._max_positions < 1:
                raise HTCError(
                    f"The method adds {self.config.num_prompt_tokens} positions to every text; the text encoder has only "
                    f"{self._max_positions + self.config.num_prompt_tokens}."
                )
            limit = self.config.max_text_length
            self.config.max_text_length = self._max_positions if limit is None else min(limit, self._max_positions)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, HTCModule):
            module.init_weights(self.config)

    # ------------------------------------------------------------------ several devices

    @property
    def _no_split_modules(self):
        """
        Names of the layers that stay whole: `device_map="auto"` puts each on one device, FSDP2 spreads each by itself. They are
        those that the text encoder and the classifier name in their own `_no_split_modules`.

        Only layers that the model has: encoders name those of all their variants, and FSDP2 refuses what it does not find. Under
        FSDP without a layer around the word embeddings, which accelerate spreads by themselves and cannot spread twice.
        """
        of_children = (getattr(child, "_no_split_modules", None) or () for child in self.children())
        named = set(self._whole_layers).union(*of_children)
        present = {type(module).__name__ for module in self.modules()}
        if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            words = self.get_input_embeddings()
            present -= {type(module).__name__ for module in self.modules() if words in module.modules()}
        return named & present

    @_no_split_modules.setter
    def _no_split_modules(self, names):
        self._whole_layers = frozenset(names or ())

    # ------------------------------------------------------------------ label statistics

    @torch.no_grad()
    def set_label_statistics(self, train_labels):
        """
        Starts the classifier from the training labels: its bias at their log-odds (a head that starts at zero sits at the
        label prior for more than an epoch) and whatever else the method takes from them. Records `label_counts` and
        `label_closure` in the config.

        Args:
            train_labels (`list[list[int]]` or CSR pair `(indptr, indices)`): Label ids of every training document.

        Raises:
            `ValueError`: no documents, an id that is no label, or labels without their ancestors for a model with `coherence`.
        """
        hierarchy = self.config.get_hierarchy()
        statistics = label_statistics(train_labels, hierarchy)
        check_coherence(self.config.coherence, statistics["closed"])
        self.config.label_counts = statistics["counts"].tolist()
        self.config.num_train_documents = statistics["num_documents"]
        self.config.label_closure = "closed" if statistics["closed"] else "as_given"
        self.classifier.set_label_statistics(statistics)

    # ------------------------------------------------------------------ forward pieces

    def encode(self, *inputs, **options):
        """As [`~HTCPreTrainedModel.encode_tokens`]; gives the encoder's output and the text vectors after dropout, `(B, D)`."""
        outputs, attention_mask = self.encode_tokens(*inputs, **options)
        return outputs, self.text_dropout(pool(outputs, attention_mask, self.config.pooling))

    def encode_tokens(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        inputs_embeds=None,
        output_attentions=None,
        output_hidden_states=None,
        prompts=None,
        last_stays=False,
    ):
        """
        Runs the text encoder on left-aligned tokens.

        Args:
            prompts (`torch.Tensor` of shape `(P, E)` or `(B, P, E)`, *optional*): Embeddings put behind each text, or, with
                `last_stays`, before its last token; see [`append_prompts`].

        Returns:
            `tuple`: the encoder's output and the aligned mask, `(B, T)`; with `prompts` the mask is `(B, T + P)`, and the third
            is where they stand, `(B, P)`.

        Raises:
            `ValueError`: no input, or more tokens than the encoder has positions for.
        """
        source = input_ids if input_ids is not None else inputs_embeds
        if source is None or (input_ids is not None and inputs_embeds is not None):
            raise HTCError("Give either `input_ids` or `inputs_embeds`.")
        # A traced length is symbolic; the check is for calls with real tensors.
        if not torch.compiler.is_compiling() and self._max_positions is not None and source.shape[1] > self._max_positions:
            raise HTCError(
                f"The input has {source.shape[1]} tokens; the model takes {self._max_positions}. Tokenise with "
                f"`truncation=True, max_length={self.config.max_text_length}`, or use `model.predict`, which cuts longer texts."
            )
        if attention_mask is None:
            attention_mask = torch.ones(source.shape[:2], dtype=torch.long, device=source.device)
        attention_mask, input_ids, inputs_embeds, token_type_ids = left_align(
            attention_mask, input_ids, inputs_embeds, token_type_ids
        )
        extra = {}
        # A decoder such as GPT-2 would add token types as words.
        if token_type_ids is not None and encoder_takes(self.model, "token_type_ids") and self.config.pooling != "last":
            extra["token_type_ids"] = token_type_ids
        places = ()
        if prompts is not None:
            embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
            inputs_embeds, attention_mask, position = append_prompts(embeds, attention_mask, prompts, last_stays)
            input_ids, places = None, (position,)
            if extra:
                extra["token_type_ids"] = nn.functional.pad(extra["token_type_ids"], (0, position.shape[1]))
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **extra,
        )
        return outputs, attention_mask, *places

    def classification_loss(self, logits, targets, reduction="mean"):
        """
        The binary cross-entropy of every method, or, with `config.coherence="training"`, [`coherent_bce`].

        Args:
            logits (`torch.Tensor` of shape `(B, N)`): As the classifier gives them.
            targets (`torch.Tensor` of shape `(B, N)`): From [`~HTCPreTrainedModel.label_targets`].
            reduction (`str`, *optional*, defaults to `"mean"`): `"mean"` or `"sum"` over the labels of a document.

        Returns:
            `torch.Tensor`: a scalar, the mean over documents.
        """
        if self.config.coherence == "training":
            return coherent_bce(logits, targets, self.coherence, reduction)
        return multi_label_bce(logits, targets, reduction)

    def output(self, logits, losses, encoder_outputs, return_dict=None, units=None):
        """The [`HTCOutput`] (or tuple) of a forward pass; `loss` is the sum of the named `losses`, and `logits` are made coherent
        where `config.coherence` asks for it."""
        loss = sum(losses.values()) if losses else None
        logits = logits if self.coherence is None else self.coherence(logits)
        result = HTCOutput(
            loss=loss,
            logits=logits,
            losses=losses or None,
            hidden_states=encoder_outputs.get("hidden_states"),
            attentions=encoder_outputs.get("attentions"),
            units=units,
        )
        return result if (self.config.return_dict if return_dict is None else return_dict) else result.to_tuple()

    def label_targets(self, labels):
        """Multi-hot float32 targets `(B, N)` of labels in any allowed form, see [`multi_hot`]."""
        return multi_hot(labels, self.config.num_labels)

    # ------------------------------------------------------------------ saving

    def save_pretrained(self, save_directory, is_main_process=True, state_dict=None, push_to_hub=False, **kwargs):
        """
        Writes config, weights and code as transformers does, but into a folder beside the target first and then moved, the
        weights before the config: an interruption leaves an older checkpoint at `save_directory` loadable.

        Of weights spread by FSDP2, `state_dict` must be the whole, as `trainer.save_model` and `accelerator.get_state_dict` make
        it.

        Raises:
            `ValueError`: `save_directory` is a file, or weights spread by FSDP2 without `state_dict`.
        """
        own_class = next(base for base in type(self).__mro__ if base.__module__.partition(".")[0] != "torch")
        if own_class is not type(self):
            self._check_whole_weights(state_dict)
            # FSDP2 has put a class of torch's over ours, whose code transformers would save. The same model in our class:
            model = own_class.__new__(own_class)
            object.__setattr__(model, "__dict__", self.__dict__)
            return model.save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, **kwargs)
        target = Path(save_directory)
        if target.is_file():
            raise HTCError(f"{str(target)!r} is a file; `save_directory` must be a folder.")
        if not is_main_process:  # writes nothing, but takes part in gathering sharded weights
            return super().save_pretrained(target, is_main_process=False, state_dict=state_dict, **kwargs)
        self._clean_names()
        if self._auto_class is not None:  # transformers itself records one Auto class only
            self.config.auto_map = {"AutoModel": f"{type(self).__module__.split('.')[-1]}.{type(self).__name__}"}
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            super().save_pretrained(folder, is_main_process=is_main_process, state_dict=state_dict, **kwargs)
            files = sorted(Path(folder).iterdir(), key=lambda f: (f.name == "config.json", not _is_weights(f.name), f.name))
            new_weights = {f.name for f in files if _is_weights(f.name)}
            for file in files:
                os.replace(file, target / file.name) if file.is_file() else shutil.copytree(
                    file, target / file.name, dirs_exist_ok=True
                )
        if new_weights:
            for stale in target.iterdir():  # e.g. shards of an earlier, larger checkpoint, which would be loaded first
                if stale.name.startswith("model") and _is_weights(stale.name) and stale.name not in new_weights:
                    stale.unlink()
        if push_to_hub:
            repo_id = kwargs.pop("repo_id", target.name)
            self.push_to_hub(
                repo_id,
                **{k: v for k, v in kwargs.items() if k in ("commit_message", "private", "token", "revision", "create_pr")},
            )

    def _check_whole_weights(self, state_dict):
        # Weights that transformers itself has spread while loading (`distributed_config`), it also brings together.
        is_given = state_dict is not None or getattr(self.config, "distributed_config", None) is not None
        if not is_given and any(hasattr(parameter, "full_tensor") for parameter in self.parameters()):
            raise HTCError(
                "The weights are spread over the processes (FSDP), and this process has only a part. In all processes, call "
                "`trainer.save_model(folder)` (with `state_dict_type` FULL_STATE_DICT), or take "
                "`weights = accelerator.get_state_dict(model)` and pass `state_dict=weights`."
            )

    def _clean_names(self):
        """Blanks local paths in the config: a published file must not tell where it was made."""
        for config in (self.config, self.config.text_config):
            config._name_or_path = public_name(getattr(config, "_name_or_path", "") or "")


def _is_weights(name):
    return name.endswith((".safetensors", ".safetensors.index.json"))


def public_name(name_or_path):
    """A model id as it is; nothing for a local path."""
    text = str(name_or_path)
    return "" if os.path.isabs(text) or text.startswith((".", "~")) or os.path.exists(text) else text
