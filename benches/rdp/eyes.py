"""Who sits at a client's display: presses keys, and sees by the X server's own reports when a place changes its colour."""

import select
import time

from Xlib import X
from Xlib.display import Display
from Xlib.ext import damage, xtest

from scene import COLOURS

# In the square of scene.py.
PLACE = (120, 120)
# How far a codec may be off in one channel.
LOSS = 24
# How long a key may take before it counts as lost.
LOST = 3.0


class Eyes:
    """At one display, looking at one place."""

    def __init__(self, name: str):
        self.display = Display(name)
        self.root = self.display.screen().root
        self.display.damage_query_version()
        # Each change once, with its place: nothing has to be asked again and again.
        self.root.damage_create(damage.DamageReportRawRectangles)
        self.key = self.display.keysym_to_keycode(ord("a"))

    def colour(self) -> int | None:
        """Which of the square's colours the place has now; none if neither."""
        pixel = self.root.get_image(*PLACE, 1, 1, X.ZPixmap, 0xFFFFFFFF).data[:3]
        for number, colour in enumerate(COLOURS):
            if all(abs(a - b) <= LOSS for a, b in zip(pixel, colour.to_bytes(3, "little"))):
                return number
        return None

    def _next_change(self, end: float) -> bool:
        """Waits until something was painted over the place; false when the time is over."""
        changed = False
        while not changed:
            if not self.display.pending_events():
                left = end - time.perf_counter()
                if left <= 0 or not select.select([self.display], [], [], left)[0]:
                    return False
                continue
            event = self.display.next_event()
            if event.type == self.display.extension_event.DamageNotify:
                x, y = PLACE[0] - event.area.x, PLACE[1] - event.area.y
                changed = 0 <= x < event.area.width and 0 <= y < event.area.height
        return True

    def sees(self, wanted: tuple, seconds: float = LOST) -> float | None:
        """When the place got one of those colours; none if it did not."""
        end = time.perf_counter() + seconds
        while self.colour() not in wanted:
            if not self._next_change(end):
                return None
        return time.perf_counter()

    def rest(self, seconds: float) -> None:
        """Lets time pass; what is painted meanwhile is looked at now, not after the next key."""
        end = time.perf_counter() + seconds
        while self._next_change(end):
            pass

    def point(self) -> None:
        """Moves the pointer to the place: keys go to the window that is there."""
        self.root.warp_pointer(*PLACE)
        self.display.sync()

    def key_to_pixel(self) -> float | None:
        """Milliseconds from a key to the change that it makes; none if it makes none."""
        other = 1 - self.colour()
        begin = time.perf_counter()
        for kind in (X.KeyPress, X.KeyRelease):
            xtest.fake_input(self.display, kind, self.key)
        self.display.flush()
        seen = self.sees((other,))
        return None if seen is None else (seen - begin) * 1000

    def close(self) -> None:
        self.display.close()
