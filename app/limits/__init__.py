"""Rate and concurrency limits: for keys and failed keys, bodies, uploads."""
