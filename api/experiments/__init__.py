"""What experiments have shown, and when one is ended."""
