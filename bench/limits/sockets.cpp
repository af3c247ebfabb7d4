#include "limits/sockets.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "buffers.h"

namespace te::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kReceiveAtOnce = 1 << 20;
constexpr uint64_t kClosed = UINT64_MAX;  // of `received`: nothing more will arrive

Status closed() { return Status(Code::kUnavailable, "a connection of the limit program broke"); }

}  // namespace

Streams::Streams(std::vector<Socket> sockets, std::span<std::byte> source,
                 std::span<std::byte> sink) {
  const size_t count = sockets.size();
  for (size_t i = 0; i < count; ++i) {
    auto stream = std::make_unique<Stream>();
    stream->socket = std::move(sockets[i]);
    stream->source = stripe(source, i, count);
    stream->sink = stripe(sink, i, count);
    stream->receiver = std::thread([&stream = *stream] { receive(stream); });
    streams_.push_back(std::move(stream));
  }
}

Streams::~Streams() {
  for (const auto& stream : streams_) shutdown(stream->socket.get(), SHUT_RDWR);
  for (const auto& stream : streams_) stream->receiver.join();
}

void Streams::receive(Stream& stream) {
  uint64_t total = 0;
  for (;;) {
    const uint64_t at = total % stream.sink.size();
    const uint64_t room = std::min(stream.sink.size() - at, kReceiveAtOnce);
    const ssize_t count = recv(stream.socket.get(), stream.sink.data() + at, room, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    total += static_cast<uint64_t>(count);
    stream.received.store(total, std::memory_order_release);
    stream.received.notify_one();
  }
  stream.received.store(kClosed);
  stream.received.notify_one();
}

bool Streams::send_until(Stream& stream, uint64_t block_size, Clock::time_point end) {
  const uint64_t blocks = stream.source.size() / block_size;
  uint64_t next = stream.sent / block_size % blocks;
  do {
    const std::byte* block = stream.source.data() + next * block_size;
    for (uint64_t done = 0; done < block_size;) {
      const ssize_t count =
          ::send(stream.socket.get(), block + done, block_size - done, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      done += static_cast<uint64_t>(count);
    }
    stream.sent += block_size;
    next = next + 1 == blocks ? 0 : next + 1;
  } while (Clock::now() < end);
  return true;
}

Result<std::vector<uint64_t>> Streams::send(uint64_t block_size, std::chrono::milliseconds window) {
  const Clock::time_point end = Clock::now() + window;
  std::atomic<bool> ok{true};
  std::vector<std::thread> senders;
  for (const auto& stream : streams_) {
    senders.emplace_back([&stream = *stream, block_size, end, &ok] {
      if (!send_until(stream, block_size, end)) ok = false;
    });
  }
  for (std::thread& sender : senders) sender.join();
  if (!ok) return closed();
  std::vector<uint64_t> totals;
  for (const auto& stream : streams_) totals.push_back(stream->sent);
  return totals;
}

Status Streams::await(std::span<const uint64_t> totals) {
  for (size_t i = 0; i < streams_.size() && i < totals.size(); ++i) {
    uint64_t received = 0;
    while ((received = streams_[i]->received.load(std::memory_order_acquire)) < totals[i]) {
      streams_[i]->received.wait(received);
    }
    if (received == kClosed) return closed();
  }
  return {};
}

}  // namespace te::bench
