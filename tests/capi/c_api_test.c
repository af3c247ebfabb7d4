/* The C API from C: two engines of one process do everything that the header offers. The main
 * thread works; one more has an error text of its own. Status 0 when every check held. */
#define _POSIX_C_SOURCE 200809L /* setenv() */

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "c_api_pair.h"
#include "checks.h"
#include "transfer_engine_c.h"

int checks_done = 0;
int checks_failed = 0;

static void stamp(unsigned char* at, size_t length, unsigned seed) {
  size_t i;
  for (i = 0; i < length; ++i) at[i] = (unsigned char)((i * 2654435761u + seed * 97u) >> 7);
}

static int transfer(const pair_t* pair, int opcode, uint64_t at, uint64_t length) {
  transfer_request_t one = request(pair, opcode, at, length);
  transfer_status_t status = {STATUS_FAILED, 0};
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  CHECK(batch != INVALID_BATCH);
  CHECK(submitTransfer(pair->initiator, batch, &one, 1) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(getTransferStatus(pair->initiator, batch, 0, &status) == 0);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  return status.status;
}

static void check_transfers(const pair_t* pair) {
  stamp(pair->local, kSize, 1);
  CHECK(transfer(pair, OPCODE_WRITE, 1001, 500000) == STATUS_COMPLETED);
  CHECK(memcmp(pair->local + 1001, pair->remote + 1001, 500000) == 0);
  CHECK(pair->remote[1000] == 0 && pair->remote[501001] == 0);
  stamp(pair->remote, kSize, 2);
  memset(pair->local, 0, kSize);
  CHECK(transfer(pair, OPCODE_READ, 77, 900001) == STATUS_COMPLETED);
  CHECK(memcmp(pair->local + 77, pair->remote + 77, 900001) == 0);
  CHECK(pair->local[76] == 0 && pair->local[77 + 900001] == 0);
  CHECK(transfer(pair, OPCODE_WRITE, 0, 0) == STATUS_COMPLETED);
}

static void check_batches(const pair_t* pair) {
  transfer_request_t requests[3];
  transfer_status_t status = {STATUS_FAILED, 9};
  char text[kText];
  struct pollfd entry;
  batch_id_t batch = allocateBatchID(pair->initiator, 3);
  int i;
  CHECK(batch != INVALID_BATCH);
  for (i = 0; i < 3; ++i) requests[i] = request(pair, OPCODE_WRITE, (uint64_t)i * 1000, 500);

  CHECK(getBatchStatus(pair->initiator, batch, &status) == 0);
  CHECK(status.status == STATUS_WAITING && status.transferred_bytes == 0);
  entry.fd = getBatchEventFd(pair->initiator, batch);
  entry.events = POLLIN;
  CHECK(entry.fd >= 0);
  CHECK(poll(&entry, 1, 0) == 0);
  CHECK(submitTransferWithTimeout(pair->initiator, batch, requests, 2, 10000) == 0);
  CHECK(poll(&entry, 1, 10000) == 1);
  CHECK(waitBatch(pair->initiator, batch, 0) == 0);
  CHECK(getBatchStatus(pair->initiator, batch, &status) == 0);
  CHECK(status.status == STATUS_COMPLETED && status.transferred_bytes == 1000);
  CHECK(getTransferStatus(pair->initiator, batch, 2, &status) == 0);
  CHECK(status.status == STATUS_WAITING);
  CHECK(getTransferStatus(pair->initiator, batch, 3, &status) == TE_ERR_OUT_OF_RANGE);
  CHECK(getTransferError(pair->initiator, batch, 0, text, sizeof text) == 0 && text[0] == '\0');
  CHECK(getTransferError(pair->initiator, batch, 9, text, sizeof text) == TE_ERR_OUT_OF_RANGE);
  CHECK(submitTransfer(pair->initiator, batch, requests, 2) == TE_ERR_NO_SPACE);
  CHECK(cancelBatch(pair->initiator, batch) == 0);
  CHECK(getBatchEventFd(pair->target, batch) == TE_ERR_NOT_FOUND);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  CHECK(freeBatchID(pair->initiator, batch) == TE_ERR_NOT_FOUND);
  CHECK(waitBatch(pair->initiator, batch, 10) == TE_ERR_NOT_FOUND);
  CHECK(cancelBatch(pair->initiator, batch) == TE_ERR_NOT_FOUND);
  CHECK(allocateBatchID(pair->initiator, 0) == INVALID_BATCH);
  CHECK(transferEngineLastError()[0] != '\0');
}

/* A target that cannot be reached: the deadline comes first, and the error has a text. */
static void check_timeout(const pair_t* pair) {
  transfer_engine_t lost = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  static unsigned char memory[4096];
  char name[128], text[kText];
  transfer_request_t one;
  transfer_status_t status = {STATUS_WAITING, 0};
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  CHECK(lost != NULL && batch != INVALID_BATCH);
  CHECK(registerLocalMemory(lost, memory, sizeof memory, "*", 1) == 0);
  CHECK(getLocalIpAndPort(lost, name, sizeof name) == 0);
  one = request(pair, OPCODE_READ, 0, 4096);
  one.target_id = openSegment(pair->initiator, name);
  CHECK(one.target_id > 0);
  destroyTransferEngine(lost);
  CHECK(submitTransferWithTimeout(pair->initiator, batch, &one, 1, 200) == 0);
  CHECK(waitBatch(pair->initiator, batch, 1) == TE_ERR_TIMEOUT);
  CHECK(waitBatch(pair->initiator, batch, 10000) == 0);
  CHECK(getTransferStatus(pair->initiator, batch, 0, &status) == 0);
  CHECK(status.status == STATUS_TIMEOUT || status.status == STATUS_FAILED);
  CHECK(getTransferError(pair->initiator, batch, 0, text, sizeof text) == 0);
  CHECK(strstr(text, "127.0.0.1:") != NULL);
  CHECK(getTransferError(pair->initiator, batch, 0, text, 3) == TE_ERR_NO_SPACE);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  CHECK(closeSegment(pair->initiator, one.target_id) == 0);
}

static char task_text[512]; /* why the task of submitted_with() failed */

/* What submitting says; if that is 0, STATUS_FAILED for a task that failed. */
static int submitted_with(const pair_t* pair, uint64_t target_offset,
                          const submit_options_t* options) {
  transfer_request_t one = request(pair, OPCODE_WRITE, 0, 100);
  transfer_status_t status = {STATUS_FAILED, 0};
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  int code;
  one.target_offset = target_offset;
  code = submitTransferWithOptions(pair->initiator, batch, &one, 1, options);
  if (code == 0) {
    CHECK(waitBatch(pair->initiator, batch, -1) == 0);
    CHECK(getTransferStatus(pair->initiator, batch, 0, &status) == 0);
    CHECK(status.status == STATUS_COMPLETED || status.status == STATUS_FAILED);
    CHECK(getTransferError(pair->initiator, batch, 0, task_text, sizeof task_text) == 0);
    if (status.status == STATUS_FAILED) code = STATUS_FAILED;
  }
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  return code;
}

/* The target is asked whether it has registered the range meanwhile, so only the task tells. */
static int out_of_range_with(const pair_t* pair, uint64_t target_offset,
                             const submit_options_t* options) {
  return submitted_with(pair, target_offset, options) == STATUS_FAILED &&
         strstr(task_text, "out_of_range") != NULL;
}

static void check_submit_options(const pair_t* pair) {
  struct {
    submit_options_t known;
    uint64_t later;
  } longer = {{sizeof longer, ADDRESSING_AUTO, 0, NULL, NULL, NULL, NULL}, 0};
  submit_options_t options = {sizeof options, ADDRESSING_DEFAULT, 10000, NULL, NULL, NULL, NULL};
  uint64_t address = (uint64_t)(uintptr_t)pair->remote;
  char name[] = "a", text[] = "b";
  notify_msg_t message;
  notify_msg_t* got;
  int size = 0;
  message.name = name;
  message.msg = text;
  /* Either reading, where none was set. */
  CHECK(submitted_with(pair, 0, &options) == 0);
  CHECK(submitted_with(pair, address, &options) == 0);
  options.addressing = ADDRESSING_OFFSET;
  CHECK(submitted_with(pair, 0, &options) == 0);
  CHECK(out_of_range_with(pair, address, &options));
  CHECK(strstr(task_text, "set the addressing mode to address") != NULL);
  options.addressing = ADDRESSING_ADDRESS;
  options.notify_msg = &message;
  CHECK(submitted_with(pair, address, &options) == 0);
  CHECK(out_of_range_with(pair, 0, &options));
  got = getNotifsFromEngine(pair->target, &size);
  CHECK(got != NULL && size == 1);
  if (got != NULL) CHECK(freeNotifsMsgBuf(got, size) == 0);
  options.addressing = 9;
  CHECK(submitted_with(pair, 0, &options) == TE_ERR_INVALID_ARGUMENT);
  /* Work of GPUs, in a process that has none. */
  options.addressing = ADDRESSING_AUTO;
  options.notify_msg = NULL;
  options.after_event = &size;
  CHECK(submitted_with(pair, 0, &options) == TE_ERR_UNSUPPORTED);
  CHECK(strstr(transferEngineLastError(), "libcuda.so.1") != NULL);
  options.after_event = NULL;
  options.after_stream = &size;
  CHECK(submitted_with(pair, 0, &options) == TE_ERR_UNSUPPORTED);
  options.after_stream = NULL;
  /* Structs of other versions. */
  options.addressing = ADDRESSING_AUTO;
  options.struct_size = 0;
  CHECK(submitted_with(pair, 0, &options) == TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "struct_size") != NULL);
  CHECK(submitted_with(pair, 0, &longer.known) == 0);
  longer.later = 1;
  CHECK(submitted_with(pair, 0, &longer.known) == TE_ERR_UNSUPPORTED);
  /* The engine's mode. */
  options.struct_size = sizeof options;
  options.addressing = ADDRESSING_DEFAULT;
  CHECK(setAddressing(pair->initiator, ADDRESSING_ADDRESS) == 0);
  CHECK(out_of_range_with(pair, 0, &options));
  CHECK(setAddressing(pair->initiator, ADDRESSING_DEFAULT) == TE_ERR_INVALID_ARGUMENT);
  CHECK(setAddressing(pair->initiator, 4) == TE_ERR_INVALID_ARGUMENT);
  CHECK(setAddressing(pair->initiator, ADDRESSING_AUTO) == 0);
  CHECK(submitted_with(pair, 0, &options) == 0);
}

