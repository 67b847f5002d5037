"""What a target shows. `scene.py keys`: a square that changes its colour with each key. `scene.py window FPS WIDTH HEIGHT`: a
window of that size that goes round the rest of the screen. `scene.py managed`: the square of `keys` in a window that fills the screen,
for a desktop that gives keys to the windows that it manages."""

import math
import sys
import time

from Xlib import X, Xutil
from Xlib.display import Display

# The square's place and its two colours; neither is what an empty screen has.
SQUARE = (20, 20, 200, 200)
COLOURS = (0x335577, 0xE8E0C0)


def keys(display: Display) -> None:
    square = display.screen().root.create_window(
        *SQUARE, 0, X.CopyFromParent, event_mask=X.KeyPressMask | X.ExposureMask, override_redirect=True
    )
    square.map()
    display.sync()
    square.set_input_focus(X.RevertToParent, X.CurrentTime)
    colour(display, square, (0, 0))


def managed(display: Display) -> None:
    screen = display.screen()
    window = screen.root.create_window(
        0, 0, screen.width_in_pixels, screen.height_in_pixels, 0, X.CopyFromParent,
        background_pixel=screen.black_pixel, event_mask=X.KeyPressMask | X.ExposureMask,
    )
    state, full = (display.intern_atom(f"_NET_WM_STATE{name}") for name in ("", "_FULLSCREEN"))
    window.change_property(state, display.intern_atom("ATOM"), 32, [full])
    window.set_wm_hints(flags=Xutil.InputHint, input=1)
    window.map()
    colour(display, window, SQUARE[:2])


def colour(display: Display, window, place: tuple) -> None:
    """The square at that place of a window, whose colour each key changes."""
    paint = window.create_gc(foreground=COLOURS[0])
    pressed = 0
    while True:
        display.flush()
        event = display.next_event()
        pressed += event.type == X.KeyPress
        paint.change(foreground=COLOURS[pressed % 2])
        window.fill_rectangle(paint, *place, *SQUARE[2:])


def striped(display: Display, width: int, height: int):
    """A picture that no codec has for nothing: a colour for each line, and text on it."""
    screen = display.screen()
    picture = screen.root.create_pixmap(width, height, screen.root_depth)
    pen = picture.create_gc()
    for y in range(height):
        pen.change(foreground=(y * 5 % 256) << 16 | (y * 3 + 40) % 256 << 8 | (255 - y) % 256)
        picture.fill_rectangle(pen, 0, y, width, 1)
    pen.change(foreground=0xFFFFFF)
    for number, y in enumerate(range(14, height, 18)):
        picture.draw_text(pen, 10, y, f"pump P-1{number:02}  flow 412.7 m3/h  pressure 6.31 bar  bearing 61.4 C".encode())
    return picture


def window(display: Display, fps: float, width: int, height: int) -> None:
    screen = display.screen()
    moving = screen.root.create_window(
        0, 0, width, height, 0, X.CopyFromParent, background_pixmap=striped(display, width, height), override_redirect=True
    )
    left = SQUARE[0] + SQUARE[2] + 20
    free = (screen.width_in_pixels - left - width, screen.height_in_pixels - height)
    begin, frame = time.monotonic(), 0
    while True:
        angle = frame * 0.05
        moving.configure(x=left + int(free[0] * (0.5 + 0.5 * math.sin(angle))), y=int(free[1] * (0.5 + 0.5 * math.cos(angle * 1.3))))
        moving.map()
        display.flush()
        frame += 1
        time.sleep(max(0.0, begin + frame / fps - time.monotonic()))


if __name__ == "__main__":
    what, *numbers = sys.argv[1:]
    {"keys": keys, "managed": managed, "window": window}[what](Display(), *map(int, numbers))
