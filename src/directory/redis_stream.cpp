#include "directory/redis_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace te {
namespace {

struct Lookup {
  Mutex mutex;
  CondVar done;
  std::optional<Result<std::vector<SocketAddress>>> answer TE_GUARDED_BY(mutex);
};

// Name servers that do not answer block for longer than the deadline: the look-up then goes on in a
// thread of its own, which owns what it writes to.
Result<std::vector<SocketAddress>> resolve_within(const std::string& host, uint16_t port,
                                                  int64_t deadline_ns) {
  if (is_numeric_address(host)) return resolve_host(host, port);
  const auto lookup = std::make_shared<Lookup>();
  Result<Thread> thread = Thread::start("te-resolve", [lookup, host, port] {
    Result<std::vector<SocketAddress>> addresses = resolve_host(host, port);
    MutexLock lock(lookup->mutex);
    lookup->answer.emplace(std::move(addresses));
    lookup->done.notify_all();
  });
  if (!thread.ok()) return thread.status();
  thread->detach();
  MutexLock lock(lookup->mutex);
  while (!lookup->answer) {
    if (!lookup->done.wait_until(lookup->mutex, to_time_point(deadline_ns)) && !lookup->answer) {
      return error(Code::kUnavailable,
                   "the name servers did not resolve '{}' within directory_timeout_ms", host);
    }
  }
  return *lookup->answer;
}

Result<BlockingStream> connect_any(const HostPort& endpoint, int64_t deadline_ns) {
  const Result<std::vector<SocketAddress>> addresses =
      resolve_within(endpoint.host, endpoint.port, deadline_ns);
  if (!addresses.ok()) return addresses.status();
  Status failure;
  for (size_t i = 0; i < addresses->size(); ++i) {
    const int64_t now = now_ns();
    const int64_t share_ns = (deadline_ns - now) / static_cast<int64_t>(addresses->size() - i);
    Result<BlockingStream> stream = BlockingStream::connect((*addresses)[i], now + share_ns);
    if (stream.ok()) return stream;
    failure = stream.status();
  }
  return failure;
}

class PlainStream final : public RedisStream {
 public:
  explicit PlainStream(BlockingStream stream) : stream_(std::move(stream)) {}

  Status send(std::string_view bytes, int64_t deadline_ns) override {
    const Status sent = stream_.send_all(bytes, deadline_ns);
    return sent.ok() ? sent : Status(Code::kUnavailable, sent.message());
  }

  Result<size_t> receive(char* into, size_t size, int64_t deadline_ns) override {
    for (;;) {
      const ssize_t got = ::recv(stream_.fd(), into, size, 0);
      if (got > 0) return static_cast<size_t>(got);
      if (got == 0) return ended("it closed the connection");
      if (errno != EAGAIN && errno != EINTR) {
        return ended("connection lost: " + errno_text(errno));
      }
      TE_RETURN_IF_ERROR(wait_for_redis(stream_.fd(), POLLIN, deadline_ns));
    }
  }

  HostPort server() const override {
    const SocketAddress address = peer_address(stream_.fd());
    return {address.host(), address.port(), true};
  }

 private:
  BlockingStream stream_;
};

}  // namespace

Status wait_for_redis(int fd, short events, int64_t deadline_ns) {
  const int64_t left_ns = deadline_ns - now_ns();
  if (left_ns <= 0) return Status(Code::kUnavailable, "no answer within directory_timeout_ms");
  pollfd entry{fd, events, 0};
  const int limit_ms = static_cast<int>(std::min<int64_t>(left_ns / kNsPerMs + 1, 60'000));
  if (::poll(&entry, 1, limit_ms) < 0 && errno != EINTR) {
    return error(Code::kResource, "poll: {}", errno_text(errno));
  }
  return {};
}

Result<std::unique_ptr<RedisStream>> open_plain_stream(const HostPort& endpoint,
                                                       int64_t deadline_ns) {
  Result<BlockingStream> stream = connect_any(endpoint, deadline_ns);
  if (!stream.ok()) return stream.status();
  return std::unique_ptr<RedisStream>(std::make_unique<PlainStream>(stream.take()));
}

}  // namespace te
