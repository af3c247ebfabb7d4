// What this process may do to its own memory, as its page tables say.
#pragma once

#include <span>
#include <vector>

#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

// For each range what all of its pages allow; ranges may come in any order. kInvalidArgument names
// the first range that is not mapped, that was mapped without any access (PROT_NONE), or whose
// pages have no access in common. Empty and wrapping ranges are not looked at.
//
// One query per mapping where the kernel answers them (PROCMAP_QUERY, Linux 6.11), else one reading
// of /proc/self/maps, however many ranges there are. Without /proc, and without a free descriptor,
// only unmapped memory is found; the rest counts as readable and writable.
Result<std::vector<Rights>> local_rights(std::span<const BufferEntry> ranges);

}  // namespace te
