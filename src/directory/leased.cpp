#include "directory/leased.h"

#include <utility>
#include <vector>

#include "base/log.h"
#include "base/socket.h"
#include "directory/record.h"

namespace te {
namespace {

// How often a name may change hands under a claim before the claim gives up.
constexpr int kClaimAttempts = 4;

bool same_engine(const Locator& a, const Locator& b) {
  return a == b || (a.instance != 0 && a.instance == b.instance);
}

}  // namespace

LeasedDirectory::LeasedDirectory(std::unique_ptr<Store> store, const DirectoryOptions& options)
    : store_(std::move(store)), round_(std::chrono::milliseconds(options.lease) / 3) {}

LeasedDirectory::~LeasedDirectory() { (void)leave(); }

Status LeasedDirectory::leave() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  Thread keeper;
  {
    MutexLock turn(turn_);
    keeper = std::move(keeper_);
  }
  keeper.join();
  MutexLock turn(turn_);
  Status first;
  for (const auto& [name, claim] : std::exchange(claims_, {})) {
    const Result<bool> removed = store_->remove(claim.key, claim.value);
    if (!removed.ok()) {
      log_info("segment name '{}' was not withdrawn: {}", name, removed.status().to_string());
      if (first.ok()) first = removed.status();
      if (removed.code() == Code::kUnavailable) break;  // the others would wait as long for nothing
    }
  }
  return first;
}

std::string LeasedDirectory::describe() const { return store_->describe(); }
std::string LeasedDirectory::local_address() const { return store_->local_address(); }

Status LeasedDirectory::publish(std::string_view name, const Locator& locator,
                                const std::function<bool(const Locator& holder)>& alive) {
  Result<std::string> key = record_key(name);
  if (!key.ok()) return key.status();
  Result<std::string> value = encode_record(locator);
  if (!value.ok()) return value.status();

  MutexLock turn(turn_);
  Claim wanted{key.take(), value.take(), locator, alive};
  TE_RETURN_IF_ERROR(claim(std::string(name), wanted));
  claims_.insert_or_assign(std::string(name), std::move(wanted));
  return start_keeper();
}

Status LeasedDirectory::withdraw(std::string_view name) {
  MutexLock turn(turn_);
  const auto it = claims_.find(name);
  if (it == claims_.end()) {
    return error(Code::kNotFound, "segment name '{}' was not published here", name);
  }
  const Claim ours = std::move(it->second);
  claims_.erase(it);  // not kept alive any more, even if the server cannot be told
  const Result<bool> removed = store_->remove(ours.key, ours.value);
  if (!removed.ok()) {
    return removed.status().with_context(fmt::format("cannot withdraw segment name '{}'", name));
  }
  return {};
}

Result<Locator> LeasedDirectory::resolve(std::string_view name) {
  const Result<std::string> key = record_key(name);
  if (!key.ok()) return key.status();
  const Result<std::optional<std::string>> held = store_->get(*key);
  if (!held.ok()) {
    return held.status().with_context(fmt::format("cannot resolve segment '{}'", name));
  }
  if (!held->has_value()) {
    return error(Code::kNotFound, "no segment '{}' in {}: is its engine running?", name,
                 describe());
  }
  Result<Locator> locator = decode_record(**held);
  if (!locator.ok()) {
    return locator.status().with_context(fmt::format("segment '{}' in {}", name, describe()));
  }
  return locator;
}

Status LeasedDirectory::claim(const std::string& name, const Claim& claim) {
  for (int attempt = 0; attempt < kClaimAttempts; ++attempt) {
    const Result<bool> created = store_->create(claim.key, claim.value);
    if (!created.ok()) {
      return created.status().with_context(fmt::format("cannot publish segment name '{}'", name));
    }
    if (*created) return {};
    const Result<std::optional<std::string>> held = store_->get(claim.key);
    if (!held.ok()) {
      return held.status().with_context(fmt::format("cannot publish segment name '{}'", name));
    }
    if (!held->has_value()) continue;  // gone between the two calls
    bool taken = false;
    TE_RETURN_IF_ERROR(take_over(name, claim, **held, &taken));
    if (taken) return {};
  }
  return error(Code::kBusy, "segment name '{}' keeps changing hands in {}: choose another name",
               name, describe());
}

Status LeasedDirectory::take_over(const std::string& name, const Claim& claim,
                                  const std::string& held, bool* taken) {
  const Result<Locator> holder = decode_record(held);
  if (!holder.ok()) {
    return holder.status().with_context(
        fmt::format("segment name '{}' is in use for something else in {} (key '{}'): choose "
                    "another name or delete the key",
                    name, describe(), claim.key));
  }
  const bool ours = same_engine(*holder, claim.locator);
  if (!ours && (!claim.alive || claim.alive(*holder))) {
    return error(Code::kAlreadyExists,
                 "segment name '{}' is held by the engine at {}, which is alive: choose another "
                 "name or stop that engine",
                 name, join_host_port(holder->host, holder->port));
  }
  const Result<bool> done = held == claim.value ? store_->keep_alive(claim.key, claim.value)
                                                : store_->replace(claim.key, held, claim.value);
  if (!done.ok()) {
    return done.status().with_context(fmt::format("cannot publish segment name '{}'", name));
  }
  *taken = *done;
  return {};
}

Status LeasedDirectory::start_keeper() {
  if (keeper_.joinable()) return {};
  Result<Thread> keeper = Thread::start("te-directory", [this] { keep_names(); });
  if (!keeper.ok()) return keeper.status();
  keeper_ = keeper.take();
  return {};
}

bool LeasedDirectory::wait_for_next_round() {
  const auto until = std::chrono::steady_clock::now() + round_;
  MutexLock lock(mutex_);
  while (!stopping_ && wake_.wait_until(mutex_, until)) {
  }
  return !stopping_;
}

bool LeasedDirectory::stopping() {
  MutexLock lock(mutex_);
  return stopping_;
}

void LeasedDirectory::keep_names() {
  while (wait_for_next_round()) {
    std::vector<std::string> names;
    {
      MutexLock turn(turn_);
      for (const auto& entry : claims_) names.push_back(entry.first);
    }
    if (names.empty()) continue;
    Status failure;
    for (const std::string& name : names) {
      MutexLock turn(turn_);
      const auto it = claims_.find(name);
      if (it == claims_.end()) continue;  // withdrawn meanwhile
      if (stopping()) return;
      const Status status = keep_name(name, it->second);
      if (!status.ok() && failure.ok()) failure = status;
      if (status.code() == Code::kUnavailable) break;
    }
    report(failure);
  }
}

Status LeasedDirectory::keep_name(const std::string& name, Claim& ours) {
  const Result<bool> kept = store_->keep_alive(ours.key, ours.value);
  if (!kept.ok()) return kept.status();
  if (*kept) {
    ours.contested = false;
    return {};
  }
  const Status status = claim(name, ours);
  if (status.code() == Code::kAlreadyExists) {
    if (!ours.contested) log_warning("lost a published name: {}; trying again", status.message());
    ours.contested = true;
    return {};
  }
  if (status.ok()) {
    ours.contested = false;
    log_info("segment name '{}' was gone from {} and is published again", name, describe());
  }
  return status;
}

void LeasedDirectory::report(const Status& status) {
  if (!status.ok() && !away_) {
    log_warning("cannot keep segment names alive: {}; trying again until it works",
                status.to_string());
  }
  if (status.ok() && away_) log_info("{} is back, segment names are kept alive", describe());
  away_ = !status.ok();
}

}  // namespace te
