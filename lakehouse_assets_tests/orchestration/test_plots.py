"""Small charts in the metadata of events are images that need nothing from anywhere."""

import re
from base64 import b64decode
from xml.etree import ElementTree

from lakehouse_assets.operations.picturing import Bars
from lakehouse_assets.orchestration.plots import draw_bars


def test_bars_are_as_long_as_their_numbers_and_labels_are_text() -> None:
    shown = draw_bars(Bars("delay", "carrier", [("A & <B>", 40.0), ("a very long name of a carrier", -10.0), ("C", float("nan"))], 7))

    text = str(shown.value)
    found = re.search(r"!\[delay by carrier\]\(data:image/svg\+xml;base64,([^)]+)\)", text)
    assert found is not None
    svg = ElementTree.fromstring(b64decode(found[1]))
    widths = [float(bar.attrib["width"]) for bar in svg.iter("{http://www.w3.org/2000/svg}rect")]
    labels = [label.text for label in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert text.startswith("`delay` by `carrier`, the largest 3 of 10")
    assert widths[0] == 4 * widths[1] > 0
    assert widths[2] == 0
    assert labels == ["A & <B>", "40", "a very long nam…", "-10", "C", "nan"]
