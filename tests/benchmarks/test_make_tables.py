"""benchmarks/make_tables.py: what the README's table puts where. The other tables are tested beside the scripts that measure."""

import make_tables


def run(score, documents):
    test = {"micro_f1": score, "macro_f1": score / 2}
    return {"dataset": {"documents": {"train": documents}}, "scores": {"test": test}}


def test_the_readme_has_a_column_a_task_and_the_mean_over_seeds():
    results = {
        "laws": {"flat, seed 1": run(0.5, 6000)},
        "laws_ablations": {"flat, no bias, seed 1": run(0.9, 6000)},
        "laws_shuffled": {"flat, shuffled labels, seed 1": run(0.9, 6000)},
        "news": {"hpt, BCE, seed 1": run(0.6, 10), "hpt, BCE, seed 2": run(0.7, 10), "flat, seed 1": run(0.4, 10)},
        "posts": {"flat, seed 1": run(0.2, 8), "flat, seed 2": run(0.4, 8)},
    }
    assert make_tables.summary(results).splitlines() == [
        "| model | `laws`: 6,000 training documents, 1 seed | `news`: 10 training documents, 1 to 2 seeds | "
        "`posts`: 8 training documents, 2 seeds |",
        "| --- | --- | --- | --- |",
        "| flat | 50.00 / 25.00 | 40.00 / 20.00 | 30.00 / 15.00 |",
        "| hpt, BCE | - | 65.00 / 32.50 | - |",
    ]


def test_label_frequency_has_the_baseline_first_and_differences_below():
    result = {
        "baseline": "flat", "parts": [">50%", "<50%"], "labels": [4, 3], "training_documents": [[90, 6000], [0, 80]],
        "macro_f1": {"hpt": [0.75, 0.1], "flat": [0.7, 0.2]},
    }  # fmt: skip
    text = make_tables.frequency({"laws": result})
    assert text.splitlines() == [
        "### laws",
        "",
        "| macro-F1 | >50%: 4 labels of 90 to 6,000 training documents | <50%: 3 labels of 0 to 80 training documents |",
        "| --- | --- | --- |",
        "| flat | 70.00 | 20.00 |",
        "| hpt | +5.00 | -10.00 |",
    ]
