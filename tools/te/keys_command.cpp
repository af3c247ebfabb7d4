// `te keys`: certificates, their authority and shared secrets for the setting security = tls. Only
// the main thread enters.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include <fmt/core.h>

#include "arguments.h"
#include "certificates.h"
#include "command.h"

namespace te::tool {
namespace {

namespace fs = std::filesystem;

struct KeysOptions {
  std::string folder = "keys";
  std::string name = "transfer engine authority";
  std::string member;
  std::vector<std::string> dns, uris, addresses, certificates;
  uint64_t days = 365;
  std::string file = "secret";
};

// For a shell.
std::string for_shell(const fs::path& file) {
  const std::string text = fs::absolute(file).string();
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%";
  if (text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string result = "'";
  for (const char each : text) result += each == '\'' ? std::string("'\\''") : std::string(1, each);
  return result + "'";
}

Status cannot_write(const fs::path& file) {
  return Status(Code::kInvalidArgument,
                fmt::format("cannot write '{}': {}", file.string(), std::strerror(errno)));
}

// All at once, so that an engine that looks at this moment finds the old text or the new one.
// Nobody else may read it. `fresh`: nothing may be there yet.
Status write_file(const fs::path& file, const std::string& text, bool fresh) {
  if (fresh && fs::exists(file)) {
    return Status(Code::kAlreadyExists,
                  fmt::format("'{}' is there already, and is not replaced", file.string()));
  }
  const fs::path part = file.string() + ".part";
  ::unlink(part.c_str());
  const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
  if (fd < 0) return cannot_write(part);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fsync(fd) == 0;
  if (::close(fd) != 0 || !written || ::rename(part.c_str(), file.c_str()) != 0) {
    return cannot_write(file);
  }
  return {};
}

Result<std::string> read_file(const fs::path& file) {
  std::ifstream in(file);
  if (!in) {
    return Status(Code::kNotFound,
                  fmt::format("cannot read '{}': {}", file.string(), std::strerror(errno)));
  }
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Result<Authority> load_authority(const fs::path& folder) {
  const Result<std::string> certificate = read_file(folder / "authority.pem");
  if (!certificate.ok()) return certificate.status();
  const Result<std::string> key = read_file(folder / "authority.key");
  if (!key.ok()) return key.status();
  return Authority::load(*certificate, *key);
}

Status make_authority(const KeysOptions& options) {
  const fs::path folder = options.folder;
  std::error_code why;
  fs::create_directories(folder, why);
  if (why) {
    return Status(Code::kInvalidArgument,
                  fmt::format("cannot make the folder '{}': {}", options.folder, why.message()));
  }
  const Result<Authority> made = Authority::make(options.name);
  if (!made.ok()) return made.status();
  Status status = write_file(folder / "authority.key", made->key(), true);
  if (status.ok()) status = write_file(folder / "authority.pem", made->certificate(), true);
  if (!status.ok()) return status;
  return print(
      fmt::format("{}: for tls_ca of every engine\n"
                  "{}: keep it where no engine runs; it signs certificates\n",
                  (folder / "authority.pem").string(), (folder / "authority.key").string()));
}

// Of files in the folder.
Status check_member_name(const std::string& name) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  const bool taken = name == "authority" || name == "revoked";
  if (!taken && !name.empty() && name[0] != '.' && name[0] != '-' &&
      name.find_first_not_of(kLetters) == std::string::npos) {
    return {};
  }
  return Status(Code::kInvalidArgument,
                taken ? fmt::format("'{}' names files of the authority", name)
                      : "the name of a member has letters, digits, '.', '_' and '-', and begins "
                        "with a letter or digit; --dns, --uri and --ip give it others");
}

Status make_member(const KeysOptions& options) {
  Status named = check_member_name(options.member);
  if (!named.ok()) return named;
  const fs::path folder = options.folder;
  const Result<Authority> authority = load_authority(folder);
  if (!authority.ok()) return authority.status();
  Authority::Request request;
  request.name = options.member;
  request.ends_s = static_cast<int64_t>(options.days) * 86'400;
  for (const std::string& each : options.dns) request.names.push_back("DNS:" + each);
  for (const std::string& each : options.uris) request.names.push_back("URI:" + each);
  for (const std::string& each : options.addresses) request.names.push_back("IP:" + each);
  if (request.names.empty()) request.names.push_back("DNS:" + options.member);
  const Result<Issued> issued = authority->issue(request);
  if (!issued.ok()) return issued.status();
  const fs::path certificate = folder / (options.member + ".pem"),
                 key = folder / (options.member + ".key");
  Status status = write_file(key, issued->key, false);
  if (status.ok()) status = write_file(certificate, issued->certificate, false);
  if (!status.ok()) return status;
  return print(
      fmt::format("export TRANSFER_ENGINE_SECURITY=tls\n"
                  "export TRANSFER_ENGINE_TLS_CERT={}\n"
                  "export TRANSFER_ENGINE_TLS_KEY={}\n"
                  "export TRANSFER_ENGINE_TLS_CA={}\n",
                  for_shell(certificate), for_shell(key), for_shell(folder / "authority.pem")));
}

Status revoke(const KeysOptions& options) {
  const fs::path folder = options.folder;
  const Result<Authority> authority = load_authority(folder);
  if (!authority.ok()) return authority.status();
  std::vector<std::string> certificates;
  for (const std::string& each : options.certificates) {
    const Result<std::string> text = read_file(each);
    if (!text.ok()) return text.status();
    certificates.push_back(*text);
  }
  const Result<std::string> list = authority->revoke(certificates);
  if (!list.ok()) return list.status();
  Status status = write_file(folder / "revoked.pem", *list, false);
  if (!status.ok()) return status;
  return print(fmt::format("{}: for tls_crl of every engine; it has these {} certificates alone\n",
                           (folder / "revoked.pem").string(), certificates.size()));
}

Status make_secret_file(const KeysOptions& options) {
  const Result<std::string> secret = make_secret();
  if (!secret.ok()) return secret.status();
  std::string before;
  if (fs::exists(options.file)) {
    const Result<std::string> text = read_file(options.file);
    if (!text.ok()) return text.status();
    // Peers that have not got the new one yet are let in with the one before.
    before = text->substr(0, text->find('\n')) + "\n";
  }
  const Result<std::string> name = name_of_secret(*secret);
  if (!name.ok()) return name.status();
  Status status = write_file(options.file, *secret + "\n" + before, false);
  if (!status.ok()) return status;
  return print(
      fmt::format("export TRANSFER_ENGINE_SECURITY=tls\n"
                  "export TRANSFER_ENGINE_TLS_PSK_FILE={}\n"
                  "# in tls_policy and logs, engines with it are called {}\n",
                  for_shell(options.file), *name));
}

}  // namespace

void add_keys(CLI::App& app, Action& action) {
  auto options = std::make_shared<KeysOptions>();
  CLI::App* const keys = app.add_subcommand(
      "keys", "Make certificates or a shared secret for the setting security = tls");
  keys->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, Status (*run)(const KeysOptions&)) {
    CLI::App* const command = keys->add_subcommand(name, help);
    command->callback([options, &action, run] {
      action = [options, run] {
        const Status status = run(*options);
        return status.ok() ? kExitOk : fail(status);
      };
    });
    return command;
  };
  const auto add_folder = [&](CLI::App* command) {
    command->add_option("--folder", options->folder, "Where the authority's files are")
        ->type_name("FOLDER")
        ->capture_default_str();
  };
  CLI::App* const authority =
      add("authority", "A new authority: authority.pem, authority.key", make_authority);
  add_folder(authority);
  authority->add_option("--name", options->name, "Its name")->capture_default_str();
  CLI::App* const member =
      add("member", "A certificate of an engine: NAME.pem, NAME.key", make_member);
  add_folder(member);
  member->add_option("NAME", options->member, "Its name")->required();
  member->add_option("--dns", options->dns, "A DNS name in it; NAME if nothing is given");
  member->add_option("--uri", options->uris, "A URI in it, such as spiffe://cluster/engine");
  member->add_option("--ip", options->addresses, "An address in it");
  member->add_option("--days", options->days, "For how long it is valid")
      ->transform(whole_number_between(1, 10'000))
      ->type_name("N")
      ->capture_default_str();
  CLI::App* const revoked = add("revoke", "A list of certificates that are let in no more", revoke);
  add_folder(revoked);
  revoked->add_option("CERTIFICATE", options->certificates, "PEM files, all that are revoked")
      ->required();
  CLI::App* const secret = add("secret", "A secret that all engines share", make_secret_file);
  secret->add_option("FILE", options->file, "Where it is written, before the one that is there")
      ->capture_default_str();
  keys->footer(
      "Examples:\n"
      "  te keys authority && te keys member node-1 && te keys member node-2\n"
      "  te keys member node-1 --uri spiffe://cluster/ns/prod/engine --days 30\n"
      "  te keys revoke keys/node-1.pem\n"
      "  te keys secret /etc/transfer-engine/secret");
}

}  // namespace te::tool
