// SIGINT and SIGTERM withdraw the engines that asked for it, where the application leaves these
// signals to their default, which is the end of the process. So does exit().
//
// Nothing is done about a signal that the application ignores or handles when an engine asks: it
// goes on then, or ends in its own way. With the last engine the dispositions are as before.
#pragma once

#include <functional>

#include "transfer_engine/status.h"

namespace te {

// From now until disable, `withdraw` is called once before the process ends by such a signal, on a
// thread of its own; those of all engines run at once. The process ends after kWithdrawMs at the
// latest, by the same signal. `key` names the engine. kResource: there is no thread for it.
Status enable_graceful_shutdown(const void* key, std::function<void()> withdraw);
// After it, `withdraw` does not run and is not running.
void disable_graceful_shutdown(const void* key);

inline constexpr int kWithdrawMs = 1'500;

}  // namespace te
