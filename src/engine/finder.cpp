#include "engine/finder.h"

#include <utility>

namespace te {

Result<Finder::Place> Finder::find_now(Directory& directory, const std::string& name) {
  Result<Locator> locator = directory.resolve(name);
  if (!locator.ok()) return locator.status();
  Result<std::vector<SocketAddress>> addresses = resolve_host(locator->host, locator->port);
  if (!addresses.ok()) return addresses.status();
  return Place{locator.take(), addresses.take()};
}

void Finder::find(const std::string& name, bool slow, Found found) {
  if (!directory_.asks_a_server()) {
    const Result<Locator> locator = directory_.resolve(name);
    if (!locator.ok()) return found(locator.status());
    if (is_numeric_address(locator->host)) return found(find_now(directory_, name));
  }
  const auto answer = std::make_shared<Found>(std::move(found));
  const auto look_up = [this, name, answer] {
    Result<Place> place =
        stopping_.load() ? Status(Code::kCancelled, "the engine ends") : find_now(directory_, name);
    const auto result = std::make_shared<Result<Place>>(std::move(place));
    loop_.run([answer, result] { (*answer)(std::move(*result)); });
  };
  if (!(slow ? slow_ : usual_).run(look_up)) {
    (*answer)(Status(Code::kCancelled, "the engine ends"));
  }
}

void Finder::stop() {
  stopping_.store(true);
  usual_.stop();
  slow_.stop();
}

}  // namespace te
