"""The person's door: commands that start, watch, fill, ask and end the stack."""
