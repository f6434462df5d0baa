"""aider, which speaks chat completions and has the model write its edits as text."""

import pytest

from gateway import turn

EDIT = """Here it is.

hello.txt
```
<<<<<<< SEARCH
=======
Hello
>>>>>>> REPLACE
```
"""


# It offers no tools: what looks like a call is text.
CALL = '<call-0000 name="write">{"path": "hello.txt"}</call-0000>\n<tool_call>{"name": "write"}</tool_call>\n\n'


@pytest.mark.parametrize("words", ["", CALL])
def test_it_creates_a_file(clients, place, gateway, simulator, words):
    simulator.turns(turn(words + EDIT))
    # The first line as tests/README.md has it.
    command = [clients / "aider/bin/aider", "--model", "openai/gpt-6-luna", "--edit-format", "diff"]
    command += ["--no-git", "--yes-always", "--no-pretty", "--no-check-update", "--analytics-disable"]
    command += ["--no-show-model-warnings", "--no-show-release-notes"]
    here = {"OPENAI_API_BASE": gateway.api, "OPENAI_API_KEY": "none"}
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    code, out, err = place.run(*command, "--message", "Create hello.txt.", "hello.txt", **here, **offline)
    assert code == 0, f"{out}\n{err}"
    assert (place.work / "hello.txt").read_text() == "Hello\n", out
    assert "Applied edit to hello.txt" in out
