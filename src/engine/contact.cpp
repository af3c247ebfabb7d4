#include "engine/contact.h"

#include <utility>

#include "base/log.h"

namespace te {
namespace {

constexpr int64_t kSlowNs = 500 * kNsPerMs;  // for a look-up

}  // namespace

void Contact::get(Found found) {
  if (client_ && client_->usable()) return found(client_);
  client_ = nullptr;
  waiting_.push_back(std::move(found));
  if (!search_) begin_search();
}

void Contact::begin_search() {
  const auto search = std::make_shared<Search>();
  search_ = search;
  search->since_ns = now_ns();
  search->looking_up = true;
  const Locator known = locator();
  site_.finder.find(name_, slow_name_,
                    [weak = weak_from_this(), search](const Result<Finder::Place>& place) {
                      if (const auto self = weak.lock()) self->looked_up(search, place);
                    });
  // While the directory is asked, or away, the engine may still be where it was.
  if (search_ == search && search->looking_up && !known.host.empty()) {
    attempt(search, known, {address()});
  }
}

void Contact::looked_up(const std::shared_ptr<Search>& search, const Result<Finder::Place>& place) {
  search->looking_up = false;
  slow_name_ = !place.ok() || now_ns() - search->since_ns > kSlowNs;
  if (search_ != search) return;
  if (!place.ok()) {
    if (search->failure.ok() || place.code() == Code::kNotFound) search->failure = place.status();
    return end_if_in_vain(search);
  }
  const Locator known = locator();
  if (!search->attempts.empty() && place->locator == known) return end_if_in_vain(search);
  attempt(search, place->locator, place->addresses);
}

void Contact::attempt(const std::shared_ptr<Search>& search, const Locator& locator,
                      std::vector<SocketAddress> addresses) {
  const size_t index = search->attempts.size();
  search->attempts.push_back(nullptr);
  ++search->running;
  std::shared_ptr<ControlClient> client =
      ControlClient::connect(site_.loop, site_.registry, std::move(addresses),
                             {site_.own_instance, locator.instance, site_.timeout, site_.identity},
                             [weak = weak_from_this(), search, locator, index](Status status) {
                               if (const auto self = weak.lock()) {
                                 self->connected(search, locator, index, std::move(status));
                               }
                             });
  search->attempts[index] = std::move(client);
}

void Contact::connected(const std::shared_ptr<Search>& search, const Locator& locator,
                        size_t attempt, Status status) {
  --search->running;
  if (search_ != search) return;
  if (!status.ok()) {
    // That nobody has the name says more.
    if (search->failure.code() != Code::kNotFound) search->failure = std::move(status);
    return end_if_in_vain(search);
  }
  // Never from inside connect(), so the client is there.
  client_ = search->attempts[attempt];
  {
    MutexLock lock(mutex_);
    address_ = client_->address();
    locator_ = locator;
    locator_.instance = client_->peer_instance();
  }
  end_search(client_);
}

void Contact::end_if_in_vain(const std::shared_ptr<Search>& search) {
  if (search->looking_up || search->running > 0) return;
  end_search(search->failure);
}

void Contact::end_search(const Result<std::shared_ptr<ControlClient>>& result) {
  const std::shared_ptr<Search> search = std::exchange(search_, nullptr);
  for (const std::shared_ptr<ControlClient>& other : search->attempts) {
    if (other && other != client_) other->close(Status(Code::kCancelled, "it is not needed"));
  }
  std::vector<Found> waiting;
  waiting.swap(waiting_);
  for (const Found& found : waiting) found(result);
}

void Contact::close(const Status& why) {
  const std::shared_ptr<Contact> self = shared_from_this();
  if (search_) {
    client_ = nullptr;
    end_search(why);
  }
  if (client_) std::exchange(client_, nullptr)->close(why);
}

}  // namespace te
