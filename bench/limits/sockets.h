// The limit of TCP throughput: blocks streamed over plain connections, each with a sender thread at
// one end and a receiver thread at the other, which receives them where they belong.
//
// One object at each end. Connection i moves stripe i of the memory, in rotation. Threads: the main
// thread calls; receivers run from the beginning, senders while send() does.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "limits/connections.h"

namespace te::bench {

class Streams {
 public:
  Streams(std::vector<Socket> sockets, std::span<std::byte> source, std::span<std::byte> sink);
  // Closes the connections and ends the threads.
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  size_t connections() const { return streams_.size(); }
  // Over every connection, one send() call per block, for `window`. What was sent over each since
  // the beginning.
  Result<std::vector<uint64_t>> send(uint64_t block_size, std::chrono::milliseconds window);
  // Returns when as much as that arrived over each connection since the beginning.
  Status await(std::span<const uint64_t> totals);

 private:
  struct Stream {
    Socket socket;
    std::span<std::byte> source;
    std::span<std::byte> sink;
    uint64_t sent = 0;
    std::atomic<uint64_t> received{0};
    std::thread receiver;
  };

  static void receive(Stream& stream);
  static bool send_until(Stream& stream, uint64_t block_size,
                         std::chrono::steady_clock::time_point end);

  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace te::bench
