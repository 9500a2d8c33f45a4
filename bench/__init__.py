"""Benchmarks against peers and limits. Never part of the test run."""