static void check_access(const pair_t* pair) {
  static char memory[8192];
  buffer_entry_t entries[2];
  segment_buffer_t buffers[4];
  void* addresses[2];
  int access;
  size_t count, i, found;
  for (i = 0; i < 2; ++i) {
    entries[i].addr = addresses[i] = memory + 4096 * i;
    entries[i].length = 4096;
  }
  for (access = REMOTE_ACCESS_NONE; access <= REMOTE_ACCESS_READ_WRITE; ++access) {
    const int described = access == REMOTE_ACCESS_READ_WRITE ? 1 : access;
    CHECK(registerLocalMemoryBatchWithAccess(pair->target, entries, 2, "*", access) == 0);
    count = 4;
    CHECK(describeSegment(pair->initiator, pair->segment, buffers, &count) == 0 && count == 3);
    for (i = found = 0; i < count; ++i) {
      if (buffers[i].address == (uint64_t)(uintptr_t)pair->remote) continue;
      CHECK(buffers[i].remote_accessible == described);
      ++found;
    }
    CHECK(found == 2);
    CHECK(unregisterLocalMemoryBatch(pair->target, addresses, 2) == 0);
    CHECK(registerLocalMemory(pair->target, memory, 4096, "*", access) == 0);
    CHECK(unregisterLocalMemory(pair->target, memory) == 0);
  }
  CHECK(registerLocalMemory(pair->target, memory, 1, "*", -1) == TE_ERR_INVALID_ARGUMENT);
  CHECK(registerLocalMemory(pair->target, memory, 1, "*", 5) == TE_ERR_INVALID_ARGUMENT);
  CHECK(registerLocalMemoryBatchWithAccess(pair->target, entries, 2, "*", 5) ==
        TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "remote_accessible 5") != NULL);
}

