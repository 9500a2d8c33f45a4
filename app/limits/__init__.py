"""How fast and how much at once: rates of keys and of failed keys, bodies, uploads."""
