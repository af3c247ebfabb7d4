// How the engine comes by a transport. Each folder here defines one factory; factories.cpp lists
// them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "core/nic_affinity.h"
#include "core/topology.h"
#include "transfer_engine/types.h"
#include "transport/transport.h"

namespace te {

// What a transport is made from.
struct TransportSetup {
  TransportHost& host;
  const Config& config;
  std::string_view name;  // that was asked for
  // Which NICs serve what memory: as the user gave it, else as this machine is.
  std::function<Result<NicMatrix>()> nic_matrix;
  bool matrix_is_given = false;
  NicAffinity::NodesOf nodes_of = {};  // empty: where pages lie is not known
};

// A constant, with functions that any thread may call.
struct TransportFactory {
  // Its names, for messages; empty: nobody asks for it by name.
  std::string_view names;
  // What users can set of it.
  std::span<const Setting* const> settings;
  bool (*makes)(std::string_view name);
  Result<std::unique_ptr<Transport>> (*make)(const TransportSetup& setup);
  // Whether this machine can serve each transport that is worth showing, and what was found or is
  // missing.
  std::vector<TransportInfo> (*describe)(const Config& config);
  // NICs move the bytes to other hosts, and TLS does not protect them.
  bool over_fabric = false;
};

// In the order in which their paths are preferred.
std::span<const TransportFactory* const> transport_factories();
// Those of all of them, each once.
std::vector<const Setting*> transport_settings();

}  // namespace te
