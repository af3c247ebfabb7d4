/* Included before a C program that was written for any transport: its engines take RDMA alone. */
#pragma once
#include <transfer_engine_c.h>

static transfer_engine_t create_over_rdma(const char* metadata, const char* name, const char* host,
                                          uint64_t port, int auto_discover) {
  transfer_engine_t engine = createTransferEngine(metadata, name, host, port, auto_discover);
  if (engine && !installTransport(engine, "rdma", 0)) {
    destroyTransferEngine(engine);
    return 0;
  }
  return engine;
}
#define createTransferEngine create_over_rdma
