"""The tables, as a ledger of migrations: append only, never change what was released.

Owns the shape of the file. `db` applies it, the other modules of this room speak it.
"""

from __future__ import annotations

# Times are Unix time in milliseconds. A conversation is a tree of messages; `head` is the end of
# the branch that is gone on with. A turn is one exchange with a provider, an attempt one request
# of it. The journal holds what came of an open turn and goes when the turn is closed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE conversations (
            id TEXT PRIMARY KEY,
            title TEXT NOT NULL DEFAULT '',
            named INTEGER NOT NULL DEFAULT 0,  -- the user gave the title
            created INTEGER NOT NULL,
            updated INTEGER NOT NULL,
            provider TEXT NOT NULL DEFAULT '',
            model TEXT NOT NULL DEFAULT '',
            system TEXT NOT NULL DEFAULT '',
            params TEXT NOT NULL DEFAULT '{}',
            head INTEGER,
            messages INTEGER NOT NULL DEFAULT 0,
            origin TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "CREATE INDEX conversations_updated ON conversations (updated)",
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
            parent INTEGER,  -- no reference: deleting a long chain would recurse too deep
            role TEXT NOT NULL,
            text TEXT NOT NULL,
            reasoning TEXT NOT NULL DEFAULT '',
            created INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE INDEX messages_conversation ON messages (conversation, parent)",
        """
        CREATE TABLE writers (
            id TEXT PRIMARY KEY,
            host TEXT NOT NULL,
            pid INTEGER NOT NULL,
            born TEXT NOT NULL,  -- tells a process from a later one of the same pid
            lease INTEGER NOT NULL,  -- until when it is taken to be alive, wherever it runs
            draft TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        """
        CREATE TABLE turns (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
            prompt INTEGER NOT NULL,
            answer INTEGER,
            onto INTEGER,  -- the answer that this turn goes on with: they become one
            writer TEXT,  -- who has it open; NULL when it is closed
            started INTEGER NOT NULL,
            finish TEXT NOT NULL DEFAULT '',
            provider TEXT NOT NULL DEFAULT '',
            model TEXT NOT NULL DEFAULT '',
            served_model TEXT NOT NULL DEFAULT '',
            refusal INTEGER NOT NULL DEFAULT 0,
            prompt_tokens INTEGER,
            cached_tokens INTEGER,
            completion_tokens INTEGER,
            reasoning_tokens INTEGER,
            estimated INTEGER NOT NULL DEFAULT 0,
            headers REAL,  -- seconds since the request went out
            first REAL,
            total REAL,
            kind TEXT NOT NULL DEFAULT '',
            failure TEXT NOT NULL DEFAULT ''
        ) STRICT
        """,
        "CREATE INDEX turns_conversation ON turns (conversation)",
        "CREATE INDEX turns_writer ON turns (writer) WHERE writer IS NOT NULL",
        """
        CREATE TABLE attempts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
            provider TEXT NOT NULL,
            model TEXT NOT NULL,
            started INTEGER NOT NULL,
            finish TEXT NOT NULL DEFAULT '',
            kind TEXT NOT NULL DEFAULT '',
            failure TEXT NOT NULL DEFAULT '',
            prompt_tokens INTEGER,
            cached_tokens INTEGER,
            completion_tokens INTEGER,
            reasoning_tokens INTEGER,
            estimated INTEGER NOT NULL DEFAULT 0,
            headers REAL,
            first REAL,
            total REAL
        ) STRICT
        """,
        "CREATE INDEX attempts_turn ON attempts (turn)",
        "CREATE INDEX attempts_started ON attempts (started)",
        """
        CREATE TABLE journal (
            turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
            number INTEGER NOT NULL,
            text TEXT NOT NULL,
            reasoning TEXT NOT NULL,
            PRIMARY KEY (turn, number)
        ) STRICT, WITHOUT ROWID
        """,
        # Words; and pieces of three characters, for Chinese and for code, which have no words
        # between blanks. Both index the messages and hold no copy of them. Two line ends behind
        # each text make every single character the beginning of some piece, so that one or two of
        # them are found by a range of the index's own vocabulary.
        """
        CREATE VIRTUAL TABLE words USING fts5(
            text, content = 'messages', content_rowid = 'id', columnsize = 0,
            tokenize = 'unicode61 remove_diacritics 2'
        )
        """,
        "CREATE VIEW padded AS SELECT id, text || char(10, 10) AS text FROM messages",
        """
        CREATE VIRTUAL TABLE pieces USING fts5(
            text, content = 'padded', content_rowid = 'id', columnsize = 0,
            tokenize = 'trigram', detail = 'none'
        )
        """,
        "CREATE VIRTUAL TABLE vocabulary USING fts5vocab(pieces, row)",
        """
        CREATE TRIGGER messages_added AFTER INSERT ON messages BEGIN
            INSERT INTO words (rowid, text) VALUES (new.id, new.text);
            INSERT INTO pieces (rowid, text) VALUES (new.id, new.text || char(10, 10));
        END
        """,
        """
        CREATE TRIGGER messages_removed AFTER DELETE ON messages BEGIN
            INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
            INSERT INTO pieces (pieces, rowid, text)
                VALUES ('delete', old.id, old.text || char(10, 10));
        END
        """,
        """
        CREATE TRIGGER messages_changed AFTER UPDATE OF text ON messages BEGIN
            INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
            INSERT INTO pieces (pieces, rowid, text)
                VALUES ('delete', old.id, old.text || char(10, 10));
            INSERT INTO words (rowid, text) VALUES (new.id, new.text);
            INSERT INTO pieces (rowid, text) VALUES (new.id, new.text || char(10, 10));
        END
        """,
    ),
    (
        # What is known of a provider's health, by its name and origin, as JSON (core.health); and
        # single facts that all holychats of this machine share.
        """
        CREATE TABLE health (
            provider TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            updated INTEGER NOT NULL
        ) STRICT
        """,
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        "CREATE INDEX attempts_provider ON attempts (provider, started)",
        # The number of an attempt in its turn, what else it was than the answer itself (hedge,
        # shadow), and the character of the answer's text at which its part begins.
        "ALTER TABLE attempts ADD COLUMN number INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE attempts ADD COLUMN role TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN at INTEGER NOT NULL DEFAULT 0",
    ),
)
