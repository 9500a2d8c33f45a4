"""Traced against measured memory: whole jobs on the CPU, each in a process of its own."""
