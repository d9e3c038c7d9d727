"""Typed settings, read once: the environment over a TOML file over the defaults.

A setting `grpc.port` is `OBOL_GRPC__PORT` in the environment, and `port` under `[grpc]` in the file, which is the one
named by `--config` or `OBOL_CONFIG`, else `obol.toml` in the working directory where there is one. A name that is no
setting is an error, in either place (`gateway.config_unknown` has the exception); an error names the setting, where it
came from, and how to mend it.
"""

import os
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from gateway.app.settings import EngineSettings, EventSettings, ReconciliationSettings
from gateway.config_routing import RoutingSection, RuleSection
from gateway.config_sections import (
    DatabaseSection,
    DrainSection,
    GrpcSection,
    LogsSection,
    MetricsSection,
    ProviderSection,
    SecretsSection,
    WebhooksSection,
)
from gateway.config_unknown import (
    UNKNOWN_ENV,
    EnvironmentWithout,
    Location,
    no_such_setting,
    passes_over,
    unknown_in,
    without,
)
from gateway.domain.routing import RoutingRule, problems_of

ENV_PREFIX = "OBOL_"
ENV_NESTING = "__"
CONFIG_FILE_ENV = "OBOL_CONFIG"
CONFIG_FILE_DEFAULT = Path("obol.toml")
CONFIG_BYTES_MAX = 1024 * 1024

DATABASE_FILE = "obol.db"
SANDBOX_ACCOUNT = "acct_main"
SANDBOX_URL = "http://127.0.0.1:8080"


def _sandbox() -> dict[str, ProviderSection]:
    # The sandbox's own defaults, so that `obol sandbox`, `obol serve` and `obol webhooks` fit together unconfigured.
    section = ProviderSection(
        provider="sandbox",
        base_url=SANDBOX_URL,
        api_key=SecretStr("sandbox-key-main"),
        webhook_secrets=(SecretStr("sandbox-signing-main"),),
        default=True,
    )
    return {SANDBOX_ACCOUNT: section}


def _named_by_kind(value: object) -> object:
    # [providers.stripe] needs no line that says so: an account whose kind is left out has its kind's name.
    if not isinstance(value, Mapping):
        return value
    return {
        name: {"provider": name, **section} if isinstance(section, Mapping) else section
        for name, section in value.items()
    }


def _known_names(section: type[EngineSettings | ReconciliationSettings | EventSettings]) -> BeforeValidator:
    # A standard dataclass would let pydantic pass over a name that it does not have.
    names = {each.name for each in fields(section)}

    def check(value: object) -> object:
        unknown = sorted(set(value) - names) if isinstance(value, Mapping) else []
        if unknown:
            raise no_such_setting(unknown)
        return value

    return BeforeValidator(check)


