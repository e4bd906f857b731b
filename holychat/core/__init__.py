"""Floor 1: pure values and functions.

Standard library only: no clock, environment, randomness, print, file, socket or `async` in here.
Time and chance come in as arguments.
"""
