// Opens the directory that a connection string names.
#include "directory/directory.h"

#include "base/log.h"
#include "directory/connection.h"
#include "directory/credentials.h"
#include "directory/leased.h"
#include "directory/p2p.h"
#include "directory/store.h"

namespace te {
namespace {

// Longer ones would serve nobody, and could overflow a server's arithmetic.
constexpr std::chrono::seconds kMaxLease{24 * 3600};

Status check_options(const DirectoryOptions& options) {
  if (options.timeout <= std::chrono::milliseconds(0)) {
    return Status(Code::kInvalidArgument, "the directory's timeout must be more than 0 ms");
  }
  if (options.lease < std::chrono::seconds(1) || options.lease > kMaxLease) {
    return error(Code::kInvalidArgument, "the directory's lease must be from 1 to {} s, not {}",
                 kMaxLease.count(), options.lease.count());
  }
  return {};
}

std::unique_ptr<Store> make_store(const Connection& connection, const DirectoryOptions& options) {
  switch (connection.kind) {
    case DirectoryKind::kEtcd:
      return make_etcd_store(connection, options);
    case DirectoryKind::kRedis:
      return make_redis_store(connection, options);
    case DirectoryKind::kHttp:
      return make_http_store(connection, options);
    case DirectoryKind::kP2p:
      break;
  }
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<Directory>> open_directory(std::string_view connection,
                                                  const DirectoryOptions& options) {
  TE_RETURN_IF_ERROR(check_options(options));
  const Result<Connection> parsed = parse_connection(connection);
  if (!parsed.ok()) return parsed.status();
  if (parsed->kind == DirectoryKind::kP2p) return make_p2p_directory();
  TE_RETURN_IF_ERROR(check_security(*parsed, options.tls, options.login));

  std::unique_ptr<Store> store = make_store(*parsed, options);
  TE_RETURN_IF_ERROR(store->check().with_context("cannot use the metadata server"));
  return std::unique_ptr<Directory>(std::make_unique<LeasedDirectory>(std::move(store), options));
}

}  // namespace te
