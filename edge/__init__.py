"""A collection in the field: exported into one folder, and served from it by one process, without a network."""
