"""A server under load, and how much it answers: real processes, asked over HTTP."""
