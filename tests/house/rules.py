"""The rules of the house that no linter knows.

A rule takes the tree, as `{path: text}`, and answers with what breaks it, one line each. An empty answer is a
house in order. Rules hold for a half-built tree: what does not exist yet breaks nothing.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePosixPath

Tree = Mapping[str, str]
Rule = Callable[[Tree], Iterable[str]]

LINES_MAX = 400
ADR_LINES_MAX = 60
OURS = ("kit/", "gateway/", "providers/", "store/", "webhook_http/", "simulators/", "bench/", "tests/", "proto/")

# Modules that may be longer than LINES_MAX, each with its reason.
LONG: dict[str, str] = {}

# The verifiers, and what they are made of: light modules without an SDK or a client.
SIDECAR_MAY_IMPORT = r"providers\.(?:callbacks|secret|strict_json|\w+\.callbacks)\b"
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers"}
PRINTERS = (
    "kit/",
    "gateway/cli",
    "gateway/demo",
    "bench/",
    "proto/generate.py",
    "tests/torture/",
    "tests/model/",
    "tests/fuzz/",
)
MONEY = tuple(f"gateway/domain/{name}" for name in ("money", "movements", "payments", "derivation"))
MONEY_NAME = re.compile(r"(?:^|_)(?:amount|minor|money|captured|refunded|refundable|disputed|authorized)(?:_|$)")
INEXACT = {"float", "Decimal"}
INEXACT_COLUMNS = {"Float", "FLOAT", "Numeric", "NUMERIC", "REAL", "Double", "DOUBLE", "DECIMAL"}

MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:work|root|home|Users)/\w")
DOWNLOAD_HOST = re.compile(r"\b(?:pypi|pythonhosted|npmjs|proxy\.golang|deb\.debian)\.(?:org|com)\b")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")
SECRETS = {
    "a live Stripe key": re.compile(r"\b[sr]k_live_\w{8,}"),
    "a test Stripe key": re.compile(r"\b[sr]k_test_\w{24,}"),
    "a webhook secret": re.compile(r"\bwhsec_[A-Za-z0-9+/=]{24,}"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE[ ]KEY-----"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
    "a PayPal token": re.compile(r"\bA21AA[\w-]{60,}"),
}
EXCEPTION = re.compile(r"#\s*(?:type:\s*ignore|noqa)")
NAMED_EXCEPTION = re.compile(
    r"#\s*(?:type:\s*ignore\[[\w-]+(?:,\s*[\w-]+)*\]|noqa:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)[\s#:–—-]+\w+.*\w"
)
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*==\S+)[^\\\n]*\\\n\s+--hash=", re.MULTILINE)
REQUIREMENT = re.compile(r"^[A-Za-z0-9]\S*.*$", re.MULTILINE)


def modules_read_in_one_sitting(tree: Tree) -> Iterator[str]:
    """A module has at most 400 lines; past that it is two things."""
    for path, text in python(tree):
        lines = text.count("\n")
        if lines > LINES_MAX and path not in LONG:
            yield f"{path}: {lines} lines, at most {LINES_MAX}"


def tests_say_their_promise_in_one_line(tree: Tree) -> Iterator[str]:
    """Every test function has a docstring of one line."""
    for path, text in python(tree, "tests/"):
        for node in ast.walk(parsed(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                docstring = ast.get_docstring(node)
                if not docstring or "\n" in docstring:
                    yield f"{path}:{node.lineno}: {node.name} does not say its promise in one line"


def names_come_from_the_field(tree: Tree) -> Iterator[str]:
    """No module or package is called utils, helpers, common or manager."""
    for path, _ in python(tree):
        for part in PurePosixPath(path).with_suffix("").parts:
            if VAGUE & set(part.split("_")):
                yield f"{path}: '{part}' names no noun of the field"


def files_name_no_machine(tree: Tree) -> Iterator[str]:
    """No file names a path of somebody's machine, nor a host that packages are downloaded from."""
    for path, number, line in lines_of(tree):
        for pattern in (MACHINE_PATH, DOWNLOAD_HOST):
            if found := pattern.search(line):
                yield f"{path}:{number}: {found.group()}"