static void check_segments(const pair_t* pair) {
  segment_buffer_t buffers[4];
  size_t count = 4;
  segment_id_t again;
  CHECK(describeSegment(pair->initiator, pair->segment, buffers, &count) == 0);
  CHECK(count == 1);
  CHECK(buffers[0].address == (uint64_t)(uintptr_t)pair->remote && buffers[0].offset == 0);
  CHECK(buffers[0].length == kSize && buffers[0].remote_accessible == 1);
  CHECK(buffers[0].memory_kind == MEMORY_HOST);
  CHECK(strcmp(buffers[0].location, "*") == 0 || strncmp(buffers[0].location, "cpu:", 4) == 0);
  count = 0;
  CHECK(describeSegment(pair->initiator, pair->segment, NULL, &count) == TE_ERR_NO_SPACE);
  CHECK(count == 1);
  CHECK(describeSegment(pair->initiator, -1, buffers, &count) == TE_ERR_NOT_FOUND);
  count = 4;
  CHECK(describeSegment(pair->initiator, LOCAL_SEGMENT, buffers, &count) == 0 && count == 1);
  CHECK(buffers[0].address == (uint64_t)(uintptr_t)pair->local);

  again = openSegment(pair->initiator, pair->name);
  CHECK(again == pair->segment);
  CHECK(openSegmentNoCache(pair->initiator, pair->name) == again);
  CHECK(closeSegment(pair->initiator, again) == 0);
  CHECK(closeSegment(pair->initiator, again) == 0);
  CHECK(syncSegmentCache(pair->initiator) == 0);
  CHECK(openSegment(pair->initiator, "127.0.0.1:1") < 0);
  CHECK(strstr(transferEngineLastError(), "127.0.0.1:1") != NULL);
  CHECK(openSegment(pair->initiator, "") == TE_ERR_INVALID_ARGUMENT);
  CHECK(closeSegment(pair->initiator, 999999) == TE_ERR_NOT_FOUND);
  CHECK(removeLocalSegment(pair->initiator, "another") == TE_ERR_INVALID_ARGUMENT);
  CHECK(transfer(pair, OPCODE_READ, 0, 1000) == STATUS_COMPLETED);
}

