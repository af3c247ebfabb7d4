// Real etcd and redis servers as children of a test, on free loopback ports.
//
// Call start(), stop() and restart() from the thread that lives as long as the test (the main one):
// the kernel kills the server when the thread that started it ends. Each object owns its process
// and its data directory, both gone with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "transfer_engine/status.h"

namespace te::test {

// The certificate that a server with TLS shows, and the authority of those that it demands of its
// clients.
struct ServerTls {
  bool on() const { return !cert.empty(); }
  std::string ca{};
  std::string cert{};
  std::string key{};
};

// A loopback port that was free a moment ago, and that the kernel gives to nobody who does not ask
// for it, if there is one: whoever ends may come back at it.
uint16_t free_port();

class ServerProcess {
 public:
  virtual ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Whether the server's program is installed; if not, skip the test and say program().
  bool available() const { return !binary_.empty(); }
  const std::string& program() const { return program_; }

  // Returns when the server answers. The port is chosen by the first start and stays the same.
  Status start();
  void signal(int number) const;
  // Until signal(SIGCONT) no thread of it runs.
  bool freeze() const;
  // Kills it, as a crash would.
  void stop();
  // The same port, without any data.
  Status restart_empty();
  // The same port and the data it had, as far as it kept them.
  Status restart();

  bool running() const { return pid_ > 0; }
  uint16_t port() const { return port_; }
  // "127.0.0.1:port"
  std::string endpoint() const;
  const std::string& data_dir() const { return data_dir_; }
  // What it wrote since it was started.
  std::string log() const;

 protected:
  // `port` 0: a free one.
  explicit ServerProcess(std::string program, uint16_t port = 0);
  virtual std::vector<std::string> arguments() = 0;
  virtual bool ready() const = 0;

 private:
  Status launch();
  Status wait_until_ready();
  void clear_data() const;

  const std::string program_;
  const std::string binary_;
  std::string data_dir_;
  uint16_t port_ = 0;
  pid_t pid_ = -1;
};

class RedisServer final : public ServerProcess {
 public:
  explicit RedisServer(std::string password = {}, ServerTls tls = {});
  ~RedisServer() override { stop(); }
  // "redis://[:password@]host:port", or "rediss://host:port": the password is the test's to give.
  std::string url() const;

 protected:
  std::vector<std::string> arguments() override;
  bool ready() const override;

 private:
  const std::string password_;
  const ServerTls tls_;
};

class EtcdServer final : public ServerProcess {
 public:
  explicit EtcdServer(uint16_t port = 0, ServerTls tls = {});
  ~EtcdServer() override { stop(); }
  std::string url() const { return (tls_.on() ? "etcds://" : "etcd://") + endpoint(); }

 protected:
  std::vector<std::string> arguments() override;
  bool ready() const override;

 private:
  const ServerTls tls_;
  uint16_t peer_port_ = 0;
};

}  // namespace te::test
