"""`module:Class` and `file.py:Class` → the class; every way to get that wrong is one line that says what to do.

A file is run as Python runs a script: its own folder comes first on `sys.path`. A module is looked up with the current
directory on `sys.path`. A broken workflow does not stop the import: it is made anyway, so that it can be checked, drawn
and explained; `run` refuses it.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from fsm._errors import FsmError
from fsm._terminal import one_line
from fsm._workflow import Workflow, WorkflowType, lenient

from ._errors import CommandError

_SCRIPTS: set[str] = set()  # folders of files that were loaded, which are on the path for the imports of these alone
EXAMPLES_INSTALLED = Path(__file__).resolve().parent.parent / "_examples"
EXAMPLES_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "examples"


def load_workflow(target: str) -> type[Workflow]:
    """The workflow that `file.py:Class`, `module:Class`, or either without a class (if there is only one) names.

    Raises:
        CommandError: no such file, module or class; the message lists what there is.
    """
    source, name = split(target)
    module = load_module(source)
    found = workflows_of(module)
    if name:
        return _named(source, module, name, found)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise CommandError(f"{source} declares no workflow: a workflow is a class of the form `class Name(Workflow):`")
    choices = ", ".join(f"{source}:{each}" for each in found)
    raise CommandError(f"{source} declares {len(found)} workflows, name one: {choices}")


def load_workflows(target: str) -> list[type[Workflow]]:
    """The one workflow that is named, or all of a file or module.

    Raises:
        CommandError: as for `load_workflow`.
    """
    source, name = split(target)
    if name:
        return [load_workflow(target)]
    found = list(workflows_of(load_module(source)).values())
    return found or [load_workflow(target)]


def load_object(target: str, module_of: type[Workflow]) -> Any:
    """Whatever `file.py:name`, `module:name`, or a name beside the workflow refers to.

    Raises:
        CommandError: there is no such thing.
    """
    source, name = split(target) if ":" in target else ("", target)
    module = load_module(source, beside=True) if source else sys.modules[module_of.__module__]
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = [each for each in vars(module) if not each.startswith("_")]
            raise CommandError(f"{source or _file_of(module)} has no {name!r}{_near(name, names)}")
        found = getattr(found, part)
    return found


def split(target: str) -> tuple[str, str]:
    """`source:name` in its parts; the name may be missing, and a drive letter is no source."""
    source, colon, name = target.rpartition(":")
    if not colon or "/" in name or "\\" in name or name.endswith(".py"):
        source, name = target, ""
    if not source:
        raise CommandError(f"{target!r} names no workflow: write file.py:Class or module:Class")
    return source, name


def workflows_of(module: ModuleType) -> dict[str, type[Workflow]]:
    """The workflows that a module declares, by name, in its order; imported ones only where it has no others."""
    every = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, WorkflowType) and value is not Workflow and not name.startswith("_")
    }
    own = {name: value for name, value in every.items() if value.__module__ in {module.__name__, "fsm"}}
    unique: dict[int, str] = {}
    for name, value in (own or every).items():
        unique.setdefault(id(value), name)
    return {name: every[name] for name in unique.values()}  # type: ignore[misc]  # a WorkflowType is a type[Workflow]


def _named(source: str, module: ModuleType, name: str, found: dict[str, type[Workflow]]) -> type[Workflow]:
    value = getattr(module, name, None)
    if isinstance(value, WorkflowType) and value is not Workflow:
        return value  # type: ignore[return-value]  # as above
    there = f"; it declares {', '.join(found)}" if found else ", and it declares none"
    if value is None:
        raise CommandError(f"{source} has no workflow {name!r}{there}{_near(name, found)}")
    what = "a class that is no subclass of Workflow" if isinstance(value, type) else f"{one_line(repr(value), 60)}"
    raise CommandError(f"{source}:{name} is {what}, not a workflow{there}")


def _near(name: str, names: Any) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def load_module(source: str, *, beside: bool = False) -> ModuleType:
    """Import a file or a module; broken workflows in it are made anyway.

    Args:
        source: as it was named.
        beside: a module may lie beside a file that was loaded before, as for the imports of that file.

    Raises:
        CommandError: there is none, or it fails while it is imported.
    """
    token = lenient.set(True)
    try:
        return _load_file(Path(source)) if _is_file(source) else _import(source, beside=beside)
    except (CommandError, KeyboardInterrupt):
        raise
    except FsmError as error:
        raise CommandError(f"{source}{_line_of(error, source)}: {error}") from error
    except SyntaxError as error:
        # Without a line it is the file as a whole: bytes that are no text in its encoding.
        line, remedy = (f":{error.lineno}", "") if error.lineno else ("", ". Save it as UTF-8 text")
        where = f"{error.filename or source}{line}"
        raise CommandError(f"{where}: this is no Python: {error.msg}{remedy}") from error
    except (UnicodeDecodeError, ValueError) as error:
        if not (isinstance(error, UnicodeDecodeError) or "null bytes" in str(error)) or _line_of(error, source):
            raise _failed(source, error) from error
        raise CommandError(f"{source}: this is no Python: {one_line(error, 200)}. Save it as UTF-8 text") from error
    except BaseException as error:
        raise _failed(source, error) from error
    finally:
        lenient.reset(token)


def _failed(source: str, error: BaseException) -> CommandError:
    what = f"{type(error).__name__}: {one_line(error, 300)}" if str(error) else type(error).__name__
    return CommandError(f"{source}{_line_of(error, source)}: importing it failed with {what}{_remedy(error)}")


def _is_file(source: str) -> bool:
    path = Path(source)
    is_plain_folder = path.is_dir() and not (path / "__init__.py").is_file()
    return source.endswith(".py") or "/" in source or "\\" in source or path.is_file() or is_plain_folder


def _load_file(path: Path) -> ModuleType:
    if path.is_dir():
        files = ", ".join(sorted(str(each) for each in path.glob("*.py"))[:8])
        raise CommandError(f"{path} is a folder, name a file in it{': ' + files if files else ''}")
    if not path.is_file():
        raise CommandError(f"there is no file {path}{_near_file(path)}")
    if path.suffix != ".py":
        raise CommandError(f"{path} is no Python file: a workflow is named as file.py:Class or module:Class")
    full = path.resolve()
    known = next((m for m in list(sys.modules.values()) if _file_of(m) == str(full)), None)
    if known is not None and known.__name__ != "__main__":
        return known
    # No import finds it by this name, as none finds a script: `shop:Desk` is never the file `other/shop.py`. It has to
    # be registered: annotations are looked up by it.
    name = f"fsm_file_{hashlib.sha256(str(full).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}_{full.stem}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    if str(full.parent) not in sys.path:
        _SCRIPTS.add(str(full.parent))
    sys.path.insert(0, str(full.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(name: str, *, beside: bool) -> ModuleType:
    """The module of this name; `beside`: it may lie beside a file that was loaded, as for that file's imports."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    path = list(sys.path)
    if not beside:
        sys.path[:] = [folder for folder in path if folder not in _SCRIPTS or folder == here]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        near = Path(*name.split(".")).with_suffix(".py")
        hint = f"; did you mean {near}:Class?" if near.is_file() else " (looked in the current directory, too)"
        raise CommandError(f"there is no module {name!r}{hint}") from error
    except TypeError as error:
        raise CommandError(f"{name!r} is no name of a module: write file.py:Class or module:Class") from error
    finally:
        if not beside:
            sys.path[:] = [*(folder for folder in sys.path if folder not in path), *path]  # what it added stays


def _near_file(path: Path) -> str:
    folder = path.parent
    names = [each.name for each in folder.glob("*.py")] if folder.is_dir() else []
    return _near(path.name, names)


def _file_of(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if isinstance(file, str) else ""


def _line_of(error: BaseException, source: str) -> str:
    """`:12`, the last line of the file itself that the error came through."""
    full = str(Path(source).resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in {full, source}]
    return f":{lines[-1]}" if lines else ""


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return ". Install it in the environment of fsm, or correct the import"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return ". It belongs to a package: name it as package.module:Class"
    if isinstance(error, SystemExit):
        return ". Put what it runs below `if __name__ == '__main__':`"
    return " (--debug shows the traceback)"


def examples_folder() -> Path:
    """Where the examples are: in the wheel below the package, in a checkout beside it.

    Raises:
        CommandError: neither is there.
    """
    for folder in (EXAMPLES_INSTALLED, EXAMPLES_CHECKOUT):
        if (folder / "support.py").is_file():
            return folder
    raise CommandError("the examples are missing: install claude-fsm from its wheel, or run it in a checkout")
