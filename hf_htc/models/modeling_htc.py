"""The contract of every model: `HTCPreTrainedModel` and `HTCOutput`.

A model is a text encoder `model` and one child module `classifier`, which holds everything else. `logits[:, n] > 0` means
that label `n` is predicted; `sigmoid(logits)` are the scores.

Legend: `B` documents, `T` tokens, `D` hidden size, `N` labels, `K` label ids in a row.
"""

import os
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, TransformersKwargs, can_return_tuple, logging

from .calibration import read_calibration, set_calibration
from .coherence import CoherentMax, coherent_bce
from .configuration_htc import HTCConfig, check_coherence, check_config_keywords
from .errors import HTCError, HTCTypeError
from .labels import label_statistics, multi_hot
from .losses import multi_label_bce
from .modules import HTCModule, left_align
from .prediction import PredictionMixin
from .saving import SavingMixin, public_name
from .text_encoders import (
    append_prompts,
    build_text_encoder,
    check_widths,
    default_pooling,
    load_text_encoder,
    max_positions,
    pool,
    strip_text_encoder,
    takes_keyword,
)
from .whole_checkpoints import (
    check_model_type,
    check_weights,
    config_errors,
    find_config,
    loading_errors,
    option_errors,
    read_config,
)


logger = logging.get_logger(__name__)

# Keywords of `forward` that are the text encoder's.
PASSED_ON = sorted(set(TransformersKwargs.__annotations__) - {"num_items_in_batch"})


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


@dataclass
class EncodedText:
    """
    Texts as the text encoder gives them.

    Args:
        outputs (`ModelOutput`): The encoder's, with `last_hidden_state (B, T, D)`, on left-aligned tokens.
        attention_mask (`torch.Tensor` of shape `(B, T)`): 1 for real tokens, left-aligned.
    """

    outputs: ModelOutput
    attention_mask: torch.Tensor


