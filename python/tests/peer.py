"""A target in a process of its own: registers memory, prints its name, and answers on stdin.

Commands, a line each: "sum" prints the SHA-256 of the memory, "quit" ends.
"""
import hashlib
import sys

import transfer_engine as te


def main():
    length = int(sys.argv[1])
    with te.Engine(host="127.0.0.1", settings=dict(s.split("=") for s in sys.argv[2:])) as engine:
        memory = bytearray(length)
        engine.register(memory)
        print(engine.local_endpoint, flush=True)
        for command in sys.stdin:
            if command == "sum\n":
                print(hashlib.sha256(memory).hexdigest(), flush=True)
            elif command == "notifications\n":
                print([(n.name, n.message) for n in engine.take_notifications()], flush=True)
            elif command == "quit\n":
                break


if __name__ == "__main__":
    main()
