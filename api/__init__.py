"""The HTTP door: who may ask, what they may ask, and how an answer reaches them."""
