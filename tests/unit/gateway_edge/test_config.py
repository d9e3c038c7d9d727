"""Settings: where they come from, who wins, and what is said of a wrong one."""

from pathlib import Path

import pytest

from gateway.app.settings import EngineSettings
from gateway.config import ConfigError, Settings, effective, load_settings
from gateway.main import accounts_settings
from providers.registry import build_accounts
from simulators.sandbox.settings import DEFAULT_ACCOUNTS, SandboxSettings

SECRET = "planted-secret"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the machine, and a working directory of the test's own."""
    import os

    for name in list(os.environ):
        if name.startswith("OBOL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems(config: Path | None = None) -> list[str]:
    """What is wrong with the settings."""
    with pytest.raises(ConfigError) as caught:
        load_settings(config)
    return caught.value.problems


def test_unconfigured_the_parts_fit_together(tmp_path: Path) -> None:
    """With nothing configured the gateway knows the sandbox's own account, key, signing secret and port."""
    settings = load_settings()
    account = settings.providers[DEFAULT_ACCOUNTS[0].id]
    assert account.api_key.get_secret_value() == DEFAULT_ACCOUNTS[0].api_key
    assert [each.get_secret_value() for each in account.webhook_secrets] == [DEFAULT_ACCOUNTS[0].signing_secret]
    assert account.base_url.endswith(f":{SandboxSettings(data_dir=tmp_path).port}")
    assert settings.routed_account == DEFAULT_ACCOUNTS[0].id
    assert settings.database_url.get_secret_value() == "sqlite+aiosqlite:///var/obol.db"
    assert settings.gateway_target == "127.0.0.1:50051"
    assert settings.engine == EngineSettings()


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment over file over default, setting by setting, also inside one table."""
    (tmp_path / "obol.toml").write_text(
        '[grpc]\nport = 1\nhost = "::1"\nworkers = 1\n[engine]\nlease_s = 90\n[logs]\nlevel = "debug"\n'
    )
    monkeypatch.setenv("OBOL_GRPC__PORT", "2")
    monkeypatch.setenv("OBOL_ENGINE__SEND_WINDOW_S", "5")
    settings = load_settings(options={"logs": {"level": "error"}})
    assert (settings.grpc.port, settings.grpc.host) == (2, "::1")
    assert (settings.engine.lease_s, settings.engine.send_window_s) == (90, 5)
    assert settings.logs.level == "error"


def test_the_file_is_the_one_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--config over OBOL_CONFIG over ./obol.toml; a named file that is not there is an error, a default one is not."""
    for number, name in enumerate(("obol.toml", "env.toml", "option.toml"), start=1):
        (tmp_path / name).write_text(f"[grpc]\nport = {number}\n")
    assert load_settings().grpc.port == 1
    monkeypatch.setenv("OBOL_CONFIG", "env.toml")
    assert load_settings().grpc.port == 2
    assert load_settings(Path("option.toml")).grpc.port == 3
    assert problems(Path("none.toml")) == ["none.toml (from --config): cannot be read: No such file or directory"]
    monkeypatch.setenv("OBOL_CONFIG", "none.toml")
    assert "from OBOL_CONFIG" in problems()[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[grpc]\nprot = 1\n", "grpc.prot (from the file obol.toml): extra inputs"),
        ("grcp = 1\n", "grcp (from the file obol.toml): extra inputs"),
        ("[engine]\nlaese_s = 1\n", "engine (from the file obol.toml): there is no setting laese_s"),
        ("[grpc]\nport = 70000\n", "grpc.port (from the file obol.toml): input should be less than"),
        ("[events]\npage = 0\n", "events (from the file obol.toml): page must be 1 to 100"),
        ("[reconciliation]\nevry_s = 1\n", "reconciliation (from the file obol.toml): there is no setting evry_s"),
        ("[reconciliation]\nevery_s = 99999\n", "reconciliation (from the file obol.toml): window_s must be every_s"),
        ("[engine]\nlease_s = 1\n", "engine (from the file obol.toml): send_window_s must be shorter"),
        ("[grpc]\nworkers = 2\n", "grpc.workers (from the file obol.toml): SQLite has one writing process"),
        ('default_account = "no"\n', "default_account (from the file obol.toml): there is no [providers.no]"),
        ('[database]\nurl = "mysql://u:planted-secret@h/d"\n', "database.url (from the file obol.toml): there is no"),
        ("[grpc\n", "obol.toml (from the working directory): is not TOML"),
        ('[providers.a]\nprovider = "x"\nbase_url = "x"\napi_key = ["planted-secret"]\n', "providers.a.api_key"),
        ("x = '\xff'\n", "obol.toml (from the working directory): is not TOML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_source(tmp_path: Path, text: str, expected: str) -> None:
    """One line for each problem: the setting, where it came from, what it should be; never the value of a secret."""
    (tmp_path / "obol.toml").write_text(text, encoding="latin-1")
    found = problems()
    assert len(found) == 1
    assert found[0].startswith(expected)
    assert SECRET not in found[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("OBOL_GRPC_PORT", "OBOL_GRPC_PORT (from the environment): there is no such setting; nesting takes two"),
        ("OBOL_GRPC__PROT", "grpc.prot (from the environment, OBOL_GRPC__PROT): extra inputs"),
        ("OBOL_ENGINE__LAESE_S", "engine (from the environment, OBOL_ENGINE__LAESE_S): there is no setting laese_s"),
        ("OBOL_PROVIDERS__ACCT_MAIN__KEY", "providers.acct_main"),
        ("OBOL_PROVIDERS", 'error parsing value for field "providers"'),
    ],
)
def test_a_misspelt_variable_is_an_error_and_not_a_silence(
    monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    """Every OBOL_ variable must be a setting; its value is never repeated."""
    monkeypatch.setenv(name, SECRET)
    found = problems()
    assert any(problem.startswith(expected) for problem in found)
    assert SECRET not in "".join(found)


NEWER = """
grcp = 1
[grpc]
port = 50055
prot = 1
[engine]
laese_s = 1
[providers.acct_main]
provider = "sandbox"
base_url = "http://127.0.0.1:8080"
api_key = "planted-secret"
newer = "planted-secret"
[[routing.rules]]
name = "all"
accounts = ["acct_main"]
newer = 1
"""


def test_a_release_that_is_rolled_back_passes_over_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told to, it starts with all that it knows, and names each that it does not; never the value of one."""
    (tmp_path / "obol.toml").write_text(NEWER)
    monkeypatch.setenv("OBOL_NEWER__THING", SECRET)
    monkeypatch.setenv("OBOL_GRPC__NEWER", SECRET)
    refused = problems()
    assert len(refused) == 7
    monkeypatch.setenv("OBOL_SETTINGS_UNKNOWN", "warn")
    settings = load_settings()
    assert (settings.grpc.port, list(settings.providers)) == (50055, ["acct_main"])
    told = capsys.readouterr().err
    for name in ("OBOL_NEWER__THING", "grcp", "grpc.prot", "grpc.newer", "engine.laese_s", "providers.acct_main.newer"):
        assert f"passed over: {name} (from" in told
    assert "routing.rules.0.newer" in told
    assert told.count("passed over") == 7
    assert SECRET not in told


def test_what_is_known_and_wrong_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names are; and a word that is neither refuse nor warn is an error itself."""
    monkeypatch.setenv("OBOL_SETTINGS_UNKNOWN", "warn")
    (tmp_path / "obol.toml").write_text("[grpc]\nport = 70000\nprot = 1\n")
    (found,) = problems()
    assert found.startswith("grpc.port (from the file obol.toml): input should be less than")
    monkeypatch.setenv("OBOL_SETTINGS_UNKNOWN", "wran")
    assert problems() == ["OBOL_SETTINGS_UNKNOWN (from the environment): must be refuse or warn, not 'wran'"]


def test_a_key_is_all_that_a_provider_of_its_name_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable: the account is of the kind that its name says, alone, and so the default."""
    monkeypatch.setenv("OBOL_PROVIDERS__STRIPE__API_KEY", SECRET)
    settings = load_settings()
    (account,) = build_accounts(accounts_settings(settings)).all()
    assert (account.account_id, account.provider, settings.routed_account) == ("stripe", "stripe", "stripe")


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a repr nor the effective settings hold a key, a signing secret or a database's password."""
    account = '{"provider": "sandbox", "base_url": "http://127.0.0.1:1", "api_key": "KEY", "webhook_secrets": ["KEY"]}'
    monkeypatch.setenv("OBOL_PROVIDERS", f'{{"a": {account.replace("KEY", SECRET)}}}')
    monkeypatch.setenv("OBOL_DATABASE__URL", f"postgresql+asyncpg://u:{SECRET}@h/d")
    settings = load_settings()
    assert settings.providers["a"].api_key.get_secret_value() == SECRET
    for shown in (repr(settings), str(settings), str(effective(settings))):
        assert SECRET not in shown
        assert "*****" in shown


def test_a_request_that_names_no_account_goes_to_the_default_or_to_the_only_one() -> None:
    """Two accounts without a default route nothing: guessing would move money to the wrong merchant."""
    section = load_settings().providers["acct_main"].model_dump() | {"api_key": "k", "webhook_secrets": ()}
    undecided = {"a": {**section, "default": False}, "b": {**section, "default": False}}
    assert Settings.model_validate({"providers": undecided}).routed_account == ""
    chosen = {**undecided, "b": {**section, "default": True}}
    assert Settings.model_validate({"providers": chosen}).routed_account == "b"
    assert Settings.model_validate({"providers": chosen, "default_account": "a"}).routed_account == "a"
