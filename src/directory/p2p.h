// The directory without a server: the name is the address.
#pragma once

#include <memory>

#include "directory/directory.h"

namespace te {

std::unique_ptr<Directory> make_p2p_directory();

}  // namespace te
