"""Datasets: files in, a validated and immutable manifest out."""
