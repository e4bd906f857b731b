"""The chat in the terminal.

loop      the conversation with the user: prompt, turn, prompt
slash     the slash commands, one function each
keys      what the keys do at the prompt, and what is typed while an answer streams
complete  completion, suggestions and the input history
toolbar   the line below the prompt
"""
