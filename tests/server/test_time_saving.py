"""How files are called in tables and pictures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coderl_server.time_saving import told_apart

PATHS = st.lists(st.lists(st.sampled_from(["a", "b", "c.py"]), min_size=1, max_size=4).map("/".join), unique=True, max_size=6)


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert told_apart(["x/a.py", "y/a.py", "y/b.py"]) == {"x/a.py": "x/a.py", "y/a.py": "y/a.py", "y/b.py": "b.py"}
    assert told_apart(["/one/x/a.py", "/two/x/a.py"]) == {"/one/x/a.py": "one/x/a.py", "/two/x/a.py": "two/x/a.py"}
    assert told_apart(["a.py", "x/a.py"]) == {"a.py": "a.py", "x/a.py": "x/a.py"}
    assert told_apart([]) == {}


@given(PATHS)
def test_no_two_files_are_called_the_same(paths: list[str]) -> None:
    names = told_apart(paths)
    assert list(names) == paths
    assert len(set(names.values())) == len(paths)
    assert all(path.endswith(name) for path, name in names.items())
