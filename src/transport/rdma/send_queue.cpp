#include "transport/rdma/send_queue.h"

#include <algorithm>

#include "base/guarded_copy.h"

namespace te::rdma {

void SendQueue::start(const QueuePair& pair) {
  pair_ = pair.get();
  inline_room_ = pair.depth().inlined;
  const size_t depth = pair.depth().sends;
  works_.resize(depth);
  requests_.resize(depth);
  pieces_.resize(depth);
  inlined_.resize(depth * inline_room_);
}

void SendQueue::add(const Operation& operation, Flight* flight) {
  const size_t at = place(head_);
  works_[at] = {flight, operation.length};
  pieces_[at] = {reinterpret_cast<uint64_t>(operation.local), operation.length,
                 operation.local_key};
  ibv_send_wr& request = requests_[at];
  request = {};
  request.wr_id = uint64_t{number_} << 32 | head_;
  request.sg_list = &pieces_[at];
  request.num_sge = operation.length == 0 ? 0 : 1;
  request.opcode = operation.write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
  request.wr.rdma.remote_addr = operation.remote;
  request.wr.rdma.rkey = operation.remote_key;
  if (operation.write && !operation.on_device && operation.length > 0 &&
      operation.length <= inline_room_) {
    // The library would copy with plain instructions. Memory that cannot be read any more is left
    // to the NIC, which kept its pages.
    std::byte* copy = &inlined_[at * inline_room_];
    const auto* local = static_cast<const std::byte*>(static_cast<const void*>(operation.local));
    if (guarded_copy(copy, local, operation.length) == CopyResult::kDone) {
      pieces_[at].addr = reinterpret_cast<uint64_t>(copy);
      request.send_flags |= IBV_SEND_INLINE;
    }
  }
  if (++unsignalled_ >= kSignalEvery || operation.length >= kLarge) {
    request.send_flags |= IBV_SEND_SIGNALED;
    unsignalled_ = 0;
  }
  bytes_ += operation.length;
  ++head_;
}

int SendQueue::flush(uint32_t* posted) {
  *posted = 0;
  if (posted_ == head_) return 0;
  for (uint32_t at = posted_; at + 1 != head_; ++at) {
    requests_[place(at)].next = &requests_[place(at + 1)];
  }
  // The end of a chain tells of all before it.
  requests_[place(head_ - 1)].send_flags |= IBV_SEND_SIGNALED;
  unsignalled_ = 0;
  ibv_send_wr* refused = nullptr;
  const int result = ::ibv_post_send(pair_, &requests_[place(posted_)], &refused);
  const uint32_t before = posted_;
  if (result == 0) {
    posted_ = head_;
  } else if (refused != nullptr) {
    posted_ = static_cast<uint32_t>(refused->wr_id);
  }
  *posted = posted_ - before;
  nic_.outstanding.fetch_add(*posted, std::memory_order_relaxed);
  return result;
}

Flight* SendQueue::take_unposted() {
  const Work& latest = works_[place(--head_)];
  bytes_ -= latest.length;
  return latest.flight;
}

SendQueue::Work SendQueue::take_oldest() {
  nic_.outstanding.fetch_sub(1, std::memory_order_relaxed);
  const Work& oldest = works_[place(tail_++)];
  bytes_ -= oldest.length;
  return oldest;
}

}  // namespace te::rdma
