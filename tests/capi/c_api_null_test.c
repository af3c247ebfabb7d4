/* Null engines and null pointers: an error with a text, never a crash. One thread. */
#include <string.h>

#include "checks.h"
#include "transfer_engine_c.h"

/* The call fails with this code, and its text mentions `text`. */
#define REFUSED(call, code, text)                             \
  do {                                                        \
    CHECK((call) == (code));                                  \
    CHECK(strstr(transferEngineLastError(), (text)) != NULL); \
  } while (0)
#define NULL_ENGINE(call) REFUSED(call, TE_ERR_INVALID_ARGUMENT, "engine is null")
#define NULL_ARGUMENT(call, name) REFUSED(call, TE_ERR_INVALID_ARGUMENT, name)

static void check_null_engine(void) {
  char text[64];
  int size = 5;
  size_t count = 1;
  void* address = text;
  buffer_entry_t entry = {text, sizeof text};
  transfer_request_t request;
  transfer_status_t status;
  segment_buffer_t buffer;
  nic_load_stat_t load;
  notify_msg_t message = {text, text};
  notification_t note = {text, text, 1};
  completion_t done;
  notification_t* taken;
  submit_options_t options = {sizeof options, ADDRESSING_DEFAULT, 0, NULL, NULL, NULL, NULL};
  memset(&request, 0, sizeof request);
  memset(text, 0, sizeof text);

  destroyTransferEngine(NULL);
  NULL_ENGINE(discoverTopology(NULL));
  NULL_ENGINE(getTopology(NULL, text, sizeof text));
  NULL_ENGINE(getNicPriorityMatrix(NULL, text, sizeof text));
  NULL_ENGINE(getLocalIpAndPort(NULL, text, sizeof text));
  CHECK(installTransport(NULL, "tcp", NULL) == NULL);
  CHECK(strstr(transferEngineLastError(), "engine is null") != NULL);
  NULL_ENGINE(uninstallTransport(NULL, "tcp"));
  enableGracefulShutdown(NULL);
  NULL_ENGINE(openSegment(NULL, "a"));
  NULL_ENGINE(openSegmentNoCache(NULL, "a"));
  NULL_ENGINE(closeSegment(NULL, 1));
  NULL_ENGINE(warmupEfaSegment(NULL, "a"));
  NULL_ENGINE(removeLocalSegment(NULL, "a"));
  NULL_ENGINE(syncSegmentCache(NULL));
  NULL_ENGINE(describeSegment(NULL, LOCAL_SEGMENT, &buffer, &count));
  NULL_ENGINE(registerLocalMemory(NULL, text, sizeof text, "*", 1));
  NULL_ENGINE(unregisterLocalMemory(NULL, text));
  NULL_ENGINE(registerLocalMemoryBatch(NULL, &entry, 1, "*"));
  NULL_ENGINE(unregisterLocalMemoryBatch(NULL, &address, 1));
  CHECK(allocateMemory(NULL, 4096, "*", HUGE_PAGES_NO) == NULL);
  CHECK(strstr(transferEngineLastError(), "engine is null") != NULL);
  NULL_ENGINE(freeMemory(NULL, text));
  CHECK(allocateBatchID(NULL, 1) == INVALID_BATCH);
  CHECK(strstr(transferEngineLastError(), "engine is null") != NULL);
  NULL_ENGINE(submitTransfer(NULL, 1, &request, 1));
  NULL_ENGINE(submitTransferWithNotify(NULL, 1, &request, 1, message));
  NULL_ENGINE(submitTransferWithTimeout(NULL, 1, &request, 1, 100));
  NULL_ENGINE(submitTransferWithOptions(NULL, 1, &request, 1, &options));
  NULL_ENGINE(setAddressing(NULL, ADDRESSING_AUTO));
  NULL_ENGINE(getTransferStatus(NULL, 1, 0, &status));
  NULL_ENGINE(getBatchStatus(NULL, 1, &status));
  NULL_ENGINE(getTransferError(NULL, 1, 0, text, sizeof text));
  NULL_ENGINE(waitBatch(NULL, 1, 0));
  NULL_ENGINE(cancelBatch(NULL, 1));
  NULL_ENGINE(getBatchEventFd(NULL, 1));
  NULL_ENGINE(freeBatchID(NULL, 1));
  NULL_ENGINE(genNotifyInEngine(NULL, 0, message));
  NULL_ENGINE(sendNotification(NULL, 0, &note));
  NULL_ENGINE(takeNotifications(NULL, &taken, &count));
  NULL_ENGINE(takeCompletions(NULL, &done, &count));
  NULL_ENGINE(getCompletionFd(NULL));
  CHECK(allocateBatchIDWithOptions(NULL, 1, NULL) == INVALID_BATCH);
  CHECK(getNotifsFromEngine(NULL, &size) == NULL);
  CHECK(size == TE_ERR_INVALID_ARGUMENT);
  count = 1;
  NULL_ENGINE(getNicLoadStats(NULL, &load, &count));
  NULL_ENGINE(showLinks(NULL, text, sizeof text, 0));
  NULL_ENGINE(getEffectiveConfig(NULL, text, sizeof text));
}

