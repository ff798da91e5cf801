"""Plots into image files, without a display."""

from contextlib import contextmanager
from pathlib import Path


@contextmanager
def axes_for(path, width=6.0, height=4.0):
    """
    Axes of a new figure, which is written to `path` in the end; nothing is written where the drawing fails.

    Args:
        path (`str` or `Path`): The image file; its folder is made.
        width, height (`float`, *optional*): In inches.

    Raises:
        `ImportError`: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'hf_htc[plot]'.") from error
    figure = Figure(figsize=(width, height))  # not by pyplot, whose state and back end are the caller's
    yield figure.subplots()
    figure.tight_layout()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def plot_lines(path, x, lines, x_label, y_label):
    """Draws one line a name of `lines` (`dict[str, list[float]]`) over `x`."""
    with axes_for(path) as axes:
        for name, values in lines.items():
            axes.plot(x, values, marker="o", label=name)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend()
