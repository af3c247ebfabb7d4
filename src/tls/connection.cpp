#include "tls/connection.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/guarded_copy.h"
#include "base/log.h"
#include "tls/openssl.h"
#include "tls/record_buffer.h"

namespace te::tls {
namespace {

constexpr size_t kHandshakeStep = 16 << 10;

ssize_t fail(int code) {
  errno = code;
  return -1;
}

// Goes over an array of vectors, byte by byte.
class Cursor {
 public:
  Cursor(const iovec* vectors, size_t count) : vectors_(vectors), count_(count) { skip(0); }

  bool done() const { return at_ == count_; }
  std::byte* data() const { return static_cast<std::byte*>(vectors_[at_].iov_base) + offset_; }
  size_t size() const { return vectors_[at_].iov_len - offset_; }
  void skip(size_t bytes) {
    while (at_ < count_ && bytes >= vectors_[at_].iov_len - offset_) {
      bytes -= vectors_[at_].iov_len - offset_;
      ++at_;
      offset_ = 0;
    }
    if (at_ < count_) offset_ += bytes;
  }

 private:
  const iovec* vectors_;
  size_t count_;
  size_t at_ = 0;
  size_t offset_ = 0;
};

}  // namespace

struct Connection::Tls {
  explicit Tls(Role role_of_this) : role(role_of_this) {}

  // The handshake. 0, or -1 with errno.
  int go_on(int fd);
  int flush_handshake(int fd);
  int finish_handshake();

  ssize_t send(int fd, Cursor from, int flags);
  // Protects what `from` has, as far as there is room; how many bytes that were. -1: errno.
  ssize_t seal_some(Cursor& from);
  ssize_t seal_one(Cursor& from);
  // 0: everything has left; else -1 with errno.
  int flush(int fd, int flags);

  ssize_t receive(int fd, Cursor to);
  ssize_t take_opened(Cursor& to);
  // Opens the next record that is here whole. 1: data came, or nothing; 0: none is here; -1: errno.
  int open_next();
  int refuse(Status status);
  ssize_t receive_more(int fd);

  const Role role;
  std::unique_ptr<Handshake> handshake;  // until it is done
  Bytes handshake_out;
  bool handshake_broken = false;
  bool peer_is_plain = false;
  std::shared_ptr<Identity> identity;
  std::shared_ptr<const Credentials> credentials;
  Principal peer;  // once the handshake is done
  Status why;

  // The sender's.
  std::optional<RecordSealer> sealer;
  RecordBuffer out;
  size_t out_plain = 0;  // bytes that the records in `out` carry, to be counted when they are sent
  std::atomic<bool> update_asked{false};

