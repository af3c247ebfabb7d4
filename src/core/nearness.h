// Which of a transport's cards serve what memory, and which of them are near it.
//
// Values; no state that changes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/registry.h"
#include "core/topology.h"

namespace te {

// Sets of cards, by their index.
using CardSet = uint64_t;

// The cards that serve memory at a location, and those of them that are near it. A card that the
// matrix does not name serves all, and is near none.
class Nearness {
 public:
  // The memory nodes of a range, each with where its part begins, ascending; empty: not known.
  using NodesOf =
      std::function<std::vector<std::pair<uint64_t, uint32_t>>(uint64_t address, uint64_t length)>;

  // `nodes_of` may be empty: nothing is known of where pages lie.
  Nearness(const NicMatrix& matrix, const std::vector<std::string>& cards, NodesOf nodes_of);

  struct Cards {
    CardSet all = 0;
    CardSet near = 0;  // none: no card is better than another
  };
  Cards of(std::string_view location) const;
  // By where the parts of the buffer begin; at least one. Of device memory only the near cards, as
  // to_register() says.
  std::map<uint64_t, Cards> of(const Buffer& buffer) const;
  // Those that memory at a location should be known to: of a device, the near ones alone, since a
  // device maps little of its memory for each; else, or where none is near, all that serve it.
  CardSet to_register(std::string_view location) const;

 private:
  std::map<std::string, Cards, std::less<>> rows_;
  Cards everywhere_;
  NodesOf nodes_of_;
};

}  // namespace te
