"""An instance on several hosts: its leader on one, and a node process on each of the others.

The leader listens at the rendezvous (`hub`); node processes (`node`) join it there, start ranks for
it and carry what it says to them; ranks look up each other's addresses there (`store`).
"""
