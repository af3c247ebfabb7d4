#include "engine/notifier.h"

#include <algorithm>

#include "base/log.h"
#include "engine/retry_delay.h"

namespace te {
namespace {

Status given_up(Code code) {
  if (code == Code::kTimeout) {
    return Status(code, "the target did not acknowledge it before the deadline; it may have it");
  }
  return Status(Code::kCancelled, "it was cancelled before the target acknowledged it");
}

}  // namespace

Status check_notification(const Notification& notification) {
  constexpr size_t kMaxName = wire::kMaxNotificationText / 2;
  const size_t name = notification.name.size(), message = notification.message.size();
  if (name > kMaxName || message > wire::kMaxNotificationText) {
    return error(Code::kInvalidArgument,
                 "a notification of {} and {} bytes is too large: name at most {}, message at "
                 "most {}",
                 name, message, kMaxName, wire::kMaxNotificationText);
  }
  if (const size_t at = notification.name.find('\0'); at != std::string::npos) {
    return error(Code::kInvalidArgument,
                 "the name of the notification has a NUL at {}: it is text, which ends there for "
                 "readers in C; bytes of any kind go into the message",
                 at);
  }
  return {};
}

void Notifier::send(Message message) {
  Segment* key = message.segment.get();
  const int64_t timeout_ms = message.timeout_ms;
  const auto done = message.done;
  uint64_t sequence = 0;
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      sequence = next_sequence_++;
      Line& line = lines_[key];
      line.segment = message.segment;
      line.entries.push_back({sequence, std::move(message), {}});
    }
  }
  const bool taken = sequence != 0 && host_.run_after(0, [this, key] { pump(key); }) &&
                     (timeout_ms < 0 || host_.run_after(timeout_ms, [this, key, sequence] {
                       expire(key, sequence);
                     }));
  if (sequence == 0) done(given_up(Code::kCancelled));
  if (sequence != 0 && !taken) stop();
}

void Notifier::pump(Segment* key) {
  std::shared_ptr<Segment> segment;
  {
    MutexLock lock(mutex_);
    const auto found = lines_.find(key);
    if (found == lines_.end() || found->second.busy) return;
    Line& line = found->second;
    if (!has_waiting(line)) return;
    line.busy = true;
    segment = line.segment;
  }
  host_.connect(segment, [this, key](const Result<std::shared_ptr<ControlChannel>>& client) {
    if (client.ok()) {
      send_waiting(key, client.value());
    } else {
      unreachable(key, client.status());
    }
  });
}

// What was sent, or is to be sent again, is among the first.
bool Notifier::has_waiting(const Line& line) {
  const auto end =
      line.entries.begin() + static_cast<ptrdiff_t>(std::min(line.entries.size(), kWindow));
  return std::any_of(line.entries.begin(), end, [](const Entry& entry) { return !entry.sent; });
}

std::vector<Notifier::Outgoing> Notifier::take_window(
    Line& line, const std::shared_ptr<ControlChannel>& client) {
  std::vector<Outgoing> outgoing;
  size_t count = 0, bytes = 0;
  for (Entry& entry : line.entries) {
    const Notification& notification = *entry.message.notification;
    bytes += notification.name.size() + notification.message.size();
    if (++count > kWindow || (count > 1 && bytes > kWindowBytes)) break;
    if (entry.sent) continue;
    entry.sent = true;
    entry.sent_on = client;
    outgoing.push_back({entry.sequence, entry.message.instance,
                        wire::NotifyBody{own_instance_, entry.sequence, notification}.encode()});
  }
  return outgoing;
}

void Notifier::send_waiting(Segment* key, const std::shared_ptr<ControlChannel>& client) {
  std::vector<Outgoing> outgoing;
  {
    MutexLock lock(mutex_);
    const auto found = lines_.find(key);
    if (found == lines_.end()) return;
    found->second.busy = false;
    found->second.delay_ms = 0;
    outgoing = take_window(found->second, client);
    forget_if_empty(key);
  }
  for (const Outgoing& each : outgoing) {
    const uint64_t sequence = each.sequence;
    if (each.instance != 0 && each.instance != client->peer_instance()) {
      answered(key, sequence, client,
               error(Code::kStale, "{}: another run of the engine is there now",
                     client->address().to_string()));
      continue;
    }
    client->call(wire::ControlType::kNotify, each.body, kNever,
                 [this, key, sequence, client](const Result<Bytes>& answer) {
                   answered(key, sequence, client, answer.status());
                 });
  }
}

// Nothing where it is over. Entries are in the order of their numbers.
std::optional<Notifier::Place> Notifier::find_entry(Segment* key, uint64_t sequence) {
  const auto found = lines_.find(key);
  if (found == lines_.end()) return std::nullopt;
  Line& line = found->second;
  const auto entry =
      std::lower_bound(line.entries.begin(), line.entries.end(), sequence,
                       [](const Entry& each, uint64_t number) { return each.sequence < number; });
  if (entry == line.entries.end() || entry->sequence != sequence) return std::nullopt;
  return Place{line, entry};
}

