"""The house is in order, and each rule would notice if it were not."""

import subprocess
from pathlib import Path

import pytest

from tests.house.rules import LINES_MAX, RULES, Tree

ROOT = Path(__file__).resolve().parents[2]
BARE = "# type: " + "ignore[arg-type]"
REASONED = f"{BARE}  # the stub is older than the library"

# What breaks each rule, and its nearest neighbour that does not.
PLANTED: list[tuple[str, Tree, Tree]] = [
    (
        "modules_read_in_one_sitting",
        {"store/tables.py": "x = 1\n" * (LINES_MAX + 1)},
        {"store/tables.py": "x = 1\n" * LINES_MAX, "proto/obol/v1/x_pb2.py": "x = 1\n" * 999},
    ),
    (
        "tests_say_their_promise_in_one_line",
        {"tests/test_a.py": "async def test_a():\n    pass\n"},
        {"tests/test_a.py": "async def test_a():\n    '''An effect happens once.'''\n"},
    ),
    (
        "tests_say_their_promise_in_one_line",
        {"tests/test_a.py": "def test_a():\n    '''Two\n\n    paragraphs.'''\n"},
        {"tests/conftest.py": "def a_gateway():\n    pass\n"},
    ),
    ("names_come_from_the_field", {"gateway/app/utils.py": ""}, {"gateway/app/refunds.py": ""}),
    ("names_come_from_the_field", {"store/helpers/rows.py": ""}, {"store/rows.py": ""}),
    ("files_name_no_machine", {"Makefile": "X = " + "/home" + "/ann/obol"}, {"Makefile": "X = $(HOME)/obol"}),
    ("files_name_no_machine", {"a.lock": "-i https://" + "pypi" + ".org/simple"}, {"a.md": "from PyPI"}),
    ("only_programs_for_people_print", {"store/a.py": "print(1)\n"}, {"bench/a.py": "print(1)\n"}),
    (
        "provider_packages_load_nothing",
        {"providers/stripe/__init__.py": "import stripe\n"},
        {"providers/stripe/__init__.py": "", "store/__init__.py": "import sqlalchemy\n"},
    ),
    (
        "money_is_whole_numbers",
        {"gateway/domain/money.py": "x = 0.5\n"},
        {"gateway/domain/money.py": "x = 5\n"},
    ),
    (
        "money_is_whole_numbers",
        {"gateway/domain/money.py": "x = a / b\n"},
        {"gateway/domain/money.py": "x = a // b\n"},
    ),
    (
        "money_is_whole_numbers",
        {"gateway/app/refunds.py": "def refund(amount_minor: float) -> None: ...\n"},
        {"gateway/app/refunds.py": "def wait(timeout_seconds: float = 0.5) -> None: ...\n"},
    ),
    (
        "money_is_whole_numbers",
        {"store/a.py": "from decimal import Decimal\n"},
        {"store/a.py": "import datetime\n"},
    ),
    (
        "money_is_whole_numbers",
        {"store/a.py": "c = sa.Column(sa.Numeric)\n"},
        {"store/a.py": "c = sa.BigInteger\n"},
    ),
    ("nothing_is_left_for_later", {"store/a.py": "# TO" + "DO: lock\n"}, {"store/a.py": "# lock first\n"}),
    ("exceptions_name_code_and_reason", {"store/a.py": "x = 1  # noqa\n"}, {"store/a.py": "x = '# noqa'\n"}),
    (
        "exceptions_name_code_and_reason",
        {"store/a.py": "x = 1  # noqa: BLE001\n"},
        {"store/a.py": "x = 1  # noqa: BLE001 a task's end: nothing above it could act\n"},
    ),
    (
        "exceptions_name_code_and_reason",
        {"store/a.py": f"x = 1  {BARE}\n"},
        {"store/a.py": f"x = 1  {REASONED}\n"},
    ),
    (
        "changes_are_told",
        {"CHANGELOG.md": "# Changelog\n"},
        {"CHANGELOG.md": "## [Unreleased]\n\n- A gateway\n"},
    ),
    (
        "decisions_are_numbered_and_listed",
        {"docs/adr/README.md": "[a](0002-a.md)", "docs/adr/0002-a.md": ""},
        {
            "docs/adr/README.md": "[a](0001-a.md)",
            "docs/adr/0001-a.md": "## Context\n## Decision\n## Status\n## Consequences\n",
        },
    ),
    (
        "the_readme_names_every_rpc",
        {"README.md": "`Pay` is an RPC.\n| x |\n", "proto/obol/v1/a.proto": "  rpc Pay(A) returns (B);\n"},
        {"README.md": "| `S` | `Pay` | pays |\n", "proto/obol/v1/a.proto": "  rpc Pay(A) returns (B);\n"},
    ),
    (
        "make_explains_itself",
        {"Makefile": ".PHONY: test\ntest: dev\n\tpytest\n"},
        {"Makefile": ".PHONY: test\ntest: dev  ## run the tests\n\tpytest\n$(X)/y: z\n\ttouch $@\n"},
    ),
    ("make_explains_itself", {"Makefile": "test:  ## run the tests\n"}, {"Makefile": "CODE := a\n"}),
    ("secrets_stay_out", {"a.env": "K=sk_" + "live_4eC39HqLyjWD"}, {"a.env": "K=${STRIPE_KEY}"}),
    (
        "secrets_stay_out",
        {"a.pem": "-----BEGIN EC PRIVATE" + " KEY-----"},
        {"a.pem": "-----BEGIN CERTIFICATE-----"},
    ),
    ("secrets_stay_out", {"a.py": "'whsec_" + "a" * 32 + "'"}, {"a.py": "'whsec_test'"}),
    (
        "locks_hold_hashes_not_hosts",
        {"requirements.lock": "a==1 \\\n    --hash=sha256:00\n"},
        dict.fromkeys(("requirements.lock", "requirements-dev.lock"), "a==1 \\\n    --hash=sha256:00\n"),
    ),
    (
        "locks_hold_hashes_not_hosts",
        {"requirements-dev.lock": "a>=1\n"},
        {"requirements-dev.lock": "# a note\n"},
    ),
    (
        "locks_hold_hashes_not_hosts",
        {"requirements.lock": "a @ https://x.example/a.whl\n"},
        {"requirements.lock": ""},
    ),
    (
        "domain_sees_the_standard_library",
        {"gateway/domain/a.py": "from gateway.app import b\n"},
        {"gateway/domain/a.py": "from gateway.domain import b\nimport enum\n"},
    ),
    (
        "providers_stand_alone",
        {"providers/stripe/a.py": "from providers import paypal\n", "providers/paypal/a.py": ""},
        {
            "providers/stripe/a.py": "import providers.http\n",
            "providers/paypal/a.py": "",
            "providers/http.py": "",
        },
    ),
    (
        "providers_stand_alone",
        {"webhook_http/a.py": "import providers.stripe.adapter\n"},
        {"webhook_http/a.py": "from providers.stripe.callbacks import verify\n"},
    ),
]


@pytest.fixture(scope="module")
def house() -> Tree:
    """Every text file that is committed, or would be."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True)
    tree = {}
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            tree[name] = content.decode(errors="replace")
    return tree


@pytest.mark.parametrize("name", RULES)
def test_the_house_is_in_order(name: str, house: Tree) -> None:
    """Nothing in the tree breaks a rule."""
    assert list(RULES[name](house)) == []


@pytest.mark.parametrize(("name", "broken", "sound"), PLANTED)
def test_a_rule_tells_broken_from_sound(name: str, broken: Tree, sound: Tree) -> None:
    """A rule names a planted offence, and leaves its nearest neighbour alone."""
    assert list(RULES[name](broken)) != []
    assert list(RULES[name](sound)) == []


def test_every_rule_has_been_seen_failing() -> None:
    """No rule is trusted that has not been seen to bite."""
    assert {name for name, _, _ in PLANTED} == RULES.keys()
