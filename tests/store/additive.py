"""What a migration may do while the release before it goes on running on the same database."""

import re

WORD = re.compile(r"--\s*additive because \w.*\w", re.IGNORECASE)
"""What stands in a statement that takes away something that no code reads: its reason."""

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_LITERAL = re.compile(r"'(?:[^']|'')*'|\$\$.*?\$\$", re.DOTALL)
_FORBIDDEN = {
    "drops a table": r"\bDROP\s+(?:TABLE|SCHEMA|SEQUENCE|TYPE|VIEW)\b",
    "drops a column": r"\bDROP\s+(?:COLUMN\b|(?!INDEX|CONSTRAINT|TRIGGER|FUNCTION|DEFAULT|NOT|EXPRESSION|IDENTITY)\w)",
    "renames": r"\bRENAME\b",
    "changes a type": r"\bALTER\s+(?:COLUMN\s+)?\w+\s+(?:SET\s+DATA\s+)?TYPE\b",
    "makes a column NOT NULL": r"\bSET\s+NOT\s+NULL\b",
    "empties a table": r"^TRUNCATE\b",
    "takes a default away": r"\bDROP\s+DEFAULT\b",
}
_WITH_A_WORD = {
    "drops an index": r"\bDROP\s+INDEX\b",
    "drops a constraint": r"\bDROP\s+CONSTRAINT\b",
    "drops a trigger or its function": r"\bDROP\s+(?:TRIGGER|FUNCTION)\b",
    "adds a constraint to an old table": r"\bALTER\s+TABLE\b.*\bADD\s+(?:CONSTRAINT|CHECK|UNIQUE|FOREIGN)\b",
    "adds a trigger to an old table": r"^CREATE\s+(?:CONSTRAINT\s+)?TRIGGER\b",
    "makes an index unique": r"\bCREATE\s+UNIQUE\s+INDEX\b",
    "deletes rows": r"\bDELETE\s+FROM\b",
}
_NEW_COLUMN = re.compile(
    r"\bADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?!CONSTRAINT\b|CHECK\b|UNIQUE\b|FOREIGN\b|PRIMARY\b)"
    r"(?P<name>\w+)\s+(?P<rest>[^,]*)",
    re.IGNORECASE,
)


def objections(statement: str, *, made: frozenset[str] = frozenset()) -> list[str]:
    """Why the release before could not live with `statement`; empty where it can.

    `made`: the tables that the same migration makes, of which the old code knows nothing.
    """
    worded = WORD.search(statement) is not None
    bare = " ".join(_LITERAL.sub("''", _COMMENT.sub(" ", statement)).split())
    if (table := _touched(bare)) is not None and table in made:
        return []
    found = [why for why, pattern in _FORBIDDEN.items() if re.search(pattern, bare, re.IGNORECASE)]
    if not worded:
        found += [why for why, pattern in _WITH_A_WORD.items() if re.search(pattern, bare, re.IGNORECASE)]
    if bare.upper().startswith("ALTER TABLE"):
        for column in _NEW_COLUMN.finditer(bare):
            rest = column["rest"].upper()
            if "NOT NULL" in rest and "DEFAULT" not in rest and "GENERATED" not in rest:
                found.append(f"adds {column['name']} as NOT NULL without a default")
    return found


def made_by(statement: str) -> str | None:
    """The table that `statement` makes."""
    found = re.match(r"\s*CREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", _COMMENT.sub(" ", statement), re.IGNORECASE)
    return found[1] if found else None


def _touched(bare: str) -> str | None:
    pattern = (
        r"ALTER TABLE (?:ONLY )?(\w+)|CREATE UNIQUE INDEX \w+ ON (\w+)|DELETE FROM (\w+)"
        r"|CREATE (?:CONSTRAINT )?TRIGGER \w+ .*? ON (\w+)"
    )
    found = re.match(pattern, bare, re.IGNORECASE)
    return next(filter(None, found.groups())) if found else None
