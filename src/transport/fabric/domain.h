// One NIC as libfabric opens it: its domain, ranges registered with it, and endpoints on it.
//
// Threads: any; what a provider does not lock itself is serialized by Domain::Turn.
#pragma once

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/fork.h"
#include "base/mutex.h"
#include "core/rights.h"
#include "transport/fabric/provider.h"
#include "transport/rails/nic.h"

namespace te::fabric {

struct FidCloser {
  template <typename Fid>
  void operator()(Fid* fid) const {
    ::fi_close(&fid->fid);
  }
};
template <typename Fid>
using Owned = std::unique_ptr<Fid, FidCloser>;

class Domain final : public rails::Nic {
 public:
  static Result<std::unique_ptr<Domain>> open(const Library& library, NicInfo nic);

  const Library& library() const { return library_; }
  const std::string& device() const override { return device_; }
  // As the topology calls the NIC, where it knows it.
  std::string nic() const {
    const bool says = info_->nic != nullptr && info_->nic->device_attr != nullptr &&
                      info_->nic->device_attr->name != nullptr;
    return says ? info_->nic->device_attr->name : device_;
  }
  const fi_info& info() const { return *info_; }
  fid_domain* get() const { return domain_.get(); }
  fid_fabric* fabric() const { return fabric_.get(); }

  bool virtual_addresses() const { return has_mode(FI_MR_VIRT_ADDR); }
  bool local_registration() const { return has_mode(FI_MR_LOCAL); }
  // Whether it may know some. Where software copies, that would be memory which it cannot touch.
  bool device_memory() const { return (info_->caps & FI_HMEM) != 0 && local_registration(); }
  // Whether software copies the bytes, which the provider does in its own time.
  bool copies_in_software() const { return !local_registration(); }
  // 0: it does not say.
  uint64_t bytes_per_s() const {
    const bool says = info_->nic != nullptr && info_->nic->link_attr != nullptr;
    return says ? info_->nic->link_attr->speed / 8 : 0;
  }
  uint64_t max_operation() const { return info_->ep_attr->max_msg_size; }
  // Every call on the domain and its endpoints is made inside one.
  class Turn {
   public:
    explicit Turn(Domain& domain) : mutex_(domain.serialized_ ? &domain.mutex_ : nullptr) {
      if (mutex_ != nullptr) mutex_->lock();
    }
    ~Turn() {
      if (mutex_ != nullptr) mutex_->unlock();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    std::mutex* mutex_;
  };

  Result<std::unique_ptr<rails::MemoryRegion>> register_range(const Buffer& buffer,
                                                              uint64_t address,
                                                              uint64_t length) override;
  Result<std::unique_ptr<rails::MemoryRegion>> register_exported(
      const Buffer& buffer, uint64_t address, uint64_t length,
      const ExportedRange& exported) override;
  uint64_t max_region() const override { return 0; }
  // What ends the peers' operations that are under way, each time that memory which peers reach was
  // closed. Before the first range; empty: nothing is needed.
  void end_peers_with(std::function<void()> end) { end_peers_ = std::move(end); }
  // `location` as buffers have it. kUnsupported: not on this NIC; kResource: too large, or too
  // much; the rest is an error for the caller.
  Result<Owned<fid_mr>> add_range(void* address, size_t length, Rights local, Rights remote,
                                  std::string_view location);
  // Of the NIC, as its endpoints have it too, with other ports; empty: the provider has none.
  Bytes address() const {
    return info_->src_addr == nullptr
               ? Bytes()
               : Bytes(static_cast<const char*>(info_->src_addr), info_->src_addrlen);
  }

  // "efa rdmap0s6-rdm: the text (the number)"
  Status failed(std::string_view what, long error, Code code = Code::kResource) const;

 private:
  Domain(const Library& library, NicInfo nic)
      : library_(library), device_(std::move(nic.device)), info_(std::move(nic.info)) {}
  bool has_mode(int mode) const { return (info_->domain_attr->mr_mode & mode) != 0; }
  int add_with_key(const fi_mr_attr& attributes, fid_mr** range);

  const Library& library_;
  const std::string device_;
  const Info info_;
  bool serialized_ = false;
  std::function<void()> end_peers_;
  std::mutex mutex_;
  Owned<fid_fabric> fabric_;
  Owned<fid_domain> domain_;
};

// A completion queue, and an address vector, for one endpoint or several.
class Queue {
 public:
  // Inside a Turn, as are all calls.
  static Result<std::shared_ptr<Queue>> open(Domain& domain);

  fid_cq* get() const { return queue_.get(); }
  fid_av* addresses() const { return addresses_.get(); }
  // Polls readable when the queue has news; -1: the provider has no such thing.
  int wait_descriptor() const { return wait_descriptor_; }
  // Whether its wait_descriptor() may be slept on: nothing came since the queue was read.
  bool may_sleep();
  // Operations that may be under way.
  size_t depth() const { return depth_; }

 private:
  explicit Queue(Domain& domain) : domain_(domain) {}
  Status start();

  Domain& domain_;
  Owned<fid_cq> queue_;
  Owned<fid_av> addresses_;
  int wait_descriptor_ = -1;
  size_t depth_ = 0;
};

// A reliable datagram endpoint. Closing it ends every operation, its own and those of peers on it:
// nothing touches memory for it any more.
class Endpoint {
 public:
  // Inside a Turn, as are all calls but name().
  static Result<std::unique_ptr<Endpoint>> open(Domain& domain,
                                                const std::shared_ptr<Queue>& queue);
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  fid_ep* get() const { return endpoint_.get(); }
  // Whether a peer's operation may go on for a while in memory that was closed: software takes the
  // key at its first byte only.
  bool outlives_memory() const;
  Queue& queue() const { return *queue_; }
  // As peers insert it into their address vectors.
  Result<Bytes> name() const;

 private:
  Endpoint(Domain& domain, std::shared_ptr<Queue> queue)
      : domain_(domain), queue_(std::move(queue)) {}
  Status start();

  Domain& domain_;
  // The endpoint goes first.
  const std::shared_ptr<Queue> queue_;
  Owned<fid_ep> endpoint_;
  NotedAddress noted_;  // libfabric's sockets
};

}  // namespace te::fabric
