// One RDMA device as opened: its port, completion queues, registrations and queue pairs.
//
// Threads: any, as verbs are; what is read and written by several is atomic.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/fork.h"
#include "base/log.h"
#include "core/rights.h"
#include "core/schedule.h"
#include "transport/rails/nic.h"
#include "transport/rdma/library.h"
#include "transport/rdma/port.h"

namespace te::rdma {

// A deleter that calls one of the library's functions.
template <typename T>
struct Closer {
  int (*close)(T*) = nullptr;
  void operator()(T* what) const { (void)close(what); }
};
template <typename T>
using Owned = std::unique_ptr<T, Closer<T>>;

class VerbsNic;

class QueuePair {
 public:
  struct Depth {
    uint32_t sends = 0;
    uint32_t inlined = 0;  // bytes, at most
  };

  uint32_t number() const { return pair_->qp_num; }
  const Depth& depth() const { return depth_; }
  ibv_qp* get() const { return pair_.get(); }
  const Address& local() const { return local_; }

  // To the other end. What is wrong may be the other's numbers: kUnavailable.
  Status connect(const Address& remote);
  // Everything under way comes back from here on.
  void fail();

 private:
  friend class VerbsNic;
  QueuePair(VerbsNic& nic, Owned<ibv_qp> pair) : nic_(nic), pair_(std::move(pair)) {}
  VerbsNic& nic_;
  Owned<ibv_qp> pair_;
  Depth depth_;
  Address local_;
  uint32_t gid_index_ = 0;
};

class VerbsNic final : public rails::Nic {
 public:
  // The device's first active port, or its first. kUnsupported: not for this transport.
  static Result<std::unique_ptr<VerbsNic>> open(const Library& library, ibv_device* device);
  VerbsNic(const VerbsNic&) = delete;
  VerbsNic& operator=(const VerbsNic&) = delete;

  const std::string& device() const override { return device_; }
  const Library& library() const { return library_; }
  // The port's, see there.
  bool infiniband() const { return port_.infiniband(); }
  bool active() const { return port_.active(); }
  bool present() const override { return !port_.lost(); }
  std::string state_text() const { return port_.state_text(); }
  bool refresh() { return port_.refresh(); }
  uint64_t bytes_per_s() const { return port_.bytes_per_s(); }
  uint64_t max_message() const { return port_.max_message(); }
  uint64_t max_region() const override { return limits_.max_mr_size; }
  // That may be under way, by all of its queue pairs together.
  uint32_t queue_depth() const { return queue_depth_; }
  RateEstimator& rate() { return *rate_; }

  Result<std::unique_ptr<rails::MemoryRegion>> register_exported(
      const Buffer& buffer, uint64_t address, uint64_t length,
      const ExportedRange& exported) override;
  Result<std::unique_ptr<rails::MemoryRegion>> register_range(const Buffer& buffer,
                                                              uint64_t address,
                                                              uint64_t length) override;

  // For transfers to peers, or (`serving`) for what peers do here.
  Result<std::unique_ptr<QueuePair>> make_queue_pair(bool serving);

  // Of transfers; who polls is the caller's business.
  ibv_cq* completions() const { return completions_.get(); }
  ibv_cq* serving_completions() const { return serving_completions_.get(); }
  int completion_descriptor() const { return channel_->fd; }
  int event_descriptor() const { return context_->async_fd; }
  // The next completion raises the descriptor.
  void arm() const { (void)::ibv_req_notify_cq(completions_.get(), 0); }
  // After the descriptor was raised.
  void take_completion_events();
  struct News {
    bool any = false;
    bool came_up = false;
    bool went_down = false;
  };
  News take_events();

  // "rxe0: WHAT: the system's text"
  Status failed(std::string_view what, int error_number, Code code = Code::kResource) const;

  std::atomic<uint32_t> outstanding{0};  // transfers' work requests

 private:
  VerbsNic(const Library& library, std::string device)
      : library_(library), device_(std::move(device)), port_(library, device_) {}
  Status start(ibv_device* device);
  // kUnsupported, with the reason: it is not a dmabuf, or not for this NIC.
  Result<Owned<ibv_mr>> import_dmabuf(const Buffer& buffer, uint64_t address, uint64_t length,
                                      const ExportedRange& exported) const;

  const Library& library_;
  const std::string device_;
  Owned<ibv_context> context_;
  NotedDescriptor command_descriptor_, event_descriptor_;
  Owned<ibv_pd> domain_;
  Owned<ibv_comp_channel> channel_;
  NotedDescriptor channel_descriptor_;
  Owned<ibv_cq> completions_;
  Owned<ibv_cq> serving_completions_;
  ibv_device_attr limits_{};
  Port port_;
  uint32_t queue_depth_ = 0;
  LogLimit ups_, downs_, by_address_;
  std::unique_ptr<RateEstimator> rate_;

  friend class QueuePair;
};

}  // namespace te::rdma