def only_programs_for_people_print(tree: Tree) -> Iterator[str]:
    """`print` is for the command line, the demo, the bench and the torture's report; the rest logs."""
    for path, text in python(tree):
        if not path.startswith(PRINTERS):
            for node in ast.walk(parsed(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                    yield f"{path}:{node.lineno}: print()"


def provider_packages_load_nothing(tree: Tree) -> Iterator[str]:
    """`providers/__init__.py`, and each provider's, is empty, so that the sidecar loads no SDK."""
    for path, text in tree.items():
        if re.fullmatch(r"providers/(?:\w+/)?__init__\.py", path) and text.strip():
            yield f"{path}: not empty"


def money_is_whole_numbers(tree: Tree) -> Iterator[str]:
    """Money is an integer of minor units: no float, no Decimal, no division, no inexact column."""
    for path, text in python(tree, "gateway/domain/", "gateway/app/", "store/"):
        strict = path.startswith(MONEY)
        for node in ast.walk(parsed(text)):
            if (why := inexact(node, strict=strict)) or (why := inexact_column(node, path)):
                yield f"{path}:{getattr(node, 'lineno', '?')}: {why}"


def inexact(node: ast.AST, *, strict: bool) -> str | None:
    """Why this node could make money inexact; `strict` is for modules that deal in nothing but money."""
    match node:
        case ast.Name(id="Decimal") | ast.ImportFrom(module="decimal") | ast.alias(name="decimal"):
            return "Decimal"
        case ast.AnnAssign(target=ast.Name(id=name), annotation=of) | ast.arg(name, ast.expr() as of):
            return f"{name} is {ast.unparse(of)}" if MONEY_NAME.search(name) and INEXACT & names(of) else None
        case ast.Constant(value=float()) if strict:
            return "a float"
        case ast.Name(id="float") if strict:
            return "float"
        case ast.BinOp(op=ast.Div()) if strict:
            return "a division that makes a float: // and say who gets the rest"
    return None


def inexact_column(node: ast.AST, path: str) -> str | None:
    """Why this node would store money inexactly."""
    match node:
        case ast.Name(id=named) | ast.Attribute(attr=named) if named in INEXACT_COLUMNS:
            return f"an inexact column type, {named}" if path.startswith("store/") else None
    return None


def nothing_is_left_for_later(tree: Tree) -> Iterator[str]:
    """No note to oneself in code: it is done, or it is an issue."""
    for path, number, line in lines_of(tree):
        if not path.endswith(".md") and UNFINISHED.search(line):
            yield f"{path}:{number}: {line.strip()}"


def exceptions_name_code_and_reason(tree: Tree) -> Iterator[str]:
    """A silenced type error or lint names its code, and its reason behind it."""
    for path, text in python(tree):
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                for found in EXCEPTION.finditer(token.string):
                    if not NAMED_EXCEPTION.match(token.string, found.start()):
                        yield f"{path}:{token.start[0]}: {token.string}"


def changes_are_told(tree: Tree) -> Iterator[str]:
    """CHANGELOG.md has an Unreleased section with an entry, or a release right under it."""
    _, unreleased, rest = tree.get("CHANGELOG.md", "").partition("## [Unreleased]\n")
    section, released, _ = rest.partition("\n## [")
    if not unreleased:
        yield "CHANGELOG.md: no section [Unreleased]"
    elif not released and not re.search(r"^- \w", section, re.MULTILINE):
        yield "CHANGELOG.md: nothing is told under [Unreleased], and nothing was ever released"


def decisions_are_numbered_and_listed(tree: Tree) -> Iterator[str]:
    """ADRs run from 0001 without a gap, fit on a page, have the four sections, and stand in the index."""
    records = sorted(path for path in tree if re.fullmatch(r"docs/adr/\d{4}-[a-z0-9-]+\.md", path))
    index = tree.get("docs/adr/README.md", "")
    for path in tree:
        if path.startswith("docs/adr/") and path not in records and path != "docs/adr/README.md":
            yield f"{path}: not called NNNN-a-few-words.md"
    for number, path in enumerate(records, start=1):
        name = PurePosixPath(path).name
        if not name.startswith(f"{number:04}-"):
            yield f"{path}: {number:04} is due here"
        if f"({name})" not in index:
            yield f"{path}: not in docs/adr/README.md"
        if tree[path].count("\n") > ADR_LINES_MAX:
            yield f"{path}: longer than a page ({ADR_LINES_MAX} lines)"
        for section in ("Context", "Decision", "Status", "Consequences"):
            if not re.search(rf"^## {section}$", tree[path], re.MULTILINE):
                yield f"{path}: no section {section}"


def the_readme_names_every_rpc(tree: Tree) -> Iterator[str]:
    """README.md's table of what can be called has each RPC of the contract."""
    rows = [line for line in tree.get("README.md", "").splitlines() if line.startswith("| ")]
    table = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    for path, text in tree.items():
        if re.fullmatch(r"proto/obol/v1/\w+\.proto", path):
            for name in re.findall(r"^\s*rpc (\w+)\(", text, re.MULTILINE):
                if name not in table:
                    yield f"README.md: no row has {name} ({path})"


def make_explains_itself(tree: Tree) -> Iterator[str]:
    """Every target of the Makefile that a person may name has a help text, and is phony."""
    makefile = tree.get("Makefile", "")
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)).split())
    for target, rest in re.findall(r"^([a-z][\w-]*):(?!=)(.*)$", makefile, re.MULTILINE):
        if not re.search(r"## \w", rest):
            yield f"Makefile: {target} has no help text"
        if target not in phony:
            yield f"Makefile: {target} is not phony"


