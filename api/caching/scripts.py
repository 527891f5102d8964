"""The scripts of the caches."""

from dataclasses import dataclass

from storage.scripts import Script


@dataclass(frozen=True, slots=True)
class Scripts:
    """One text for each thing that is done. They share a clock, which tests replace."""

    look: Script
    find: Script
    keep: Script
    leave: Script
    renew: Script
    purge: Script

    @classmethod
    def load(cls, clock: str = "clock") -> "Scripts":
        """Read the files. `clock`: the one that says what `clock_ms()` is."""
        words = (clock, "cache/words")
        return cls(
            look=Script(*words, "cache/look"),
            find=Script(*words, "cache/find"),
            keep=Script(*words, "cache/keep"),
            leave=Script(*words, "cache/leave"),
            renew=Script(*words, "cache/renew"),
            purge=Script(*words, "cache/purge"),
        )
