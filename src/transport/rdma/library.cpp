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
  opened->look_up("ibv_get_device_list", &library->get_device_list);
  opened->look_up("ibv_free_device_list", &library->free_device_list);
  opened->look_up("ibv_get_device_name", &library->get_device_name);
  opened->look_up("ibv_open_device", &library->open_device);
  opened->look_up("ibv_close_device", &library->close_device);
  opened->look_up("ibv_query_device", &library->query_device);
  opened->look_up("ibv_query_port", &library->query_port);
  opened->look_up("_ibv_query_gid_table", &library->query_gids);
  opened->look_up("ibv_get_async_event", &library->get_async_event);
  opened->look_up("ibv_ack_async_event", &library->ack_async_event);
  opened->look_up("ibv_event_type_str", &library->event_text);
  opened->look_up("ibv_wc_status_str", &library->status_text);
  opened->look_up("ibv_alloc_pd", &library->alloc_pd);
  opened->look_up("ibv_dealloc_pd", &library->dealloc_pd);
  opened->look_up("ibv_reg_mr", &library->reg_mr);
  opened->look_up("ibv_dereg_mr", &library->dereg_mr);
  opened->look_up("ibv_create_comp_channel", &library->create_comp_channel);
  opened->look_up("ibv_destroy_comp_channel", &library->destroy_comp_channel);
  opened->look_up("ibv_create_cq", &library->create_cq);
  opened->look_up("ibv_destroy_cq", &library->destroy_cq);
  opened->look_up("ibv_get_cq_event", &library->get_cq_event);
  opened->look_up("ibv_ack_cq_events", &library->ack_cq_events);
  opened->look_up("ibv_create_qp", &library->create_qp);
  opened->look_up("ibv_modify_qp", &library->modify_qp);
  opened->look_up("ibv_destroy_qp", &library->destroy_qp);
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