Notifier::Done Notifier::take_out(const Place& place) {
  Done done = std::move(place.entry->message.done);
  place.line.entries.erase(place.entry);
  return done;
}

void Notifier::answered(Segment* key, uint64_t sequence,
                        const std::shared_ptr<ControlChannel>& client, const Status& status) {
  Done done;
  bool more = false;
  {
    MutexLock lock(mutex_);
    const std::optional<Place> place = find_entry(key, sequence);
    if (!place) return;  // given up meanwhile
    // The peer's own word is final. A connection that looked usable may have been dead: then at
    // least once more, which the target recognizes by its number.
    Entry& entry = *place->entry;
    const bool again = !status.ok() && !client->usable() && status.code() != Code::kStale &&
                       (!entry.tried || host_.now_ns() < entry.message.retry_until_ns);
    if (again) {
      entry.sent = false;
      entry.tried = true;
    } else {
      done = take_out(*place);
    }
    more = has_waiting(place->line);
    forget_if_empty(key);
  }
  if (done) done(status);
  // Not from inside close(), which has more to tell.
  if (more) (void)host_.run_after(0, [this, key] { pump(key); });
}

void Notifier::unreachable(Segment* key, const Status& why) {
  std::vector<Done> ended;
  int64_t delay_ms = 0;
  {
    MutexLock lock(mutex_);
    const auto found = lines_.find(key);
    if (found == lines_.end()) return;
    Line& line = found->second;
    const int64_t now = host_.now_ns();
    std::erase_if(line.entries, [now, &ended](Entry& entry) {
      if (now < entry.message.retry_until_ns) return false;
      ended.push_back(std::move(entry.message.done));
      return true;
    });
    line.delay_ms = delay_ms = std::clamp(line.delay_ms * 2, kFirstRetryMs, kLongestRetryMs);
  }
  for (const Done& done : ended) done(why);
  (void)host_.run_after(delay_ms, [this, key] {
    {
      MutexLock lock(mutex_);
      const auto found = lines_.find(key);
      if (found == lines_.end()) return;
      found->second.busy = false;
      forget_if_empty(key);
    }
    pump(key);
  });
}

void Notifier::expire(Segment* key, uint64_t sequence) {
  Done done;
  std::shared_ptr<ControlChannel> client;
  int64_t timeout_ms = 0;
  {
    MutexLock lock(mutex_);
    const std::optional<Place> place = find_entry(key, sequence);
    if (!place) return;  // answered
    timeout_ms = place->entry->message.timeout_ms;
    if (place->entry->sent) client = place->entry->sent_on.lock();
    done = take_out(*place);
    forget_if_empty(key);
  }
  done(error(Code::kTimeout,
             "the target did not acknowledge it within {} ms (2 * connect_timeout_ms); it may have "
             "it",
             timeout_ms));
  if (client) give_up({client});
}

// A line that connects or pauses is looked at when that is over.
void Notifier::forget_if_empty(Segment* key) {
  const auto found = lines_.find(key);
  if (found->second.entries.empty() && !found->second.busy) lines_.erase(found);
}

void Notifier::sweep() {
  std::vector<Ended> ended;
  std::vector<std::shared_ptr<ControlChannel>> clients;
  {
    MutexLock lock(mutex_);
    for (auto& [key, line] : lines_) {
      std::erase_if(line.entries, [&](Entry& entry) {
        const Code code =
            entry.message.cancel == nullptr ? Code::kOk : entry.message.cancel->load();
        if (code == Code::kOk) return false;
        if (entry.sent) clients.push_back(entry.sent_on.lock());
        ended.emplace_back(std::move(entry.message.done), given_up(code));
        return true;
      });
    }
    std::erase_if(
        lines_, [](const auto& line) { return line.second.entries.empty() && !line.second.busy; });
  }
  for (const auto& [done, status] : ended) done(status);
  give_up(clients);
}

// The kernel throws away what it has not sent yet.
void Notifier::give_up(const std::vector<std::shared_ptr<ControlChannel>>& clients) {
  for (const std::shared_ptr<ControlChannel>& client : clients) {
    if (!client) continue;
    (void)host_.run_after(0, [client] {
      client->close(error(Code::kUnavailable, "{}: a notification was given up",
                          client->address().to_string()));
    });
  }
}

void Notifier::stop() {
  std::vector<Done> ended;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (auto& [key, line] : lines_) {
      for (Entry& entry : line.entries) ended.push_back(std::move(entry.message.done));
    }
    lines_.clear();
  }
  for (const Done& done : ended) done(given_up(Code::kCancelled));
}

}  // namespace te
