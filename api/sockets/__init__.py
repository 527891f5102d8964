"""`WS /v1/query/ws`: questions and their answers over one connection, which can be taken back in the middle."""
