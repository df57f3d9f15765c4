"""What a person would see, and when: the browser's own frames with their times, from Chromium's screencast."""

import base64
import io
import time

import numpy as np
from PIL import Image

EVENTS = """
window.pressed = [];
const note = () => window.pressed.push((performance.timeOrigin + performance.now()) / 1000);
window.addEventListener("keydown", note, true);
"""


class Screen:
    """Records a tab's frames as (time in seconds, picture), and the times of the keys pressed in it."""

    def __init__(self, page, scale=0.5):
        self.page, self.scale, self.frames = page, scale, []
        page.evaluate(EVENTS)
        self.devtools = page.context.new_cdp_session(page)
        self.devtools.on("Page.screencastFrame", self._frame)
        size = page.viewport_size
        limits = {"maxWidth": int(size["width"] * scale), "maxHeight": int(size["height"] * scale)}
        self.devtools.send("Page.startScreencast", {"format": "jpeg", "quality": 70, **limits})

    def _frame(self, event):
        self.frames.append((event["metadata"]["timestamp"], event["data"]))
        self.devtools.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    def key(self, name, times=1):
        """Press a key; gives when the page saw the last press."""
        for _ in range(times):
            self.page.keyboard.press(name)
        return self.page.evaluate("window.pressed.at(-1)")

    def settle(self, quiet=0.6, most=10.0):
        """Wait until nothing has changed for a while."""
        start = time.monotonic()
        while time.monotonic() - start < most:
            count = len(self.frames)
            self.page.wait_for_timeout(1000 * quiet)
            if len(self.frames) == count:
                return

    def picture(self, frame, box):
        """Pixels of one recorded frame inside a box of the page, without a rim."""
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(frame[1]))).convert("RGB")).astype(int)
        x, y, w, h = (self.scale * box[name] for name in ("x", "y", "width", "height"))
        return image[int(y + 0.1 * h) : int(y + 0.9 * h), int(x + 0.1 * w) : int(x + 0.9 * w)]

    def last(self, box):
        return self.picture(self.frames[-1], box)

    def first_like(self, wanted, other, box, since):
        """Time of the first frame after `since` that is nearer to one picture than to another, or None."""
        for frame in self.frames:
            if frame[0] >= since:
                now = self.picture(frame, box)
                if distance(now, wanted) < distance(now, other):
                    return frame[0]
        return None

    def stop(self):
        self.devtools.send("Page.stopScreencast")


def distance(a, b):
    """Mean difference of two pictures, 0 to 255."""
    return float(np.abs(a - b).mean())
