"""What workers at batches tell each other; no client sees it."""


class LeaseLost(Exception):
    """Somebody else has the line or the batch now, or it has ended: what was to be written is not."""
