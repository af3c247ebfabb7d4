// Who this engine is to its peers, and whom it lets in: a certificate that a common authority
// signed, or a secret that all engines of a cluster share.
//
// The files may be exchanged at any time: connections made from then on use the new ones. Where the
// new ones are wrong, the old ones stay, with a warning.
//
// Threads: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/secret.h"
#include "tls/policy.h"
#include "transfer_engine/status.h"

struct ssl_ctx_st;
struct x509_st;

namespace te::tls {

struct Files {
  std::string certificate;  // PEM: this engine's, then those of authorities in between
  std::string key;          // PEM
  std::string authority;    // PEM: whose peers are let in
  std::string revoked;      // PEM: certificate revocation lists; or empty
  std::string secret;       // instead of the above: lines of 64 or more hexadecimal digits
  std::string allowed;      // patterns of names, with commas; empty: all peers of the authority
  std::string policy = {};  // what each of them may do; empty: everything
  int64_t recheck_s = 60;   // how often the peers of connections are checked again
};

// Whether a peer's name matches. `*` matches what has no '/', and in names without "://" no '.'
// either: "spiffe://cluster/ns/*/engine", "*.gpu.example".
bool matches(std::string_view pattern, std::string_view name);

// What a peer has shown to be.
struct PeerIdentity {
  std::string name;  // for logs: the first of the names
  std::vector<std::string> names = {};
  std::shared_ptr<x509_st> certificate = nullptr;  // null: it has the secret
  std::vector<std::shared_ptr<x509_st>> chain = {};
};

// What the files said at one time. Read-only.
class Credentials {
 public:
  static Result<std::shared_ptr<const Credentials>> load(const Files& files);
  ~Credentials();

  ssl_ctx_st* context() const { return context_.get(); }
  // Ok if the peer would be let in now: its certificate has not expired, is not revoked, and its
  // name is allowed.
  Status check(const PeerIdentity& peer) const;
  bool allows(const std::vector<std::string>& names) const;
  // What it may do here.
  Permissions permissions(const PeerIdentity& peer) const;

  struct SharedSecret {
    std::string id;  // derived from it, and safe to show
    Secret bytes;
  };
  // The first one is this engine's; peers may have any.
  const std::vector<SharedSecret>& secrets() const { return secrets_; }

 private:
  Credentials() = default;
  Status load_certificates(const Files& files);
  Status load_secrets(const std::string& file);

  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::vector<std::string> allowed_;
  Policy policy_;
  std::vector<SharedSecret> secrets_;
};

// The credentials of an engine, as its files are now.
class Identity {
 public:
  static Result<std::shared_ptr<Identity>> load(const Files& files);

  std::shared_ptr<const Credentials> current();
  int64_t recheck_ns() const { return files_.recheck_s * 1'000'000'000; }
  // A peer asked for something that it may not do. Logged at most once per peer and minute.
  void count_refusal(const std::string& peer, Permission wanted);
  uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }

 private:
  explicit Identity(Files files) : files_(std::move(files)) {}
  // Differs when a file was exchanged.
  std::string stamp() const;

  const Files files_;
  Mutex mutex_;
  int64_t looked_ns_ TE_GUARDED_BY(mutex_) = 0;
  std::string stamp_ TE_GUARDED_BY(mutex_);
  std::shared_ptr<const Credentials> current_ TE_GUARDED_BY(mutex_);
  std::atomic<uint64_t> refusals_{0};
  std::map<std::string, int64_t> logged_ns_ TE_GUARDED_BY(mutex_);  // by the peer's name
};

}  // namespace te::tls