/* Again and again, of what is not open, and while a batch is in flight, which it leaves alone. */
static void check_warm_up_of(const pair_t* pair) {
  transfer_request_t one = request(pair, OPCODE_WRITE, 0, kSize);
  transfer_status_t status = {STATUS_FAILED, 0};
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  int i;
  CHECK(warmupEfaSegment(pair->initiator, "nobody") == TE_ERR_NOT_FOUND);
  CHECK(strstr(transferEngineLastError(), "nobody") != NULL);
  CHECK(warmupEfaSegment(pair->initiator, "") == TE_ERR_NOT_FOUND);
  for (i = 0; i < 3; ++i) CHECK(warmupEfaSegment(pair->initiator, pair->name) == 0);
  CHECK(submitTransfer(pair->initiator, batch, &one, 1) == 0);
  CHECK(warmupEfaSegment(pair->initiator, pair->name) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(getBatchStatus(pair->initiator, batch, &status) == 0);
  CHECK(status.status == STATUS_COMPLETED && status.transferred_bytes == kSize);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
}

/* Over TCP, where there is nothing to do, and over libfabric. */
static void check_warm_up(const pair_t* pair) {
  pair_t other = *pair;
  check_warm_up_of(pair);
  setenv("TE_FABRIC_ADDRESSES", "127.0.0.1,127.0.0.2", 1);
  other.initiator = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  other.target = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", NULL, 0, 1);
  unsetenv("TE_FABRIC_ADDRESSES");
  CHECK(other.initiator != NULL && other.target != NULL);
  if (installTransport(other.initiator, "fabric:tcp", NULL) == NULL) {
    printf("the warm-up over libfabric is left out: %s\n", transferEngineLastError());
  } else {
    CHECK(installTransport(other.target, "fabric:tcp", NULL) != NULL);
    CHECK(registerLocalMemory(other.initiator, other.local, kSize, "*", 1) == 0);
    CHECK(registerLocalMemory(other.target, other.remote, kSize, "*", 1) == 0);
    CHECK(getLocalIpAndPort(other.target, other.name, sizeof other.name) == 0);
    other.segment = openSegment(other.initiator, other.name);
    check_warm_up_of(&other);
  }
  destroyTransferEngine(other.initiator);
  destroyTransferEngine(other.target);
}

static void check_memory(const pair_t* pair) {
  static unsigned char memory[8192];
  buffer_entry_t entries[2];
  void* addresses[2];
  entries[0].addr = addresses[0] = memory;
  entries[1].addr = addresses[1] = memory + 4096;
  entries[0].length = entries[1].length = 4096;
  CHECK(registerLocalMemoryBatch(pair->target, entries, 2, "cpu:0") == 0);
  CHECK(registerLocalMemoryBatch(pair->target, entries, 2, "*") == TE_ERR_ALREADY_EXISTS);
  CHECK(registerLocalMemoryBatch(pair->target, entries, 2, "cpu:0") == 0); /* counted */
  CHECK(registerLocalMemory(pair->target, memory + 10, 5, "*", 0) == TE_ERR_ALREADY_EXISTS);
  CHECK(unregisterLocalMemoryBatch(pair->target, addresses, 2) == 0);
  CHECK(registerLocalMemory(pair->target, memory + 10, 5, "*", 0) == TE_ERR_ALREADY_EXISTS);
  CHECK(unregisterLocalMemoryBatch(pair->target, addresses, 2) == 0);
  CHECK(unregisterLocalMemoryBatch(pair->target, addresses, 2) == TE_ERR_NOT_FOUND);
  CHECK(registerLocalMemory(pair->target, memory, 0, "*", 1) == TE_ERR_INVALID_ARGUMENT);
  CHECK(registerLocalMemory(pair->target, memory, 10, "nowhere", 1) == TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "nowhere") != NULL);
  CHECK(registerLocalMemory(pair->target, memory, 10, "*", 0) == 0);
  CHECK(unregisterLocalMemory(pair->target, memory) == 0);
  CHECK(unregisterLocalMemory(pair->target, memory) == TE_ERR_NOT_FOUND);
}

