#include "engine/newcomers.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "base/clock.h"
#include "base/log.h"

namespace te {
namespace {

// A peer sends its hello as soon as it is connected, so one that was silent for this long is slow,
// or means harm; told to try again, it gets another chance.
constexpr int64_t kPatienceMs = 100;
constexpr int64_t kPatienceNs = kPatienceMs * kNsPerMs;

constexpr uint8_t kTlsHandshake = 22;  // the first byte of a connection with TLS

// Since when the peer has sent nothing: also before the connection was accepted, because many
// silent ones may have waited in the kernel's queue for long.
int64_t silent_since_ns(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return now_ns();
  return now_ns() - int64_t{info.tcpi_last_data_recv} * kNsPerMs;
}

}  // namespace

class Newcomers::Newcomer final : public EventLoop::Handler {
 public:
  Newcomer(Newcomers& owner, tls::Connection connection, const Network& from)
      : network(from),
        owner_(owner),
        connection_(std::move(connection)),
        since_ns_(silent_since_ns(connection_.fd())) {}

  void on_events(uint32_t) override {
    while (got_ < bytes_.size()) {
      const ssize_t n = connection_.receive(bytes_.data() + got_, bytes_.size() - got_);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0 && errno == EPROTO) return insecure();
      if (n <= 0) return owner_.drop(*this);
      got_ += static_cast<size_t>(n);
      const bool ours = got_ < sizeof(uint32_t) || load<uint32_t>(bytes_.data()) == wire::kMagic;
      if (!ours) {
        if (static_cast<uint8_t>(bytes_[0]) == kTlsHandshake) return too_secure();
        static LogLimit limit;
        log_limited(limit, LogLevel::kDebug,
                    "from {}: its first bytes are {:#010x}, not a transfer engine's {:#010x}",
                    peer_address(connection_.fd()).to_string(), load<uint32_t>(bytes_.data()),
                    wire::kMagic);
        return owner_.drop(*this);
      }
    }
    Result<wire::Hello> hello = wire::Hello::decode(bytes_);
    if (!hello.ok()) {
      static LogLimit limit;
      log_limited(limit, LogLevel::kInfo, "from {}: {}", peer_address(connection_.fd()).to_string(),
                  hello.status().message());
      owner_.owner_.refuse(connection_, hello.code());
      return owner_.drop(*this);
    }
    owner_.loop_.remove(connection_.fd(), this);
    tls::Connection connection = std::move(connection_);
    owner_.drop(*this);
    owner_.owner_.introduced(std::move(connection), *hello);
  }

  int fd() const { return connection_.fd(); }
  tls::Connection& connection() { return connection_; }
  bool pending() const { return connection_.valid(); }
  void close() { connection_.close(); }
  int64_t since_ns() const { return since_ns_; }

  const Network network;
  std::list<std::unique_ptr<Newcomer>>::iterator place;

 private:
  void insecure() {
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "from {}: {}",
                peer_address(connection_.fd()).to_string(), connection_.why().message());
    if (connection_.peer_is_plain()) {
      owner_.loop_.remove(connection_.fd(), this);
      tls::Connection plain(connection_.release());
      owner_.owner_.refuse(plain, Code::kPermission);
    }
    owner_.drop(*this);
  }
  void too_secure() {
    static LogLimit limit;
    log_limited(
        limit, LogLevel::kWarning,
        "from {}: the peer speaks TLS: its setting security is tls, and this engine's is off",
        peer_address(connection_.fd()).to_string());
    owner_.owner_.refuse(connection_, Code::kPermission);
    owner_.drop(*this);
  }

  Newcomers& owner_;
  tls::Connection connection_;
  const int64_t since_ns_;
  std::array<std::byte, wire::Hello::kSize> bytes_;
  size_t got_ = 0;
};

Newcomers::Newcomers(EventLoop& loop, const Config& config, std::shared_ptr<tls::Identity> identity,
                     Owner& owner)
    : loop_(loop), config_(config), identity_(std::move(identity)), owner_(owner) {}