  // The receiver's.
  std::optional<RecordOpener> opener;
  RecordBuffer in;
  std::span<std::byte> opened;  // in `in`, before its beginning
};

int Connection::Tls::flush_handshake(int fd) {
  handshake_out += handshake->take_unsent();
  while (!handshake_out.empty()) {
    const ssize_t sent = ::send(fd, handshake_out.data(), handshake_out.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -1;
    handshake_out.erase(0, static_cast<size_t>(sent));
  }
  return 0;
}

int Connection::Tls::go_on(int fd) {
  if (handshake_broken) return static_cast<int>(fail(EPROTO));
  for (;;) {
    if (!handshake_out.empty() && flush_handshake(fd) != 0) return -1;
    const Handshake::Step step = handshake->advance();
    const bool flushed = flush_handshake(fd) == 0;
    if (step == Handshake::Step::kFailed) {
      peer_is_plain = handshake->peer_is_plain();
      return refuse(handshake->why());
    }
    if (!flushed) return -1;
    if (step == Handshake::Step::kDone) return finish_handshake();
    char bytes[kHandshakeStep];
    ssize_t got;
    do {
      got = ::recv(fd, bytes, sizeof bytes, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return -1;
    if (got == 0) {
      return refuse(Status(Code::kUnavailable,
                           "the peer closed the connection in the handshake of TLS: is its setting "
                           "security tls, as here?"));
    }
    handshake->receive({bytes, static_cast<size_t>(got)});
  }
}

int Connection::Tls::finish_handshake() {
  Result<RecordSealer> writes = handshake->sealer();
  Result<RecordOpener> reads = handshake->opener();
  const Bytes rest = handshake->rest();
  if (!writes.ok() || !reads.ok()) return refuse(writes.ok() ? reads.status() : writes.status());
  if (rest.size() > RecordBuffer::kSize) {
    return refuse(Status(Code::kProtocol, "TLS: too much data"));
  }
  if (!rest.empty()) {
    if (!in.make_room()) return static_cast<int>(fail(ENOMEM));
    std::memcpy(in.end(), rest.data(), rest.size());
    in.added(rest.size());
  }
  peer = Principal(identity, std::move(credentials), handshake->peer(), role == Role::kAccepts);
  sealer.emplace(writes.take());
  opener.emplace(reads.take());
  handshake.reset();
  return 0;
}

int Connection::Tls::refuse(Status status) {
  why = std::move(status);
  handshake_broken = true;
  return static_cast<int>(fail(EPROTO));
}

int Connection::Tls::flush(int fd, int flags) {
  while (!out.empty()) {
    const ssize_t sent = ::send(fd, out.data(), out.size(), MSG_NOSIGNAL | flags);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return -1;
    out.taken(static_cast<size_t>(sent));
  }
  out.clear();
  return 0;
}

ssize_t Connection::Tls::seal_some(Cursor& from) {
  if (!out.make_room()) return fail(ENOMEM);
  if (sealer->update_due() || update_asked.exchange(false)) {
    const size_t size = sealer->seal_key_update(out.end());
    if (size == 0) return fail(EPROTO);
    out.added(size);
  }
  size_t total = 0;
  while (!from.done() && out.room() >= kMaxRecord) {
    const ssize_t taken = seal_one(from);
    if (taken < 0) return total > 0 && errno == EFAULT ? static_cast<ssize_t>(total) : -1;
    total += static_cast<size_t>(taken);
  }
  return static_cast<ssize_t>(total);
}

ssize_t Connection::Tls::seal_one(Cursor& from) {
  std::byte* const record = out.end();
  if (from.size() >= kMaxPlaintext) {
    const std::optional<size_t> size = sealer->seal_from(from.data(), record, kMaxPlaintext);
    if (size == 0) return fail(EPROTO);
    if (size) {
      out.added(*size);
      from.skip(kMaxPlaintext);
      return kMaxPlaintext;
    }
  }
  // Of several parts, or up to a byte that cannot be read.
  size_t length = 0;
  while (!from.done() && length < kMaxPlaintext) {
    const size_t step = std::min(from.size(), kMaxPlaintext - length);
    const CopyResult copied = guarded_copy(record + kHeaderSize + length, from.data(), step);
    if (copied != CopyResult::kDone) break;
    length += step;
    from.skip(step);
  }
  if (length == 0) return fail(EFAULT);
  const size_t size = sealer->seal(record, length);
  if (size == 0) return fail(EPROTO);
  out.added(size);
  return static_cast<ssize_t>(length);
}

ssize_t Connection::Tls::send(int fd, Cursor from, int flags) {
  if (handshake && (role == Role::kAccepts || go_on(fd) != 0)) {
    return role == Role::kAccepts ? fail(EAGAIN) : -1;
  }
  size_t taken = 0;
  for (;;) {
    if (flush(fd, flags) != 0) return taken > 0 ? static_cast<ssize_t>(taken) : -1;
    taken += out_plain;
    from.skip(std::exchange(out_plain, 0));
    if (from.done()) return static_cast<ssize_t>(taken);
    Cursor next = from;
    const ssize_t sealed = seal_some(next);
    if (sealed < 0) return taken > 0 && errno == EFAULT ? static_cast<ssize_t>(taken) : -1;
    out_plain = static_cast<size_t>(sealed);
  }
}

ssize_t Connection::Tls::take_opened(Cursor& to) {
  size_t taken = 0;
  while (!opened.empty() && !to.done()) {
    const size_t step = std::min(opened.size(), to.size());
    if (guarded_copy(to.data(), opened.data(), step) != CopyResult::kDone) {
      return taken > 0 ? static_cast<ssize_t>(taken) : fail(EFAULT);
    }
    opened = opened.subspan(step);
    to.skip(step);
    taken += step;
  }
  return static_cast<ssize_t>(taken);
}

int Connection::Tls::open_next() {
  if (in.size() < kHeaderSize) return 0;
  const std::byte* const header = in.data();
  const size_t size = record_size(header);
  const auto kind = static_cast<Content>(header[0]);
  if ((kind != Content::kApplication && kind != Content::kChangeCipherSpec) ||
      header[1] != std::byte{3}) {
    return refuse(Status(Code::kProtocol, "TLS: what came is no record"));
  }
  if (size > kMaxReceived) return refuse(Status(Code::kProtocol, "TLS: a record is too long"));
  if (in.size() < size) return 0;
  const std::span<std::byte> record(in.data(), size);
  in.taken(size);
  // Sent for the sake of old machines in between, unprotected and without meaning.
  if (kind == Content::kChangeCipherSpec && size == kHeaderSize + 1) return 1;
  Result<RecordOpener::Opened> result = opener->open(record);
  if (!result.ok()) return refuse(result.status());
  if (result->content == Content::kApplication) {
    opened = result->bytes;
    return 1;
  }
  if (result->content == Content::kHandshake) {
    bool answer = false;
    if (Status status = opener->handle_handshake(result->bytes, &answer); !status.ok()) {
      return refuse(std::move(status));
    }
    if (answer) update_asked.store(true);
    return 1;
  }
  const int alert = result->bytes.size() == 2 ? static_cast<int>(result->bytes[1]) : 0;
  if (alert == SSL3_AD_CLOSE_NOTIFY) return static_cast<int>(fail(ECONNRESET));
  return refuse(error(Code::kPermission, "TLS: the peer refuses this engine: {}",
                      SSL_alert_desc_string_long(alert)));
}

ssize_t Connection::Tls::receive_more(int fd) {
  if (!in.make_room()) return fail(ENOMEM);
  ssize_t got;
  do {
    got = ::recv(fd, in.end(), in.room(), 0);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    in.added(static_cast<size_t>(got));
  } else {
    const int failure = errno;
    in.settle();
    errno = failure;
  }
  return got;
}

// As a socket, it returns less than there is room for only when nothing more is here.
ssize_t Connection::Tls::receive(int fd, Cursor to) {
  if (handshake && (role == Role::kConnects || go_on(fd) != 0)) {
    return role == Role::kConnects ? fail(EAGAIN) : -1;
  }
  if (handshake_broken) return fail(EPROTO);
  size_t taken = 0;
  for (;;) {
    const ssize_t step = take_opened(to);
    if (step < 0) return taken > 0 ? static_cast<ssize_t>(taken) : -1;
    taken += static_cast<size_t>(step);
    if (to.done()) return static_cast<ssize_t>(taken);
    if (!opened.empty()) continue;  // some of it cannot be written
    const int next = open_next();
    if (next > 0) continue;
    const ssize_t got = next < 0 ? -1 : receive_more(fd);
    if (got > 0) continue;
    // What came before an end or a failure is delivered first; the next call tells the rest.
    return taken > 0 ? static_cast<ssize_t>(taken) : got;
  }
}

Connection::Connection() = default;
Connection::Connection(Fd fd) : fd_(std::move(fd)) {}
Connection::Connection(Fd fd, std::unique_ptr<Tls> tls)
    : fd_(std::move(fd)), tls_(std::move(tls)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection& Connection::operator=(Connection&&) noexcept = default;
Connection::~Connection() = default;

Result<Connection> Connection::make(Fd fd, std::shared_ptr<Identity> identity, Role role) {
  if (!identity) return Connection(std::move(fd));
  auto tls = std::make_unique<Tls>(role);
  tls->credentials = identity->current();
  tls->identity = std::move(identity);
  Result<std::unique_ptr<Handshake>> handshake = Handshake::make(tls->credentials, role);
  if (!handshake.ok()) return handshake.status();
  tls->handshake = handshake.take();
  return Connection(std::move(fd), std::move(tls));
}

void Connection::close() {
  fd_.reset();
  tls_.reset();
}

bool Connection::ready() const { return !tls_ || !tls_->handshake; }

short Connection::wanted_events() const {
  return static_cast<short>(tls_ && !tls_->handshake_out.empty() ? POLLOUT : POLLIN);
}

const Status& Connection::why() const {
  static const Status& none = *new Status();
  return tls_ ? tls_->why : none;
}

bool Connection::peer_is_plain() const { return tls_ && tls_->peer_is_plain; }

size_t Connection::bulk_size() const { return tls_ ? RecordBuffer::kSize : 0; }

std::string Connection::text_of(int error) const {
  return error == EPROTO && !why().ok() ? std::string(why().message()) : errno_text(error);
}

Status Connection::recheck(int64_t now_ns) { return tls_ ? tls_->peer.recheck(now_ns) : Status(); }

Principal Connection::principal() const { return tls_ ? tls_->peer : Principal(); }

bool Connection::in_the_middle() const { return tls_ && !tls_->in.empty(); }

bool Connection::committed() const { return tls_ && !tls_->out.empty(); }

ssize_t Connection::send(const iovec* vectors, size_t count, int flags) {
  if (tls_) return tls_->send(fd_.get(), {vectors, count}, flags);
  if (count == 1) {
    return ::send(fd_.get(), vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL | flags);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);
  message.msg_iovlen = count;
  return ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL | flags);
}

ssize_t Connection::send(std::string_view bytes, int flags) {
  const iovec vector{const_cast<char*>(bytes.data()), bytes.size()};
  return send(&vector, 1, flags);
}

// The call for one vector is the cheaper one.
ssize_t Connection::receive(const iovec* vectors, size_t count) {
  if (tls_) return tls_->receive(fd_.get(), {vectors, count});
  if (count == 1) return ::recv(fd_.get(), vectors[0].iov_base, vectors[0].iov_len, 0);
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);
  message.msg_iovlen = count;
  return ::recvmsg(fd_.get(), &message, 0);
}

ssize_t Connection::receive(void* to, size_t most) {
  const iovec vector{to, most};
  return receive(&vector, 1);
}

}  // namespace te::tls
