"""How near reuse comes to full prefill: the measurements of `check` and of `bench fidelity`.

`commands` is the command line. Questions (`questions`; drawn in `samples`, read in `longbench`,
made in `own`) are put to an engine for each context (`engines`) under each policy, in turns
(`running`), each held against full prefill (`measure`, with `flops`, `metrics` and `statistics`).
What comes of it are `rows`, which `tables`, `plots`, `page` and `verdict` make something of.
"""
