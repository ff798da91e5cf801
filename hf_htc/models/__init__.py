"""The methods: all that travels to the Hub with a checkpoint, in one flat folder, because that is what transformers copies.

A prefix says whose a file is: `himatch_` a method's; `graph_`, `prompt_` and `unit_` those of the methods that pass messages
between labels, add prompts to a text, or decide in units. No prefix: every method's. `configuration_<method>` holds a method's
options, `modeling_<method>` its model.

What a checkpoint carries are the two files of its method and all that they import, computed from the imports:

```
flat hiagm himatch hitin himtl hisr hpt ptmt hidec: calibration coherence configuration_htc configuration_textrcnn errors
    hierarchy hierarchy_formats hierarchy_identity label_sets labels losses modeling_htc modeling_textrcnn modules prediction
    prediction_conformal saving text_encoders version whole_checkpoints whole_files
hiagm himatch himtl hisr: configuration_hiagm graph_encoders
hpt ptmt hidec: configuration_units unit_losses units
hiagm himatch hisr: modeling_hiagm
hpt ptmt: configuration_prompts modeling_prompts prompt_masked_lm prompt_slots
hitin himtl: configuration_hitin hitin_coding_tree
flat: configuration_flat modeling_flat
himatch: configuration_himatch himatch_label_texts himatch_matching himatch_sampling modeling_himatch
hitin: modeling_hitin
himtl: configuration_himtl himtl_branches himtl_hiagm himtl_hitin modeling_himtl
hisr: configuration_hisr hisr_ranking modeling_hisr
hpt: configuration_hpt hpt_label_graph modeling_hpt
ptmt: configuration_ptmt modeling_ptmt
hidec: configuration_hidec hidec_decoder hidec_unrolled modeling_hidec
```

Where to look in what everybody has:

* the taxonomy: `hierarchy`, from and to other forms in `hierarchy_formats`, ids and names in `hierarchy_identity`;
* labels: `label_sets` (sets of ids), `labels` (targets of a batch, statistics of the training data), `losses`;
* the contract: `configuration_htc`, `modeling_htc`; blocks and functions that everything is built on: `modules`;
* the text: `text_encoders`, and TextRCNN, an encoder of our own, in `configuration_textrcnn` and `modeling_textrcnn`;
* decisions: `prediction` (decoders, `predict`), `prediction_conformal` (label sets with a guarantee), `coherence` (no label
  without its parent), `calibration` (thresholds of adapters);
* loading and saving: `saving`, `whole_checkpoints`, `whole_files`, `errors`, `version`.
"""
