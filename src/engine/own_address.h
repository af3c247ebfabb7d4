// Which address an engine listens on, and which one it tells its peers: what was asked for, or an
// error that says why not.
//
// Threads: any; nothing here keeps state. Only this_machine() and its functions look at the
// machine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/socket.h"
#include "transfer_engine/status.h"

namespace te {

// What the caller and the configuration ask for; empty: nothing.
struct AddressWish {
  std::string name;              // the segment's; an address only where it happens to be one
  bool name_is_address = false;  // there is no directory: the name has no other use
  std::string host;
  std::string advertise_address;
  std::string bind_address;
};

struct Machine {
  std::vector<InterfaceAddress> interfaces;
  std::string name;
  std::string towards_directory;  // the local address from which it is reached, or empty
  // Numeric addresses of a name. The first may ask name servers, the second does not.
  std::function<Result<std::vector<std::string>>(const std::string&)> resolve;
  std::function<std::vector<std::string>(const std::string&)> look_up_hosts_file;
};
Machine this_machine(std::string towards_directory);

struct OwnAddress {
  std::string advertised;  // without brackets and port; a link-local one with its zone
  std::string bind;        // empty: every address
  std::string asked;       // of this machine, by bind_address, host or name; empty: none was
};

// In this order: `advertise_address`, which may be any; `bind_address`, unless it stands for every
// address; `host`; `name`; the address that reaches the directory; that of the first interface.
//
// kInvalidArgument: an address was asked for that this machine does not have, that cannot be
// resolved or understood, or on which the engine would not listen. A `name` is never an error where
// it is no address, since it may be any text; nor is a `host` that is the same text, since the Rust
// API gives one for both. Name servers are asked only about what can be nothing but an address.
Result<OwnAddress> choose_own_address(const AddressWish& wish, const Machine& machine);

}  // namespace te
