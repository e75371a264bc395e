"""Random keys, accepts and dismissals while answers come at random times: the text is never torn, and nothing is told twice."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from .neovim_driver import Start, neovims
from .neovim_served import WITH_PLUGIN, Served

TARGET = """\
def größe(werte, 🙂=None):
    total_count = 0
    for value in werte:
        total_count += value * 2  # 数を足す
    if total_count > 10:
        return "viel: " + str(total_count)
    return total_count"""

ANSWERS = """
local target, seed = ...
math.randomseed(seed)
vim.bo.filetype = ''
vim.bo.autoindent = false
_G.on_asked = function(params, answer)
  local at = params.position
  local lines = vim.api.nvim_buf_get_lines(0, 0, at.line + 1, false)
  lines[#lines] = lines[#lines]:sub(1, at.character)
  local before = table.concat(lines, '\\n')
  local items = {}
  if vim.startswith(target, before) and #before < #target and math.random() < 0.9 then
    local token = lines[#lines]:match('[%w_]*$')
    local rest = target:sub(#before + 1)
    local cut = vim.str_byteindex(rest, 'utf-32', math.random(60), false)
    items[1] = {
      insertText = token .. rest:sub(1, cut),
      range = { start = { line = at.line, character = at.character - #token }, ['end'] = at },
      command = { title = '', command = 'accept', arguments = { tostring(#_G.asked) } },
    }
  end
  vim.defer_fn(function() answer(math.random() < 0.1 and vim.NIL or { items = items }) end, math.random(0, 250))
end
local coderl = require('coderl')
vim.keymap.set('i', '<F2>', coderl.accept)
vim.keymap.set('i', '<F3>', coderl.accept_word)
vim.keymap.set('i', '<F4>', coderl.accept_line)
vim.keymap.set('i', '<F5>', coderl.dismiss)
"""

STEPS = 400


@pytest.fixture
def start(tmp_path: Path, own_home: Path) -> Iterator[Start]:
    with neovims(tmp_path) as start:
        yield start


def typed(text: str) -> str:
    return text.replace("<", "<lt>").replace("\n", "<CR>")


@pytest.mark.parametrize("seed", [1, 2])
def test_the_text_is_never_torn(start: Start, seed: int) -> None:
    choice = random.Random(seed)
    served = Served(start(WITH_PLUGIN, text=""))
    neovim = served.neovim
    neovim.lua(ANSWERS, TARGET, seed)
    neovim.keys("i")
    for step in range(STEPS):
        before = "\n".join(neovim.lines())
        assert TARGET.startswith(before), (seed, step, before)
        if before == TARGET:
            break
        ahead = typed(TARGET[len(before) : len(before) + choice.randrange(1, 4)])
        key = choice.choice(["<F2>", "<F2>", "<F3>", "<F3>", "<F4>", "<F5>", "Q<BS>", "<Esc>A", ""])
        neovim.keys(f"{choice.choice([ahead, ''])}{key}<Cmd>let g:step = {step}<CR>")
        neovim.wait("the end of the step", lambda wanted=step: neovim.lua("return vim.g.step") == wanted)
        time.sleep(choice.choice([0, 0, 0.05, 0.3]))  # a human pause: answers come in it or do not
    assert "\n".join(neovim.lines()) == TARGET, seed
    neovim.assert_undisturbed()

    told = served.told()
    shown = Counter(id for word, id, *_ in told if word == "shown")
    ended = Counter(id for word, id, *_ in told if word in ("dismissed", "moved_on", "accepted"))
    parts = [one for one in told if one[0] == "part"]
    assert set(shown.values()) == {1}
    assert set(ended.values()) == {1}
    assert set(ended) | {id for _, id, _ in parts} <= set(shown)
    assert "accepted" in {word for word, *_ in told}
    for id in {id for _, id, _ in parts}:
        lengths = [length for _, other, length in parts if other == id]
        assert lengths == sorted(set(lengths))
