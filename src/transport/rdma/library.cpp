#include "transport/rdma/library.h"

#include <map>

#include "base/dynamic_library.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/mutex.h"

namespace te::rdma {
namespace {

constexpr const char* kUsual = "libibverbs.so.1";

}  // namespace

Result<std::unique_ptr<Library>> Library::load(const std::string& path) {
  Result<DynamicLibrary> opened = DynamicLibrary::open(path);
  if (!opened.ok()) return opened.status();
  std::unique_ptr<Library> library(new Library());
  std::string missing;
  const auto look_up = [&](const char* name, auto& function) {
    if (!opened->look_up(name, nullptr, &function) && missing.empty()) missing = name;
  };
  look_up("ibv_get_device_list", library->get_device_list);
  look_up("ibv_free_device_list", library->free_device_list);
  look_up("ibv_get_device_name", library->get_device_name);
  look_up("ibv_open_device", library->open_device);
  look_up("ibv_close_device", library->close_device);
  look_up("ibv_query_device", library->query_device);
  look_up("ibv_query_port", library->query_port);
  look_up("_ibv_query_gid_table", library->query_gids);
  look_up("ibv_get_async_event", library->get_async_event);
  look_up("ibv_ack_async_event", library->ack_async_event);
  look_up("ibv_event_type_str", library->event_text);
  look_up("ibv_wc_status_str", library->status_text);
  look_up("ibv_alloc_pd", library->alloc_pd);
  look_up("ibv_dealloc_pd", library->dealloc_pd);
  look_up("ibv_reg_mr", library->reg_mr);
  look_up("ibv_dereg_mr", library->dereg_mr);
  look_up("ibv_create_comp_channel", library->create_comp_channel);
  look_up("ibv_destroy_comp_channel", library->destroy_comp_channel);
  look_up("ibv_create_cq", library->create_cq);
  look_up("ibv_destroy_cq", library->destroy_cq);
  look_up("ibv_get_cq_event", library->get_cq_event);
  look_up("ibv_ack_cq_events", library->ack_cq_events);
  look_up("ibv_create_qp", library->create_qp);
  look_up("ibv_modify_qp", library->modify_qp);
  look_up("ibv_destroy_qp", library->destroy_qp);
  if (!missing.empty()) {
    return error(Code::kUnsupported, "{} has no {}: it is no libibverbs of version 32 or later",
                 path, missing);
  }
  library->path_ = opened->path();
  opened->keep();
  return library;
}

Result<const Library*> Library::open(const std::string& path) {
  static Mutex mutex;
  [[maybe_unused]] static const bool held = (hold_during_forks(mutex), true);
  static std::map<std::string, std::unique_ptr<Library>> opened;
  MutexLock lock(mutex);
  if (const auto found = opened.find(path); found != opened.end()) return found->second.get();
  Result<std::unique_ptr<Library>> loaded = load(path.empty() ? kUsual : path);
  if (!loaded.ok()) {
    return error(
        Code::kUnsupported,
        "libibverbs cannot be opened ({}): install it (libibverbs1 and ibverbs-providers), "
        "or set rdma_library to its path",
        loaded.status().message());
  }
  return (opened[path] = loaded.take()).get();
}

}  // namespace te::rdma
