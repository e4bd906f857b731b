"""holychat: the terminal chat for OpenAI-compatible models.

The floors, from the ground up (a room imports only from the floors below it):
`core` is pure; `settings`, `env`, `net`, `store`, `prices` and `screen` each own one border to the
outside world; `engine` runs a turn; `commands` are the fronts; `cli` ties options to them.
"""

__version__ = "0.1.0"
