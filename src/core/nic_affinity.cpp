#include "core/nic_affinity.h"

#include <algorithm>

namespace te {

NicAffinity::NicAffinity(const NicMatrix& matrix, const std::vector<std::string>& nics,
                         NodesOf nodes_of)
    : gpus_(matrix.gpus), nodes_of_(std::move(nodes_of)) {
  const auto set_of = [&nics](const std::vector<std::string>& names) {
    NicSet set = 0;
    for (size_t i = 0; i < nics.size(); ++i) {
      if (std::find(names.begin(), names.end(), nics[i]) != names.end()) set |= NicSet{1} << i;
    }
    return set;
  };
  everywhere_.all = set_of(nics);
  NicSet unnamed = everywhere_.all;
  for (const NicMatrix::Row& row : matrix.rows) {
    const NicSet near = set_of(row.preferred);
    const Nics& served = rows_[row.location] = {near | set_of(row.other), near};
    unnamed &= ~served.all;
  }
  for (auto& [location, served] : rows_) served.all |= unnamed;
  if (const auto others = rows_.find("*"); others != rows_.end()) everywhere_ = others->second;
}

NicAffinity::Nics NicAffinity::of(std::string_view location) const {
  const auto found = rows_.find(location);
  return found == rows_.end() ? everywhere_ : found->second;
}

NicSet NicAffinity::to_register(std::string_view location) const {
  const Nics nics = of(location);
  const bool limited = location.starts_with("cuda:") && nics.near != 0;
  return limited ? nics.near : nics.all;
}

std::string NicAffinity::location_of(const Buffer& buffer) const {
  if (buffer.device == nullptr || gpus_.empty()) return buffer.location;
  const std::string pci = buffer.device->pci_address();
  if (pci.empty()) return buffer.location;
  const auto found = gpus_.find(pci);
  return found == gpus_.end() ? "cuda" : found->second;  // a GPU that has no row
}

std::map<uint64_t, NicAffinity::Nics> NicAffinity::of(const Buffer& buffer) const {
  const std::string location = location_of(buffer);
  if (location != "*") {
    return {{buffer.address, {to_register(location), of(location).near}}};
  }
  std::map<uint64_t, Nics> result;
  if (!nodes_of_) return {{buffer.address, everywhere_}};
  for (const auto& [begin, node] : nodes_of_(buffer.address, buffer.length)) {
    result[begin] = of("cpu:" + std::to_string(node));
  }
  if (result.empty()) result[buffer.address] = {everywhere_.all, 0};
  return result;
}

}  // namespace te
