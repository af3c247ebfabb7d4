#include "transport/fabric/domain.h"

#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>
#include <sys/uio.h>

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"

namespace te::fabric {
namespace {

constexpr int kKeyAttempts = 8;
constexpr size_t kMostOperations = 2048;
// Over sockets a provider takes a free port, and listens on it later: another program may do so
// in between.
constexpr int kPortAttempts = 8;
constexpr std::string_view kCuda = "cuda:";
constexpr std::string_view kEfa = "efa";
// Options of the provider efa since libfabric 1.19: whether it does in software what its NIC
// cannot.
constexpr int kEfaEmulatedRead = -(0xefa << 16) + 1;
constexpr int kEfaEmulatedWrite = -(0xefa << 16) + 2;
// Of a queue that are empty in a row, before it counts as empty: a read may take in one message of
// a provider's own, and say nothing of it.
constexpr int kEmptyReads = 256;
// For at least this long ofi_rxm is given the chance to look at connections: see library.cpp.
constexpr int64_t kClosingNs = 300'000;

class Region final : public rails::MemoryRegion {
 public:
  // `end_peers`: at its end; null: nothing is needed.
  Region(Domain& domain, Owned<fid_mr> range, const std::function<void()>* end_peers)
      : MemoryRegion(reinterpret_cast<uint64_t>(::fi_mr_desc(range.get())),
                     ::fi_mr_key(range.get())),
        domain_(domain),
        end_peers_(end_peers),
        range_(std::move(range)) {}
  ~Region() override {
    {
      const Domain::Turn turn(domain_);
      range_.reset();
    }
    if (end_peers_ != nullptr) (*end_peers_)();
  }

