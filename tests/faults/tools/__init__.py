"""What the fault checks share.

`counts` how often, and how far; `kills` when; `holder` agents whose socket outlives them; `clients` who keep their
own tally; `judge` what must hold (I1 to I5); `proxy`, `disks`, `network`, `strace`, `clock` the faults themselves.
"""
