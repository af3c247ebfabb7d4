// The engine's port: accepts connections, reads their hello, hands data connections to their
// transport and answers those of the control channel.
//
// Threads: one loop of its own. The service is called on it, and must not block for long.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>

#include "base/acceptor.h"
#include "base/event_loop.h"
#include "base/options.h"
#include "base/socket.h"
#include "core/wire.h"
#include "engine/control_service.h"
#include "engine/inbound.h"
#include "engine/newcomers.h"

namespace te {

class ControlServer final : private Acceptor::Owner, private Newcomers::Owner {
 public:
  static Result<std::unique_ptr<ControlServer>> start(const std::string& bind_host, uint16_t port,
                                                      uint64_t instance, const Config& config,
                                                      ControlService& service,
                                                      std::shared_ptr<tls::Identity> identity = {});
  ~ControlServer() override;
  uint16_t port() const { return port_; }
  // No call of the service comes after this.
  void stop();

 private:
  class Caller;

  ControlServer(uint64_t instance, const Config& config, ControlService& service);
  // Acceptor::Owner.
  bool has_room() override { return newcomers_->has_room(); }
  void accepted(Fd connection) override;
  void refuse(Fd accepted) override;
  // Newcomers::Owner.
  void introduced(tls::Connection connection, const wire::Hello& hello) override;
  void refuse(tls::Connection& connection, Code code) override;
  void room_again() override { acceptor_->resume(); }

  void drop(Caller& caller);
  void check_times();
  // Whether one more connection from there is admitted, perhaps in the place of an idle one.
  bool make_place(const Newcomers::Network& network, const wire::Hello& newcomer);

  const uint64_t instance_;
  const Config& config_;
  ControlService& service_;
  uint16_t port_ = 0;
  std::shared_ptr<tls::Identity> identity_;  // with TLS
  // Outlives the server in the permits of connections that transports serve.
  const std::shared_ptr<Inbound> inbound_;
  std::unique_ptr<EventLoop> loop_;
  // The loop's.
  std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<Newcomers> newcomers_;
  std::unordered_map<Caller*, std::unique_ptr<Caller>> callers_;
};

}  // namespace te
