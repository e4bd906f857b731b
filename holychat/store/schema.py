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
    (
        # Money: 10^-12 US dollars, NULL where no price was known. An open turn says what it may
        # still use. `pinned` messages stay in what is sent; one of the role `summary` stands for
        # its parent and all above it, and is on no branch.
        "ALTER TABLE attempts ADD COLUMN cost INTEGER",
        "ALTER TABLE turns ADD COLUMN cost INTEGER",
        "ALTER TABLE turns ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE turns ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE turns ADD COLUMN reserved_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE messages ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",
        """
        CREATE TABLE ratios (
            model TEXT PRIMARY KEY,  -- provider/model
            value TEXT NOT NULL,
            updated INTEGER NOT NULL
        ) STRICT
        """,
        # A turn that was brought in from elsewhere may have figures and no attempts. One of the
        # role `import` stands for them, so that the attempts alone say what was used.
        """
        INSERT INTO attempts (turn, provider, model, started, finish, kind, failure, prompt_tokens,
            cached_tokens, completion_tokens, reasoning_tokens, estimated, headers, first, total,
            role)
        SELECT id, provider, model, started, finish, kind, failure, prompt_tokens, cached_tokens,
            completion_tokens, reasoning_tokens, estimated, headers, first, total, 'import'
        FROM turns
        WHERE writer IS NULL AND coalesce(prompt_tokens, completion_tokens) IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM attempts WHERE turn = turns.id)
        """,
        # How an attempt counts (core.tally says what the columns are): the one definition, for
        # what was there before and for each new one. One that was never sent does not count: it
        # has no model and used nothing, or a limit refused it. A figure that cannot be true is
        # bounded, or the sums would overflow one day.
        """
        CREATE VIEW counted AS
        SELECT id, turn, conversation, day, provider, model, slot, 1 AS calls,
            ended = 'answer' AS answers,
            ended = 'cut' AS cut,
            ended = 'failed' AS failed,
            ended = 'interrupted' AS interrupted,
            coalesce(before = provider, 0) AS retries,
            coalesce(before <> provider, 0) AS failovers,
            role = 'hedge' AS hedges,
            role = 'shadow' AS copies,
            prompt, cached, completion, reasoning, estimated,
            coalesce(max(0, min(cost, 10000000000000000)), 0) AS cost,
            cost IS NOT NULL AS priced,
            free AS unpriced,
            free * prompt AS unpriced_prompt,
            free * cached AS unpriced_cached,
            free * completion AS unpriced_completion,
            streamed * completion AS made,
            CASE WHEN streamed
                THEN CAST(round(min(total - first, 86400.0) * 1000) AS INTEGER) ELSE 0
            END AS made_ms,
            first,
            CASE WHEN ended = 'answer' THEN total END AS total
        FROM (
            SELECT *, cost IS NULL AND prompt + completion > 0 AS free,
                coalesce(ended <> 'failed' AND completion > 0 AND first < 0.9 * total, 0)
                    AS streamed
            FROM (
                SELECT a.id, a.turn, t.conversation, a.provider, a.model, a.role, a.cost,
                    a.first, a.total,
                    coalesce(date(a.started / 1000, 'unixepoch', 'localtime'), '') AS day,
                    max(a.started, 0) / 1800000 % 48 AS slot,
                    CASE
                        WHEN a.finish = 'stop' AND a.kind = '' THEN 'answer'  -- soon said
                        WHEN a.finish = 'interrupted'
                            OR a.kind IN ('outrun', 'handed-on', 'prefix-ignored')
                            THEN 'interrupted'
                        WHEN a.finish = 'failed' THEN 'failed'
                        WHEN a.finish IN ('cut', 'overloaded') THEN 'cut'
                        ELSE 'answer'
                    END AS ended,
                    CASE WHEN a.role = '' AND a.number > 1 THEN (
                        SELECT b.provider FROM attempts AS b
                        WHERE b.turn = a.turn AND b.role = '' AND b.id < a.id
                        ORDER BY b.id DESC LIMIT 1
                    ) END AS before,
                    coalesce(max(0, min(a.prompt_tokens, 1000000000)), 0) AS prompt,
                    coalesce(max(0, min(a.cached_tokens, 1000000000)), 0) AS cached,
                    coalesce(max(0, min(a.completion_tokens, 1000000000)), 0) AS completion,
                    coalesce(max(0, min(a.reasoning_tokens, 1000000000)), 0) AS reasoning,
                    a.estimated <> 0 AS estimated
                FROM attempts AS a JOIN turns AS t ON t.id = a.turn
                WHERE a.kind <> 'limit-reached' AND NOT (a.model = '' AND (a.finish = 'failed'
                    OR a.finish = 'interrupted'
                        AND coalesce(a.prompt_tokens, a.completion_tokens) IS NULL))
            )
        )
        """,
        # The sums outlive the conversations: what was spent stays spent. A day is a date on the
        # user's wall, a slot the half hour of the UTC day in which an attempt began.
        """
        CREATE TABLE tally (
            day TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, slot INTEGER NOT NULL,
            calls INTEGER NOT NULL, answers INTEGER NOT NULL, cut INTEGER NOT NULL,
            failed INTEGER NOT NULL, interrupted INTEGER NOT NULL, retries INTEGER NOT NULL,
            failovers INTEGER NOT NULL, hedges INTEGER NOT NULL, copies INTEGER NOT NULL,
            prompt INTEGER NOT NULL, cached INTEGER NOT NULL, completion INTEGER NOT NULL,
            reasoning INTEGER NOT NULL, estimated INTEGER NOT NULL, cost INTEGER NOT NULL,
            priced INTEGER NOT NULL, unpriced INTEGER NOT NULL, unpriced_prompt INTEGER NOT NULL,
            unpriced_cached INTEGER NOT NULL, unpriced_completion INTEGER NOT NULL,
            made INTEGER NOT NULL, made_ms INTEGER NOT NULL,
            PRIMARY KEY (day, provider, model, slot)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO tally
        SELECT day, provider, model, slot, sum(calls), sum(answers), sum(cut), sum(failed),
            sum(interrupted), sum(retries), sum(failovers), sum(hedges), sum(copies), sum(prompt),
            sum(cached), sum(completion), sum(reasoning), sum(estimated), sum(cost), sum(priced),
            sum(unpriced), sum(unpriced_prompt), sum(unpriced_cached), sum(unpriced_completion),
            sum(made), sum(made_ms)
        FROM counted GROUP BY day, provider, model, slot
        """,
        # Times, as histograms (core.tally.Histogram).
        """
        CREATE TABLE pace (
            day TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
            first BLOB NOT NULL, total BLOB NOT NULL,
            PRIMARY KEY (day, provider, model)
        ) STRICT
        """,
        """
        INSERT INTO pace
        SELECT day, provider, model, histogram(first), histogram(total) FROM counted
        WHERE first IS NOT NULL OR total IS NOT NULL GROUP BY day, provider, model
        """,
        # The same of each conversation that is there, with less detail.
        """
        CREATE TABLE spent (
            conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
            day TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL,
            calls INTEGER NOT NULL, cut INTEGER NOT NULL, failed INTEGER NOT NULL,
            interrupted INTEGER NOT NULL, prompt INTEGER NOT NULL, cached INTEGER NOT NULL,
            completion INTEGER NOT NULL, reasoning INTEGER NOT NULL, estimated INTEGER NOT NULL,
            cost INTEGER NOT NULL, priced INTEGER NOT NULL, unpriced INTEGER NOT NULL,
            unpriced_prompt INTEGER NOT NULL, unpriced_cached INTEGER NOT NULL,
            unpriced_completion INTEGER NOT NULL,
            PRIMARY KEY (conversation, day, provider, model)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO spent
        SELECT conversation, day, provider, model, sum(calls), sum(cut), sum(failed),
            sum(interrupted), sum(prompt), sum(cached), sum(completion), sum(reasoning),
            sum(estimated), sum(cost), sum(priced), sum(unpriced), sum(unpriced_prompt),
            sum(unpriced_cached), sum(unpriced_completion)
        FROM counted GROUP BY conversation, day, provider, model
        """,
        # Until when the attempts of a conversation that was removed have been counted: it may be
        # brought in once more.
        """
        CREATE TABLE removed (conversation TEXT PRIMARY KEY, until INTEGER NOT NULL)
            STRICT, WITHOUT ROWID
        """,
        """
        CREATE TRIGGER conversations_removed BEFORE DELETE ON conversations BEGIN
            INSERT INTO removed (conversation, until)
                SELECT old.id, max(a.started) FROM turns AS t JOIN attempts AS a ON a.turn = t.id
                WHERE t.conversation = old.id GROUP BY t.conversation
                ON CONFLICT (conversation) DO UPDATE SET until = max(until, excluded.until);
        END
        """,
    ),
)
