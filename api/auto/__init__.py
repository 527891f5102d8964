"""The model called `auto`: each request goes to the cheapest model that is good enough for it."""