class HTCPreTrainedModel(SavingMixin, PredictionMixin, PreTrainedModel):  # type: ignore[misc]  # takes any `**kwargs`
    """
    Base of all models for hierarchical text classification.

    A subclass sets `self.classifier` and defines [`~HTCPreTrainedModel.logits_and_losses`]; see
    [`FlatForHierarchicalTextClassification`], the shortest.
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
    # Whether the method decides in units and tells them (`output_units`).
    has_units = False
    _whole_layers: frozenset[str] = frozenset()

    def __init__(self, config):
        super().__init__(config)
        with option_errors():
            config.validate()  # `from_pretrained(..., option=value)` sets options on a config that is already made
        if config.pooling == "auto":
            config.pooling = default_pooling(config.text_config)
        self.model = build_text_encoder(config.text_config, keep_pooler=config.pooling == "pooler")
        if config.pooling == "pooler" and getattr(self.model, "pooler", None) is None:
            raise HTCError(
                f"`pooling='pooler'`, but a {config.text_config.model_type} encoder has no pooler; use 'cls' or 'mean'."
            )
        self._note_max_text_length()
        # Asked once, of the encoder as it is built: what is put around it later (`torch.compile`, PEFT) hides its arguments.
        # A decoder such as GPT-2 would add token types as words.
        self._uses_token_types = config.pooling != "last" and takes_keyword(self.model, "token_type_ids")
        self._encoder_keywords = [name for name in PASSED_ON if takes_keyword(self.model, name)]
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
            train_labels (*optional*): Labels of every training document, in any form; starts the classifier at the label
                frequencies, see [`~HTCPreTrainedModel.set_label_statistics`].
            dtype (`torch.dtype`, *optional*, defaults to `torch.float32`): One type for encoder and classifier.
            attn_implementation (`str`, *optional*): As in `from_pretrained`.
            hub_kwargs (`dict`, *optional*): `revision`, `token`, `cache_dir`, ... for the encoder.
            config: Options of the method's config class.

        Raises:
            `ValueError`: an unknown option (close names are given), a value out of range. `OSError`: the encoder does not exist.

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
        with option_errors():
            made = cls.config_class(text_config=text_config, hierarchy=hierarchy, **config)
        model = cls._from_config(made, dtype=dtype)
        # The encoder's config object is `config.text_config` itself, so that resizing the embeddings changes both.
        model.model = strip_text_encoder(encoder, keep_pooler=model.config.pooling == "pooler")
        if tokenizer is not None:
            model.fit_tokenizer(tokenizer)
        model.start_from_encoder(extras, tokenizer)
        if train_labels is not None:
            model.set_label_statistics(train_labels)
        return model

    @classmethod
    def _load_encoder(cls, name_or_path, config, dtype, attn_implementation, hub_kwargs):
        """The pretrained encoder, and what else a method takes from its checkpoint; may set options in `config`."""
        return load_text_encoder(name_or_path, dtype, attn_implementation, **hub_kwargs), None

    def start_from_encoder(self, extras, tokenizer):
        """Hook: starts the classifier from the encoder's checkpoint and the tokenizer, `None` without one. Does nothing by
        default."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """
        As transformers' own, but what is loaded is whole: no weight is missing, of another shape or not finite.

        Args:
            pretrained_model_name_or_path (`str`), args, kwargs: As in transformers.
            ignore_mismatched_sizes (`bool`, *optional*, defaults to `False`): To start a training from a checkpoint that does
                not fit, e.g. with `config=` of another taxonomy: parts of the classifier that are missing, and weights of another
                shape, are newly initialised, with a warning that names them; weights without a place are left out. To start
                from a text encoder alone take [`~HTCPreTrainedModel.from_text_encoder`].

        Raises:
            `HTCOSError`: no such checkpoint; its config or its weights are damaged, of another method, or do not fit each other;
            weights are missing, NaN or infinite. `HTCError`: an option out of range.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        may_be_partial = kwargs.pop("ignore_mismatched_sizes", False)
        has_place = pretrained_model_name_or_path is not None
        place = str(pretrained_model_name_or_path) if has_place else "state_dict"
        where = {key: kwargs[key] for key in ("subfolder", "revision", "cache_dir") if kwargs.get(key) is not None}
        is_folder = has_place and os.path.isdir(place)
        if is_folder:
            cls._check_config_file(place, where, may_be_partial)
        # Mismatches are judged below: transformers' own message does not name them.
        options = {**kwargs, "ignore_mismatched_sizes": True, "output_loading_info": True}
        with loading_errors(place):
            model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **options)
        if has_place and not is_folder:  # it is in the cache now
            cls._check_config_file(place, where, may_be_partial)
        if getattr(model, "_hf_peft_config_loaded", False):  # `info` is the adapter's
            with loading_errors(place):
                base = model.config.name_or_path
                options = {"device_map": "meta", **{key: kwargs[key] for key in ("cache_dir", "token") if key in kwargs}}
                cls.from_pretrained(base, config=model.config, ignore_mismatched_sizes=may_be_partial, **options)
        check_weights(model, info, place, may_be_partial)
        return (model, info) if wants_info else model

    @classmethod
    def _check_config_file(cls, place, where, may_be_partial):
        """transformers reads the config too, but takes damaged ones, and any method's where it is given a config."""
        file = find_config(place, **where)
        if file is not None:
            content = read_config(file)
            if not may_be_partial:
                with config_errors(place):
                    check_model_type(content, cls.config_class.model_type)

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
            train_labels: Labels of every training document in any allowed form, see [`labels_csr`]: rows of ids or names, one
                id or name per document, multi-hot rows of floats or booleans, a CSR pair `(indptr, indices)`.

        Raises:
            `ValueError`: no documents, an id or name that is no label, integer multi-hot rows, or labels without their ancestors
            for a model with `coherence`.
        """
        self.classifier.set_label_statistics(self.record_label_statistics(train_labels))

    def record_label_statistics(self, train_labels):
        """
        Records `label_counts`, `num_train_documents` and `label_closure` in the config and leaves the weights alone: what a model
        that has been trained before needs to know of its new training data.

        Args:
            train_labels: As for [`~HTCPreTrainedModel.set_label_statistics`].

        Returns:
            `dict`: the [`label_statistics`].
        """
        statistics = label_statistics(train_labels, self.config.get_hierarchy())
        check_coherence(self.config.coherence, statistics["closed"])
        self.config.label_counts = statistics["counts"].tolist()
        self.config.num_train_documents = statistics["num_documents"]
        self.config.label_closure = "closed" if statistics["closed"] else "as_given"
        return statistics

    # ------------------------------------------------------------------ forward

    @can_return_tuple
    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        inputs_embeds=None,
        labels=None,
        output_units=None,
        **kwargs,
    ):
        """
        Args:
            input_ids, attention_mask, token_type_ids (`torch.LongTensor` of shape `(B, T)`): As the encoder's tokenizer gives
                them, padded left or right.
            inputs_embeds (`torch.FloatTensor` of shape `(B, T, D)`, *optional*): Instead of `input_ids`. Methods with prompts do
                no masked language modelling on it.
            labels (`torch.Tensor`, *optional*): float or bool multi-hot `(B, N)`; or integer label ids `(B, K)` padded with
                -100, or `(B,)`.
            output_units (`bool`, *optional*): Whether to return the scores inside the units, for a method that decides in units,
                see [`HTCOutput`].
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`; and what else transformers passes to an encoder
                (`position_ids`, `cu_seq_lens_q`, ...), where the text encoder takes it.

        Returns:
            [`HTCOutput`]; its `losses` are those that the model's class names.

        Raises:
            `HTCTypeError`: a keyword that neither the method nor the text encoder takes. `HTCError`: labels or inputs of a wrong
            form, `output_units` for a method without units.
        """
        if output_units and not self.has_units:
            raise HTCError(
                f"`output_units=True` is for methods that decide in units, which {type(self).__name__} does not; leave it out."
            )
        targets = None if labels is None else self.label_targets(labels)
        encoded = self.encode(input_ids, attention_mask, token_type_ids, inputs_embeds, targets=targets, **kwargs)
        found = self.logits_and_losses(encoded, targets, **({"output_units": True} if output_units else {}))
        return HTCOutput(
            loss=sum(found.losses.values()) if found.losses else None,
            logits=found.logits if self.coherence is None else self.coherence(found.logits),
            losses=found.losses or None,
            hidden_states=encoded.outputs.get("hidden_states"),
            attentions=encoded.outputs.get("attentions"),
            units=found.units,
        )

    def logits_and_losses(self, encoded, targets=None):
        """
        What a method is: from encoded texts to logits, and with targets to losses.

        Args:
            encoded ([`EncodedText`]): What [`~HTCPreTrainedModel.encode`] gives.
            targets (`torch.Tensor` of shape `(B, N)`, *optional*): Multi-hot, float32.
            output_units (`bool`, *optional*): Given to a method with `has_units` alone.

        Returns:
            [`HTCOutput`] with `logits (B, N)`, in float32 at least; with targets `losses`, each weighted, by name; and `units`
            where they are wanted. `loss`, and the coherence of `config.coherence`, are the caller's.
        """
        raise HTCTypeError(f"{type(self).__name__} does not say how it gives logits: it has no `logits_and_losses`.")

    def encode(self, input_ids=None, attention_mask=None, token_type_ids=None, inputs_embeds=None, targets=None, **kwargs):
        """
        Runs the text encoder as the method reads it: with its prompts, and in training with what it hides.

        Args:
            targets (`torch.Tensor` of shape `(B, N)`, *optional*): Of a method that encodes a text by its labels in training.
            input_ids, attention_mask, token_type_ids, inputs_embeds, kwargs: As for [`~HTCPreTrainedModel.forward`].

        Returns:
            [`EncodedText`]
        """
        return EncodedText(*self.encode_tokens(input_ids, attention_mask, token_type_ids, inputs_embeds, **kwargs))

    def text_vectors(self, encoded):
        """The text vectors `(B, D)` of an [`EncodedText`], pooled and after dropout."""
        return self.text_dropout(pool(encoded.outputs, encoded.attention_mask, self.config.pooling))

    def encode_tokens(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        inputs_embeds=None,
        prompts=None,
        last_stays=False,
        **kwargs,
    ):
        """
        Runs the text encoder on left-aligned tokens.

        Args:
            prompts (`torch.Tensor` of shape `(P, E)` or `(B, P, E)`, *optional*): Embeddings put behind each text, or, with
                `last_stays`, before its last token; see [`append_prompts`].
            kwargs: Passed on to the text encoder; `None` is as if it were not given. `position_ids` move along with the tokens.

        Returns:
            `tuple`: the encoder's output and the aligned mask, `(B, T)`; with `prompts` the mask is `(B, T + P)`, and the third
            is where they stand, `(B, P)`.

        Raises:
            `ValueError`: no input, a mask or token types of another shape than the tokens, or more tokens than the encoder has
            positions for. `TypeError`: a keyword that the text encoder does not take.
        """
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        self._check_keywords(kwargs, prompts is not None)
        position_ids = kwargs.pop("position_ids", None)
        source = input_ids if input_ids is not None else inputs_embeds
        if source is None or (input_ids is not None and inputs_embeds is not None):
            raise HTCError("Give either `input_ids` or `inputs_embeds`.")
        check_widths(source, attention_mask=attention_mask, token_type_ids=token_type_ids, position_ids=position_ids)
        # A traced length is symbolic; the check is for calls with real tensors.
        if not torch.compiler.is_compiling() and self._max_positions is not None and source.shape[1] > self._max_positions:
            raise HTCError(
                f"The input has {source.shape[1]} tokens; the model takes {self._max_positions}. Tokenise with "
                f"`truncation=True, max_length={self.config.max_text_length}`, or use `model.predict`, which cuts longer texts."
            )
        if attention_mask is None:
            attention_mask = torch.ones(source.shape[:2], dtype=torch.long, device=source.device)
        attention_mask, input_ids, inputs_embeds, token_type_ids, position_ids = left_align(
            attention_mask, input_ids, inputs_embeds, token_type_ids, position_ids
        )
        extra = kwargs if position_ids is None else {**kwargs, "position_ids": position_ids}
        if token_type_ids is not None and self._uses_token_types:
            extra["token_type_ids"] = token_type_ids
        places = ()
        if prompts is not None:
            embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
            inputs_embeds, attention_mask, position = append_prompts(embeds, attention_mask, prompts, last_stays)
            input_ids, places = None, (position,)
            if "token_type_ids" in extra:
                extra["token_type_ids"] = nn.functional.pad(extra["token_type_ids"], (0, position.shape[1]))
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
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

    def _check_keywords(self, kwargs, has_prompts):
        known = set(self._encoder_keywords)
        if has_prompts:  # behind them a text is longer, and its tokens may stand elsewhere
            known &= {"output_attentions", "output_hidden_states"}
        unknown = sorted(set(kwargs) - known)
        if unknown:
            encoder = self.config.text_config.model_type + (", with prompts" if has_prompts else "")
            raise HTCTypeError(
                f"{type(self).__name__} takes no {', '.join(f'`{name}`' for name in unknown)}. What it passes on to its text "
                f"encoder ({encoder}): {', '.join(sorted(known))}."
            )

    def label_targets(self, labels):
        """Multi-hot float32 targets `(B, N)` of labels in any allowed form, see [`multi_hot`]."""
        return multi_hot(labels, self.config.num_labels)
