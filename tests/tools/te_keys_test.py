"""`te keys`, and te with what it made: the set-up of docs/security.md, step by step.

    python3 te_keys_test.py --te PATH --peer PATH [TestClass ...]
"""

import contextlib
import json
import os
import re
import ssl
import stat
import subprocess
import tempfile
import time

import te_process
from te_process import TIMEOUT_S, TeTest, environment, main, started, te


class KeysTest(TeTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.keys = os.path.join(self.folder, "keys")

    def make(self, *arguments):
        result = te("keys", *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def member(self, name, *arguments):
        """What the printed lines export."""
        return self.exports(self.make("member", name, "--folder", self.keys, *arguments))

    @staticmethod
    def exports(text):
        return dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))

    @contextlib.contextmanager
    def target(self, settings):
        with subprocess.Popen(
                [te_process.TE, "bench", "target", "--json", "--host", "127.0.0.1",
                 "--buffer-size", "8M"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                text=True, env=environment(**settings)) as process:
            try:
                yield json.loads(process.stdout.readline())["segment"]
            finally:
                process.kill()
                process.wait(TIMEOUT_S)

    def probe(self, segment, settings):
        return te("probe", segment, "--json", env=environment(**settings))

    def works(self, segment, settings):
        result = te("bench", "initiator", "--segment", segment, "--duration", "20ms", "--verify",
                    "--transport", "tcp", env=environment(**settings))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("with TLS", result.stdout)

    def test_members_of_one_authority_meet(self):
        self.make("authority", "--folder", self.keys)
        one, two = self.member("node-1"), self.member("node-2", "--uri", "spiffe://c/engine")
        for name in os.listdir(self.keys):
            mode = os.stat(os.path.join(self.keys, name)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600, name)
        with self.target(one) as segment:
            self.works(segment, two)
            self.assert_failed(self.probe(segment, {}), "security")
            # One that is revoked, at the side that has the list.
            self.make("revoke", one["TRANSFER_ENGINE_TLS_CERT"], "--folder", self.keys)
            listed = {**two, "TRANSFER_ENGINE_TLS_CRL": os.path.join(self.keys, "revoked.pem")}
            self.assert_failed(self.probe(segment, listed), "revoked")

    def test_an_authority_is_not_replaced(self):
        self.make("authority", "--folder", self.keys)
        self.assert_failed(te("keys", "authority", "--folder", self.keys), "is not replaced")
        self.assert_failed(te("keys", "member", "x", "--folder", self.folder), "authority.pem")

    def test_names_that_would_be_something_else_are_refused(self):
        self.make("authority", "--folder", self.keys)
        with open(os.path.join(self.keys, "authority.key"), encoding="utf-8") as file:
            authority = file.read()
        for name in ("authority", "revoked", "n2,DNS:admin", "../evil", ".hidden", "a b", "-x", ""):
            result = te("keys", "member", "--folder", self.keys, "--", name)
            self.assertNotEqual(result.returncode, 0, name)
        for option, value in (("--dns", "a,DNS:admin"), ("--dns", "*"), ("--dns", "a\nb"),
                              ("--uri", "not a uri"), ("--uri", "engine"), ("--ip", "300.1.1.1")):
            self.assert_failed(te("keys", "member", "n1", option, value, "--folder", self.keys))
        self.assertEqual(sorted(os.listdir(self.keys)), ["authority.key", "authority.pem"])
        other = os.path.join(self.folder, "other")
        self.make("authority", "--folder", other, "--name", "n1")
        self.assert_failed(te("keys", "member", "n1", "--folder", other), "name of the authority")
        with open(os.path.join(self.keys, "authority.key"), encoding="utf-8") as file:
            self.assertEqual(file.read(), authority)

    def test_what_is_printed_is_for_a_shell(self):
        folder = os.path.join(self.folder, "a folder's")
        self.make("authority", "--folder", folder)
        text = self.make("member", "n1", "--folder", folder)
        shown = subprocess.run(["sh", "-c", text + 'printf %s "$TRANSFER_ENGINE_TLS_CERT"'],
                               stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual(shown, os.path.join(folder, "n1.pem"))

    def test_a_policy_names_members(self):
        self.make("authority", "--folder", self.keys)
        policy = os.path.join(self.folder, "policy")
        with open(policy, "w", encoding="utf-8") as file:
            file.write("node-2 open, read, watch\n")
        one = {**self.member("node-1"), "TRANSFER_ENGINE_TLS_POLICY": policy}
        two = self.member("node-2")
        with self.target(one) as segment:
            result = self.probe(segment, two)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual([each["access"] for each in json.loads(result.stdout)["buffers"]],
                             ["read"])
            self.assert_failed(self.probe(segment, self.member("node-3")), "tls_policy")

    def test_a_metadata_server_takes_exchanged_files(self):
        self.make("authority", "--folder", self.keys)
        self.member("server", "--ip", "127.0.0.1")
        certificate, key = (os.path.join(self.keys, name) for name in ("server.pem", "server.key"))
        with started("metadata-server", "--host", "127.0.0.1", "--port", "0", "--tls-cert",
                     certificate, "--tls-key", key, stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE) as process:
            port = int(re.search(r"https://127.0.0.1:(\d+)", process.stdout.readline()).group(1))

            def shown():
                return ssl.get_server_certificate(("127.0.0.1", port), timeout=TIMEOUT_S).strip()

            def file():
                with open(certificate, encoding="utf-8") as text:
                    return text.read().strip()

            first = file()
            self.assertEqual(shown(), first)
            with open(certificate, "w", encoding="utf-8") as text:
                text.write("nothing of use")
            time.sleep(0.3)
            self.assertEqual(shown(), first)
            self.assertIn("the old files stay in use", process.stderr.readline())
            self.member("server", "--ip", "127.0.0.1")
            self.assertNotEqual(file(), first)
            time.sleep(0.3)
            self.assertEqual(shown(), file())

    def test_a_secret_is_exchanged_in_two_steps(self):
        secret = os.path.join(self.folder, "secret")
        text = self.make("secret", secret)
        old = self.exports(text)
        name = re.search(r"called ([0-9a-f]{16})", text).group(1)
        with open(secret, encoding="utf-8") as file:
            before = file.read()
        kept = os.path.join(self.folder, "kept")
        with open(kept, "w", encoding="utf-8", opener=lambda *a: os.open(*a, mode=0o600)) as file:
            file.write(before)
        self.assertNotIn(before.strip(), text)
        self.assertNotIn(name, self.make("secret", secret))  # a new one, before the old one
        with open(secret, encoding="utf-8") as file:
            self.assertEqual(file.read().split()[1], before.strip())
        with self.target(old) as segment:
            self.works(segment, old)
            self.works(segment, {**old, "TRANSFER_ENGINE_TLS_PSK_FILE": kept})


if __name__ == "__main__":
    main(__doc__)
