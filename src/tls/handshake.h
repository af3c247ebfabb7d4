// The handshake of TLS 1.3, without a socket: bytes go in and come out. Both sides show who they
// are; what remains are the secrets for the records.
//
// Threads: one at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/secret.h"
#include "tls/credentials.h"
#include "tls/record.h"
#include "transfer_engine/status.h"

struct ssl_st;

namespace te::tls {

enum class Role { kConnects, kAccepts };

class Handshake {
 public:
  enum class Step { kNeedsBytes, kDone, kFailed };

  // A peer sends no more than this before the handshake is done.
  static constexpr size_t kMaxBytes = 128 << 10;

  static Result<std::unique_ptr<Handshake>> make(std::shared_ptr<const Credentials> credentials,
                                                 Role role);
  // For handshakes in this context.
  static void prepare(ssl_ctx_st* context);
  ~Handshake();
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;

  // What came from the peer.
  void receive(std::string_view bytes);
  Step advance();
  // What goes to the peer; also after a failure, which it tells.
  Bytes take_unsent();
  // What came is not TLS.
  bool peer_is_plain() const;
  // After kFailed: why.
  const Status& why() const { return why_; }

  // After kDone, once.
  Result<RecordSealer> sealer();
  Result<RecordOpener> opener();
  // What came behind the handshake.
  Bytes rest();
  PeerIdentity peer() const;

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
  };

  Handshake(std::shared_ptr<const Credentials> credentials, Role role)
      : credentials_(std::move(credentials)), role_(role) {}
  struct Callbacks;
  Status failure() const;
  static int index();  // of a Handshake in an SSL object

  const std::shared_ptr<const Credentials> credentials_;
  const Role role_;
  std::unique_ptr<ssl_st, Free> ssl_;
  Secret connecting_;  // the traffic secret of the side that connected
  Secret accepting_;
  size_t received_ = 0;
  std::string first_;  // bytes
  std::string secret_id_;
  Status why_;
};

}  // namespace te::tls
