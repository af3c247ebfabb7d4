// libibverbs, opened at run time: the engine is built with its headers alone. What moves data
// (posting, polling) goes through the opened device itself, not through these.
//
// Threads: any. A library that was opened stays open until the process ends.
#pragma once

#include <infiniband/verbs.h>

#include <memory>
#include <string>

#include "transfer_engine/status.h"

namespace te::rdma {

// The functions as verbs.h has them, without the ibv_, by what they work on.
struct DeviceFunctions {
  decltype(&::ibv_get_device_list) get_device_list = nullptr;
  decltype(&::ibv_free_device_list) free_device_list = nullptr;
  decltype(&::ibv_get_device_name) get_device_name = nullptr;
  decltype(&::ibv_open_device) open_device = nullptr;
  decltype(&::ibv_close_device) close_device = nullptr;
  decltype(&::ibv_query_device) query_device = nullptr;
  int (*query_port)(ibv_context*, uint8_t, _compat_ibv_port_attr*) = nullptr;
  decltype(&::_ibv_query_gid_table) query_gids = nullptr;
};
struct EventFunctions {
  decltype(&::ibv_get_async_event) get_async_event = nullptr;
  decltype(&::ibv_ack_async_event) ack_async_event = nullptr;
  decltype(&::ibv_event_type_str) event_text = nullptr;
};
struct MemoryFunctions {
  decltype(&::ibv_alloc_pd) alloc_pd = nullptr;
  decltype(&::ibv_dealloc_pd) dealloc_pd = nullptr;
  ibv_mr* (*reg_mr)(ibv_pd*, void*, size_t, int) = nullptr;
  decltype(&::ibv_dereg_mr) dereg_mr = nullptr;
  // Null before version 34.
  ibv_mr* (*reg_dmabuf_mr)(ibv_pd*, uint64_t offset, size_t, uint64_t iova, int fd, int) = nullptr;
};
struct CompletionFunctions {
  decltype(&::ibv_create_comp_channel) create_comp_channel = nullptr;
  decltype(&::ibv_destroy_comp_channel) destroy_comp_channel = nullptr;
  decltype(&::ibv_create_cq) create_cq = nullptr;
  decltype(&::ibv_destroy_cq) destroy_cq = nullptr;
  decltype(&::ibv_get_cq_event) get_cq_event = nullptr;
  decltype(&::ibv_ack_cq_events) ack_cq_events = nullptr;
  decltype(&::ibv_wc_status_str) status_text = nullptr;
};
struct QueuePairFunctions {
  decltype(&::ibv_create_qp) create_qp = nullptr;
  decltype(&::ibv_modify_qp) modify_qp = nullptr;
  decltype(&::ibv_destroy_qp) destroy_qp = nullptr;
};

class Library {
 public:
  // The one at `path`; empty: the system's. kUnsupported says what was looked for.
  static Result<const Library*> open(const std::string& path);

  const std::string& path() const { return path_; }

  DeviceFunctions devices;
  EventFunctions events;
  MemoryFunctions memory;
  CompletionFunctions completions;
  QueuePairFunctions queue_pairs;

 private:
  Library() = default;
  static Result<std::unique_ptr<Library>> load(const std::string& path);

  std::string path_;
};

}  // namespace te::rdma
