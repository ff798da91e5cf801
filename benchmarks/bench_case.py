"""One case of `bench.py`, in a process of its own, and the profile of a case."""

import contextlib
import functools
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path


# Nodes a level. 141: Web of Science. 4,271: EURLEX57K, 4,513 nodes of which 242 are structure-only, some with two parents.
SHAPES = {
    141: {"levels": [7, 134]},
    4271: {"levels": [369, 2402, 1425, 293, 20, 4], "structure_only": 242, "second_parents": 0.04},
    30000: {"levels": [25, 500, 4000, 10475, 15000]},
}
LABELS_PER_DOCUMENT = 5

TINY = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
        "vocab_size": 64}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A row of the table: a method with options, on the run's text encoder or on one of its own."""

    name: str
    method: str
    options: dict = field(default_factory=dict)
    text_config: dict | None = None


def make_hierarchy(num_labels, seed=0):
    """A generated taxonomy of one of `SHAPES`, or with two levels; the same for the same arguments."""
    import numpy as np

    from hf_htc import LabelHierarchy

    first = max(1, round(num_labels**0.5) // 2)
    shape = SHAPES.get(num_labels) or {"levels": [first, num_labels - first]}
    generator = np.random.default_rng(seed)
    parents, previous = [], []
    for size in shape["levels"]:
        nodes = list(range(len(parents), len(parents) + size))
        for _ in nodes:
            # Squares crowd at 0: a few parents have many children, as in real taxonomies.
            row = [previous[int(len(previous) * generator.random() ** 2)]] if previous else []
            if len(previous) > 1 and generator.random() < shape.get("second_parents", 0):
                row.append(previous[(previous.index(row[0]) + 1 + int(generator.integers(len(previous) - 1))) % len(previous)])
            parents.append(row)
        previous = nodes
    # The first nodes have the most children: they become structure-only, and so go behind the labels.
    skipped = shape.get("structure_only", 0)
    order = [*range(skipped, len(parents)), *range(skipped)]
    place = {node: i for i, node in enumerate(order)}
    return LabelHierarchy(
        [f"label {node}" for node in order],
        [[place[parent] for parent in parents[node]] for node in order],
        num_labels=len(parents) - skipped,
    )


def make_label_sets(hierarchy, num_documents, seed=0):
    """Closed label sets of about five labels."""
    import numpy as np

    generator = np.random.default_rng(seed)
    chosen = [set() for _ in range(num_documents)]
    closed = [[] for _ in range(num_documents)]
    wanted = min(LABELS_PER_DOCUMENT, hierarchy.num_labels)
    while any(len(row) < wanted for row in closed):
        for drawn, row in zip(chosen, closed):
            if len(row) < wanted:
                drawn.add(int(generator.integers(hierarchy.num_labels)))
        closed = hierarchy.close([sorted(row) for row in chosen])
    return [list(map(int, row)) for row in closed]


def make_batch(label_sets, vocab_size, settings, seed=0):
    """Token ids without padding and labels as the collator gives them."""
    import torch

    from hf_htc.data.collator import collate_labels

    generator = torch.Generator().manual_seed(seed)
    shape = (settings["batch_size"], settings["tokens"])
    input_ids = torch.randint(5, vocab_size, shape, generator=generator)
    batch = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    batch["labels"] = collate_labels(label_sets[: settings["batch_size"]])
    return {key: value.to(settings["device"]) for key, value in batch.items()}


def build_config(variant, hierarchy, settings):
    """The config of a case; what a method computes from the hierarchy alone is computed here."""
    from transformers import AutoConfig

    import hf_htc

    text_config = AutoConfig.for_model(**(variant.text_config or settings["text_config"]))
    return hf_htc.config_class(variant.method)(text_config=text_config, hierarchy=hierarchy, **variant.options)


def build_model(variant, hierarchy, label_sets, settings):
    import torch

    import hf_htc

    torch.manual_seed(0)
    model = hf_htc.model_class(variant.method)(build_config(variant, hierarchy, settings))
    model.set_label_statistics(label_sets)
    return model.to(settings["device"]).eval()


def measure_or_say_why(variant, num_labels, settings):
    """A case's numbers, or the reason why there are none: a row that cannot be measured is not left out."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    if settings["device"] == "cpu":
        limit_memory()
    try:
        return measure(variant, num_labels, settings)
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason = f"does not fit into memory: {error}"
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        reason = f"does not fit into memory: {error}"
    except (ValueError, StrictDataclassError) as error:  # what a method refuses
        reason = str(error.__cause__ or error)
    return {"name": variant.name, "method": variant.method, "labels": num_labels, "error": " ".join(reason.split())}


def limit_memory():
    """Makes an allocation beyond the free memory fail with a message, instead of the system killing this process or another."""
    try:
        import resource
    except ImportError:  # Windows
        return
    free = proc_value("/proc/meminfo", "MemAvailable")
    if free:
        held = proc_value("/proc/self/status", "VmData")
        resource.setrlimit(resource.RLIMIT_DATA, (int((held + 0.9 * free) * 2**20), resource.RLIM_INFINITY))


class PeakMemory:
    """
    Peak memory in MiB from its making on, beyond what the process held then. On a GPU what torch allocated there; on a CPU the
    resident memory of the whole process, so it must be a fresh one: freed memory that is used again would go unseen.
    """

    def __init__(self, device):
        self.cuda = device.startswith("cuda")
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated() / 2**20
            return
        # Linux forgets the peak of the imports when told so. (`ru_maxrss` cannot, and begins at the parent's peak.)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self.base = proc_value("/proc/self/status", "VmRSS") or self._maximum()

    def mib(self):
        return round(self._maximum() - self.base, 1)

    def _maximum(self):
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated() / 2**20
        from hf_htc.training.manifest import peak_memory_gib

        return proc_value("/proc/self/status", "VmHWM") or 1024 * peak_memory_gib()


def measure(variant, num_labels, settings):
    """
    Times, memory and parameters of one case, in this process.

    Returns:
        `dict`: JSON-able. `inference` and `training` hold, for `bare` (inference only), `flat` and `model`, the seconds of a
        turn, and the ratios `to_bare` and `to_flat` within a turn, each as median and quartiles. A flat model is its own
        reference. The bare encoder reads as many positions as the method's, prompts among them (`positions`).
    """
    import torch

    from hf_htc.models.text_encoders import build_text_encoder

    device = settings["device"]
    hierarchy = make_hierarchy(num_labels)
    label_sets = make_label_sets(hierarchy, max(settings["batch_size"], 1000))
    vocab_size = min(30000, (variant.text_config or settings["text_config"]).get("vocab_size", 30000))
    batch = make_batch(label_sets, vocab_size, settings)
    text = {key: value for key, value in batch.items() if key != "labels"}

    def forward(model, inputs=text):
        def call():
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=settings["bf16"]):
                model(**inputs)

        return call

    load_libraries(settings)
    begun = time.perf_counter()
    build_config(variant, hierarchy, settings)
    config_seconds = time.perf_counter() - begun
    memory = PeakMemory(device)
    model = build_model(variant, hierarchy, label_sets, settings)
    forward(model)()
    peak = {"inference": memory.mib()}
    model.train()
    step = training_step(model, batch, settings)
    step()
    peak["training"] = memory.mib()

    is_flat = variant.method == "flat" and not variant.options
    torch.manual_seed(0)
    bare = build_text_encoder(model.config.text_config).to(device).eval()
    flat = model if is_flat else build_model(Variant("flat", "flat", {}, variant.text_config), hierarchy, label_sets, settings)
    positions = positions_read(model.eval(), forward(model))
    as_long = make_batch(label_sets, vocab_size, {**settings, "tokens": positions})
    del as_long["labels"]
    calls = {"bare": forward(bare, as_long), "flat": forward(flat), "model": forward(model)}
    if is_flat:
        del calls["flat"]
    inference = in_turn(calls, settings["repetitions"], settings["limit_s"], device)
    del bare, calls
    model.train()
    flat.train()
    calls = {"model": step} if is_flat else {"flat": training_step(flat, batch, settings), "model": step}
    training = in_turn(calls, max(3, settings["repetitions"] // 2), settings["limit_s"], device)
    classifier = sum(p.numel() for p in model.classifier.parameters())
    return {
        "name": variant.name,
        "method": variant.method,
        "options": variant.options,
        "labels": num_labels,
        "nodes": hierarchy.num_nodes,
        "levels": hierarchy.num_levels,
        "text_encoder": model.config.text_config.model_type,
        "positions": positions,
        "parameters": {"encoder": sum(p.numel() for p in model.parameters()) - classifier, "classifier": classifier},
        "peak_memory_mib": peak,
        "config_seconds": round(config_seconds, 3),
        "inference": inference,
        "training": training,
    }


def positions_read(model, call):
    """How many positions of a text the encoder reads when the model is called."""
    lengths = []
    hook = model.model.register_forward_hook(lambda encoder, inputs, output: lengths.append(output[0].shape[1]))
    call()
    hook.remove()
    return lengths[0]


def load_libraries(settings):
    """Builds and trains a tiny model: what is loaded at the first use is not counted as a method's memory."""
    hierarchy = make_hierarchy(4)
    label_sets = make_label_sets(hierarchy, 2)
    settings = {**settings, "text_config": TINY, "batch_size": 2, "tokens": 8}
    model = build_model(Variant("flat", "flat"), hierarchy, label_sets, settings)
    training_step(model.train(), make_batch(label_sets, TINY["vocab_size"], settings), settings)()


def training_step(model, batch, settings):
    """A function that does forward, backward and AdamW on one batch."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step():
        with torch.autocast(settings["device"], torch.bfloat16, enabled=settings["bf16"]):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def in_turn(calls, repetitions, limit_s, device):
    """
    Seconds of functions that are called in turn, after one call of each to warm up; each turn begins with another one.

    Args:
        calls (`dict` of name to function): `model` among them.
        repetitions (`int`): Turns; fewer when `limit_s` is over, but at least one.

    Returns:
        `dict`: `seconds` by name and the ratios `to_<name>` of `model` to every other, each with median and quartiles.
    """
    import torch

    def timed(function):
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        begun = time.perf_counter()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    for function in calls.values():
        function()
    seconds = {name: [] for name in calls}
    begun = time.perf_counter()
    for turn in range(repetitions):
        names = list(calls)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds[name].append(timed(calls[name]))
        if time.perf_counter() - begun > limit_s:
            break
    result = {"turns": len(seconds["model"]), "seconds": {name: spread(values) for name, values in seconds.items()}}
    for name in calls:
        if name != "model":
            result[f"to_{name}"] = spread([a / b for a, b in zip(seconds["model"], seconds[name])])
    return result


def spread(values):
    """Median and quartiles."""
    import numpy as np

    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(float(median), 6), "quartiles": [round(float(low), 6), round(float(high), 6)]}


# ---------------------------------------------------------------------------------------------- profile


def print_profile(variant, num_labels, settings, calls=3, rows=25):
    """Prints the operators that take the most time in the classifier (inference; training) and in the loss, each on its own."""
    import torch

    hierarchy = make_hierarchy(num_labels)
    label_sets = make_label_sets(hierarchy, max(settings["batch_size"], 1000))
    vocab_size = min(30000, (variant.text_config or settings["text_config"]).get("vocab_size", 30000))
    batch = make_batch(label_sets, vocab_size, settings)
    text = {key: value for key, value in batch.items() if key != "labels"}
    model = build_model(variant, hierarchy, label_sets, settings)

    def inference():
        with torch.inference_mode():
            model(**text)

    def head():
        model(**text).logits.sum().backward()
        model.zero_grad()

    def loss():
        model(**batch).loss.backward()
        model.zero_grad()

    activities = [torch.profiler.ProfilerActivity.CPU]
    if settings["device"].startswith("cuda"):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    parts = [
        ("classifier, inference", inference),
        ("classifier, forward and backward", head),
        ("loss, forward and backward", loss),
    ]
    for title, part in parts:
        model.train(part is not inference)
        stops = [replay(module) for module in ([model.model, model.classifier] if part is loss else [model.model])]
        part()
        for stop in stops:
            stop()
        part()  # warms up what is measured
        with torch.profiler.profile(activities=activities) as profiler:
            for _ in range(calls):
                part()
        key = "self_device_time_total" if len(activities) > 1 else "self_cpu_time_total"
        print(f"\n{variant.name}, {num_labels:,} labels: {title}, {calls} calls")
        print(profiler.key_averages().table(sort_by=key, row_limit=rows, max_name_column_width=50))


def replay(module):
    """
    Makes a module record what it computes until `stop()` of the returned function is called, and give the same outputs, in the
    same order, from then on.
    """
    original = type(module).forward.__get__(module)
    outputs = []

    @functools.wraps(original)  # the signature stays: models look at their encoder's
    def forward(*args, **kwargs):
        if forward.repeated is None:
            outputs.append(original(*args, **kwargs))
            return outputs[-1]
        return detached(next(forward.repeated))

    forward.repeated = None
    module.forward = forward

    def stop():
        forward.repeated = itertools.cycle(outputs)

    return stop


def detached(value):
    """The same values as leaves of a new graph, so that a backward pass ends there."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().requires_grad_(value.is_floating_point() and torch.is_grad_enabled())
    if isinstance(value, dict):
        return type(value)(**{key: detached(entry) for key, entry in value.items()})
    return type(value)(map(detached, value)) if isinstance(value, (list, tuple)) else value


def proc_value(file, key):
    """An entry of a file of Linux's /proc in MiB; 0 where there is none."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)


if __name__ == "__main__":
    variant, num_labels, settings = json.loads(sys.argv[1])
    print(json.dumps(measure_or_say_why(Variant(**variant), num_labels, settings)))
