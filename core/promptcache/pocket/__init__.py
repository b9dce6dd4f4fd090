"""`pocket`: the small model that comes with promptcache, and all that makes it.

It reads documents about invented entities and answers questions on them. It is there for
demonstrations, tests and measurements, so that none of them needs a download. The files go from
the split of names and values (`split`, `names`, `values`) over the world (`world`, `places`,
`people`), its documents and questions (`corpus`), and the prompts around them (`prompts`,
`chat`), to tokens and batches (`tokenizer`, `data`, `curriculum`), training (`model`, `forward`,
`train`) and what comes of it (`evaluate`, `export`). `python -m promptcache.pocket` does it all.
"""

from __future__ import annotations

from pathlib import Path


def pocket_path() -> Path:
    """Return the folder of the weights and tokenizer, as `from_pretrained` takes it."""
    return Path(__file__).parent / "weights"
