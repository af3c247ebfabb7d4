"""LMCache's transfer channel `mooncake_te`, by LMCache's own benchmark, which compares the bytes.

The server process offers objects of a registered buffer; the client reads and verifies a random
part of them.
"""
import subprocess
import sys

SERVER, CATALOG, CLIENT = "127.0.0.1:7600", "127.0.0.1:7610", "127.0.0.1:7601"
OPTIONS = ["--transfer-channel-type", "mooncake_te", "--url", SERVER, "--control-url", CATALOG,
           "--page-size", "512KB", "--object-size", "1MB", "--num-objects", "20"]


def start(role, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "lmcache.tools.transfer_channel_benchmark", "--role", role, *OPTIONS,
         *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main():
    server = start("server", "--buffer-size", "256MB")
    try:
        for line in server.stdout:
            if "[server] ready" in line:
                break
        else:
            raise RuntimeError("the server did not start")
        client = start("client", "--listen-url", CLIENT, "--iters", "10", "--verify")
        output, _ = client.communicate(timeout=120)
    finally:
        server.terminate()
        server.wait()
    print(*(line.strip() for line in output.splitlines() if "verify" in line or "GB/s" in line),
          sep="\n")
    assert client.returncode == 0 and "verify OK" in output, output


if __name__ == "__main__":
    main()
