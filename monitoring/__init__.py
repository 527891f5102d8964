"""What is seen: metrics, logs, and the record of a request from which both derive."""
