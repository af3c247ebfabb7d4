#!/usr/bin/env python3
"""Measures transfers between memory of a GPU, and between host memory in the same run: the engine
over each transport, with both sides on this machine (`te bench local`). Every byte is compared in
a run of its own. `./dev bench --gpu` runs it.

Ends with 1 after a wrong byte or an error, and with 2 where there is no GPU.
"""
import argparse
import json
import subprocess
import sys

TRANSPORTS = ["shm", "tcp", "rdma"]
HOST = "cpu"


def run(te, arguments):
    """The JSON that te prints; ends the program when te fails."""
    ended = subprocess.run([te, *arguments, "--json", *(["-"] if arguments[0] == "bench" else [])],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if ended.returncode != 0:
        sys.exit(f"bench/gpu.py: te {' '.join(arguments)} failed:\n{ended.stderr.strip()}")
    return json.loads(ended.stdout)


def gpu_of(info, location):
    """Ends the program where the GPU is not there."""
    gpus = info["gpus"]
    for gpu in gpus["found"]:
        if gpu["location"] == location:
            return gpu
    why = gpus["reason"] or f"there is no {location}, only " + ", ".join(
        gpu["location"] for gpu in gpus["found"])
    print(f"bench/gpu.py: there is no GPU to measure on: {why}", file=sys.stderr)
    sys.exit(2)


def usable(info):
    available = {each["name"] for each in info["transports"] if each["available"]}
    return [name for name in TRANSPORTS if name in available]


def bench(te, options, transport, memory, *more):
    arguments = ["bench", "local", "--transport", transport, "--memory", memory,
                 "--block-size", options.block_size, "--duration", options.duration, *more]
    return run(te, arguments)["cases"]


def key(case):
    return case["operation"], case["block_bytes"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--te", required=True, help="the te command")
    parser.add_argument("--gpu", default="cuda:0", help="cuda:N, by the driver's number")
    parser.add_argument("--block-size", default="64K,1M,16M")
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast")
    options = parser.parse_args()
    options.duration = "200ms" if options.quick else "5s"
    info = run(options.te, ["info"])
    gpu = gpu_of(info, options.gpu)
    print(f"{gpu['model']}, {info['gpus']['driver']}, {options.gpu} ({gpu['pci']}) at both ends")
    print(f"{'transport':10} {'operation':9} {'block':>9} {'GB/s':>8} {'host memory':>12} "
          f"{'ratio':>6} {'CPU s/GB':>9}")
    for transport in usable(info):
        bench(options.te, options, transport, options.gpu, "--verify")
        host = {key(case): case for case in bench(options.te, options, transport, HOST)}
        for case in bench(options.te, options, transport, options.gpu):
            rate = case["gigabytes_per_second"]
            of_host = host[key(case)]["gigabytes_per_second"]
            print(f"{transport:10} {case['operation']:9} {case['block_bytes']:9} {rate:8.3f} "
                  f"{of_host:12.3f} {rate / of_host if of_host else 0:6.2f} "
                  f"{case['cpu_seconds_per_gigabyte']:9.3f}")
    print("Every byte was compared. GB = 10^9 bytes. Rates from GPU to GPU; beside them those of "
          "host memory.")


if __name__ == "__main__":
    main()
