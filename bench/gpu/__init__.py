"""The parts of ``make gpu-check``, each a program of its own that writes its rows as lines of JSON."""
