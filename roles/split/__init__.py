"""A stock diffusers pipeline in three roles, each of which runs the pipeline's own program.

`loading.load` gives a `program.Program`; `fingerprint` needs no torch and serves the leaders.
"""
