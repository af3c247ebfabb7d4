// The open segments, and the event loop of their control connections. Recovery and notifications
// work on both.
//
// Threads: any.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/event_loop.h"
#include "engine/key_holders.h"
#include "engine/notifier.h"
#include "engine/recovery.h"
#include "engine/security.h"
#include "engine/segments.h"

namespace te {

class Peers final : public RecoveryHost, public NotifierHost {
 public:
  // As Segments, which see.
  static Result<std::unique_ptr<Peers>> create(uint64_t instance, const Config& config,
                                               std::shared_ptr<Directory> directory, Memory& memory,
                                               Transports& transports) {
    Result<std::shared_ptr<tls::Identity>> identity = load_identity(config);
    if (!identity.ok()) return identity.status();
    Result<std::unique_ptr<EventLoop>> loop = EventLoop::create("te-peers");
    if (!loop.ok()) return loop.status();
    // The segments wait for it when they end.
    TE_RETURN_IF_ERROR((*loop)->start());
    return std::unique_ptr<Peers>(new Peers(loop.take(), instance, config, std::move(directory),
                                            memory, transports, identity.take()));
  }

  Segments& segments() { return segments_; }
  // With which peers are talked to; null: without TLS.
  const std::shared_ptr<tls::Identity>& identity() const { return identity_; }
  KeyHolders& key_holders() { return key_holders_; }
  // Nothing runs on the loop any more.
  void stop_loop() { loop_->stop(); }

  int64_t now_ns() override { return te::now_ns(); }
  bool run_after(int64_t delay_ms, std::function<void()> task) override {
    if (delay_ms <= 0) return loop_->run(std::move(task));
    const int64_t due_ns = deadline_after_ms(te::now_ns(), delay_ms);
    return loop_->run([this, due_ns, task = std::move(task)] { loop_->run_at(due_ns, task); });
  }
  void refresh(const std::shared_ptr<Segment>& segment,
               std::function<void(Status)> refreshed) override {
    segments_.refresh(segment, std::move(refreshed));
  }
  int64_t restarted_ns(const Segment& segment) override { return segment.restarted_ns(); }
  void connect(const std::shared_ptr<Segment>& segment, Found found) override {
    segment->contact->get(
        [found = std::move(found)](Result<std::shared_ptr<ControlClient>> client) {
          if (!client.ok()) return found(client.status());
          found(std::shared_ptr<ControlChannel>(client.take()));
        });
  }

 private:
  Peers(std::unique_ptr<EventLoop> loop, uint64_t instance, const Config& config,
        std::shared_ptr<Directory> directory, Memory& memory, Transports& transports,
        std::shared_ptr<tls::Identity> identity)
      : loop_(std::move(loop)),
        segments_(instance, config, std::move(directory), memory, transports, *loop_, identity),
        identity_(std::move(identity)),
        key_holders_([&memory] { return memory.renew_keys(); }) {}

  const std::unique_ptr<EventLoop> loop_;
  Segments segments_;
  const std::shared_ptr<tls::Identity> identity_;
  KeyHolders key_holders_;
};

}  // namespace te