 private:
  Domain& domain_;
  const std::function<void()>* const end_peers_;
  Owned<fid_mr> range_;
};

}  // namespace

Status Domain::failed(std::string_view what, long error_number, Code code) const {
  return error(code, "{} on {}: {}: {} ({})", info_->fabric_attr->prov_name, device_, what,
               library_.text(error_number), error_number < 0 ? -error_number : error_number);
}

Result<std::unique_ptr<Domain>> Domain::open(const Library& library, NicInfo nic) {
  std::unique_ptr<Domain> domain(new Domain(library, std::move(nic)));
  fi_info& info = *domain->info_;
  if (info.domain_attr->mr_key_size > sizeof(uint64_t)) {
    return error(Code::kUnsupported, "provider {} has memory keys of {} bytes; at most 8 are known",
                 info.fabric_attr->prov_name, info.domain_attr->mr_key_size);
  }
  domain->serialized_ = info.domain_attr->threading != FI_THREAD_SAFE;
  fid_fabric* fabric = nullptr;
  int result = library.open_fabric(info.fabric_attr, &fabric);
  if (result != 0) return domain->failed("fi_fabric", result);
  domain->fabric_.reset(fabric);
  fid_domain* opened = nullptr;
  result = ::fi_domain(fabric, &info, &opened, nullptr);
  if (result != 0) return domain->failed("fi_domain", result);
  domain->domain_.reset(opened);
  return domain;
}

int Domain::add_with_key(const fi_mr_attr& attributes, fid_mr** range) {
  fi_mr_attr wanted = attributes;
  int result = 0;
  for (int attempt = 0; attempt < kKeyAttempts; ++attempt) {
    if (!has_mode(FI_MR_PROV_KEY)) {
      const size_t bits = 8 * info_->domain_attr->mr_key_size;
      wanted.requested_key = random_u64() >> (64 - std::clamp<size_t>(bits, 8, 64));
    }
    result = ::fi_mr_regattr(domain_.get(), &wanted, 0, range);
    if (result != -FI_ENOKEY) break;  // the key is taken
  }
  return result;
}

Result<Owned<fid_mr>> Domain::add_range(void* address, size_t length, Rights local, Rights remote,
                                        std::string_view location) {
  const iovec range{address, length};
  fi_mr_attr attributes{};
  attributes.mr_iov = &range;
  attributes.iov_count = 1;
  // A READ fills local memory, a WRITE reads it.
  if (contains(local, Rights::kWrite)) attributes.access |= FI_READ;
  if (contains(local, Rights::kRead)) attributes.access |= FI_WRITE;
  if (contains(remote, Rights::kRead)) attributes.access |= FI_REMOTE_READ;
  if (contains(remote, Rights::kWrite)) attributes.access |= FI_REMOTE_WRITE;
  const bool on_device = location.starts_with(kCuda);
  if (on_device) {
    if (!device_memory()) {
      return error(Code::kUnsupported, "{} has no FI_HMEM", info_->fabric_attr->prov_name);
    }
    attributes.iface = FI_HMEM_CUDA;
    std::from_chars(location.data() + kCuda.size(), location.data() + location.size(),
                    attributes.device.cuda);
  }
  const Turn turn(*this);
  fid_mr* added = nullptr;
  int result = add_with_key(attributes, &added);
  if (result != 0 && on_device) {
    return failed("registering it as FI_HMEM_CUDA", result, Code::kUnsupported);
  }
  if (result != 0) {
    return failed(fmt::format("registering {} bytes at {}", length, address), result);
  }
  return Owned<fid_mr>(added);
}

Result<std::unique_ptr<rails::MemoryRegion>> Domain::register_range(const Buffer& buffer,
                                                                    uint64_t address,
                                                                    uint64_t length) {
  Result<Owned<fid_mr>> range = add_range(reinterpret_cast<void*>(address), length, buffer.local,
                                          buffer.remote, buffer.location);
  if (!range.ok()) return range.status();
  const bool ends_peers = end_peers_ && buffer.remote != Rights::kNone;
  return std::unique_ptr<rails::MemoryRegion>(
      new Region(*this, range.take(), ends_peers ? &end_peers_ : nullptr));
}

// The provider asks the GPU's driver itself for what it needs, through CUDA's runtime: that makes a
// context on GPU 0 for a thread without one. It takes no descriptor before libfabric 1.20.
Result<std::unique_ptr<rails::MemoryRegion>> Domain::register_exported(const Buffer& buffer,
                                                                       uint64_t address,
                                                                       uint64_t length,
                                                                       const ExportedRange&) {
  const std::shared_ptr<const void> current = buffer.device->make_current();
  return register_range(buffer, address, length);
}

Result<std::shared_ptr<Queue>> Queue::open(Domain& domain) {
  std::shared_ptr<Queue> queue(new Queue(domain));
  TE_RETURN_IF_ERROR(queue->start());
  return queue;
}

Status Queue::start() {
  const fi_info& info = domain_.info();
  fi_cq_attr attributes{};
  attributes.size = std::min(info.tx_attr->size, kMostOperations);
  attributes.format = FI_CQ_FORMAT_CONTEXT;
  attributes.wait_obj = FI_WAIT_FD;
  fid_cq* queue = nullptr;
  int result = ::fi_cq_open(domain_.get(), &attributes, &queue, nullptr);
  const bool waits = result == 0;
  if (!waits) {
    attributes.wait_obj = FI_WAIT_NONE;
    result = ::fi_cq_open(domain_.get(), &attributes, &queue, nullptr);
  }
  if (result != 0) return domain_.failed("fi_cq_open", result);
  queue_.reset(queue);
  depth_ = std::max<size_t>(std::min({attributes.size, info.tx_attr->size, kMostOperations}), 1);
  fi_av_attr vector{};
  const bool unspecified = info.domain_attr->av_type == FI_AV_UNSPEC;
  vector.type = unspecified ? FI_AV_TABLE : info.domain_attr->av_type;
  fid_av* addresses = nullptr;
  result = ::fi_av_open(domain_.get(), &vector, &addresses, nullptr);
  if (result != 0) return domain_.failed("fi_av_open", result);
  addresses_.reset(addresses);
  if (waits && ::fi_control(&queue->fid, FI_GETWAIT, &wait_descriptor_) != 0) {
    wait_descriptor_ = -1;
  }
  return {};
}

bool Queue::may_sleep() {
  if (wait_descriptor_ < 0) return false;
  fid* fids[] = {&queue_->fid};
  return ::fi_trywait(domain_.fabric(), fids, 1) == 0;
}

Result<std::unique_ptr<Endpoint>> Endpoint::open(Domain& domain,
                                                 const std::shared_ptr<Queue>& queue) {
  for (int attempt = 1;; ++attempt) {
    std::unique_ptr<Endpoint> endpoint(new Endpoint(domain, queue));
    const Status status = endpoint->start();
    if (status.ok()) return endpoint;
    if (status.code() != Code::kBusy || attempt == kPortAttempts) return status;
  }
}

Status Endpoint::start() {
  // libfabric takes what it does not change as mutable.
  auto& info = const_cast<fi_info&>(domain_.info());
  fid_ep* opened = nullptr;
  int result = ::fi_endpoint(domain_.get(), &info, &opened, nullptr);
  if (result != 0) return domain_.failed("fi_endpoint", result);
  endpoint_.reset(opened);
  result = ::fi_ep_bind(opened, &queue_->addresses()->fid, 0);
  if (result == 0) result = ::fi_ep_bind(opened, &queue_->get()->fid, FI_TRANSMIT | FI_RECV);
  if (result == 0) result = ::fi_enable(opened);
  if (result == -FI_EADDRINUSE) return domain_.failed("fi_enable", result, Code::kBusy);
  if (result != 0) return domain_.failed("fi_enable", result);
  const Result<Bytes> own = name();
  if (own.ok()) noted_ = NotedAddress(*own);
  return {};
}

// ofi_rxm, which makes reliable datagrams of connections, frees the receive queue of one before it
// looks at what arrived for it, and posts to it again (seen in 1.17, over verbs, whose ends tell
// each other once they are connected how much they can take). And it forgets connections that peers
// ask for: their sockets stay open. So nothing that arrived may be left.
Endpoint::~Endpoint() {
  const int64_t until = now_ns() + kClosingNs;
  fi_cq_entry entries[16];
  for (int empty = 0; endpoint_ && (empty < kEmptyReads || now_ns() < until);) {
    const ssize_t count = ::fi_cq_read(queue_->get(), entries, std::size(entries));
    fi_cq_err_entry failed{};
    if (count == -FI_EAVAIL && ::fi_cq_readerr(queue_->get(), &failed, 0) == 1) continue;
    if (count < 0 && count != -FI_EAGAIN) break;
    empty = count > 0 ? 0 : empty + 1;
  }
}

bool Endpoint::outlives_memory() const {
  if (domain_.copies_in_software()) return true;
  if (domain_.info().fabric_attr->prov_name != kEfa) return false;
  for (const int option : {kEfaEmulatedRead, kEfaEmulatedWrite}) {
    bool emulated = true;
    size_t size = sizeof emulated;
    const int result = ::fi_getopt(&endpoint_->fid, FI_OPT_ENDPOINT, option, &emulated, &size);
    if (result != 0 || emulated) return true;  // older versions do not say
  }
  return false;
}

Result<Bytes> Endpoint::name() const {
  Bytes name(256, '\0');
  size_t length = name.size();
  const int result = ::fi_getname(&endpoint_->fid, name.data(), &length);
  if (result != 0) return domain_.failed("fi_getname", result);
  name.resize(std::min(length, name.size()));
  return name;
}

}  // namespace te::fabric
