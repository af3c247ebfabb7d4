// Which of a transport's NICs serve what memory, and which of them are near it.
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

// Sets of NICs, by their index.
using NicSet = uint64_t;

// The NICs that serve memory at a location, and those of them that are near it. A NIC that the
// matrix does not name serves all, and is near none.
class NicAffinity {
 public:
  // The memory nodes of a range, each with where its part begins, ascending; empty: not known.
  using NodesOf =
      std::function<std::vector<std::pair<uint64_t, uint32_t>>(uint64_t address, uint64_t length)>;

  // `nodes_of` may be empty: nothing is known of where pages lie.
  NicAffinity(const NicMatrix& matrix, const std::vector<std::string>& nics, NodesOf nodes_of);

  struct Nics {
    NicSet all = 0;
    NicSet near = 0;  // none: no NIC is better than another
  };
  Nics of(std::string_view location) const;
  // By where the parts of the buffer begin; at least one. Of device memory only the near NICs, as
  // to_register() says.
  std::map<uint64_t, Nics> of(const Buffer& buffer) const;
  // Those that memory at a location should be known to: of a device, the near ones alone, since a
  // device maps little of its memory for each; else, or where none is near, all that serve it.
  NicSet to_register(std::string_view location) const;

 private:
  // By the numbers of the matrix.
  std::string location_of(const Buffer& buffer) const;

  std::map<std::string, Nics, std::less<>> rows_;
  const std::map<std::string, std::string, std::less<>> gpus_;  // see NicMatrix
  Nics everywhere_;
  NodesOf nodes_of_;
};

}  // namespace te
