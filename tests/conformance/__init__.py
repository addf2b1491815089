"""Every pipeline of the pinned diffusers release, through the roles, against the plain one.

`python -m tests.conformance` runs it; `case.py` says what a case is, `families/` has them all,
`judge.py` finds out what holds of one.
"""
