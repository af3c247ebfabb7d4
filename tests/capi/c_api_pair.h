/* What the parts of the test of the C API share: two engines, of which one has opened the other. */
#ifndef C_API_PAIR_H
#define C_API_PAIR_H

#include "transfer_engine_c.h"

enum { kSize = 1 << 20, kText = 65536 };

typedef struct {
  transfer_engine_t initiator;
  transfer_engine_t target;
  char name[128];
  segment_id_t segment;
  unsigned char* local;
  unsigned char* remote;
} pair_t;

static inline transfer_request_t request(const pair_t* pair, int opcode, uint64_t at,
                                         uint64_t length) {
  transfer_request_t result;
  result.opcode = opcode;
  result.source = pair->local + at;
  result.target_id = pair->segment;
  result.target_offset = at;
  result.length = length;
  return result;
}

/* Of the other files. */
void check_settings(void);
void check_completions(const pair_t* pair);
void check_lists(const pair_t* pair);
void check_notifications(const pair_t* pair);
void check_binary_notifications(const pair_t* pair);

#endif
