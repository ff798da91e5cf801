"""`hf-htc export CHECKPOINT OUTPUT`: ONNX, compared with PyTorch before it is kept."""

from dataclasses import dataclass, field

from hf_htc.cli.common import DataArguments, LoadingArguments, load_checkpoint, parse, set_up_logging


@dataclass
class ExportArguments:
    """What is exported and how."""

    checkpoint: str = field(metadata={"positional": True, "help": "A checkpoint folder or Hub id."})
    output: str = field(
        metadata={"positional": True, "help": "Folder for model.onnx, tokenizer, taxonomy, export.json and README.md."}
    )
    int8: bool = field(default=False, metadata={"help": "Also writes model_int8.onnx, quantised dynamically."})
    max_length: int | None = field(
        default=None,
        metadata={"range": "[1, inf)", "help": "Tokens at which texts are cut; at most and by default the checkpoint's."},
    )
    split: str = field(default="validation", metadata={"help": "The split of the data on which F1 is measured."})
    batch_size: int = field(default=32, metadata={"range": "[1, inf)", "help": "Documents per step of that."})
    overwrite: bool = field(
        default=False, metadata={"help": "Replaces an export of another checkpoint or with other options in the output folder."}
    )


def run(arguments):
    data, loading, options = parse(
        [DataArguments, LoadingArguments, ExportArguments],
        arguments,
        "hf-htc export",
        "Exports a checkpoint to ONNX, compared with PyTorch. With data, the F1 of the exported models is measured.",
        "hf-htc export my_model my_onnx_model --int8 --validation_file validation.csv",
    )
    set_up_logging()
    from hf_htc.hub.export import export_onnx
    from hf_htc.hub.export_card import int8_sentence
    from hf_htc.hub.onnx_classifier import require

    require("onnx", "onnxscript", "onnxruntime")
    model, tokenizer, _ = load_checkpoint(options.checkpoint, **loading.options())
    rows = _rows(data, model, options.split)
    report = export_onnx(
        model,
        tokenizer,
        options.output,
        int8=options.int8,
        max_length=options.max_length,
        dataset=rows,
        split=options.split if rows is not None else None,
        batch_size=options.batch_size,
        overwrite=options.overwrite,
    )
    length = f"texts of {report['fixed_length']} tokens" if report["fixed_length"] else "any text length"
    print(
        f"Saved to {options.output}: any batch size, {length}; logits differ from PyTorch's by at most "
        f"{report['largest_logit_difference']:.1e} on {len(report['shapes'])} shapes."
    )
    for file, size in report["bytes"].items():
        print(f"  {file:<20}{size / 1e6:10.1f} MB")
    if "scores" in report:
        scores = report["scores"]
        print(
            f"micro-F1 {scores['micro_f1']:.4f}, macro-F1 {scores['macro_f1']:.4f} on {scores['num_documents']:,} documents of "
            f"the {options.split} split, closure {scores['closure']}."
        )
    if options.int8:
        print(f"int8: {int8_sentence(report)}")


def _rows(data, model, split):
    """The documents of the chosen split; `None` when no data is named."""
    if not any((data.dataset, data.train_file, data.validation_file, data.test_file)):
        return None
    from hf_htc.data import as_split
    from hf_htc.evaluation.predictions import check_same_labels

    own = model.config.get_hierarchy()
    dataset, hierarchy = data.load(taxonomy=own if data.taxonomy is None else None)
    check_same_labels(own, hierarchy)
    return as_split(dataset, split)
