"""Mixed load while parts and what is between them fail."""
