// A libfabric for tests on machines without EFA NICs: its provider efa is the system's provider
// tcp, on the loopback interface, which takes registered memory alone as a NIC does, and reaches
// memory of the GPUs of fake_cuda too (FI_HMEM). All other calls are the system's.
//
// libfabric's calls go through tables of functions in what it opened. Those of interest here are
// replaced, each in a copy of the table.
//
// Threads: any; one lock for the settings.
#include "support/fake_efa.h"

#include <dlfcn.h>
#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <string_view>

#include "support/fake_cuda/driver.h"
#include "support/fake_cuda/fake_cuda.h"

namespace te::test::fake_efa {
namespace {

constexpr std::string_view kEfa = "efa";
constexpr const char* kTcp = "tcp;ofi_rxm";
constexpr const char* kLoopback = "127.0.0.1";
constexpr uint64_t kPage = 4096;
constexpr int kNicModes = FI_MR_LOCAL | FI_MR_HMEM;

// The system's functions.
struct System {
  template <typename Function>
  static void look_up(const char* name, const char* version, Function* function) {
    static void* const library = ::dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL);
    *function = reinterpret_cast<Function>(::dlvsym(library, name, version));
    if (*function == nullptr) std::abort();
  }
  System() {
    look_up("fi_getinfo", "FABRIC_1.3", &getinfo);
    look_up("fi_freeinfo", "FABRIC_1.3", &freeinfo);
    look_up("fi_dupinfo", "FABRIC_1.3", &dupinfo);
    look_up("fi_fabric", "FABRIC_1.1", &fabric);
    look_up("fi_strerror", "FABRIC_1.0", &strerror);
    look_up("fi_version", "FABRIC_1.0", &version);
  }
  decltype(&::fi_getinfo) getinfo = nullptr;
  decltype(&::fi_freeinfo) freeinfo = nullptr;
  decltype(&::fi_dupinfo) dupinfo = nullptr;
  decltype(&::fi_fabric) fabric = nullptr;
  decltype(&::fi_strerror) strerror = nullptr;
  decltype(&::fi_version) version = nullptr;
};

System& libfabric() {
  static System* const all = new System;
  return *all;
}

// A table of the system's, with some functions replaced.
template <typename Table>
struct Replaced : Table {
  explicit Replaced(Table* from) : Table(*from), original(from) {}
  Table* original;
};

struct World {
  std::mutex mutex;
  bool reaches_gpus = false;
  int refusal = 0;
  int registrations = 0, operations = 0;
  std::deque<Replaced<fi_ops_fabric>> fabrics;
  std::deque<Replaced<fi_ops_domain>> domains;
  std::deque<Replaced<fi_ops_mr>> registrars;
  std::deque<Replaced<fi_ops_rma>> operators;
};

World& world() {
  static World* const all = new World;
  return *all;
}

template <typename Table>
Replaced<Table>& replace(std::deque<Replaced<Table>>& all, Table** table) {
  const std::lock_guard lock(world().mutex);
  Replaced<Table>& replaced = all.emplace_back(*table);
  *table = &replaced;
  return replaced;
}

template <typename Table>
Table* original(Table* table) {
  return static_cast<Replaced<Table>*>(table)->original;
}

void rename(fi_info& info, std::string_view name) {
  std::free(info.fabric_attr->prov_name);
  info.fabric_attr->prov_name = ::strndup(name.data(), name.size());
}

// As the system's provider knows it.
fi_info* of_system(const fi_info& info) {
  fi_info* const plain = libfabric().dupinfo(&info);
  rename(*plain, kTcp);
  plain->caps &= ~FI_HMEM;
  plain->domain_attr->mr_mode &= ~(kNicModes | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY);
  return plain;
}

// The range, where this process sees it, if all of it is seen as one; null: no GPU has it.
std::byte* view_of(const void* address, size_t length) {
  const auto* begin = static_cast<const std::byte*>(address);
  std::byte* const view = fake_cuda::view(begin);
  for (size_t at = 0; view != nullptr && at < length; at += kPage) {
    if (fake_cuda::view(begin + at) != view + at) return nullptr;
  }
  return view;
}

int gpu_of(const void* address) {
  cuda::PointerAttribute attribute = cuda::PointerAttribute::kDeviceOrdinal;
  int gpu = -1;
  void* data = &gpu;
  (void)cuPointerGetAttributes(1, &attribute, &data, reinterpret_cast<CUdeviceptr>(address));
  return gpu;
}

// A provider calls CUDA's runtime, which makes a context on GPU 0 for a thread that has none.
bool has_context() {
  CUcontext context = nullptr;
  return cuCtxGetCurrent(&context) == cuda::CuResult::kSuccess && context != nullptr;
}

int register_memory(fid* domain, const fi_mr_attr* attributes, uint64_t flags, fid_mr** region) {
  auto* const registrar = original(reinterpret_cast<fid_domain*>(domain)->mr);
  iovec range = *attributes->mr_iov;
  std::byte* const view = view_of(range.iov_base, range.iov_len);
  if (attributes->iface != FI_HMEM_CUDA) {
    return view != nullptr ? -FI_EFAULT : registrar->regattr(domain, attributes, flags, region);
  }
  if (view == nullptr || gpu_of(range.iov_base) != attributes->device.cuda) return -FI_EINVAL;
  {
    const std::lock_guard lock(world().mutex);
    if (world().refusal != 0) return -world().refusal;
    if (!has_context()) return -FI_EINVAL;
    ++world().registrations;
  }
  range.iov_base = view;
  fi_mr_attr seen = *attributes;
  seen.mr_iov = &range;
  seen.iface = FI_HMEM_SYSTEM;
  seen.device = {};
  return registrar->regattr(domain, &seen, flags, region);
}

// Where the provider finds the bytes; null: it was not told of them.
void* local_of(const void* buffer, const void* descriptor) {
  if (descriptor == nullptr) return nullptr;
  std::byte* const view = fake_cuda::view(buffer);
  if (view == nullptr) return const_cast<void*>(buffer);
  const std::lock_guard lock(world().mutex);
  ++world().operations;
  return view;
}

ssize_t read(fid_ep* endpoint, void* buffer, size_t length, void* descriptor, fi_addr_t from,
             uint64_t address, uint64_t key, void* context) {
  void* const local = local_of(buffer, descriptor);
  if (local == nullptr) return -FI_EINVAL;
  return original(endpoint->rma)
      ->read(endpoint, local, length, descriptor, from, address, key, context);
}

ssize_t write(fid_ep* endpoint, const void* buffer, size_t length, void* descriptor, fi_addr_t to,
              uint64_t address, uint64_t key, void* context) {
  void* const local = local_of(buffer, descriptor);
  if (local == nullptr) return -FI_EINVAL;
  return original(endpoint->rma)
      ->write(endpoint, local, length, descriptor, to, address, key, context);
}

int open_endpoint(fid_domain* domain, fi_info* info, fid_ep** endpoint, void* context) {
  fi_info* const plain = of_system(*info);
  const int result = original(domain->ops)->endpoint(domain, plain, endpoint, context);
  libfabric().freeinfo(plain);
  if (result != 0) return result;
  Replaced<fi_ops_rma>& operators = replace(world().operators, &(*endpoint)->rma);
  operators.read = read;
  operators.write = write;
  return 0;
}

int open_domain(fid_fabric* fabric, fi_info* info, fid_domain** domain, void* context) {
  fi_info* const plain = of_system(*info);
  const int result = original(fabric->ops)->domain(fabric, plain, domain, context);
  libfabric().freeinfo(plain);
  if (result != 0) return result;
  replace(world().domains, &(*domain)->ops).endpoint = open_endpoint;
  replace(world().registrars, &(*domain)->mr).regattr = register_memory;
  return 0;
}

}  // namespace

