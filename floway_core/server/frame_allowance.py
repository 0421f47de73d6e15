"""How many frames a client of a WebSocket may send: parsing a frame takes as long as parsing kilobytes of text."""

import time

MAX_SAVED_FRAMES = 4000
"""Frames that a client may send at once."""

FRAMES_PER_SECOND = 400

BYTES_PER_FRAME = 256
"""A client whose frames have this size on average may send any number of them."""


class FrameAllowance:
    """The allowance of one connection. It grows with time and with received bytes, and shrinks with frames."""

    __slots__ = ("_frames", "_updated_at")

    def __init__(self) -> None:
        self._frames = float(MAX_SAVED_FRAMES)
        self._updated_at = time.monotonic()

    def spend(self, frames: int, size: int) -> bool:
        """Return whether the client may have sent so many frames.

        :param size: bytes that have been received with them.
        """
        now = time.monotonic()
        earned = (now - self._updated_at) * FRAMES_PER_SECOND + size / BYTES_PER_FRAME
        self._frames, self._updated_at = min(MAX_SAVED_FRAMES, self._frames + earned) - frames, now
        return self._frames >= 0
