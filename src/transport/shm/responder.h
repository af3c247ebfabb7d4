// The target's side: the local socket, the initiators that connected, and the wait until none of
// them touches a range.
//
// Threads: listen(), close() and the waits from any; connections live on the event loop.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "base/acceptor.h"
#include "base/event_loop.h"
#include "base/options.h"
#include "transport/shm/local_socket.h"
#include "transport/shm/range_table.h"

namespace te::shm {

class Responder final : private Acceptor::Owner {
 public:
  Responder(EventLoop& loop, RangeTable& table, const Advertisement& advertisement,
            const Config& config);
  ~Responder() override;

  // Before the loop starts.
  Status listen(uint64_t instance);
  // After the loop stopped.
  void close();

  // Returns when no initiator touches the range, or any range. None begins to meanwhile: the range
  // is out of the table. kBusy, with the process, when one still does at `until_ns`.
  Status wait_until_unused(uint32_t index, int64_t until_ns);
  Status wait_until_unused(int64_t until_ns);

 private:
  class Connection;
  // A process that may touch memory.
  struct Initiator {
    PeerProcess process;
    Mapping hazards;

    const HazardPage& page() const { return *reinterpret_cast<const HazardPage*>(hazards.data()); }
  };

  // Acceptor::Owner.
  bool has_room() override { return true; }
  void accepted(Fd socket) override;
  void refuse(Fd) override {}  // closed, it makes the initiator take another way

  void drop(Connection* connection);
  template <typename Touches>
  Status wait_while(Touches&& touches, int64_t until_ns);

  EventLoop& loop_;
  RangeTable& table_;
  const Advertisement advertisement_;
  const Config& config_;
  Acceptor acceptor_;
  // The loop's own.
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  uint64_t next_connection_ = 0;

  Mutex mutex_;
  std::vector<std::shared_ptr<Initiator>> initiators_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::shm
