// Runs experiments one after the other; what goes wrong in one is noted in its rows and does not
// end the others. Threads: the main thread.
#pragma once

#include "experiment.h"

namespace te::bench {

// All of the suite, in the order of the report.
Experiments all_experiments();
// Those with a row whose name matches.
Result<Experiments> select(Experiments experiments, const std::string& filter);

// Progress goes to stderr. Ends early when a stop signal comes: the rows are those measured so far.
std::vector<Row> run(Bench& bench, Experiments& experiments);

}  // namespace te::bench