void reset() {
  const std::lock_guard lock(world().mutex);
  world().reaches_gpus = false;
  world().refusal = world().registrations = world().operations = 0;
}

void reach_gpus(bool on) {
  const std::lock_guard lock(world().mutex);
  world().reaches_gpus = on;
}

void refuse_gpu_memory(int error_number) {
  const std::lock_guard lock(world().mutex);
  world().refusal = error_number;
}

int gpu_registrations() {
  const std::lock_guard lock(world().mutex);
  return world().registrations;
}

int gpu_operations() {
  const std::lock_guard lock(world().mutex);
  return world().operations;
}

}  // namespace te::test::fake_efa

using namespace te::test::fake_efa;  // NOLINT(google-build-using-namespace)

extern "C" {

int fi_getinfo(uint32_t version, const char* node, const char* service, uint64_t flags,
               const fi_info* hints, fi_info** found) {
  const char* name =
      hints == nullptr || hints->fabric_attr == nullptr ? nullptr : hints->fabric_attr->prov_name;
  if (name == nullptr || name != kEfa) {
    return libfabric().getinfo(version, node, service, flags, hints, found);
  }
  const bool gpus = (hints->caps & FI_HMEM) != 0;
  {
    const std::lock_guard lock(world().mutex);
    if (gpus && !world().reaches_gpus) return -FI_ENODATA;
  }
  fi_info* const plain = of_system(*hints);
  const int result =
      libfabric().getinfo(version, kLoopback, service, flags | FI_SOURCE, plain, found);
  libfabric().freeinfo(plain);
  if (result != 0) return result;
  for (fi_info* each = *found; each != nullptr; each = each->next) {
    rename(*each, kEfa);
    each->domain_attr->mr_mode |= FI_MR_LOCAL;
    if (!gpus) continue;
    each->caps |= FI_HMEM;
    each->domain_attr->mr_mode |= FI_MR_HMEM;
  }
  return 0;
}
void fi_freeinfo(fi_info* info) { libfabric().freeinfo(info); }
fi_info* fi_dupinfo(const fi_info* info) { return libfabric().dupinfo(info); }

int fi_fabric(fi_fabric_attr* attributes, fid_fabric** fabric, void* context) {
  if (attributes->prov_name != kEfa) return libfabric().fabric(attributes, fabric, context);
  fi_fabric_attr plain = *attributes;
  plain.prov_name = const_cast<char*>(kTcp);
  const int result = libfabric().fabric(&plain, fabric, context);
  if (result == 0) replace(world().fabrics, &(*fabric)->ops).domain = open_domain;
  return result;
}
const char* fi_strerror(int error_number) { return libfabric().strerror(error_number); }
uint32_t fi_version() { return libfabric().version(); }

}  // extern "C"
