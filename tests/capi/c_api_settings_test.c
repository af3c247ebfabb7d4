/* Settings of one engine, and notifications: text and bytes. One thread. */
#include <string.h>

#include "c_api_pair.h"
#include "checks.h"
#include "transfer_engine_c.h"

void check_completions(const pair_t* pair) {
  batch_options_t options = {sizeof options, 1};
  transfer_request_t one = request(pair, OPCODE_WRITE, 0, 100);
  completion_t got[4];
  size_t count = 4;
  batch_id_t queued = allocateBatchIDWithOptions(pair->initiator, 1, &options);
  batch_id_t plain = allocateBatchIDWithOptions(pair->initiator, 1, NULL);
  CHECK(queued != INVALID_BATCH && plain != INVALID_BATCH);
  CHECK(getCompletionFd(pair->initiator) >= 0);
  CHECK(takeCompletions(pair->initiator, got, &count) == 0 && count == 0);
  CHECK(submitTransfer(pair->initiator, plain, &one, 1) == 0);
  CHECK(submitTransfer(pair->initiator, queued, &one, 1) == 0);
  CHECK(waitBatch(pair->initiator, plain, -1) == 0);
  CHECK(waitBatch(pair->initiator, queued, -1) == 0);
  count = 4;
  CHECK(takeCompletions(pair->initiator, got, &count) == 0 && count == 1);
  CHECK(got[0].batch_id == queued && got[0].status.status == STATUS_COMPLETED);
  CHECK(got[0].status.transferred_bytes == 100);
  CHECK(takeCompletions(pair->initiator, NULL, &count) == TE_ERR_INVALID_ARGUMENT);
  CHECK(takeCompletions(pair->initiator, got, NULL) == TE_ERR_INVALID_ARGUMENT);
  options.struct_size = 3;
  CHECK(allocateBatchIDWithOptions(pair->initiator, 1, &options) == INVALID_BATCH);
  CHECK(strstr(transferEngineLastError(), "batch_options_t") != NULL);
  CHECK(freeBatchID(pair->initiator, queued) == 0);
  CHECK(freeBatchID(pair->initiator, plain) == 0);
}

