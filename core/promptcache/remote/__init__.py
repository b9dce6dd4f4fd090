"""An engine behind a URL: asked as one in this process is, its replies as whole.

`promptcache serve` is the other side (see `server`). Knows no framework, and loads no model.
"""
