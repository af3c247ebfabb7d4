// The target's side: the local socket, the initiators that connected, the wait until none of them
// touches a range, and until they have closed the blocks that went.
//
// Threads: listen(), close(), release() and the waits from any; connections live on the event loop.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/acceptor.h"
#include "base/event_loop.h"
#include "base/options.h"
#include "transport/shm/block_table.h"
#include "transport/shm/local_socket.h"
#include "transport/shm/range_table.h"

namespace te::shm {

class Responder final : private Acceptor::Owner {
 public:
  Responder(EventLoop& loop, RangeTable& table, BlockTable& blocks,
            const Advertisement& advertisement, const Config& config);
  ~Responder() override;

  // Before the loop starts.
  Status listen(uint64_t instance);
  // After the loop stopped.
  void close();

  // Returns when no initiator touches the range, or any range. None begins to meanwhile: the range
  // is out of the table. kBusy, with the process, when one still does at `until_ns`.
  Status wait_until_unused(uint32_t index, int64_t until_ns);
  Status wait_until_unused(int64_t until_ns);

  // Files, or blocks with their last range, went: initiators are told to unmap and close them.
  void release() noexcept;
  // Returns when they have, or soon: one that stands still closes them when it goes on, and the
  // driver keeps their memory until then.
  void wait_until_released();

 private:
  class Connection;
  // A process that may touch memory.
  struct Initiator {
    PeerProcess process;
    Mapping hazards;
    int socket = -1;  // of the connection, which takes this out of initiators_ before it closes it
    // With mutex_, as below: of releases_, which it was told, and which it has carried out.
    uint64_t told = 0;
    uint64_t released = 0;
    bool has_memory = false;  // it was given files or blocks
    bool has_blocks = false;  // it was given any, and is waited for
    bool is_late = false;     // it was waited for in vain, and is not again until it answers

    const HazardPage& page() const { return *reinterpret_cast<const HazardPage*>(hazards.data()); }
  };

  // Acceptor::Owner.
  bool has_room() override { return true; }
  void accepted(Fd socket) override;
  void refuse(Fd) override {}  // closed, it makes the initiator take another way

  void drop(Connection* connection);
  void tell(Initiator& initiator) TE_REQUIRES(mutex_);
  // The initiator has closed what went until then.
  Status released(Initiator& initiator, uint64_t releases);
  // Who has not carried out so many releases yet; null: nobody.
  Initiator* awaited(uint64_t releases) TE_REQUIRES(mutex_);
  template <typename Touches>
  Status wait_while(Touches&& touches, int64_t until_ns);

  EventLoop& loop_;
  RangeTable& table_;
  BlockTable& blocks_;
  const Advertisement advertisement_;
  const Config& config_;
  Acceptor acceptor_;
  // The loop's own.
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  uint64_t next_connection_ = 0;

  Mutex mutex_;
  std::vector<std::shared_ptr<Initiator>> initiators_ TE_GUARDED_BY(mutex_);
  uint64_t releases_ TE_GUARDED_BY(mutex_) = 0;  // so many times blocks went
};

}  // namespace te::shm