void check_lists(const pair_t* pair) {
  block_region_t regions[2] = {{0}};
  const uint64_t here[3] = {0, 1, 5}, there[3] = {4, 5, 0};
  block_list_t blocks = {OPCODE_WRITE, 0, regions, 2, here, there, 3};
  uint64_t sources[2], offsets[2] = {9000, 100}, lengths[2] = {50, 7};
  address_list_t addresses = {OPCODE_WRITE, 0, sources, offsets, lengths, 2};
  submit_options_t options = {sizeof options, ADDRESSING_DEFAULT, 20000, NULL, NULL, NULL, NULL};
  transfer_status_t status = {STATUS_FAILED, 0};
  batch_id_t batch = allocateBatchID(pair->initiator, 3);
  prepared_list_t prepared;
  size_t i, k;
  for (i = 0; i < 2; ++i) {
    regions[i].source = pair->local + i * 100000;
    regions[i].target_offset = i * 100000;
    regions[i].block_size = 1000;
  }
  blocks.target_id = addresses.target_id = pair->segment;
  for (i = 0; i < kSize; ++i) pair->local[i] = (unsigned char)(i * 7 + i / 1000);
  CHECK(submitBlocks(pair->initiator, batch, &blocks, &options) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(getTransferStatus(pair->initiator, batch, 0, &status) == 0);
  CHECK(status.status == STATUS_COMPLETED && status.transferred_bytes == 6000);
  for (i = 0; i < 2; ++i) {
    for (k = 0; k < 3; ++k) {
      CHECK(memcmp(pair->local + i * 100000 + here[k] * 1000,
                   pair->remote + i * 100000 + there[k] * 1000, 1000) == 0);
    }
  }
  sources[0] = (uint64_t)(uintptr_t)(pair->local + 333);
  sources[1] = (uint64_t)(uintptr_t)(pair->local + 20000);
  prepared = prepareAddresses(pair->initiator, &addresses);
  CHECK(prepared != NULL);
  CHECK(submitPreparedList(pair->initiator, batch, prepared, NULL) == 0);
  freePreparedList(prepared);
  CHECK(submitAddresses(pair->initiator, batch, &addresses, NULL) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(memcmp(pair->local + 333, pair->remote + 9000, 50) == 0);
  CHECK(memcmp(pair->local + 20000, pair->remote + 100, 7) == 0);
  prepared = prepareBlocks(pair->initiator, &blocks);
  CHECK(prepared != NULL);
  freePreparedList(prepared);
  freePreparedList(NULL);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
  CHECK(submitPreparedList(pair->initiator, 1, NULL, NULL) == TE_ERR_INVALID_ARGUMENT);
  CHECK(submitBlocks(pair->initiator, 1, NULL, NULL) == TE_ERR_INVALID_ARGUMENT);
  CHECK(submitAddresses(pair->initiator, 1, NULL, NULL) == TE_ERR_INVALID_ARGUMENT);
  CHECK(prepareBlocks(NULL, &blocks) == NULL);
  blocks.source_blocks = NULL;
  CHECK(submitBlocks(pair->initiator, 1, &blocks, NULL) == TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "source_blocks") != NULL);
  CHECK(prepareBlocks(pair->initiator, &blocks) == NULL);
}

/* Settings of one engine: beside another that has none, and above the environment. */
void check_settings(void) {
  static char text[kText];
  engine_setting_t settings[2] = {{"transfer_timeout_ms", "1234"}, {"addressing", "offset"}};
  transfer_engine_t engine =
      createTransferEngineWithSettings("P2PHANDSHAKE", "", "127.0.0.1", 0, 0, settings, 2);
  CHECK(engine != NULL);
  CHECK(getEffectiveConfig(engine, text, sizeof text) == 0);
  CHECK(strstr(text, "1234") != NULL);
  destroyTransferEngine(engine);
  engine = createTransferEngine("P2PHANDSHAKE", "", "127.0.0.1", 0, 0);
  CHECK(getEffectiveConfig(engine, text, sizeof text) == 0);
  CHECK(strstr(text, "1234") == NULL);
  destroyTransferEngine(engine);
#define REFUSED_SETTINGS(count, expected)                                                 \
  CHECK(createTransferEngineWithSettings("P2PHANDSHAKE", "", "127.0.0.1", 0, 0, settings, \
                                         count) == NULL);                                 \
  CHECK(strstr(transferEngineLastError(), expected) != NULL)
  settings[1].name = "transfer_timeout_ms";
  REFUSED_SETTINGS(2, "twice");
  settings[1].name = "no_such_setting";
  REFUSED_SETTINGS(2, "no_such_setting");
  settings[0].value = "soon";
  REFUSED_SETTINGS(1, "transfer_timeout_ms");
  settings[0].value = NULL;
  REFUSED_SETTINGS(1, "value of a setting is null");
  CHECK(createTransferEngineWithSettings("P2PHANDSHAKE", "", "127.0.0.1", 0, 0, NULL, 1) == NULL);
  CHECK(strstr(transferEngineLastError(), "settings") != NULL);
}

void check_notifications(const pair_t* pair) {
  char name[] = "name", text[] = "text \xE2\x82\xAC";
  notify_msg_t message;
  notify_msg_t* got;
  transfer_request_t one = request(pair, OPCODE_WRITE, 0, 100);
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  int size = -1;
  message.name = name;
  message.msg = text;
  got = getNotifsFromEngine(pair->target, &size);
  CHECK(got == NULL && size == 0);
  CHECK(genNotifyInEngine(pair->initiator, (uint64_t)pair->segment, message) == 0);
  CHECK(submitTransferWithNotify(pair->initiator, batch, &one, 1, message) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  got = getNotifsFromEngine(pair->target, &size);
  CHECK(got != NULL && size == 2);
  if (got != NULL && size == 2) {
    CHECK(strcmp(got[0].name, name) == 0 && strcmp(got[0].msg, text) == 0);
    CHECK(strcmp(got[1].msg, text) == 0);
    CHECK(freeNotifsMsgBuf(got, size) == 0);
  }
  CHECK(freeNotifsMsgBuf(NULL, -1) == TE_ERR_INVALID_ARGUMENT);
  CHECK(genNotifyInEngine(pair->initiator, UINT64_MAX, message) == TE_ERR_NOT_FOUND);
  CHECK(genNotifyInEngine(pair->initiator, 12345, message) == TE_ERR_NOT_FOUND);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
}

void check_binary_notifications(const pair_t* pair) {
  unsigned char bytes[256];
  notification_t sent = {"blocks", bytes, sizeof bytes};
  notification_t empty = {"", NULL, 0};
  notification_t no_data = {"a", NULL, 1};
  notification_t* got = &sent;
  char name[] = "a", text[] = "b";
  notify_msg_t message = {name, text};
  submit_options_t options = {sizeof options, ADDRESSING_DEFAULT, 0, NULL, &sent, NULL, NULL};
  transfer_request_t one = request(pair, OPCODE_WRITE, 0, 100);
  batch_id_t batch = allocateBatchID(pair->initiator, 1);
  size_t count = 9, i;
  for (i = 0; i < sizeof bytes; ++i) bytes[i] = (unsigned char)i;
  CHECK(takeNotifications(pair->target, &got, &count) == 0); /* of the checks before */
  freeNotifications(got);
  CHECK(takeNotifications(pair->target, &got, &count) == 0 && got == NULL && count == 0);
  CHECK(submitTransferWithOptions(pair->initiator, batch, &one, 1, &options) == 0);
  CHECK(waitBatch(pair->initiator, batch, -1) == 0);
  CHECK(sendNotification(pair->initiator, pair->segment, &empty) == 0);
  CHECK(sendNotification(pair->initiator, pair->segment, &sent) == 0);
  CHECK(takeNotifications(pair->target, &got, &count) == 0 && count == 3);
  if (count == 3) {
    CHECK(strcmp(got[0].name, "blocks") == 0 && got[0].length == sizeof bytes);
    CHECK(memcmp(got[0].data, bytes, sizeof bytes) == 0);
    CHECK(got[1].name[0] == 0 && got[1].length == 0);
    CHECK(memcmp(got[2].data, bytes, sizeof bytes) == 0);
  }
  freeNotifications(got);
  CHECK(sendNotification(pair->initiator, 12345, &sent) == TE_ERR_NOT_FOUND);
  CHECK(sendNotification(pair->initiator, pair->segment, &no_data) == TE_ERR_INVALID_ARGUMENT);
  options.notify_msg = &message;
  CHECK(submitTransferWithOptions(pair->initiator, batch, &one, 1, &options) ==
        TE_ERR_INVALID_ARGUMENT);
  CHECK(strstr(transferEngineLastError(), "both set") != NULL);
  CHECK(freeBatchID(pair->initiator, batch) == 0);
}
