"""Each source of configuration says what is written there, and refuses what means nothing."""

import logging
from pathlib import Path

import pytest

from cachestream.config._files import ConfigFile
from cachestream.config._layers import (
    ROWS,
    EnvironmentLayer,
    FileLayer,
    FlagLayer,
    Raw,
    variable_of,
    warn_of_unknown,
)
from cachestream.config._plugin import OptionRow
from cachestream.errors import ConfigurationError

URL = OptionRow(name="url", type=str, default="")
KEY = OptionRow(name="key", type=str, default="", secret=True)


def layer(tmp_path: Path, readable: bool = False, /, **tables: object) -> FileLayer:
    """Return the layer of a file with these tables."""
    file = ConfigFile(tmp_path / "c.toml", tables, readable)
    return FileLayer(file, {"SECRET": "from the environment"})


def test_flags_say_settings_and_options() -> None:
    """An option names its kind, plug-in and name; a value may have anything in it."""
    flags = FlagLayer({"port": 1}, ["store.my.s3.url=s3://a=b.c", "store.my.s3.key="])
    assert flags.setting("port") == Raw(1, "flag")
    assert flags.setting("host") is None
    assert flags.option("store", "my.s3", URL) == Raw("s3://a=b.c", "flag")
    assert flags.option("store", "my.s3", KEY) == Raw("", "flag")
    assert flags.option("transport", "my.s3", URL) is None
    assert [(kind, name, list(given)) for kind, name, given in flags.plugins()] == [
        ("store", "my.s3", ["url", "key"])
    ]


@pytest.mark.parametrize("text", ["", "a", "store.s3.url", "store.url=x", "shop.s3.url=x", "=x"])
def test_an_option_that_is_written_wrongly_is_refused(text: str) -> None:
    """The error shows how it is written, and does not repeat the value."""
    with pytest.raises(ConfigurationError, match=r"KIND\.PLUGIN\.OPTION=VALUE"):
        FlagLayer({}, [text])


def test_variables_say_settings_and_options() -> None:
    """A variable's name is made of words in capitals; an empty one says nothing."""
    variables = EnvironmentLayer(
        {"CACHESTREAM_PORT": "1", "CACHESTREAM_HOST": "", "CACHESTREAM_STORE_MY_S3_URL": "u"}
    )
    assert variables.setting("port") == Raw("1", "variable CACHESTREAM_PORT")
    assert variables.setting("host") is None
    assert variables.option("store", "my-s3", URL) == Raw(
        "u", "variable CACHESTREAM_STORE_MY_S3_URL"
    )
    assert variables.may_have_options("store", "my-s3")
    assert not variables.may_have_options("store", "s3")
    assert not list(variables.plugins())


def test_a_variable_that_means_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """The nearest that means something is named; options of plug-ins and others are not meant."""
    with caplog.at_level(logging.WARNING, "cachestream.config"):
        warn_of_unknown({"CACHESTREAM_MAXSIZE": "1", "CACHESTREAM_STORE_S3_X": "", "PATH": ""})
        warn_of_unknown({variable_of(name): "" for name in (*ROWS, "store", "plugins", "config")})
    assert [record.getMessage() for record in caplog.records] == [
        "the variable CACHESTREAM_MAXSIZE means nothing; did you mean CACHESTREAM_MAX_SIZE?"
    ]


def test_a_file_says_settings_and_options(tmp_path: Path) -> None:
    """Settings are in one table, and options in one for each plug-in."""
    file = layer(tmp_path, cachestream={"port": 1, "store": "s3"}, store={"s3": {"url": "u"}})
    origin = str(tmp_path / "c.toml")
    assert file.setting("port") == Raw(1, origin, tmp_path)
    assert file.setting("store") == Raw("s3", origin, tmp_path)
    assert file.option("store", "s3", URL) == Raw("u", origin, tmp_path)
    assert file.option("store", "s3", KEY) is None
    assert file.option("store", "other", URL) is None
    assert [(kind, name, list(given)) for kind, name, given in file.plugins()] == [
        ("store", "s3", ["url"])
    ]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"cachestreem": {}}, r"no table 'cachestreem'\. Did you mean 'cachestream'"),
        ({"port": 1}, r"'port' stands before all tables\. Write it below a line \[cachestream\]"),
        ({"store": "s3"}, r"'store' must be a table\. .* below \[cachestream\]"),
        ({"cachestream": 1}, "'cachestream' must be a table"),
        ({"store": {"url": "u"}}, r"'store\.url' must be a table"),
        (
            {"cachestream": {"max-size": 1}},
            r"no setting is called 'max-size'\. Did you mean 'max_si",
        ),
        (
            {"cachestream": {"zzz": 1}},
            r"no setting is called 'zzz'\. Settings are: .*allow_hosts",
        ),
        ({"cachestream": {"key": "x"}}, "only a program can give the setting 'key'"),
    ],
)
def test_what_no_file_may_say_is_refused(
    tmp_path: Path, tables: dict[str, object], message: str
) -> None:
    """The error names the file, and what would do."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        layer(tmp_path, **tables)
    assert str(tmp_path) in str(caught.value)


def test_a_value_may_be_kept_elsewhere(tmp_path: Path) -> None:
    """A text may be in another file or in a variable, in a table too."""
    (tmp_path / "token").write_text("from a file\n")
    file = layer(
        tmp_path,
        cachestream={
            "token": {"file": "token"},
            "proxy": {"env": "SECRET"},
            "request_headers": {"A": {"env": "SECRET"}, "B": "plain"},
        },
        store={"s3": {"key": {"file": str(tmp_path / "token")}}},
    )
    assert file.setting("token").value == "from a file"  # type: ignore[union-attr]
    assert file.setting("proxy").value == "from the environment"  # type: ignore[union-attr]
    assert file.setting("request_headers").value == {  # type: ignore[union-attr]
        "A": "from the environment",
        "B": "plain",
    }
    assert file.option("store", "s3", KEY).value == "from a file"  # type: ignore[union-attr]


def test_what_is_kept_elsewhere_must_be_there(tmp_path: Path) -> None:
    """The error names the value's place, and where it was looked for."""
    file = layer(tmp_path, cachestream={"token": {"file": "none"}, "proxy": {"env": "NONE"}})
    with pytest.raises(
        ConfigurationError, match=r"cachestream\.token is in the file .*none, which"
    ):
        file.setting("token")
    with pytest.raises(ConfigurationError, match="variable NONE, which is not set"):
        file.setting("proxy")


def test_a_secret_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands in a file for all is no secret; what is kept elsewhere is no concern."""
    tables: dict[str, object] = {"cachestream": {"token": "canary", "port": 1}}
    with caplog.at_level(logging.WARNING, "cachestream.config"):
        layer(tmp_path, False, **tables).setting("token")
        layer(tmp_path, True, **tables).setting("port")
        layer(tmp_path, True, cachestream={"token": {"env": "SECRET"}}).setting("token")
        assert not caplog.records
        layer(tmp_path, True, **tables).setting("token")
    assert "holds the secret cachestream.token" in caplog.text
    assert "canary" not in caplog.text


def test_a_raw_value_is_not_shown() -> None:
    """It may be a secret."""
    assert "canary" not in repr(Raw("canary", "flag"))
