// What fake_verbs.cpp and fake_verbs_memory.cpp share: the devices and what programs made of them.
//
// Threads: with the lock of the world, but for world() and device_of().
#pragma once

#include <infiniband/verbs.h>
#include <sys/uio.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <vector>

#include "support/fake_verbs.h"

#undef ibv_query_port
#undef ibv_reg_mr

namespace te::test::fake_verbs {

struct Queue : ibv_cq {
  std::deque<ibv_wc> entries;
  bool armed = false;
};

struct Pair : ibv_qp {
  uint32_t remote = 0;
  std::deque<ibv_wc> held;
};

// Where this process sees memory that it does not reach by its address.
struct Piece {
  char* view = nullptr;
  size_t length = 0;
};

struct Range : ibv_mr {
  int access = 0;
  // Of a device, from the range's first byte on; empty: its addresses.
  std::vector<Piece> pieces;
  // Of the pages of the range, where it has been registered by peermem.
  std::vector<uint64_t> allocations;
};

struct Device {
  ibv_device self{};
  std::vector<int> contexts;  // write ends of their events
  int refusal = 0, dmabuf_refusal = 0;
  int registered = 0;
  int pairs = 0, most_pairs = 0;
  bool holds = false;
  bool delays = false;
  bool lost = false;
  bool port_up = true;
  std::map<const void*, int> registrations;
};

struct Context : ibv_context {
  int device_number = 0;
  int events = -1;  // the other end of async_fd
};

struct Packet {
  uint32_t to_pair = 0;
  uint32_t key = 0;  // of the range there
  uint64_t at = 0;
  std::vector<char> bytes;
};

struct World {
  std::mutex mutex;
  std::vector<Packet> network;
  int late_landings = 0;
  std::condition_variable registering_changed;
  Device devices[kDevices];
  std::map<uint32_t, Pair*> pairs;
  std::map<uint32_t, Range*> ranges;
  uint32_t next = 1;
  int registering = 0, most_registering = 0, gathered = 0;
  DevicePage (*peermem)(uint64_t) = nullptr;
};

World& world();
int number_of(const ibv_context* context);
Device& device_of(const ibv_context* context);

// What the key is of, if all of that is in it, and allowed; else null.
const Range* range_at(uint32_t key, uint64_t address, uint64_t length, int access);
// The bytes at an address of the range, piece by piece.
std::vector<iovec> places(const Range& range, uint64_t address, size_t length);

}  // namespace te::test::fake_verbs
