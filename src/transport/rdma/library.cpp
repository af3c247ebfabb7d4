#include "transport/rdma/library.h"

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te::rdma {
namespace {

constexpr const char* kUsual = "libibverbs.so.1";

// Made at load: a lock that is made while another thread forks is held for good in the child.
OpenLibraries<Library>& libraries = *new OpenLibraries<Library>;

}  // namespace

Result<std::unique_ptr<Library>> Library::load(const std::string& path) {
  Result<DynamicLibrary> opened = DynamicLibrary::open(path.empty() ? kUsual : path);
  if (!opened.ok()) return opened.status();
  std::unique_ptr<Library> library(new Library());
  opened->look_up("ibv_get_device_list", &library->devices.get_device_list);
  opened->look_up("ibv_free_device_list", &library->devices.free_device_list);
  opened->look_up("ibv_get_device_name", &library->devices.get_device_name);
  opened->look_up("ibv_open_device", &library->devices.open_device);
  opened->look_up("ibv_close_device", &library->devices.close_device);
  opened->look_up("ibv_query_device", &library->devices.query_device);
  opened->look_up("ibv_query_port", &library->devices.query_port);
  opened->look_up("_ibv_query_gid_table", &library->devices.query_gids);
  opened->look_up("ibv_get_async_event", &library->events.get_async_event);
  opened->look_up("ibv_ack_async_event", &library->events.ack_async_event);
  opened->look_up("ibv_event_type_str", &library->events.event_text);
  opened->look_up("ibv_wc_status_str", &library->completions.status_text);
  opened->look_up("ibv_alloc_pd", &library->memory.alloc_pd);
  opened->look_up("ibv_dealloc_pd", &library->memory.dealloc_pd);
  opened->look_up("ibv_reg_mr", &library->memory.reg_mr);
  opened->look_up("ibv_dereg_mr", &library->memory.dereg_mr);
  opened->look_up_optional("ibv_reg_dmabuf_mr", &library->memory.reg_dmabuf_mr);
  opened->look_up("ibv_create_comp_channel", &library->completions.create_comp_channel);
  opened->look_up("ibv_destroy_comp_channel", &library->completions.destroy_comp_channel);
  opened->look_up("ibv_create_cq", &library->completions.create_cq);
  opened->look_up("ibv_destroy_cq", &library->completions.destroy_cq);
  opened->look_up("ibv_get_cq_event", &library->completions.get_cq_event);
  opened->look_up("ibv_ack_cq_events", &library->completions.ack_cq_events);
  opened->look_up("ibv_create_qp", &library->queue_pairs.create_qp);
  opened->look_up("ibv_modify_qp", &library->queue_pairs.modify_qp);
  opened->look_up("ibv_destroy_qp", &library->queue_pairs.destroy_qp);
  library->path_ = opened->path();
  TE_RETURN_IF_ERROR(opened->keep("libibverbs of version 32 or later"));
  return library;
}

Result<const Library*> Library::open(const std::string& path) {
  Result<const Library*> opened = libraries.get(path, load);
  if (!opened.ok()) {
    return error(
        Code::kUnsupported,
        "libibverbs cannot be opened ({}): install it (libibverbs1 and ibverbs-providers), "
        "or set rdma_library to its path",
        opened.status().message());
  }
  return opened;
}

}  // namespace te::rdma
