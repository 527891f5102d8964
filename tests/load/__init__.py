"""Load: how much the gateway costs, and how much it carries."""