Newcomers::~Newcomers() = default;

void Newcomers::clear() { all_.clear(); }

Newcomers::Network Newcomers::network_of(const SocketAddress& address) {
  Network network;
  if (address.storage.ss_family == AF_INET) {
    network = {AF_INET, reinterpret_cast<const sockaddr_in&>(address.storage).sin_addr.s_addr};
  } else if (address.storage.ss_family == AF_INET6) {
    const in6_addr& in6 = reinterpret_cast<const sockaddr_in6&>(address.storage).sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&in6)) {
      network = {AF_INET, load<uint32_t>(reinterpret_cast<const std::byte*>(&in6) + 12)};
    } else {
      network = {AF_INET6, load<uint64_t>(reinterpret_cast<const std::byte*>(&in6))};
    }
  }
  return network;
}

bool Newcomers::has_room() {
  if (all_.size() < config_.pending_limit()) return true;
  make_room();
  if (all_.size() < config_.pending_limit()) return true;
  if (!std::exchange(waited_for_, true)) {
    loop_.run_after(kPatienceMs, [this] {
      waited_for_ = false;
      owner_.room_again();
    });
  }
  return false;
}

void Newcomers::add(Fd accepted) {
  const int fd = accepted.get();
  const Network network = network_of(peer_address(fd));
  Result<tls::Connection> connection =
      tls::Connection::make(std::move(accepted), identity_, tls::Role::kAccepts);
  if (!connection.ok()) return;
  all_.push_back(std::make_unique<Newcomer>(*this, connection.take(), network));
  Newcomer& added = *all_.back();
  added.place = std::prev(all_.end());
  ++counts_[network];
  // Of one that waited in the kernel's queue the hello has mostly come.
  if (!still_silent(added)) return;
  uint32_t events = EPOLLIN | EPOLLRDHUP;
  if (identity_) events |= EPOLLOUT;  // a handshake has answers
  if (!loop_.add(fd, events, &added).ok()) {
    owner_.refuse(added.connection(), Code::kBusy);
    drop(added);
  }
}

bool Newcomers::still_silent(Newcomer& newcomer) {
  // Retired, it lives on until the end of this turn.
  newcomer.on_events(0);
  return newcomer.pending();
}

void Newcomers::drop(Newcomer& newcomer) {
  if (newcomer.pending()) loop_.remove(newcomer.fd(), &newcomer);
  newcomer.close();
  const auto count = counts_.find(newcomer.network);
  if (--count->second == 0) counts_.erase(count);
  const auto place = newcomer.place;
  loop_.retire(std::move(*place));
  all_.erase(place);
  if (waited_for_) owner_.room_again();
}

void Newcomers::check_times(int64_t now_ns) {
  const int64_t before_ns = now_ns - static_cast<int64_t>(config_.hello_timeout_ms) * kNsPerMs;
  while (!all_.empty() && all_.front()->since_ns() < before_ns) {
    Newcomer& oldest = *all_.front();
    if (still_silent(oldest)) drop(oldest);
  }
}

void Newcomers::make_room() {
  struct Candidate {
    Newcomer* newcomer;
    size_t of_its_network;
  };
  std::vector<Candidate> silent;
  const int64_t before_ns = now_ns() - kPatienceNs;
  for (const std::unique_ptr<Newcomer>& newcomer : all_) {
    if (newcomer->since_ns() > before_ns) continue;
    silent.push_back({newcomer.get(), counts_.find(newcomer->network)->second});
  }
  std::stable_sort(silent.begin(), silent.end(), [](const Candidate& a, const Candidate& b) {
    return a.of_its_network > b.of_its_network;
  });
  silent.resize(
      std::min<size_t>(silent.size(), std::max<uint64_t>(config_.pending_limit() / 2, 1)));
  for (const Candidate& each : silent) {
    if (!still_silent(*each.newcomer)) continue;
    owner_.refuse(each.newcomer->connection(), Code::kBusy);
    drop(*each.newcomer);
  }
}

}  // namespace te
