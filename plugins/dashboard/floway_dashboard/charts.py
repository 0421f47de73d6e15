"""Charts as SVG, drawn by pygal without its scripts and styles, which the content security policy forbids.

``static/dashboard.css`` colours them, for light and dark screens. The page has the same numbers as a table.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import pygal
from markupsafe import Markup
from pygal.style import Style

STYLE = Style(label_font_size=12, major_label_font_size=12)
"""Only for the font sizes, from which the layout follows."""

LABELS_EVERY = 7


def stacked_bars(
    summary: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], show: Callable[[float], str]
) -> Markup:
    """Draw stacked bars.

    :param summary: the description of the chart for screen readers.
    :param labels: one for each bar. Every seventh is shown, counted from the last.
    :param series: values for each label, by name.
    :param show: formats a value.
    """
    visible = [label for position, label in enumerate(reversed(labels)) if position % LABELS_EVERY == 0]
    chart = pygal.StackedBar(
        js=(),
        css=(),
        style=STYLE,
        width=440,
        height=180,
        margin=0,
        spacing=0,
        show_legend=False,
        show_minor_x_labels=False,
        x_labels_major=visible,
        truncate_label=-1,
        max_scale=5,
        min_scale=2,
        value_formatter=show,
        no_data_text="",
    )
    chart.x_labels = labels
    for name, values in series.items():
        chart.add(name, values)
    tree = chart.render_tree()
    _strip(tree)
    _name_bars(tree, list(series))
    for attribute in ("id", "class"):
        tree.attrib.pop(attribute, None)
    tree.attrib |= {"class": "chart", "role": "img", "aria-label": summary}
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def _strip(parent: Any) -> None:
    """Remove scripts, styles and tooltips, which the page cannot use."""
    for child in list(parent):
        classes = child.get("class", "") if isinstance(child.tag, str) else "overlay"
        name = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if "overlay" in classes or name in ("defs", "script", "style", "title") or classes == "titles":
            parent.remove(child)
        else:
            child.attrib.pop("style", None)
            _strip(child)


def _name_bars(tree: Any, names: Sequence[str]) -> None:
    """Give each bar a title, which browsers show when the pointer is on it."""
    for number, name in enumerate(names):
        for group in tree.iter():
            if f"serie-{number} " not in f"{group.get('class', '')} ":
                continue
            for bar in [element for element in group.iter() if element.get("class") == "bar"]:
                descriptions = {part.get("class"): part.text for part in bar if part.tag.endswith("desc")}
                for part in [part for part in bar if part.tag.endswith("desc")]:
                    bar.remove(part)
                title = ElementTree.SubElement(bar, "title")
                title.text = f"{descriptions.get('x_label', '')}: {descriptions.get('value', '')} {name}"
