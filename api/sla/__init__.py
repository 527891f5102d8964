"""The service level: hours that the keeper counts, and what they say over days."""
