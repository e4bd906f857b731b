"""The rival of the first prompt: what prompt_toolkit needs to ask for a line, and nothing else."""

from prompt_toolkit import PromptSession

PromptSession("› ").prompt()
