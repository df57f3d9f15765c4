"""What an exported page holds, taken apart again, and what a browser shows of it."""

import base64
import gzip
import io
import json
import re

import numpy as np
from PIL import Image

SCRIPT = r'<script type="{}" id="{}">\n?(.*?)\n?</script>'


class Held:
    """The content of a page: ``meta``, ``positions``, ``faces``, ``words`` and ``levels`` by kind, ``regions``."""

    def __init__(self, text):
        self.meta = json.loads(re.search(SCRIPT.format("application/json", "meta"), text, re.S)[1])
        lines = re.search(SCRIPT.format("text/plain", "data"), text, re.S)[1].split("\n")
        parts = {name: gzip.decompress(base64.b64decode(line)) for name, line in zip(self.meta["parts"], lines)}
        self.words = json.loads(parts["words"])
        points, corners = 3 * self.meta["points"], 3 * self.meta["faces"]
        self.positions = np.frombuffer(parts["car"], "<f4", points).reshape(-1, 3)
        self.faces = np.frombuffer(parts["car"], "<u4", corners, 4 * points).reshape(-1, 3)
        self.kinds = {kind["name"]: kind for kind in self.meta["kinds"]}
        self.levels = {name: self._levels(parts[name], kind) for name, kind in self.kinds.items()}
        self.regions = parts.get("regions")

    def _levels(self, packed, kind):
        """(view, branch, point), 0 to 255."""
        size = len(kind["branches"]) * self.meta["points"]
        levels = np.frombuffer(packed, np.uint8)
        if kind["bits"]:
            levels = 255 * np.unpackbits(levels.reshape(-1, -(-size // 8)), axis=-1, count=size)
        return levels.reshape(-1, len(kind["branches"]), self.meta["points"])


def without_data(text):
    """A page's text without its data and comments."""
    text = re.sub(r'(<script type="text/plain" id="data">).*?(</script>)', r"\1\2", text, flags=re.S)
    return re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.M)


def panels_of(tab):
    """Pixels of each panel's view."""
    tab.wait_for_timeout(150)
    image = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
    boxes = [view.bounding_box() for view in tab.query_selector_all(".panel:not([hidden]) .view")]
    cut = lambda box: image[int(box["y"]) : int(box["y"] + box["height"]), int(box["x"]) : int(box["x"] + box["width"])]
    return [cut(box) for box in boxes]


def changed(before, after):
    """Share of the pixels that differ plainly."""
    return (np.abs(before.astype(int) - after).sum(-1) > 60).mean()
