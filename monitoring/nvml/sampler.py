"""The newest reading for many who ask, taken by one thread at a time, so that a driver that hangs holds nobody up."""

import threading
from collections.abc import Callable

from core.clock import Clock, SystemClock
from monitoring.logs import logger
from monitoring.nvml.errors import GpuReadingError
from monitoring.nvml.readings import Reading

_log = logger(__name__)


class Sampler:
    """Gives readings that are young enough, and says so when there are none.

    Args:
        read: takes one reading; may block for ever. It is never called twice at once.
        min_interval_s: seconds for which one reading answers everybody, counted from its beginning.
        deadline_s: seconds after the beginning of a reading when those who wait for it stop waiting.
        stale_s: age in seconds up to which the last good reading is given instead of a late one.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        *,
        min_interval_s: float,
        deadline_s: float,
        stale_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._read = read
        self._min_interval_s = min_interval_s
        self._deadline_s = deadline_s
        self._stale_s = stale_s
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()  # over the four below; never held while anything is read
        self._newest: tuple[Reading, float] | None = None  # and when it was begun
        self._seen = Reading()  # the last that the driver gave: the GPUs that there are
        self._flight: _Flight | None = None
        self._is_down = False  # what was last logged

    def latest(self) -> Reading:
        """The newest reading; waits for at most `deadline_s`.

        Where the driver refuses, and where it has been silent for too long, every GPU is down in it and `problem`
        says why.
        """
        with self._lock:
            now_s = self._clock.monotonic()
            if self._newest is not None and now_s - self._newest[1] < self._min_interval_s:
                return self._newest[0]
            flight = self._flight or self._begin(now_s)
        flight.done.wait(max(0.0, flight.began_s + self._deadline_s - now_s))
        with self._lock:
            if flight.reading is not None:
                return flight.reading
            now_s = self._clock.monotonic()
            if self._newest is not None and now_s - self._newest[1] <= self._stale_s:
                return self._newest[0]
            late = self._seen.all_down(f"NVIDIA's driver has not answered for {now_s - flight.began_s:.1f} s")
            self._log_change(late)
            return late

    def _begin(self, now_s: float) -> "_Flight":
        flight = self._flight = _Flight(now_s)
        # A daemon: a call into the driver that never returns must not keep the process from ending.
        threading.Thread(target=self._fly, args=(flight,), name="nvml", daemon=True).start()
        return flight

    def _fly(self, flight: "_Flight") -> None:
        reading: Reading | None = None
        problem = "the GPUs could not be read; the log has more"
        try:
            reading = self._read()
        except GpuReadingError as error:
            problem = str(error)
        except Exception:
            _log.exception("reading GPUs failed")
        with self._lock:
            if reading is not None:
                self._seen = reading
            flight.reading = reading or self._seen.all_down(problem)
            self._newest = (flight.reading, flight.began_s)
            self._flight = None
            self._log_change(flight.reading)
        flight.done.set()

    def _log_change(self, reading: Reading) -> None:
        was_down, self._is_down = self._is_down, reading.problem is not None
        if self._is_down and not was_down:
            _log.error("the GPUs cannot be read", why=reading.problem)
        elif was_down and not self._is_down:
            _log.info("the GPUs are read again")


class _Flight:
    """One reading under way."""

    def __init__(self, began_s: float) -> None:
        self.began_s = began_s
        self.reading: Reading | None = None
        self.done = threading.Event()
