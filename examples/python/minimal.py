# Two engines in one process: one writes 4 KiB into the other's memory, and reads them back.
import transfer_engine as te

target_memory, local, back = bytearray(4096), bytearray(b"x" * 4096), bytearray(4096)

# No metadata server, and any free port.
with te.Engine(host="127.0.0.1") as target, te.Engine(host="127.0.0.1") as engine:
    target.register(target_memory)  # the target only says what may be touched

    # What the initiator sends from and receives into is registered as well.
    engine.register(local)
    engine.register(back)
    segment = engine.open(target.local_endpoint)

    segment.write(local, 0).wait()  # raises why it failed
    segment.read(back, 0).wait()

equal = local == target_memory == back
print(f"wrote and read {len(local)} bytes, {'equal' if equal else 'DIFFERENT'}")
