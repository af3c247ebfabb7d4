// Fuzzes the side of a TCP data connection that asks: the input is what a hostile peer answers.
//
// Byte 0: how many requests are under way (low 4 bits; at least one), byte 1: which of them are
// WRITEs, byte 2: where the answers are split, byte 3: bit 0 when what is not answered is cancelled
// in between, bit 1 when the lane's owner is slow to act on a broken lane. The rest is sent after a
// right answer to the hello.
// Every slice must come back exactly once, and its memory must not change after that.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "require.h"
#include "transport/tcp/lane.h"

namespace {

using te::tcp::Lane;

constexpr size_t kLength = 24;  // of each request
constexpr std::byte kKey[te::AccessKey::kSize] = {};

// Paths need one to belong to; nothing is asked of it.
class NoTransport final : public te::Transport {
 public:
  std::string_view name() const override { return "none"; }
  te::Capabilities capabilities() const override { return {}; }
  std::vector<te::DeviceLoad> loads() const override { return {}; }
  te::Result<te::Bytes> register_memory(const te::Buffer&) override { return te::Bytes(); }
  void unregister_memory(const te::Buffer&) override {}
  std::vector<std::shared_ptr<te::Path>> make_paths(const te::Peer&, te::ByteView) override {
    return {};
  }
  void warm_up(te::Path&) override {}
  void adopt(te::tls::Connection, const te::wire::Hello&, std::shared_ptr<void>) override {}
  void submit(te::SliceList) override {}
  void sweep(te::Path&) override {}
  void reset(te::Path&) override {}
  void stop() override {}
};

struct Request {
  te::Submission submission;
  te::Task task;
  te::Slice slice;
  std::array<std::byte, kLength> memory{};
  std::array<std::byte, kLength> when_done{};
  int times_done = 0;
};

class Session : public te::TransportHost, public te::tcp::LaneOwner {
 public:
  void done(te::Slice* slice, te::Code) override {
    te::MutexLock lock(mutex_);
    for (const std::unique_ptr<Request>& request : requests) {
      if (&request->slice != slice) continue;
      require(++request->times_done == 1);
      request->when_done = request->memory;
      ++done_;
    }
    changed_.notify_all();
  }
  uint64_t instance() const override { return 1; }
  void exchange(const te::Peer&, std::string_view, te::Bytes, Answered) override { require(false); }
  void fence(const te::Peer&, std::string_view, te::Bytes) override { require(false); }
  void lane_ready(Lane&) override {
    te::MutexLock lock(mutex_);
    ready_ = true;
    changed_.notify_all();
  }
  void lane_broken(Lane& lane, te::Status) override {
    if (!slow) lane.fail(te::Code::kUnavailable);
  }

  void wait_until_ready() {
    te::MutexLock lock(mutex_);
    while (!ready_) changed_.wait(mutex_);
  }
  void wait_until_all_done() {
    te::MutexLock lock(mutex_);
    while (done_ < requests.size()) changed_.wait(mutex_);
  }

  std::vector<std::unique_ptr<Request>> requests;
  bool slow = false;  // set before there is a lane

 private:
  te::Mutex mutex_;
  te::CondVar changed_;
  size_t done_ TE_GUARDED_BY(mutex_) = 0;
  bool ready_ TE_GUARDED_BY(mutex_) = false;
};

// What lasts from input to input. Sockets have a name in the abstract namespace.
struct World {
  World() {
    loop = te::EventLoop::create("te-fuzz").take();
    if (!loop->start().ok()) std::abort();
    auto* name = reinterpret_cast<sockaddr_un*>(address.get());
    name->sun_family = AF_UNIX;
    const std::string text = "te-fuzz-lane-" + std::to_string(::getpid());
    text.copy(name->sun_path + 1, text.size());
    address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
    listener = te::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    require(::bind(listener.get(), address.get(), address.length) == 0);
    require(::listen(listener.get(), 8) == 0);
  }
  NoTransport transport;
  te::SocketAddress address;
  te::Fd listener;
  std::unique_ptr<te::EventLoop> loop;
};

void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the lane gave up
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

te::Fd connect(World& world, Lane& lane, Session& session) {
  lane.connect(world.address, te::wire::Hello{});
  te::Fd peer(::accept4(world.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  require(peer.valid());
  char hello[te::wire::Hello::kSize];
  require(::recv(peer.get(), hello, sizeof hello, MSG_WAITALL) == sizeof hello);
  te::wire::HelloAnswer answer;
  answer.window = te::tcp::kWindow;
  const auto bytes = answer.encode();
  send_all(peer.get(), {bytes.data(), bytes.size()});
  session.wait_until_ready();
  return peer;
}

void submit(Lane& lane, Session& session, uint8_t count, uint8_t writes) {
  te::SliceList list;
  for (uint8_t i = 0; i < count; ++i) {
    auto request = std::make_unique<Request>();
    request->task.submission = &request->submission;
    request->slice.task = &request->task;
    request->slice.opcode = (writes >> (i % 8)) % 2 != 0 ? te::Opcode::kWrite : te::Opcode::kRead;
    request->slice.local = request->memory.data();
    request->slice.length = kLength;
    request->slice.key = kKey;
    list.push(&request->slice);
    session.requests.push_back(std::move(request));
  }
  require(lane.enqueue(list, count * kLength));
  lane.flush();
}

// Waits until the loop has been through what was handed to it.
void turn(te::EventLoop& loop) {
  const auto done = std::make_shared<std::atomic<bool>>(false);
  loop.run([done] {
    *done = true;
    done->notify_all();
  });
  done->wait(false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  if (size < 4 || size > 4096) return 0;
  const uint8_t count = std::max<uint8_t>(data[0] % 16, 1);
  const std::string_view answers(reinterpret_cast<const char*>(data) + 4, size - 4);
  const size_t split = std::min<size_t>(data[2], answers.size());
  {
    Session session;
    session.slow = (data[3] & 2) != 0;
    // Not make_shared: the connect timer's weak pointer would keep the lane's memory.
    std::shared_ptr<Lane> lane(new Lane(*world.loop, session,
                                        std::make_shared<te::Path>(world.transport, "", "", "peer"),
                                        session, {1'000, 1'000}));
    te::Fd peer = connect(world, *lane, session);
    submit(*lane, session, count, data[1]);
    send_all(peer.get(), answers.substr(0, split));
    if ((data[3] & 1) != 0) {
      for (const auto& request : session.requests) {
        request->submission.cancel = te::Code::kCancelled;
      }
      lane->sweep();
    }
    if (split < answers.size()) turn(*world.loop);
    send_all(peer.get(), answers.substr(split));
    peer.reset();
    if (session.slow) {
      turn(*world.loop);
      turn(*world.loop);
    } else {
      session.wait_until_all_done();
    }
    lane->fail(te::Code::kCancelled);
    session.wait_until_all_done();
    lane.reset();
    turn(*world.loop);
    turn(*world.loop);
    for (const auto& request : session.requests) {
      require(request->memory == request->when_done);
      require(request->slice.opcode == te::Opcode::kRead ||
              request->memory == decltype(request->memory){});
    }
  }
  return 0;
}
