"""Whether answers helped, as their readers say."""
