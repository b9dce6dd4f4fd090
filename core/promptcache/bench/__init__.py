"""Benchmarks: each prints a table and can write its rows as JSON."""
