#include "core/nearness.h"

#include <algorithm>

namespace te {

Nearness::Nearness(const NicMatrix& matrix, const std::vector<std::string>& cards, NodesOf nodes_of)
    : nodes_of_(std::move(nodes_of)) {
  const auto set_of = [&cards](const std::vector<std::string>& names) {
    CardSet set = 0;
    for (size_t i = 0; i < cards.size(); ++i) {
      if (std::find(names.begin(), names.end(), cards[i]) != names.end()) set |= CardSet{1} << i;
    }
    return set;
  };
  everywhere_.all = set_of(cards);
  CardSet unnamed = everywhere_.all;
  for (const NicMatrix::Row& row : matrix.rows) {
    const CardSet near = set_of(row.preferred);
    const Cards& served = rows_[row.location] = {near | set_of(row.other), near};
    unnamed &= ~served.all;
  }
  for (auto& [location, served] : rows_) served.all |= unnamed;
  if (const auto others = rows_.find("*"); others != rows_.end()) everywhere_ = others->second;
}

Nearness::Cards Nearness::of(std::string_view location) const {
  const auto found = rows_.find(location);
  return found == rows_.end() ? everywhere_ : found->second;
}

CardSet Nearness::to_register(std::string_view location) const {
  const Cards cards = of(location);
  const bool limited = location.starts_with("cuda:") && cards.near != 0;
  return limited ? cards.near : cards.all;
}

std::map<uint64_t, Nearness::Cards> Nearness::of(const Buffer& buffer) const {
  if (buffer.location != "*") {
    return {{buffer.address, {to_register(buffer.location), of(buffer.location).near}}};
  }
  std::map<uint64_t, Cards> result;
  if (!nodes_of_) return {{buffer.address, everywhere_}};
  for (const auto& [begin, node] : nodes_of_(buffer.address, buffer.length)) {
    result[begin] = of("cpu:" + std::to_string(node));
  }
  if (result.empty()) result[buffer.address] = {everywhere_.all, 0};
  return result;
}

}  // namespace te
