"""Floor 4: the fronts, one module or room for each command of the shell.

They never import each other: what two of them need belongs to a floor below.
"""
