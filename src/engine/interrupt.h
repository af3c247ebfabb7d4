// Waiting for a peer on a thread that may be interrupted meanwhile (Interruptible, engine.h).
//
// Threads: any. An Interruptible belongs to the thread that made it.
#pragma once

#include <optional>

#include "engine/answer.h"
#include "transfer_engine/status.h"

namespace te {

// Nothing once the thread is interrupted; the answer may still come then.
std::optional<Status> get_unless_interrupted(Answer<Status>& answer);
// What a call ends with that was interrupted.
Status interrupted_call();

}  // namespace te
