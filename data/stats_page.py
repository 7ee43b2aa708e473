"""The statistics of a dataset as one HTML page that needs no network: plots are inline SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from triage.dataset import SPLITS
from triage.taxonomy import Taxonomy

TEMPLATE_NAME = "stats.html.j2"
COLOURS = {"train": "#4269d0", "dev": "#efb118", "calibration": "#6cc5b0", "test": "#ff725c"}


def render_page(described: Mapping[str, Any], taxonomy: Taxonomy, title: str) -> str:
    """The page for what `describe_dataset` returned."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    tables = {**{f"label: {field}": counts for field, counts in described["labels"].items()}}
    tables |= {"slice": described["slices"], "channel": described["channels"], "language": described["languages"]}
    plots = {name: _bars(counts, described) for name, counts in tables.items() if counts}
    return environment.get_template(TEMPLATE_NAME).render(
        title=title, taxonomy=taxonomy, described=described, splits=SPLITS, tables=tables, plots=plots
    )


def _bars(counts: Mapping[str, Mapping[str, int]], described: Mapping[str, Any]) -> str:
    """One bar a split and name: the share of the split's tickets that have it. Returns an SVG element."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    names, sizes = list(counts), {split: described["splits"][split]["tickets"] for split in SPLITS}
    shown = [split for split in SPLITS if sizes[split]]
    figure = Figure(figsize=(7.2, 0.6 + 0.16 * len(names) * (len(shown) + 1)), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for place, split in enumerate(shown):
        heights = [index * (len(shown) + 1) + place for index in range(len(names))]
        axes.barh(heights, [100 * counts[name][split] / sizes[split] for name in names], height=0.9, label=split, color=COLOURS[split])
    axes.set_yticks([index * (len(shown) + 1) + (len(shown) - 1) / 2 for index in range(len(names))], names)
    axes.set_ylim(len(names) * (len(shown) + 1) - 1, -1)
    axes.set_xlabel("% of the split's tickets")
    axes.legend(loc="lower right", fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    content = io.StringIO()
    with rc_context({"svg.hashsalt": "ticket-triage"}):  # or the ids in it, and so its bytes, differ from run to run
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()[content.getvalue().index("<svg") :]
