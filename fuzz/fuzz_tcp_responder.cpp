// Fuzzes the side of a TCP data connection that answers.
//
// The input is a program. Each step begins with a byte:
//   'b' length bytes...            these bytes are sent
//   'f' type count payload entry...  a frame: the payload is as long as the entries say, plus
//                                  `payload` (signed); an entry is offset (2), length (2), key (1):
//                                  0 the right one, 1 another range's, 2 of a removed range, else
//                                  the right one with that bit of it changed
//   'p'                            the connection has its turn
//   'a'                            the peer takes the answers
//   's'                            stalled connections are ended
//   'r'                            the range is unregistered, and registered again with a new key
// Memory outside of the two registered ranges must stay as it was.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "input.h"
#include "require.h"
#include "transport/tcp/responder.h"

namespace {

using te::AccessKey;
using te::tcp::RequestEntry;
using te::tcp::RequestHeader;

constexpr size_t kGuard = 4096;
constexpr size_t kSize = 2048;
constexpr char kUntouched = '\xa5';

// Guard, range, guard, another range, guard.
struct Memory {
  Memory() : bytes(3 * kGuard + 2 * kSize, kUntouched) {}
  uint64_t range() { return reinterpret_cast<uint64_t>(bytes.data()) + kGuard; }
  uint64_t other() { return range() + kSize + kGuard; }
  bool guards_intact() const {
    for (const size_t at : {size_t{0}, kGuard + kSize, 2 * (kGuard + kSize)}) {
      for (size_t i = 0; i < kGuard; ++i) {
        if (bytes[at + i] != kUntouched) return false;
      }
    }
    return true;
  }
  std::vector<char> bytes;
};

class Program : public te::tcp::ResponderOwner {
 public:
  explicit Program(te::EventLoop& loop) {
    int fds[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    peer_ = te::Fd(fds[1]);
    key_ = *table_.add(memory_.range(), kSize, te::Rights::kBoth);
    other_key_ = *table_.add(memory_.other(), kSize, te::Rights::kBoth);
    responder_ = std::make_unique<te::tcp::Responder>(
        loop, table_, *this, te::tls::Connection(te::Fd(fds[0])), te::wire::Hello{}, nullptr);
    responder_->admit(1);
  }
  void responder_ended(te::tcp::Responder&) override {
    require(!ended_);
    ended_ = true;
  }
  void run(Input input) {
    while (!input.empty()) step(input);
    pump();
    take_answers();
    pump();
    peer_.reset();
    if (!ended_) responder_->on_events(EPOLLIN | EPOLLRDHUP | EPOLLHUP);
    for (int turns = 0; !ended_; ++turns) {
      require(turns < 1000);  // it must learn of the end
      pump();
    }
    require(memory_.guards_intact());
  }

 private:
  void step(Input& input) {
    switch (input.byte()) {
      case 'b':
        send(input.take(input.byte()));
        break;
      case 'f':
        send(frame(input));
        break;
      case 'p':
        pump();
        break;
      case 'a':
        take_answers();
        break;
      case 's':
        if (!ended_) responder_->end_if_stalled(INT64_MAX);
        break;
      case 'r':
        table_.remove(key_);
        old_key_ = key_;
        key_ = *table_.add(memory_.range(), kSize, te::Rights::kBoth);
        break;
      default:
        break;
    }
  }
  AccessKey key(uint8_t choice) {
    if (choice == 1) return other_key_;
    if (choice == 2) return old_key_;
    std::byte bytes[AccessKey::kSize];
    key_.encode(bytes);
    if (choice > 2) bytes[choice / 8 % AccessKey::kSize] ^= std::byte{1} << (choice % 8);
    return AccessKey::decode(bytes);
  }
  std::string frame(Input& input) {
    RequestHeader header;
    header.type = static_cast<te::tcp::RequestType>(input.byte());
    header.count = input.byte();
    const auto extra = static_cast<int8_t>(input.byte());
    std::string bytes(RequestHeader::kSize + header.count * RequestEntry::kSize, '\0');
    auto* out = reinterpret_cast<std::byte*>(bytes.data());
    uint64_t total = 0;
    for (uint16_t i = 0; i < header.count; ++i) {
      const uint64_t offset = input.word();
      const uint32_t length = input.word();
      std::byte encoded[AccessKey::kSize];
      key(input.byte()).encode(encoded);
      RequestEntry::encode(out + RequestHeader::kSize + i * RequestEntry::kSize,
                           memory_.range() - 128 + offset, length, encoded);
      total += length;
    }
    const bool write = header.type == te::tcp::RequestType::kWrite;
    header.payload = (write ? total : 0) + static_cast<uint64_t>(static_cast<int64_t>(extra));
    header.encode(out);
    if (write) bytes.append(std::min<uint64_t>(total, 64 << 10), 'w');
    return bytes;
  }
  void send(const std::string& bytes) {
    size_t sent = 0;
    while (sent < bytes.size() && !ended_) {
      const ssize_t n = ::send(peer_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
      if (sent == bytes.size()) break;
      pump();
      take_answers();
    }
  }
  void pump() {
    if (!ended_) responder_->on_events(EPOLLIN | EPOLLOUT);
  }
  void take_answers() {
    char buffer[65536];
    while (::recv(peer_.get(), buffer, sizeof buffer, 0) > 0) {
    }
  }

  Memory memory_;
  te::AccessTable table_;
  AccessKey key_, other_key_, old_key_;
  te::Fd peer_;
  std::unique_ptr<te::tcp::Responder> responder_;
  bool ended_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Never started: the program gives the connection its turns.
  static const std::unique_ptr<te::EventLoop> loop = te::EventLoop::create("te-fuzz").take();
  if (size > 4096) return 0;
  Program(*loop).run(Input(data, size));
  return 0;
}
