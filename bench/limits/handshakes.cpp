#include "limits/handshakes.h"

#include <openssl/ssl.h>

#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "statistics.h"

namespace te::bench {
namespace {

constexpr int kHandshakes = 32;
constexpr int kMostTurns = 8;

using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using End = std::unique_ptr<SSL, decltype(&SSL_free)>;

Context make_context(const SSL_METHOD* method, const std::string& authority,
                     const std::string& certificate, const std::string& key) {
  Context context(SSL_CTX_new(method), SSL_CTX_free);
  if (context && SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) == 1 &&
      SSL_CTX_use_certificate_chain_file(context.get(), certificate.c_str()) == 1 &&
      SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) == 1 &&
      SSL_CTX_load_verify_locations(context.get(), authority.c_str(), nullptr) == 1) {
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    SSL_CTX_set_num_tickets(context.get(), 0);
    return context;
  }
  return {nullptr, SSL_CTX_free};
}

End make_end(SSL_CTX& context) {
  End end(SSL_new(&context), SSL_free);
  if (end) SSL_set_bio(end.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  return end;
}

// What one end sent, to the other.
void carry(SSL& from, SSL& to) {
  std::array<char, 16 << 10> bytes;
  for (;;) {
    const int size = BIO_read(SSL_get_wbio(&from), bytes.data(), static_cast<int>(bytes.size()));
    if (size <= 0) return;
    (void)BIO_write(SSL_get_rbio(&to), bytes.data(), size);
  }
}

bool shake_hands(SSL_CTX& connecting, SSL_CTX& accepting) {
  const End client = make_end(connecting);
  const End server = make_end(accepting);
  if (!client || !server) return false;
  SSL_set_connect_state(client.get());
  SSL_set_accept_state(server.get());
  for (int turn = 0; turn < kMostTurns; ++turn) {
    const bool client_done = SSL_do_handshake(client.get()) == 1;
    carry(*client, *server);
    const bool server_done = SSL_do_handshake(server.get()) == 1;
    carry(*server, *client);
    if (client_done && server_done) return true;
  }
  return false;
}

}  // namespace

Result<double> openssl_handshake_ms(const std::string& authority_file,
                                    const std::string& certificate_file,
                                    const std::string& key_file) {
  const Context connecting =
      make_context(TLS_client_method(), authority_file, certificate_file, key_file);
  const Context accepting =
      make_context(TLS_server_method(), authority_file, certificate_file, key_file);
  std::vector<double> times;
  for (int i = 0; connecting && accepting && i < kHandshakes; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    if (!shake_hands(*connecting, *accepting)) break;
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    times.push_back(time.count());
  }
  if (times.size() < kHandshakes) {
    return Status(Code::kUnsupported, "OpenSSL makes no handshake of TLS 1.3 here");
  }
  return summarize(std::move(times)).median;
}

}  // namespace te::bench
