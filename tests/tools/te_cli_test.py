"""The `te` command line, and its commands that look and serve.

    python3 te_cli_test.py --te PATH --peer PATH [TestClass ...]
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

import te_process
from te_process import (
    TIMEOUT_S,
    TeTest,
    environment,
    main,
    started,
    target,
    te,
)

COMMANDS = (
    ["bench"],
    ["bench", "target"],
    ["bench", "initiator"],
    ["bench", "local"],
    ["info"],
    ["probe"],
    ["metadata-server"],
    ["completion"],
)


class UsageTest(TeTest):
    def test_version(self):
        result = te("--version")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, r"^te \d+\.\d+\.\d+\n$")

    def test_every_help_has_examples(self):
        for command in ([], *COMMANDS):
            with self.subTest(command=command):
                result = te(*command, "--help")
                self.assertEqual(result.returncode, 0, result.stderr)
                examples = result.stdout.partition("Examples:")[2]
                self.assertIn(" ".join(["te", *command]), examples)

    def test_no_command_shows_the_commands(self):
        for command, subcommand in (([], "metadata-server"), (["bench"], "initiator")):
            result = te(*command)
            self.assertEqual(result.returncode, 2)
            self.assertIn(subcommand, result.stderr)
            self.assertEqual(result.stdout, "")

    def test_wrong_values_name_the_option_and_what_is_accepted(self):
        local = ["bench", "local"]
        cases = (
            (local + ["--block-size", "4KB"], ("--block-size", "'4KB'", "64KiB")),
            (local + ["--block-size", "4K,x,1M"], ("--block-size",)),
            (local + ["--block-size", "0"], ("--block-size", "from 1")),
            (local + ["--operation", "copy"], ("--operation", "read", "write", "both")),
            (local + ["--wait", "spin"], ("--wait", "poll", "sleep")),
            (local + ["--threads", "0"], ("--threads", "from 1 to 1024")),
            (local + ["--threads", "two"], ("--threads", "whole number")),
            (local + ["--batch-size", "-1"], ("--batch-size", "whole number")),
            (local + ["--duration", "soon"], ("--duration", "200ms")),
            (local + ["--duration", "0"], ("--duration", "200ms")),
            (local + ["--buffer-size", "18446744073709551616"], ("--buffer-size",)),
            (["bench", "target", "--port", "65536"], ("--port", "from 0 to 65535")),
            (["bench", "target", "--buffers", "0"], ("--buffers", "from 1")),
            (["bench", "initiator"], ("--segment",)),
            (["probe"], ("segment", "te probe --help")),
            (["probe", "x:1", "--count", "0"], ("--count", "from 1")),
            (["metadata-server", "--path", "x"], ("--path", "begins with /")),
            (["metadata-server", "--max-entries", "0"], ("--max-entries", "from 1")),
            (["metadata-server", "--tls-key", "x"], ("--tls-key", "--tls-cert")),
            (["metadata-server", "--tls-ca", "x"], ("--tls-ca", "--tls-cert")),
            (["metadata-server", "--protect-reads"], ("--protect-reads", "--token-file")),
            (["completion", "tcsh"], ("bash", "zsh", "fish")),
            (["info", "--jsn"], ("--jsn", "te info --help")),
            (["frobnicate"], ("frobnicate", "metadata-server")),
            (["bench", "frobnicate"], ("frobnicate", "initiator")),
        )
        for arguments, parts in cases:
            with self.subTest(arguments=arguments):
                result = te(*arguments)
                self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
                self.assertEqual(result.stdout, "")
                for part in parts:
                    self.assertIn(part, result.stderr)

    def test_full_disk_is_an_error(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            result = subprocess.run([te_process.TE, "completion", "bash"], stdout=full,
                                    stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S,
                                    env=environment(), check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("stdout", result.stderr)

    def test_closed_descriptors_are_not_given_to_sockets(self):
        for command in ("info", "bench local --protocol tcp --duration 50ms --block-size 4K"):
            with self.subTest(command=command):
                result = subprocess.run(["bash", "-c", f'"$0" {command} <&- >&-', te_process.TE],
                                        stderr=subprocess.PIPE, text=True, check=False,
                                        timeout=te_process.TIMEOUT_S, env=environment())
                self.assertEqual(result.returncode, 1, result.stderr)
                self.assertIn("cannot write to stdout: Bad file descriptor", result.stderr)


class InfoTest(TeTest):
    def test_json_tells_everything(self):
        result = te("info", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        info = json.loads(result.stdout)
        self.assertEqual(info["error"], "")
        self.assertEqual(te("--version").stdout, f"te {info['version']}\n")
        tcp = [t for t in info["transports"] if t["name"] == "tcp"]
        self.assertEqual(len(tcp), 1)
        self.assertTrue(tcp[0]["available"])
        self.assertIn("127.0.0.1", [a["address"] for a in info["addresses"]])
        own = info["libraries"][0]
        self.assertTrue(own["found"], own)
        for library in info["libraries"]:
            self.assertTrue(library["detail"], library)
        names = set()
        for setting in info["configuration"]:
            names.add(setting["name"])
            for key in ("value", "default", "unit", "origin", "help"):
                self.assertIn(key, setting)
        self.assertIn("transfer_timeout_ms", names)

    def test_passwords_are_not_shown(self):
        settings = environment(TRANSFER_ENGINE_DIRECTORY_PASSWORD="hunter2",
                               TE_DIRECTORY_PASSWORD="hunter3",
                               TRANSFER_ENGINE_DIRECTORY_TOKEN="hunter4",
                               TRANSFER_ENGINE_LOG_LEVEL="debug")
        for arguments in ((), ("--json",)):
            result = te("info", *arguments, env=settings)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertNotIn("hunter", result.stdout + result.stderr)
            self.assertIn("***", result.stdout)

    def test_absent_transports_say_why(self):
        for transport in json.loads(te("info", "--json").stdout)["transports"]:
            self.assertTrue(transport["available"] or transport["detail"], transport)

    def test_text_has_the_same_settings(self):
        text = te("info").stdout
        for title in ("Transports", "Libraries", "Addresses", "Configuration"):
            self.assertRegex(text, rf"(?m)^{title}")
        for setting in json.loads(te("info", "--json").stdout)["configuration"]:
            self.assertIn(setting["name"], text)

    def test_the_environment_shows(self):
        result = te("info", "--json", env=environment(TRANSFER_ENGINE_TCP_CONNECTIONS="7"))
        settings = {s["name"]: s for s in json.loads(result.stdout)["configuration"]}
        self.assertEqual(settings["tcp_connections"]["value"], "7")
        self.assertEqual(settings["tcp_connections"]["origin"], "environment")

    def test_the_topology_of_a_recorded_machine(self):
        fixtures = os.path.join(os.path.dirname(__file__), "..", "platform", "fixtures")
        recorded = environment(HWLOC_XMLFILE=os.path.join(fixtures, "four_nodes_2_nics.xml"))
        result = te("info", "--topology", "--json", env=recorded)
        self.assertEqual(result.returncode, 0, result.stderr)
        matrix = json.loads(result.stdout)
        self.assertEqual(
            list(matrix), [f"{kind}:{n}" for kind in ("cpu", "cuda") for n in range(4)]
        )
        self.assertEqual(matrix["cpu:2"], [["mlx5_1"], ["mlx5_0"]])
        text = te("info", "--topology", env=recorded).stdout
        self.assertIn("4 memory nodes, 4 GPUs, 2 RDMA devices", text)
        self.assertRegex(text, r"(?m)^cpu:2 +machine +package \*$")
        info = json.loads(te("info", "--json", env=recorded).stdout)
        self.assertEqual(info["topology"]["nic_priority_matrix"], matrix)

    def test_the_setting_leaves_nics_out(self):
        fixtures = os.path.join(os.path.dirname(__file__), "..", "platform", "fixtures")
        xml = os.path.join(fixtures, "four_nodes_2_nics.xml")
        env = environment(HWLOC_XMLFILE=xml, TRANSFER_ENGINE_NICS="^mlx5_0")
        matrix = json.loads(te("info", "--topology", "--json", env=env).stdout)
        self.assertEqual(matrix["cpu:0"], [["mlx5_1"], []])
        env = environment(HWLOC_XMLFILE=xml, TRANSFER_ENGINE_NICS="mlx5_5")
        self.assert_failed(te("info", "--topology", env=env), "mlx5_5", "mlx5_0, mlx5_1")

    def test_a_recording_that_is_not_there_is_an_error(self):
        env = environment(HWLOC_XMLFILE="/nonexistent.xml")
        self.assert_failed(te("info", "--topology", env=env), "/nonexistent.xml")

    def test_a_setting_that_names_no_such_library_is_not_found(self):
        result = te("info", "--json", env=environment(
            TRANSFER_ENGINE_FABRIC_LIBRARY="/etc/passwd", TRANSFER_ENGINE_RDMA_LIBRARY="libc.so.6"))
        found = {row["name"]: row for row in json.loads(result.stdout)["libraries"]}
        for name, text in (("libfabric.so.1", "/etc/passwd"), ("libibverbs.so.1", "libc.so.6")):
            self.assertFalse(found[name]["found"], found[name])
            self.assertIn(text, found[name]["detail"])

    def test_a_wrong_environment_is_an_error_and_the_rest_is_still_shown(self):
        result = te("info", "--json", env=environment(TRANSFER_ENGINE_TCP_CONNECTIONS="no"))
        self.assert_failed(result, "TRANSFER_ENGINE_TCP_CONNECTIONS='no'")
        info = json.loads(result.stdout)
        self.assertIn("TRANSFER_ENGINE_TCP_CONNECTIONS", info["error"])
        self.assertTrue(info["addresses"])

    def test_variables_of_others_do_not_matter(self):
        result = te("info", env=environment(TE_PATH="/opt/te", TRANSFER_ENGINE_LIB_DIR="/opt"))
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_a_misspelt_variable_is_a_warning(self):
        result = te("info", "--json", env=environment(TRANSFER_ENGINE_TCP_CONECTIONS="7"))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("did you mean TRANSFER_ENGINE_TCP_CONNECTIONS?", result.stderr)
        self.assertEqual(json.loads(result.stdout)["error"], "")


class CompletionTest(TeTest):
    def script(self, shell):
        result = te("completion", shell)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def need(self, shell):
        if shutil.which(shell) is None:
            self.skipTest(f"no {shell} on this machine")

    def complete(self, *words):
        """What bash offers for the last of `words`."""
        self.need("bash")
        line = "\n".join((
            self.script("bash"),
            'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _te; printf "%s\\n" "${COMPREPLY[@]}"',
        ))
        result = subprocess.run(["bash", "--norc", "-c", line, "bash", *words], text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT_S,
                                check=False)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return set(result.stdout.split())

    def test_scripts_are_valid(self):
        checked = 0
        for shell in ("bash", "zsh", "fish"):
            script = self.script(shell)
            if shutil.which(shell) is None:
                continue
            result = subprocess.run([shell, "-n"], input=script, text=True, timeout=TIMEOUT_S,
                                    stderr=subprocess.PIPE, check=False)
            self.assertEqual((result.returncode, result.stderr), (0, ""), shell)
            checked += 1
        if checked == 0:
            self.skipTest("no bash, zsh or fish on this machine")

    def test_bash_completes_words(self):
        self.assertEqual(self.complete("te", "ben"), {"bench"})
        self.assertEqual(self.complete("te", "bench", ""),
                         {"target", "initiator", "local", "--help"})
        self.assertEqual(self.complete("te", "bench", "local", "--verif"), {"--verify"})
        self.assertEqual(self.complete("te", "bench", "local", "--operation", ""),
                         {"read", "write", "both"})
        self.assertEqual(self.complete("te", "bench", "local", "--operation", "=", "w"), {"write"})
        self.assertEqual(self.complete("te", "bench", "local", "--operation", "="),
                         {"read", "write", "both"})
        self.assertEqual(self.complete("te", "bench", "local", "--verify", "--wai"), {"--wait"})
        self.assertEqual(self.complete("te", "bench", "local", "--threads", ""), set())
        self.assertEqual(self.complete("te", "completion", ""), {"bash", "zsh", "fish", "--help"})

    def test_bash_completes_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "figures.json")
            with open(path, "w", encoding="ascii"):
                pass
            words = ("te", "bench", "local", "--json", os.path.join(folder, "fig"))
            self.assertEqual(self.complete(*words), {path})

    def test_fish_completes_words(self):
        self.need("fish")
        for line, words in (("te ben", {"bench"}),
                            ("te bench local --operation ", {"read", "write", "both"}),
                            ("te bench local --verif", {"--verify"})):
            command = self.script("fish") + f"complete -C '{line}'\n"
            with tempfile.TemporaryDirectory() as home:
                result = subprocess.run(["fish", "--no-config", "-c", command], text=True,
                                        stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False,
                                        env=environment(HOME=home))
            self.assertEqual({offer.split("\t")[0] for offer in result.stdout.splitlines()}, words)

    def test_every_command_and_option_of_the_help_is_offered(self):
        for command in ([], *COMMANDS):
            with self.subTest(command=command):
                offered = self.complete("te", *command, "")
                text = te(*command, "--help").stdout.partition("Examples:")[0]
                options = set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", text, re.MULTILINE))
                commands = set(re.findall(r"^  ([a-z-]+) ", text.partition("Subcommands:")[2],
                                          re.MULTILINE))
                self.assertTrue(options)
                self.assertLessEqual(options | commands, offered)


class ProbeTest(TeTest):
    def test_tells_round_trips_buffers_and_paths(self):
        with target("--buffers", "2") as (_, announced):
            result = te("probe", announced["segment"], "--count", "7", "--json")
            self.assertEqual(result.returncode, 0, result.stderr)
            probe = json.loads(result.stdout)
            text = te("probe", announced["segment"])
        trips = probe["round_trip_ns"]
        self.assertEqual(trips["count"], 7)
        self.assertLessEqual(0 < trips["min"], trips["min"] <= trips["p50"] <= trips["max"])
        self.assertEqual([(b["offset"], b["length"], b["remote_accessible"])
                          for b in probe["buffers"]],
                         [(0, 8 << 20, True), (8 << 20, 8 << 20, True)])
        self.assertTrue(probe["paths"])
        self.assertEqual(f"{probe['host']}:{probe['port']}", announced["endpoint"])
        self.assertEqual(text.returncode, 0, text.stderr)
        for part in ("round trip", "min", "p50", "max", "8388608", probe["paths"][0]["transport"]):
            self.assertIn(part, text.stdout)

    def test_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            name = f"127.0.0.1:{unused.getsockname()[1]}"
        result = te("probe", name)
        self.assert_failed(result, name)
        self.assertEqual(result.stdout, "")

    def test_not_a_name(self):
        self.assert_failed(te("probe", "no port here"), "no port here")

    def test_another_service_behind_the_port(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            name = f"127.0.0.1:{server.getsockname()[1]}"
            with started("probe", name, stderr=subprocess.PIPE) as process:
                server.settimeout(TIMEOUT_S)
                connection, _ = server.accept()
                server.close()  # whoever tries again is refused
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    self.assertIn(name, process.stderr.read())
                self.assertEqual(process.wait(TIMEOUT_S), 1)


class TopTest(TeTest):
    def test_looks_as_often_as_asked_for(self):
        with target() as (_, announced):
            result = te("top", announced["segment"], "--count", "2", "--interval", "50ms")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.count(f"{announced['segment']}: "), 2)
        self.assertNotIn("\033", result.stdout)

    def test_ends_with_a_signal(self):
        with target() as (_, announced):
            with started("top", announced["segment"], "--interval", "50ms",
                         stdout=subprocess.PIPE) as process:
                self.assertIn(announced["segment"], process.stdout.readline())
                process.send_signal(signal.SIGINT)
                process.stdout.read()
                self.assertEqual(process.wait(TIMEOUT_S), 0)

    def test_unreachable(self):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            name = f"127.0.0.1:{unused.getsockname()[1]}"
        self.assert_failed(te("top", name), name)


class ProcessListTest(TeTest):
    def test_passwords_in_urls_are_overwritten(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://user:hunter2@127.0.0.1:{silent.getsockname()[1]}"
            for arguments in (("--metadata", url), (f"--metadata={url}",)):
                with started("probe", "node", *arguments, stderr=subprocess.PIPE) as process:
                    silent.accept()[0].close()  # it has its arguments
                    with open(f"/proc/{process.pid}/cmdline", "rb") as line:
                        shown = line.read()
                    self.assertNotIn(b"hunter2", shown)
                    self.assertIn(b"***@127.0.0.1", shown)
                    self.assertNotIn("hunter2", process.stderr.read())


class MetadataServerTest(TeTest):
    @contextlib.contextmanager
    def server(self, *arguments):
        with started("metadata-server", "--host", "127.0.0.1", "--port", "0", *arguments,
                     stdout=subprocess.PIPE) as process:
            match = re.search(r"http://\S+", process.stdout.readline())
            self.assertIsNotNone(match)
            yield process, match.group(0)

    def request(self, method, url, body=None):
        request = urllib.request.Request(url, data=body, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def test_says_an_address_that_others_can_use(self):
        with started("metadata-server", "--port", "0", stdout=subprocess.PIPE) as process:
            line = process.stdout.readline()
        self.assertRegex(line, r"http://[0-9.]+:[0-9]+/metadata and at every other address")
        self.assertNotIn("0.0.0.0", line)

    def test_serves_and_stops(self):
        for stop in (signal.SIGINT, signal.SIGTERM):
            with self.server() as (process, url):
                self.assertEqual(self.request("GET", url + "?key=a")[0], 404)
                self.assertIn(self.request("PUT", url + "?key=a", b"{}")[0], (200, 201))
                self.assertEqual(self.request("GET", url + "?key=a"), (200, b"{}"))
                self.assertEqual(self.request("DELETE", url + "?key=a")[0], 200)
                self.assertEqual(self.request("GET", url + "?key=a")[0], 404)
                process.send_signal(stop)
                self.assertEqual(process.wait(TIMEOUT_S), 0)

    def test_limits(self):
        with self.server("--max-entries", "1", "--max-value-size", "1K") as (_, url):
            self.assertEqual(self.request("PUT", url + "?key=a", b"x" * 1025)[0], 413)
            self.assertIn(self.request("PUT", url + "?key=a", b"x" * 1024)[0], (200, 201))
            self.assertEqual(self.request("PUT", url + "?key=b", b"x")[0], 507)

    def test_path(self):
        with self.server("--path", "/names") as (_, url):
            self.assertTrue(url.endswith("/names"), url)
            self.assertIn(self.request("PUT", url + "?key=a", b"x")[0], (200, 201))

    def test_taken_port(self):
        with self.server() as (_, url):
            port = url.split(":")[2].split("/")[0]
            self.assert_failed(te("metadata-server", "--host", "127.0.0.1", "--port", port), port)

    def test_engines_find_each_other_through_it(self):
        with self.server() as (_, url):
            with target("--metadata", url, "--name", "node-7") as (_, announced):
                self.assertEqual(announced["segment"], "node-7")
                words = announced["command"].split()
                result = te(*words[1:], "--duration", "20ms", "--verify")
                self.assertEqual(result.returncode, 0, result.stderr)
                result = te("probe", "node-7", "--metadata", url, "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertEqual(len(json.loads(result.stdout)["buffers"]), 1)
                self.assert_failed(te("probe", "node-8", "--metadata", url), "node-8")


if __name__ == "__main__":
    main(__doc__)
