"""What can be wrong with reading GPUs."""


class GpuReadingError(Exception):
    """The root of these errors."""


class DriverUnavailable(GpuReadingError):
    """Nothing can be read of any GPU; `remedy` says what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}: {remedy}")
        self.message = message
        self.remedy = remedy


class DriverReloaded(DriverUnavailable):
    """The driver no longer knows this process, as after it was reloaded."""


class GpuLost(GpuReadingError):
    """One GPU answers nothing any more."""


class NotRead(GpuReadingError):
    """One figure is not to be had; the text is NVML's own."""
