// SIGINT and SIGTERM withdraw the engines that asked for it, then do what they would have done.
#pragma once

#include <functional>

#include "transfer_engine/status.h"

namespace te {

// From now until disable, `withdraw` is called once before the process ends by such a signal, on a
// thread of its own. `key` names the engine. kResource: there is no thread or descriptor for it.
Status enable_graceful_shutdown(const void* key, std::function<void()> withdraw);
// After it, `withdraw` does not run and is not running.
void disable_graceful_shutdown(const void* key);

}  // namespace te