class Settings(BaseSettings):
    """Everything that a process is told. Secrets do not show in its repr."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_NESTING,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Field(default=Path("var"), description="directory of the SQLite database and of the sandbox")
    default_account: str = Field(default="", description="the account of a request that names none; may stay empty")
    database: DatabaseSection = Field(default_factory=DatabaseSection)
    grpc: GrpcSection = Field(default_factory=GrpcSection)
    webhooks: WebhooksSection = Field(default_factory=WebhooksSection)
    metrics: MetricsSection = Field(default_factory=MetricsSection)
    logs: LogsSection = Field(default_factory=LogsSection)
    drain: DrainSection = Field(default_factory=DrainSection)
    secrets: SecretsSection = Field(default_factory=SecretsSection)
    providers: Annotated[dict[str, ProviderSection], BeforeValidator(_named_by_kind)] = Field(default_factory=_sandbox)
    routing: RoutingSection = Field(default_factory=RoutingSection)
    engine: Annotated[EngineSettings, _known_names(EngineSettings)] = Field(default_factory=EngineSettings)
    reconciliation: Annotated[ReconciliationSettings, _known_names(ReconciliationSettings)] = Field(
        default_factory=ReconciliationSettings
    )
    events: Annotated[EventSettings, _known_names(EventSettings)] = Field(default_factory=EventSettings)

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.default_account and self.default_account not in self.providers:
            raise ValueError(f"default_account: there is no [providers.{self.default_account}]")
        if self.grpc.workers > 1 and self.is_sqlite:
            raise ValueError("grpc.workers: SQLite has one writing process; set it to 1, or database.url to PostgreSQL")
        if self.grpc.workers > 1 and self.grpc.unix_socket is not None:
            raise ValueError("grpc.workers: workers share a TCP port, not a Unix socket; unset grpc.unix_socket")
        wrong = list(problems_of(self.routing_rules, frozenset(self.providers)))
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def routing_rules(self) -> tuple[RoutingRule, ...]:
        """The rules, as the domain has them."""
        return tuple(section.rule() for section in self.routing.rules)

    @property
    def database_url(self) -> SecretStr:
        """The URL in effect."""
        # Quoted: what follows a "?" in a directory's name would be taken for options, and the file made elsewhere.
        return self.database.url or SecretStr(f"sqlite+aiosqlite:///{quote(str(self.data_dir / DATABASE_FILE))}")

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of this machine."""
        return self.database_url.get_secret_value().startswith("sqlite")

    @property
    def routed_account(self) -> str:
        """The account of a request that names neither account nor provider; "" where none is meant."""
        chosen = [name for name, section in self.providers.items() if section.default]
        only = list(self.providers) if len(self.providers) == 1 else chosen
        return self.default_account or (only[0] if len(only) == 1 else "")

    @property
    def gateway_target(self) -> str:
        """The gRPC target that the sidecar forwards to."""
        if self.webhooks.gateway:
            return self.webhooks.gateway
        if self.grpc.unix_socket is not None:
            return f"unix:{self.grpc.unix_socket}"
        return f"{self.grpc.host}:{self.grpc.port}"


class ConfigError(Exception):
    """The settings cannot be used; `problems` are lines that each name a setting, its source and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Sources:
    """Where values came from: the command line's options, the environment's variables by setting, the file's table."""

    file: Path | None
    table: Mapping[str, Any]
    options: Mapping[str, Any]
    variables: Mapping[tuple[str, ...], str]

    def of(self, location: tuple[str, ...]) -> str:
        """What set `location` or a part of it."""
        given: Any = self.options
        for part in location:
            given = given.get(part) if isinstance(given, Mapping) else None
        if location and given is not None:
            return "the command line"
        for path, variable in self.variables.items():
            shared = min(len(path), len(location))
            if path[:shared] == location[:shared]:
                return f"the environment, {variable}"
        return f"the file {self.file}" if location and location[0] in self.table else "the defaults"


def load_settings(config: Path | None = None, options: Mapping[str, Any] | None = None) -> Settings:
    """Read the environment and the file; `options` are the command line's, nested like the file, and win over both.

    Raises ConfigError, which holds every problem, and no secret.
    """
    path, table = _read_file(config)
    sources = _Sources(path, table, options or {}, _variables(os.environ))
    try:
        passed_over = list(_unknown_variables(sources)) if passes_over() else None
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    if passed_over is None:
        return _load(sources, ())
    try:
        settings = _load(sources, (), strict=False)
    except _Unknown as found:
        passed_over += found.problems
        settings = _load(sources, found.places, strict=False)
    for line in passed_over:
        # There is no log yet.
        sys.stderr.write(f"obol: passed over: {line}\n")
    return settings


class _Unknown(Exception):
    """Names that are no setting, by their places."""

    def __init__(self, places: Sequence[Location], problems: list[str]) -> None:
        super().__init__(*problems)
        self.places = places
        self.problems = problems


