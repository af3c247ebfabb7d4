"""What the package holds beside the engine: stubs, texts, `te`; and how little it needs."""
import ast
import inspect
import json
import os
import subprocess
import sys

import pytest

import transfer_engine as te
from transfer_engine import _native

FOLDER = os.path.dirname(te.__file__)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                          **options)


def test_info_says_what_is_there_and_what_is_missing():
    info = te.info()
    assert info["version"] == te.__version__ and info["error"] == ""
    names = {transport["name"]: transport for transport in info["transports"]}
    assert names["tcp"]["available"]
    for transport in info["transports"]:
        assert transport["detail"], transport
    assert {library["name"] for library in info["libraries"]} >= {"libibverbs.so.1"}
    assert any(setting["name"] == "slice_bytes" for setting in info["configuration"])


def test_the_module_prints_what_te_info_prints():
    def stable(text):
        return [line for line in text.splitlines() if "engine started now" not in line]

    module = run(sys.executable, "-m", "transfer_engine")
    command = run(os.path.join(FOLDER, "bin", "te"), "info")
    assert (module.returncode, module.stderr) == (0, "")
    assert stable(module.stdout) == stable(command.stdout)
    as_json = json.loads(run(sys.executable, "-m", "transfer_engine", "--json").stdout)
    # Asking for GPUs initializes their driver, after which forked children cannot use it.
    assert "gpus" in as_json
    assert as_json.keys() - {"gpus"} == te.info().keys()


def test_the_script_is_the_command():
    script = os.path.join(os.path.dirname(sys.executable), "te")
    if not os.path.exists(script):
        pytest.skip("the package is not installed, but in the path")
    assert "te bench" in run(script, "--help").stdout
    assert run(script, "info", "--json").returncode == 0
    assert run(script, "no-such-command").returncode != 0


def test_numpy_is_not_needed():
    result = run(sys.executable, "-c", """
import sys
sys.modules["numpy"] = None
import transfer_engine as te
with te.Engine(host="127.0.0.1") as engine:
    local, memory = bytearray(b"abc"), bytearray(3)
    engine.register(local), engine.register(memory)
    address = engine.local_segment.describe().buffers[1].offset
    engine.local_segment.write(local, address).wait()
    assert memory == local
""")
    assert (result.returncode, result.stderr) == (0, "")


def test_vendors_libraries_are_not_linked():
    names = [line.split()[0] for line in run("ldd", _native.__file__).stdout.splitlines()]
    assert "libtransfer_engine.so.0" in names
    for foreign in ("ibverbs", "fabric", "cuda", "curl", "hwloc", "libpython"):
        assert not [name for name in names if foreign in name], names


def test_stubs_are_complete():
    assert os.path.exists(os.path.join(FOLDER, "py.typed"))
    with open(os.path.join(FOLDER, "_native.pyi"), encoding="utf-8") as file:
        text = file.read()
    tree = ast.parse(text)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for name in te.__all__:
        public = getattr(te, name)
        if getattr(_native, name, None) is not public:
            continue
        assert name in classes or name in functions or name == "__version__", name
        if not inspect.isclass(public):
            continue
        members = {node.name for node in classes[name].body
                   if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        members |= {target.id for node in classes[name].body if isinstance(node, ast.Assign)
                    for target in node.targets if isinstance(target, ast.Name)}
        for member in vars(public):
            if not member.startswith("_") and not member.startswith("@"):
                assert member in members, f"{name}.{member}"
    assert "arg: " not in text, "an argument has no name"


def test_everything_public_has_a_text():
    for name in te.__all__:
        public = getattr(te, name)
        if name == "__version__":
            continue
        assert (public.__doc__ or "").strip(), name
        if not inspect.isclass(public):
            continue
        for member, value in vars(public).items():
            if not member.startswith("_") and callable(value):
                text = (value.__doc__ or "").strip().split("\n")
                assert len(text) > 1 or "->" not in text[0], f"{name}.{member}"
