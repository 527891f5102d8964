"""Batches: many model requests in one file, sent when there is room, each exactly once in what comes out."""