/* The target's memory is the engine's own. */
static void check_allocated_memory(const pair_t* pair) {
  static unsigned char local[100000];
  size_t i, wrong = 0;
  unsigned char* memory;
  struct transfer_request request;
  struct transfer_status status;
  batch_id_t batch;
  CHECK(allocateMemory(pair->target, 0, "*", HUGE_PAGES_NO) == NULL);
  CHECK(allocateMemory(pair->target, 4096, NULL, HUGE_PAGES_NO) == NULL);
  CHECK(allocateMemory(pair->target, 4096, "nowhere", HUGE_PAGES_NO) == NULL);
  CHECK(strstr(transferEngineLastError(), "nowhere") != NULL);
  CHECK(allocateMemory(pair->target, 4096, "*", 3) == NULL);
  CHECK(strstr(transferEngineLastError(), "huge_pages") != NULL);
  memory = allocateMemory(pair->target, sizeof local, "cpu:0", HUGE_PAGES_PREFER);
  CHECK(memory != NULL);
  if (memory == NULL) return;
  CHECK(registerLocalMemory(pair->initiator, local, sizeof local, "*", 0) == 0);
  stamp(local, sizeof local, 77);
  request.opcode = OPCODE_WRITE;
  request.source = local;
  request.target_id = pair->segment;
  request.target_offset = (uint64_t)(uintptr_t)memory;
  request.length = sizeof local;
  batch = allocateBatchID(pair->initiator, 1);
  CHECK(submitTransfer(pair->initiator, batch, &request, 1) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(getTransferStatus(pair->initiator, batch, 0, &status) == 0);
  CHECK(status.status == STATUS_COMPLETED);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  for (i = 0; i < sizeof local; ++i) wrong += memory[i] != local[i];
  CHECK(wrong == 0);
  CHECK(unregisterLocalMemory(pair->initiator, local) == 0);
  CHECK(unregisterLocalMemory(pair->target, memory) == TE_ERR_INVALID_ARGUMENT);
  CHECK(freeMemory(pair->target, memory) == 0);
  CHECK(freeMemory(pair->target, memory) == TE_ERR_NOT_FOUND);
  CHECK(freeMemory(pair->target, NULL) == TE_ERR_NOT_FOUND);
}

/* Fills exactly, fails when a byte is missing, and then says how many are needed. */
#define CHECK_TEXT(call_with)                                           \
  do {                                                                  \
    char big[kText];                                                    \
    char needed[32];                                                    \
    size_t size_needed;                                                 \
    memset(big, 'x', sizeof big);                                       \
    CHECK(call_with(big, sizeof big) == 0);                             \
    size_needed = strlen(big) + 1;                                      \
    CHECK(call_with(big, size_needed) == 0);                            \
    memset(big, 'x', sizeof big);                                       \
    CHECK(call_with(big, size_needed - 1) == TE_ERR_NO_SPACE);          \
    snprintf(needed, sizeof needed, "%lu", (unsigned long)size_needed); \
    CHECK(strstr(transferEngineLastError(), needed) != NULL);           \
    CHECK(call_with(big, 0) == TE_ERR_NO_SPACE);                        \
    CHECK(call_with(NULL, 0) == (int)size_needed);                      \
    CHECK(big[size_needed - 1] == 'x');                                 \
  } while (0)

static void check_texts(const pair_t* pair) {
  nic_load_stat_t loads[8];
  size_t count = 8;
  char text[kText];
  transfer_engine_t e = pair->initiator;
#define ENDPOINT(buf, size) getLocalIpAndPort(e, buf, size)
#define LINKS(buf, size) showLinks(e, buf, size, 0)
#define LINKS_JSON(buf, size) showLinks(e, buf, size, 1)
#define CONFIG(buf, size) getEffectiveConfig(e, buf, size)
#define TOPOLOGY(buf, size) getTopology(e, buf, size)
#define MATRIX(buf, size) getNicPriorityMatrix(e, buf, size)
  CHECK_TEXT(ENDPOINT);
  CHECK_TEXT(LINKS);
  CHECK_TEXT(LINKS_JSON);
  CHECK_TEXT(CONFIG);
  CHECK_TEXT(TOPOLOGY);
  CHECK_TEXT(MATRIX);
  CHECK(getNicPriorityMatrix(e, text, sizeof text) == 0);
  CHECK(strstr(text, "\"cpu:0\": [") != NULL);
  CHECK(showLinks(e, text, sizeof text, 1) == 0 && text[0] == '[');
  CHECK(strstr(text, pair->name) != NULL);
  CHECK(getEffectiveConfig(e, text, sizeof text) == 0);
  CHECK(strstr(text, "transfer_timeout_ms") != NULL);
  CHECK(getNicLoadStats(e, loads, &count) == 0);
  CHECK(count >= 1 && count <= 8 && loads[0].device_name[0] != '\0');
  count = 0;
  CHECK(getNicLoadStats(e, NULL, &count) == 0 && count == 0);
}

static void check_transports(const pair_t* pair) {
  char matrix[] = "{\"cpu:0\": [[\"eth0\"], []]}", broken[] = "{";
  void* args[1];
  transport_t transport = installTransport(pair->initiator, "tcp", NULL);
  CHECK(transport != NULL);
  args[0] = matrix;
  CHECK(installTransport(pair->initiator, "tcp", args) != NULL);
  args[0] = broken;
  CHECK(installTransport(pair->initiator, "tcp", args) == NULL);
  CHECK(strstr(transferEngineLastError(), "JSON") != NULL);
  CHECK(installTransport(pair->initiator, "warp", NULL) == NULL);
  CHECK(strstr(transferEngineLastError(), "warp") != NULL);
  CHECK(uninstallTransport(pair->initiator, "warp") == TE_ERR_NOT_FOUND);
  CHECK(uninstallTransport(pair->initiator, "tcp") == 0);
  CHECK(installTransport(pair->initiator, "tcp", NULL) != NULL);
  CHECK(discoverTopology(pair->initiator) == 0);
  CHECK(transfer(pair, OPCODE_READ, 0, 1000) == STATUS_COMPLETED);
}

static int log_lines = 0;
static int log_user = 0;

static void on_log(int level, const char* message, void* user) {
  if (level >= 0 && level <= 3 && message[0] != '\0' && user == &log_user) ++log_lines;
}

static void check_log(void) {
  transfer_engine_t engine;
  setTransferEngineLogCallback(on_log, &log_user);
  CHECK(setTransferEngineLogLevel(3) == 0);
  CHECK(setTransferEngineLogLevel(4) == TE_ERR_INVALID_ARGUMENT);
  CHECK(setTransferEngineLogLevel(-1) == TE_ERR_INVALID_ARGUMENT);
  CHECK(setenv("TRANSFER_ENGINE_NO_SUCH_SETTING", "1", 1) == 0); /* so the engine warns */
  engine = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  CHECK(engine != NULL);
  CHECK(log_lines > 0);
  destroyTransferEngine(engine);
  CHECK(unsetenv("TRANSFER_ENGINE_NO_SUCH_SETTING") == 0);
  CHECK(setTransferEngineLogLevel(1) == 0);
  setTransferEngineLogCallback(NULL, NULL);
}

static void check_names(void) {
  static const struct {
    int code;
    const char* name;
  } known[] = {{0, "ok"},
               {TE_ERR_INVALID_ARGUMENT, "invalid_argument"},
               {TE_ERR_NOT_FOUND, "not_found"},
               {TE_ERR_ALREADY_EXISTS, "already_exists"},
               {TE_ERR_OUT_OF_RANGE, "out_of_range"},
               {TE_ERR_PERMISSION, "permission"},
               {TE_ERR_UNAVAILABLE, "unavailable"},
               {TE_ERR_TIMEOUT, "timeout"},
               {TE_ERR_CANCELLED, "cancelled"},
               {TE_ERR_STALE, "stale"},
               {TE_ERR_BUSY, "busy"},
               {TE_ERR_UNSUPPORTED, "unsupported"},
               {TE_ERR_PROTOCOL, "protocol"},
               {TE_ERR_NO_SPACE, "no_space"},
               {TE_ERR_RESOURCE, "resource"},
               {TE_ERR_INTERNAL, "internal"}};
  size_t i;
  for (i = 0; i < sizeof known / sizeof *known; ++i) {
    CHECK(strcmp(transferEngineErrorName(known[i].code), known[i].name) == 0);
  }
  CHECK(transferEngineErrorName(-1000) != NULL && transferEngineErrorName(7) != NULL);
  CHECK(transferEngineVersion()[0] >= '0' && transferEngineVersion()[0] <= '9');
}

static void* text_of_another_thread(void* unused) {
  (void)unused;
  /* Nothing failed here yet, whatever failed elsewhere. */
  CHECK(transferEngineLastError()[0] == '\0');
  CHECK(discoverTopology(NULL) == TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "engine is null") != NULL);
  return NULL;
}