def secrets_stay_out(tree: Tree) -> Iterator[str]:
    """Nothing that looks like a credential is in the tree; tests make their own."""
    for path, number, line in lines_of(tree):
        for what, pattern in SECRETS.items():
            if pattern.search(line):
                yield f"{path}:{number}: {what}"


def locks_hold_hashes_not_hosts(tree: Tree) -> Iterator[str]:
    """Each pin has its hash, no lock has an address, and what runs in production is what was tested."""
    runtime, dev = tree.get("requirements.lock", ""), tree.get("requirements-dev.lock", "")
    for name, text in (("requirements.lock", runtime), ("requirements-dev.lock", dev)):
        if "://" in text or re.search(r"^\s*-(?:e|i|f)\b|^\s*--(?!hash=)", text, re.MULTILINE):
            yield f"{name}: an address, a path or an option"
        for requirement in set(REQUIREMENT.findall(text)):
            if not PIN.match(f"{requirement}\n    --hash="):
                yield f"{name}: {requirement} is not pinned with a hash"
    for pin in sorted(set(PIN.findall(runtime)) - set(PIN.findall(dev))):
        yield f"requirements-dev.lock: lacks {pin}"


def domain_sees_the_standard_library(tree: Tree) -> Iterator[str]:
    """The domain imports the standard library and itself."""
    for path, text in python(tree, "gateway/domain/"):
        for module in imports(text):
            if module.split(".")[0] not in sys.stdlib_module_names and not within(module, "gateway.domain"):
                yield f"{path}: imports {module}"


def providers_stand_alone(tree: Tree) -> Iterator[str]:
    """A provider never imports another, nor the sidecar anything of a provider but its callbacks."""
    packages = {path.split("/")[1] for path in tree if re.match(r"providers/\w+/", path)}
    for path, text in python(tree, "providers/"):
        own = PurePosixPath(path).parts[1]
        for module in imports(text) if own in packages else ():
            name = module.split(".")[1] if module.startswith("providers.") else own
            if name in packages - {own}:
                yield f"{path}: imports {module}"
    for path, text in python(tree, "webhook_http/"):
        for module in imports(text):
            if within(module, "providers") and not re.match(SIDECAR_MAY_IMPORT, module):
                yield f"{path}: imports {module}"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        modules_read_in_one_sitting,
        tests_say_their_promise_in_one_line,
        names_come_from_the_field,
        files_name_no_machine,
        only_programs_for_people_print,
        provider_packages_load_nothing,
        money_is_whole_numbers,
        nothing_is_left_for_later,
        exceptions_name_code_and_reason,
        changes_are_told,
        decisions_are_numbered_and_listed,
        the_readme_names_every_rpc,
        make_explains_itself,
        secrets_stay_out,
        locks_hold_hashes_not_hosts,
        domain_sees_the_standard_library,
        providers_stand_alone,
    )
}


def python(tree: Tree, *under: str) -> Iterator[tuple[str, str]]:
    """Our modules, without the generated ones."""
    for path, text in tree.items():
        generated = path.endswith(("_pb2.py", "_pb2_grpc.py"))
        if path.endswith(".py") and path.startswith(under or OURS) and not generated:
            yield path, text


def lines_of(tree: Tree) -> Iterator[tuple[str, int, str]]:
    """Every line of every file, with its place."""
    for path, text in tree.items():
        for number, line in enumerate(text.splitlines(), start=1):
            yield path, number, line


def imports(text: str) -> Iterator[str]:
    """The modules that a module imports, as far as names can tell: `from a import b` gives `a.b`."""
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names(node: ast.AST) -> set[str]:
    """The plain names under a node."""
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def within(module: str, package: str) -> bool:
    """Whether a module is the package, or inside it."""
    return module == package or module.startswith(f"{package}.")


@cache
def parsed(text: str) -> ast.Module:
    """The syntax tree of a module, parsed once for all rules."""
    return ast.parse(text)
