"""The chat in the terminal.

loop      the conversation with the user: prompt, turn, prompt
prompt    the line where the user types
voice     what is said beside the answers: lines, notes, errors, documents
resume    the end of what was before, and what killed chats left
slash     the slash commands, one function each
kept      those of them that work on the conversations that are kept
table     the table that they are in
keys      what the keys do at the prompt, and what is typed while an answer streams
complete  completion, suggestions and the input history
toolbar   the line below the prompt
"""
