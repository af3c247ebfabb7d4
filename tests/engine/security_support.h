// Settings of engines with security = tls, for their tests.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "engine/pair.h"
#include "tls/cluster.h"

namespace te::test {

using Settings = std::map<std::string, std::string>;

inline Settings tls_settings(const tls::Files& files) {
  Settings result = {{"security", "tls"},
                     {"tls_cert", files.certificate},
                     {"tls_key", files.key},
                     {"tls_ca", files.authority},
                     {"retry_window_ms", "500"}};
  if (!files.allowed.empty()) result["tls_allow"] = files.allowed;
  if (!files.revoked.empty()) result["tls_crl"] = files.revoked;
  if (!files.policy.empty()) result["tls_policy"] = files.policy;
  return result;
}

inline Settings secret_settings(const std::string& file) {
  return {{"security", "tls"}, {"tls_psk_file", file}, {"retry_window_ms", "500"}};
}

// Why the only request failed; ok if it did not.
inline Status failure_of(Engine& engine, const TransferRequest& request) {
  Result<BatchId> batch = engine.allocate_batch(1);
  if (!batch.ok()) return batch.status();
  Status why = engine.submit(*batch, {&request, 1});
  if (why.ok()) {
    EXPECT_TRUE(engine.wait(*batch, std::chrono::seconds(60)).ok());
    if (engine.batch_status(*batch)->state != TaskState::kCompleted) {
      why = engine.task_error(*batch, 0)->status;
      EXPECT_FALSE(why.ok());
    }
  }
  EXPECT_TRUE(engine.free_batch(*batch).ok());
  return why;
}

}  // namespace te::test
