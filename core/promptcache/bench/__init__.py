"""Benchmarks: each prints a table and can write its rows as JSON, of which a page is made.

`commands.py` is the command line. A benchmark (`ttft`, `decode`, `library`, `memory`) measures its
cases in turns (`rounds`), on a model (`models`) with prompts of a given size (`prompts`), against
others (`baselines`, `peers`, `limit`), and gives `rows`; `tables`, `plots` and `page` show them.
`fidelity` holds reuse against full prefill.
"""
