"""Whether two questions ask the same, so that the answer of one is the answer of the other."""
