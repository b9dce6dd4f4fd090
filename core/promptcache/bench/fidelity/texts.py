"""What docs/fidelity.md says around its tables."""

from __future__ import annotations

INTRODUCTION = """\
# Fidelity

<!-- Written by `python -m promptcache.bench.fidelity.page` from the rows in docs/fidelity: run it
again instead of editing here. -->

How near reuse comes to full prefill, prompt by prompt. Every prompt is answered greedily in full,
and then by every reuse policy in every encoding context, in random turns:

- **KL** is KL(full prefill || policy) of the distribution of the answer's first token, in nats:
  the mean over all prompts with its 95 % interval (bootstrap), and below what half of them, 95 %
  and 99 % of them lie.
- **top-1**: the share of steps along full prefill's own answer at which the same token is best;
  **answers**: the share of prompts whose whole answer is the same.
- **exact match** and **F1** (LongBench's) are of the answers against the right ones. *difference*
  is the 95 % interval of policy less full prefill, in percentage points, paired sample by sample:
  Bonett and Price's for paired proportions, which has a width where nothing differs. A sample asked
  with its documents in two orders counts once.
- **again**: the share of the modules' tokens that is computed again; **FLOPs**: of a full prefill's
  operations, as they follow from the model's shapes, a policy's choosing included; **TTFT**: the
  median of the ratios of times to the first token, prompt by prompt. Modules are encoded before.
- *transformers* is the model without promptcache on the same text tokenised in one piece: what it
  changes that modules are tokenised apart. *full prefill, reordered* is the full prefill of the
  documents in another order against that in their own: what a prompt's order alone changes.
  `Exact()` differs from full prefill by rounding alone, of which bfloat16 has much.
- A context with *int8* or *int4* is one whose modules were rounded to what that compression holds.
"""

POCKET = """\
Prompts of pocket's corpus are worded as LangChain's and LlamaIndex's are, half of them in wordings
that its training never saw, on names and values that it never saw either. *fact* is stated in one
document; *compare* and *follow* need two (which of two entities has more of something; a reference
from one document into another); *absent* and *stranger* are not to be answered: the document on the
entity does not say, or there is none on it.
"""

RUNNING = """\
## Running it

    promptcache check path/to/model --docs path/to/folder     # your model, your documents
    promptcache check path/to/model --pml schema.pml --pml prompt.pml --json rows.json
    promptcache bench fidelity pocket --samples 200           # `make bench-fidelity`
    promptcache bench fidelity pocket --policy Modular --context expected --samples 3000
    promptcache bench fidelity pocket --policy Modular --compression none --compression int8
    promptcache bench fidelity path/to/model --longbench path/to/LongBench/data

`check` holds every policy against full prefill. Of those that keep a bound, which `--max-kl`,
`--min-top1` and `--min-answers` set, it recommends the fastest; of several within a tenth of the
fastest, the one with the lowest KL. With `--strict` its status says whether all keep the bound.
LongBench's files are scored by LongBench's metrics, which stand under F1 here, with short
instructions of our own. Rows that `--json FILE` writes into docs/fidelity become this page:

    promptcache bench fidelity pocket --samples 200 --json docs/fidelity/pocket.json
    python -m promptcache.bench.fidelity.page

Figures need `pip install 'promptcache[bench]'`.
"""


TOWARDS_FULL = """\
What is computed again comes nearer to what full prefill makes of it, while its neighbours stay what
they are: the answer moves towards full prefill's, right or wrong. So exact match may fall where
full prefill has less of it than modules have, and a mean KL, which few prompts decide, may rise.
"""

TWO_NEEDED = """\
What `Modular()` loses where two documents are needed, which do not see each other as modules, in
points of exact match (recomputing has something to win back from about five on):"""
