"""What the README shows is what happens."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(marker):
    """Content of the fenced block that follows a marker comment."""
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)\n```", README, re.DOTALL)
    assert found, f"README.md has no block marked '{marker}'"
    return found[1]


def test_commands_are_one_line_and_need_python3_only():
    for marker in ("command: fit", "command: tests"):
        command = block(marker)
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/python -m pip install ")


def test_output_of_the_fit_command():
    run = block("command: fit").rpartition("&& .venv/bin/python ")[2]
    printed = subprocess.run(
        [sys.executable, *shlex.split(run)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    shown = block("output: fit")
    assert [line.rstrip() for line in printed.strip("\n").splitlines()] == shown.splitlines()


def test_python_examples_run():
    examples = re.findall(r"```python\n(.*?)\n```", README, re.DOTALL)
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})


def test_ci_runs_the_test_command_of_the_readme():
    """.ci/run extracts the command with awk: do that, and nothing else of it."""
    extraction = re.search(r"^tests=\$\((awk .*)\)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    extracted = subprocess.run(
        ["bash", "-c", extraction[1]], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert extracted.strip() == block("command: tests")
