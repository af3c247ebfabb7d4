/* Two engines in one process: one writes 4 KiB into the other's memory, and reads them back. */
#include <stdio.h>
#include <string.h>
#include <transfer_engine_c.h>

static char target_memory[4096], local[4096], back[4096];

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, transferEngineLastError());
  return 1;
}

/* Moves one range and waits until it is in place. */
static int transfer(transfer_engine_t engine, struct transfer_request request) {
  struct transfer_status status = {STATUS_FAILED, 0};
  batch_id_t batch = allocateBatchID(engine, 1);
  int failed = submitTransfer(engine, batch, &request, 1) || waitBatch(engine, batch, -1) ||
               getTransferStatus(engine, batch, 0, &status);
  if (!failed && status.status != STATUS_COMPLETED) {
    char why[512];
    if (!getTransferError(engine, batch, 0, why, sizeof why)) fprintf(stderr, "%s\n", why);
  }
  freeBatchID(engine, batch);
  return failed || status.status != STATUS_COMPLETED;
}

int main(void) {
  /* Without a metadata server, on any free port. Port 0 picks it; the name is "host:port". */
  transfer_engine_t target = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
  transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
  if (!target || !engine) return fail("create");

  /* The target only says what may be touched, and then does nothing. */
  char name[128];
  if (registerLocalMemory(target, target_memory, sizeof target_memory, "*", 1) ||
      getLocalIpAndPort(target, name, sizeof name))
    return fail("target");

  /* What the initiator sends from and receives into is registered as well; 0: not for peers. */
  if (registerLocalMemory(engine, local, sizeof local, "*", 0) ||
      registerLocalMemory(engine, back, sizeof back, "*", 0))
    return fail("register");
  segment_id_t segment = openSegment(engine, name);
  if (segment < 0) return fail("open");

  memset(local, 'x', sizeof local);
  struct transfer_request write = {OPCODE_WRITE, local, segment, 0, sizeof local};
  struct transfer_request read = {OPCODE_READ, back, segment, 0, sizeof back};
  if (transfer(engine, write)) return fail("write");
  if (transfer(engine, read)) return fail("read");
  int equal = !memcmp(local, target_memory, sizeof local) && !memcmp(local, back, sizeof back);
  printf("wrote and read %zu bytes, %s\n", sizeof local, equal ? "equal" : "DIFFERENT");

  destroyTransferEngine(engine);
  destroyTransferEngine(target);
  return equal ? 0 : 1;
}
