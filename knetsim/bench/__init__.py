"""Measurements: what simulations take in time and memory, each held against a floor taken beside it in the same run.

    measures.py     which there are, their sizes, a run of them: the report
                    start.py · pods.py · memory.py · path.py · stop.py
    figures.py      pure: samples, medians, ratios, targets, what speaks against them
    layout.py       pure: what a cluster amounts to in the kernel
    batches.py      pure: the floor as text for `ip`, `bridge` and `nft`;   floor.py runs it
    process.py      `knetsim up` and `down`, watched from outside;   reach.py whether every pod answers
    apart.py        in sandboxes of their own;   settle.py until the kernel has tidied up;   machine.py what /proc tells

How each figure is taken, and why the floor is what it is: bench/README.md. Only the command line imports this package.
"""