static void check_null_pointers(transfer_engine_t engine) {
  char text[64] = "text";
  size_t count = 1;
  notify_msg_t no_name = {NULL, text};
  notification_t nameless = {NULL, text, 1};
  notification_t* taken;
  notify_msg_t no_text = {text, NULL};
  submit_options_t options = {sizeof options, ADDRESSING_DEFAULT, 0, NULL, NULL, NULL, NULL};
  transfer_request_t request;
  batch_id_t batch = allocateBatchID(engine, 1);
  memset(&request, 0, sizeof request);
  CHECK(batch != INVALID_BATCH);

  CHECK(createTransferEngine(NULL, "a", NULL, 0, 0) == NULL);
  CHECK(strstr(transferEngineLastError(), "metadata_conn_string") != NULL);
  CHECK(createTransferEngine("P2PHANDSHAKE", NULL, NULL, 0, 0) == NULL);
  CHECK(strstr(transferEngineLastError(), "local_server_name") != NULL);
  NULL_ARGUMENT(getLocalIpAndPort(engine, NULL, 100), "buf_out");
  CHECK(installTransport(engine, NULL, NULL) == NULL);
  CHECK(strstr(transferEngineLastError(), "proto") != NULL);
  NULL_ARGUMENT(uninstallTransport(engine, NULL), "proto");
  NULL_ARGUMENT(openSegment(engine, NULL), "segment_name");
  NULL_ARGUMENT(openSegmentNoCache(engine, NULL), "segment_name");
  NULL_ARGUMENT(warmupEfaSegment(engine, NULL), "segment_name");
  NULL_ARGUMENT(removeLocalSegment(engine, NULL), "segment_name");
  NULL_ARGUMENT(describeSegment(engine, LOCAL_SEGMENT, NULL, NULL), "count");
  NULL_ARGUMENT(registerLocalMemory(engine, NULL, 10, "*", 1), "null");
  NULL_ARGUMENT(registerLocalMemory(engine, text, sizeof text, NULL, 1), "location");
  REFUSED(unregisterLocalMemory(engine, NULL), TE_ERR_NOT_FOUND, "registered");
  NULL_ARGUMENT(registerLocalMemoryBatch(engine, NULL, 1, "*"), "buffer_list");
  CHECK(registerLocalMemoryBatch(engine, NULL, 0, "*") == 0);
  NULL_ARGUMENT(registerLocalMemoryBatch(engine, NULL, 0, NULL), "location");
  NULL_ARGUMENT(unregisterLocalMemoryBatch(engine, NULL, 1), "addr_list");
  CHECK(unregisterLocalMemoryBatch(engine, NULL, 0) == 0);
  NULL_ARGUMENT(submitTransfer(engine, batch, NULL, 1), "entries");
  CHECK(submitTransfer(engine, batch, NULL, 0) == 0);
  NULL_ARGUMENT(submitTransferWithTimeout(engine, batch, NULL, 1, 10), "entries");
  NULL_ARGUMENT(submitTransferWithOptions(engine, batch, NULL, 1, &options), "entries");
  NULL_ARGUMENT(submitTransferWithOptions(engine, batch, &request, 1, NULL), "options");
  NULL_ARGUMENT(submitTransferWithNotify(engine, batch, &request, 1, no_name), "notify_msg.name");
  NULL_ARGUMENT(submitTransferWithNotify(engine, batch, &request, 1, no_text), "notify_msg.msg");
  NULL_ARGUMENT(getTransferStatus(engine, batch, 0, NULL), "status");
  NULL_ARGUMENT(getBatchStatus(engine, batch, NULL), "status");
  NULL_ARGUMENT(getTransferError(engine, batch, 0, NULL, 10), "buf_out");
  NULL_ARGUMENT(genNotifyInEngine(engine, 0, no_name), "notify_msg.name");
  NULL_ARGUMENT(genNotifyInEngine(engine, 0, no_text), "notify_msg.msg");
  NULL_ARGUMENT(sendNotification(engine, 0, NULL), "notification");
  NULL_ARGUMENT(sendNotification(engine, 0, &nameless), "notification.name");
  NULL_ARGUMENT(takeNotifications(engine, NULL, &count), "list");
  NULL_ARGUMENT(takeNotifications(engine, &taken, NULL), "count");
  freeNotifications(NULL);
  CHECK(getNotifsFromEngine(engine, NULL) == NULL);
  CHECK(strstr(transferEngineLastError(), "size") != NULL);
  CHECK(freeNotifsMsgBuf(NULL, 0) == 0);
  NULL_ARGUMENT(freeNotifsMsgBuf(NULL, 1), "messages");
  NULL_ARGUMENT(getNicLoadStats(engine, NULL, NULL), "count");
  NULL_ARGUMENT(getNicLoadStats(engine, NULL, &count), "stats");
  NULL_ARGUMENT(showLinks(engine, NULL, 100, 0), "buf_out");
  NULL_ARGUMENT(getEffectiveConfig(engine, NULL, 100), "buf_out");
  CHECK(freeBatchID(engine, batch) == 0);
}

void check_null_arguments(void) {
  transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  CHECK(engine != NULL);
  check_null_engine();
  if (engine != NULL) check_null_pointers(engine);
  destroyTransferEngine(engine);
}
