"""One module for each thing that is found out of a case: `check(subject)` gives the finding, and
raises whatever goes wrong."""
