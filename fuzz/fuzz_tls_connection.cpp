// Fuzzes a connection with TLS whose peer has the secret, and does what it likes behind the
// handshake.
//
// The input is a program. Each step begins with a byte:
//   'd' length(2) bytes...       the peer sends these bytes as data
//   'c' type length(2) bytes...  the peer sends a record of this content type
//   'k'                          the peer changes its keys
//   'x' where(2)                 of the next record a bit is changed
//   't' length(2)                of the next record only so many bytes are sent
//   'g' length bytes...          the peer sends these bytes without protection
//   'r' most(2)                  the connection receives
//   's' length(2)                the connection sends as many bytes
// What is received must be what was sent as data, from its begin on, however much of it.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "input.h"
#include "require.h"
#include "secret_file.h"
#include "tls/connection.h"
#include "tls/handshake.h"

namespace {

using namespace te;
using namespace te::tls;

std::shared_ptr<Identity> identity() {
  static const auto& loaded = *new std::shared_ptr<Identity>([] {
    Result<std::shared_ptr<Identity>> made = Identity::load(secret_file());
    require(made.ok());
    return made.take();
  }());
  return loaded;
}

class World {
 public:
  World() {
    int fds[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    connection_ = Connection::make(Fd(fds[0]), identity(), Role::kAccepts).take();
    peer_ = Fd(fds[1]);
    const std::unique_ptr<Handshake> handshake =
        Handshake::make(identity()->current(), Role::kConnects).take();
    char nothing;
    for (int i = 0; i < 10 && !connection_.ready(); ++i) {
      (void)handshake->advance();
      put(handshake->take_unsent());
      (void)connection_.receive(&nothing, 1);
      handshake->receive(get());
    }
    require(connection_.ready() && handshake->advance() == Handshake::Step::kDone);
    sealer_.emplace(handshake->sealer().take());
  }

  void run(Input& input) {
    while (!input.empty()) step(input);
    receive(SIZE_MAX);
  }

 private:
  void put(std::string_view bytes) {
    // What a full socket does not take is a truncation.
    (void)!::send(peer_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  std::string get() {
    std::string bytes(65536, '\0');
    const ssize_t got = ::recv(peer_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return bytes;
  }
  void put_record(std::vector<std::byte>& record, size_t size) {
    if (flip_ != 0) record[flip_ / 8 % size] ^= std::byte{1} << flip_ % 8;
    put({reinterpret_cast<const char*>(record.data()), std::min(size, cut_)});
    flip_ = 0;
    cut_ = SIZE_MAX;
  }
  void send_content(Content content, const std::string& bytes) {
    std::vector<std::byte> record(kMaxRecord);
    std::memcpy(record.data() + kHeaderSize, bytes.data(), bytes.size());
    if (content == Content::kApplication) sent_ += bytes;
    put_record(record, sealer_->seal(record.data(), bytes.size(), content));
  }
  void step(Input& input) {
    switch (input.byte()) {
      case 'd':
        return send_content(Content::kApplication, input.take(input.word() % (kMaxPlaintext + 1)));
      case 'c': {
        const auto content = static_cast<Content>(input.byte());
        return send_content(content, input.take(input.word() % (kMaxPlaintext + 1)));
      }
      case 'k': {
        std::vector<std::byte> record(kMaxRecord);
        return put_record(record, sealer_->seal_key_update(record.data()));
      }
      case 'x':
        flip_ = input.word();
        return;
      case 't':
        cut_ = input.word();
        return;
      case 'g':
        return put(input.take(input.byte()));
      case 'r':
        return receive(input.word());
      case 's': {
        const std::string bytes(input.word(), 's');
        (void)connection_.send(bytes);
        (void)get();
        return;
      }
      default:
        return;
    }
  }
  void receive(size_t most) {
    std::string bytes(65536, '\0');
    while (most > 0) {
      const ssize_t got = connection_.receive(bytes.data(), std::min(most, bytes.size()));
      if (got <= 0) return;
      const auto count = static_cast<size_t>(got);
      require(sent_.compare(received_, count, bytes, 0, count) == 0);
      received_ += count;
      most -= count;
    }
  }

  Connection connection_;
  Fd peer_;
  std::optional<RecordSealer> sealer_;
  std::string sent_;
  size_t received_ = 0;
  size_t flip_ = 0;
  size_t cut_ = SIZE_MAX;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  World().run(input);
  return 0;
}