static void check_last_error(const pair_t* pair) {
  pthread_t thread;
  int created;
  CHECK(closeSegment(pair->initiator, 999999) == TE_ERR_NOT_FOUND);
  CHECK(strstr(transferEngineLastError(), "999999") != NULL);
  CHECK(strncmp(transferEngineLastError(), "not_found", 9) == 0);
  created = pthread_create(&thread, NULL, text_of_another_thread, NULL);
  if (created == 0) pthread_join(thread, NULL);
  CHECK(created == 0);
  CHECK(strstr(transferEngineLastError(), "999999") != NULL);
  CHECK(openSegment(pair->initiator, NULL) < 0);
  CHECK(strstr(transferEngineLastError(), "999999") == NULL);
}

static void check_creation(const pair_t* pair) {
  const char* port = strrchr(pair->name, ':') + 1;
  CHECK(createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", (uint64_t)atol(port), 0) == NULL);
  CHECK(strstr(transferEngineLastError(), port) != NULL);
  CHECK(createTransferEngine("P2PHANDSHAKE", "", NULL, 65536, 0) == NULL);
  CHECK(strstr(transferEngineLastError(), "65536") != NULL);
  CHECK(createTransferEngine("gopher://x:1", "a", NULL, 0, 0) == NULL);
  CHECK(strstr(transferEngineLastError(), "gopher") != NULL);
}

int main(void) {
  pair_t pair;
  check_null_arguments();
  pair.initiator = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  pair.target = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", NULL, 0, 1);
  pair.local = calloc(1, kSize);
  pair.remote = calloc(1, kSize);
  CHECK(pair.initiator != NULL && pair.target != NULL);
  if (pair.initiator == NULL || pair.target == NULL) return 1;
  CHECK(registerLocalMemory(pair.initiator, pair.local, kSize, "*", 1) == 0);
  CHECK(registerLocalMemory(pair.target, pair.remote, kSize, "*", 1) == 0);
  CHECK(getLocalIpAndPort(pair.target, pair.name, sizeof pair.name) == 0);
  CHECK(strncmp(pair.name, "127.0.0.1:", 10) == 0);
  pair.segment = openSegment(pair.initiator, pair.name);
  CHECK(pair.segment > 0);

  check_transfers(&pair);
  check_batches(&pair);
  check_notifications(&pair);
  check_segments(&pair);
  check_submit_options(&pair);
  check_binary_notifications(&pair);
  check_settings();
  check_completions(&pair);
  check_lists(&pair);
  check_access(&pair);
  check_warm_up(&pair);
  check_memory(&pair);
  check_allocated_memory(&pair);
  check_texts(&pair);
  check_timeout(&pair);
  check_transports(&pair);
  check_last_error(&pair);
  check_creation(&pair);
  check_log();
  check_names();
  enableGracefulShutdown(pair.target);

  CHECK(closeSegment(pair.initiator, pair.segment) == 0);
  CHECK(unregisterLocalMemory(pair.initiator, pair.local) == 0);
  CHECK(removeLocalSegment(pair.target, pair.name) == 0);
  destroyTransferEngine(pair.initiator);
  destroyTransferEngine(pair.target);
  free(pair.local);
  free(pair.remote);
  printf("%d checks, %d failed\n", checks_done, checks_failed);
  return checks_failed == 0 ? 0 : 1;
}
