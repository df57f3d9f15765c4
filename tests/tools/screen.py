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

    def appears(self, place, most=60.0):
        """Wait until something is drawn in the box of the page that `place` gives, and for its end."""
        start = time.monotonic()
        while time.monotonic() - start < most:
            self.settle()
            box = place()
            if min(box["width"], box["height"]) > 100 and distance(self.last(box), self.blank(box)) > 25:
                return

    def blank(self, box):
        """A white picture."""
        return 0 * self.last(box) + 255

    def picture(self, frame, box):
        """Pixels of one recorded frame inside a box of the page, without a rim."""
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(frame[1]))).convert("RGB")).astype(int)
        x, y, w, h = (self.scale * box[name] for name in ("x", "y", "width", "height"))
        return image[int(y + 0.1 * h) : int(y + 0.9 * h), int(x + 0.1 * w) : int(x + 0.9 * w)]

    def last(self, box):
        return self.picture(self.frames[-1], box)

    def first_like(self, wanted, other, box, since, most=8.0):
        """Time of the first frame after `since` nearer to one picture than to another; None if it does not come."""
        start, seen = time.monotonic(), 0
        while time.monotonic() - start < most:
            for frame in self.frames[seen:]:
                seen += 1
                if frame[0] >= since and nearer(self.picture(frame, box), wanted, other):
                    return frame[0]
            self.page.wait_for_timeout(50)
        return None

    def stop(self):
        self.devtools.send("Page.stopScreencast")


def distance(a, b):
    """Mean difference, 0 to 255, of the hundredth of the pixels in which two pictures differ most."""
    apart = np.sort(np.abs(a - b).mean(-1), axis=None)
    return float(apart[-max(len(apart) // 100, 1) :].mean())


def nearer(picture, wanted, other):
    """Whether a picture is more like one than like another."""
    return distance(picture, wanted) < distance(picture, other)
