"""What people can ask of a folder of attention states: `encode`, `ls`, `inspect` and more."""

from promptcache.store_commands.encoding import encode
from promptcache.store_commands.folder import gc, inspect, ls, verify
from promptcache.store_commands.sharing import export, import_

__all__ = ["encode", "export", "gc", "import_", "inspect", "ls", "verify"]
