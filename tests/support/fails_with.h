// What a failure has to say.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "transfer_engine/status.h"

namespace te::test {

// Expects an error with this code whose text mentions `text`.
inline testing::AssertionResult fails_with(const Status& status, Code code,
                                           const std::string& text) {
  if (status.code() == code && status.message().find(text) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure()
         << "wanted " << code_name(code) << " with '" << text << "', got: " << status.to_string();
}

template <typename T>
testing::AssertionResult fails_with(const Result<T>& result, Code code, const std::string& text) {
  return fails_with(result.status(), code, text);
}

}  // namespace te::test
