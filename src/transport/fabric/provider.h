// What libfabric's providers offer on this machine: reliable datagram endpoints that peers' memory
// can be read and written with. A NIC is one domain of a provider, or one address that was given.
//
// Threads: any. Nothing here keeps state.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "transfer_engine/types.h"
#include "transport/fabric/library.h"

namespace te::fabric {

struct NicInfo {
  Info info;
  std::string device;
};

// "efa" and "fabric:PROVIDER" are names of this transport; empty for any other.
std::string_view provider_of(std::string_view transport);

// Whether its copies report memory that cannot be touched any more, since the kernel makes them.
// Others in software copy with plain instructions; NICs keep the pages that they registered.
bool survives_lost_memory(std::string_view provider);

// The NICs of a provider, or of those of its addresses that the configuration names. Where it
// names none, a provider over the kernel's sockets has one NIC, `asked_address`, unless that is
// empty. kUnsupported says what is missing.
Result<std::vector<NicInfo>> find_nics(const Library& library, std::string_view provider,
                                       const Config& config, const std::string& asked_address = {});

// A row for efa, and one for each other provider that could serve.
std::vector<TransportInfo> describe(const Config& config);

}  // namespace te::fabric
