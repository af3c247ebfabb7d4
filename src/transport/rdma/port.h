// The port of an RDMA device that transfers use: its state, as the device told last, and the
// address that peers connect to.
//
// Threads: any, once find() has returned.
#pragma once

#include <atomic>
#include <string>

#include "transport/rdma/library.h"
#include "transport/rdma/message.h"

namespace te::rdma {

class Port {
 public:
  // `device`: its name. Both outlive this.
  Port(const Library& library, const std::string& device) : library_(library), device_(device) {}

  // Takes the first active port of `count`, or the first. `context` outlives every later call.
  // kUnsupported: not for this transport.
  Status find(ibv_context* context, uint8_t count);

  uint8_t number() const { return number_; }
  bool infiniband() const { return infiniband_; }
  // Whether peers need more than a LID to reach it.
  bool needs_gid() const { return needs_gid_; }
  uint64_t bytes_per_s() const { return bytes_per_s_; }
  uint64_t max_message() const { return max_message_; }

  // As the device told last.
  bool active() const { return active_.load(std::memory_order_relaxed); }
  // Asks the device again; true when the port was not active and is now.
  bool refresh();
  // The device is gone: from the next refresh() on the port is not active, and stays so.
  void lose() { lost_ = true; }
  bool lost() const { return lost_.load(std::memory_order_relaxed); }
  // "rxe0 port 1: active"
  std::string state_text() const;

  // Fills in what peers need to reach it, and the place of its GID in the device's table.
  Status choose_address(Address* address, uint32_t* gid_index) const;

 private:
  const Library& library_;
  const std::string& device_;
  ibv_context* context_ = nullptr;
  uint8_t number_ = 1;
  bool infiniband_ = false;
  bool needs_gid_ = false;
  uint64_t bytes_per_s_ = 0;
  uint64_t max_message_ = 0;
  std::atomic<int> state_{IBV_PORT_NOP};
  std::atomic<uint8_t> mtu_{1};
  std::atomic<bool> active_{false};
  std::atomic<bool> lost_{false};
};

}  // namespace te::rdma
