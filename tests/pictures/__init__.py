"""Pictures of the real screen, for the README: `python -m tests.pictures`. Not tests."""
