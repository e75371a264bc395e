"""Where a team's server is, and how its token is kept out of sight."""

from __future__ import annotations

from pathlib import Path

import pytest

from coderl_server.errors import InputError
from coderl_server.remote.address import TeamServer


@pytest.mark.parametrize(
    "url",
    ["", "team.example", "ftp://team.example", "http://", "https://team.example?x=1", "https://a:b@team.example", "http://[::"],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as refused:
        TeamServer.at(url)
    assert "a:b" not in str(refused.value)


def test_the_token_is_that_of_the_file_else_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    assert TeamServer.at("https://team.example/").headers() == {}
    monkeypatch.setenv("CODERL_TOKEN", " abc ")
    assert TeamServer.at("https://team.example/").headers() == {"Authorization": "Bearer abc"}
    file.write_text("def\n")
    server = TeamServer.at("https://team.example", file)
    assert server.headers() == {"Authorization": "Bearer def"}
    file.write_text("ghi")  # a renewed token counts without a restart
    assert server.token() == "ghi"
    assert "ghi" not in repr(server)
    for bad in ("", "two words", "é", "a\nb"):
        file.write_text(bad)
        with pytest.raises(InputError, match="must hold the token"):
            server.token()
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        server.headers()


def test_each_server_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {TeamServer.at(url).folder(tmp_path) for url in ("http://a.example", "http://a.example/", "http://b.example")}
    assert len(folders) == 2