def _load(sources: _Sources, unknown: Collection[Location], *, strict: bool = True) -> Settings:
    """Not strict: raises _Unknown where names that are no setting stand beside `unknown`."""

    class FromSources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvironmentWithout(settings_cls)
            environment.unknown = unknown
            return (
                InitSettingsSource(settings_cls, init_kwargs=dict(sources.options)),
                environment,
                InitSettingsSource(settings_cls, init_kwargs=without(sources.table, unknown)),
            )

    problems = list(_unknown_variables(sources)) if strict else []
    try:
        settings = FromSources()
    except ValidationError as error:
        places = () if strict or unknown else unknown_in(error)
        if places:
            names = [tuple(map(str, place)) for place in places]
            told = [f"{'.'.join(name)} (from {sources.of(name)}): there is no such setting" for name in names]
            raise _Unknown(places, told) from None
        problems += [
            _problem(each["loc"], message, sources)
            for each in error.errors(include_input=False)
            for message in each["msg"].splitlines()
        ]
    except SettingsError as error:
        # Its text names the field and the source, never the value.
        problems.append(f"{error}: lists and tables are JSON in the environment")
    else:
        if not problems:
            return settings
    raise ConfigError(problems)


def effective(settings: Settings) -> Mapping[str, Any]:
    """Every setting in effect, as plain values; secrets show as ******."""
    shown: dict[str, Any] = settings.model_dump(mode="json")
    shown["database"]["url"] = "******" if settings.database.url else str(settings.database_url.get_secret_value())
    return shown


def _read_file(config: Path | None) -> tuple[Path | None, Mapping[str, Any]]:
    named = os.environ.get(CONFIG_FILE_ENV, "")
    path = config or (Path(named) if named else CONFIG_FILE_DEFAULT)
    if config is None and not named and not path.exists():
        return None, {}
    said = "--config" if config else (CONFIG_FILE_ENV if named else "the working directory")
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
        if len(text) > CONFIG_BYTES_MAX:
            raise ConfigError([f"{path} (from {said}): larger than {CONFIG_BYTES_MAX} bytes; is it the right file?"])
        return path, tomllib.loads(text.decode())
    except OSError as error:
        raise ConfigError([f"{path} (from {said}): cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} (from {said}): is not TOML: {error}"]) from None


def _variables(environ: Mapping[str, str]) -> Mapping[tuple[str, ...], str]:
    own = (CONFIG_FILE_ENV, UNKNOWN_ENV)
    names = (name for name in environ if name.upper().startswith(ENV_PREFIX) and name.upper() not in own)
    return {tuple(name[len(ENV_PREFIX) :].lower().split(ENV_NESTING)): name for name in names}


def _unknown_variables(sources: _Sources) -> Iterator[str]:
    # pydantic-settings passes over a variable whose first word is no setting: a misspelt one would change nothing.
    for path, variable in sources.variables.items():
        if path[0] not in Settings.model_fields:
            mend = (
                "nesting takes two underscores, such as OBOL_GRPC__PORT"
                if "_" in path[0]
                else "see `obol config check`"
            )
            yield f"{variable} (from the environment): there is no such setting; {mend}"


def _problem(location: tuple[int | str, ...], message: str, sources: _Sources) -> str:
    path = tuple(str(part) for part in location)
    text = message.removeprefix("Value error, ")
    if not path:
        # Of the whole: the message names its setting itself.
        name, _, rest = text.partition(": ")
        return f"{name} (from {sources.of(tuple(name.partition('[')[0].split('.')))}): {rest}"
    wanted = _description(path)
    mend = f"; it is {wanted}" if wanted else "; remove it, or mend its spelling" if "extra" in text.lower() else ""
    return f"{'.'.join(path)} (from {sources.of(path)}): {text[:1].lower()}{text[1:]}{mend}"


def _description(path: tuple[str, ...]) -> str:
    """What the setting at `path` should be, in words; empty where there is none."""
    model: Any = Settings
    for part in path:
        known = getattr(model, "model_fields", {})
        if part in known:
            field = known[part]
            if field.description and (field.annotation != tuple[RuleSection, ...] or part == path[-1]):
                return str(field.description)
            model = field.annotation
        elif model == dict[str, ProviderSection]:
            model = ProviderSection
        elif model == tuple[RuleSection, ...]:
            model = RuleSection
        else:
            return ""
    return ""
