"""A provider whose answers can be told in advance, token by token, and which fails on demand."""
