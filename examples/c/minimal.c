/* One process plays both sides: it writes 4 KiB into the memory of a second engine, and compares.
 */
#include <stdio.h>
#include <string.h>
#include <transfer_engine_c.h>

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, transferEngineLastError());
  return 1;
}

int main(void) {
  static char source[4096], target_memory[4096];
  memset(source, 'x', sizeof source);

  /* The target: an engine without a metadata server, on any free port; its name is "host:port". */
  char name[128];
  transfer_engine_t target = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
  if (!target || getLocalIpAndPort(target, name, sizeof name)) return fail("target");
  if (registerLocalMemory(target, target_memory, sizeof target_memory, "*", 1))
    return fail("register");

  /* The initiator. */
  transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
  if (!engine || registerLocalMemory(engine, source, sizeof source, "*", 1))
    return fail("initiator");
  segment_id_t segment = openSegment(engine, name);
  if (segment < 0) return fail("open");

  struct transfer_request request = {OPCODE_WRITE, source, segment, 0, sizeof source};
  struct transfer_status status;
  batch_id_t batch = allocateBatchID(engine, 1);
  if (submitTransfer(engine, batch, &request, 1)) return fail("submit");
  if (waitBatch(engine, batch, -1) || getTransferStatus(engine, batch, 0, &status))
    return fail("wait");
  freeBatchID(engine, batch);

  printf("status %d, %llu bytes, %s\n", status.status, (unsigned long long)status.transferred_bytes,
         memcmp(source, target_memory, sizeof source) == 0 ? "equal" : "DIFFERENT");
  destroyTransferEngine(engine);
  destroyTransferEngine(target);
  return status.status == STATUS_COMPLETED ? 0 : 1;
}
