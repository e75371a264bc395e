import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderl_generator.globs import DEFAULT_SECRET_GLOBS, is_ignored, is_secret, matches, path_segments


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/me/app/.env",
        "file:///home/me/app/.env.local",
        "file:///home/me/app/prod.env",
        "file:///home/me/app/%2Eenv",
        "file:///c%3A/Users/Me/.SSH/config",
        "file:///C:/keys/Server.PEM",
        "file://server/share/id_rsa.bak",
        "C:\\Users\\Me\\.aws\\credentials",
        "vscode-remote://ssh-remote+box/home/me/.netrc",
        "vscode-notebook-cell:/home/me/secrets.ipynb#W0sZmlsZQ",
        "untitled:.env",
        "/home/me/.gnupg/private-keys-v1.d/x",
        "/home/me/.docker/config.json",
        "file:///home/me/app/config/credentials.yml",
        "file:///home/me/app/terraform.tfvars",
        "file:///home/me/vault.kdbx",
        "file:///app/.dev.vars",
    ],
)
def test_files_that_hold_keys(uri: str) -> None:
    assert is_secret(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///home/me/app/environment.py",
        "file:///home/me/app/key.py",
        "file:///home/me/app/keyboard/layout.ts",
        "file:///home/me/ssh/config",
        "file:///home/me/app/config.json",
        "file:///home/me/app/pem.py",
        "file:///home/me/app/monkey",
        "untitled:Untitled-1",
        "",
    ],
)
def test_ordinary_files(uri: str) -> None:
    assert not is_secret(uri)


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("*.md", "/a/README.md", True),
        ("*.md", "/a/README.mdx", False),
        ("build", "/a/build/x.py", True),
        ("build", "/a/rebuild/x.py", False),
        ("build/", "/a/build", False),
        ("build/", "/a/build/x.py", True),
        ("src/*.py", "/a/src/x.py", True),
        ("src/*.py", "/a/src/b/x.py", False),
        ("src/**/*.py", "/a/src/x.py", True),
        ("src/**/*.py", "/a/src/b/c/x.py", True),
        ("**/gen", "/a/b/gen/x", True),
        ("/gen", "/a/gen", True),
        ("x?.py", "/a/x1.py", True),
        ("x?.py", "/a/x.py", False),
        ("x[0-9].py", "/a/x5.py", True),
        ("x[!0-9].py", "/a/x5.py", False),
        ("a[!b]c", "/a/c", False),
        ("x[", "/x[", True),
        ("*", "/anything", True),
        ("a+b.(py)", "/a+b.(py)", True),
        ("# *.py", "/a.py", False),
        ("", "/a.py", False),
        ("/", "/a.py", False),
        ("!*.py", "/a.py", False),
    ],
)
def test_pattern(glob: str, path: str, expected: bool) -> None:
    assert matches(path, [glob]) is expected


def test_the_last_match_wins() -> None:
    globs = [*DEFAULT_SECRET_GLOBS, "!.env.example"]
    assert not matches("file:///a/.env.example", globs)
    assert matches("file:///a/.env.production", globs)
    assert matches("file:///a/.env.example", [*globs, ".env*"])


def test_case_never_matters() -> None:
    assert matches("/A/ReadMe.MD", ["readme.md"])
    assert matches("/a/readme.md", ["README.*"])


def test_path_of_a_windows_uri() -> None:
    assert path_segments("file:///C%3A/Users/Me/A%20B.py") == "/c:/users/me/a b.py"
    assert path_segments("C:\\Users\\Me") == "/c:/users/me"


NAMES = st.text("abA.-_ é[", min_size=1, max_size=6).filter(lambda name: name.strip(" .") == name and "/" not in name)


@given(st.lists(NAMES, min_size=1, max_size=5), st.integers(0, 4))
def test_every_name_on_the_way_matches_itself(names: list[str], index: int) -> None:
    name = names[index % len(names)]
    quoted = name.replace("[", "[[]")
    assert matches("file:///" + "/".join(names), [quoted])


@given(st.text(max_size=40), st.lists(st.text(max_size=12), max_size=4))
def test_no_input_breaks_it(uri: str, globs: list[str]) -> None:
    assert matches(uri, globs) in (True, False)


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("build", True, True),
        ("a/build", True, True),
        ("build", False, None),
        ("only/here", False, True),
        ("a/only/here", False, None),
        ("top", False, True),
        ("a/top", False, None),
        ("x.log", False, True),
        ("a/keep.log", False, False),
        ("deep", True, None),
        ("deep/x", False, True),
        ("a/#odd", False, True),
    ],
)
def test_lines_of_an_ignore_file(path: str, folder: bool, expected: bool | None) -> None:
    lines = ["# comment", "", "build/", "only/here", "/top", "*.log", "!keep.log", "deep/**", "\\#odd"]
    assert is_ignored(path, lines, folder=folder) is expected
