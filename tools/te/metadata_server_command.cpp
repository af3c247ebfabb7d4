// `te metadata-server`: its command line. Only the main thread enters.
#include <memory>

#include "arguments.h"
#include "command.h"
#include "metadata_server.h"

namespace te::tool {
namespace {

void add_security(CLI::App& server, MetadataServerOptions& options) {
  CLI::Option* const cert =
      server
          .add_option("--tls-cert", options.tls_cert, "Serve over TLS with this certificate (PEM)")
          ->type_name("FILE");
  server.add_option("--tls-key", options.tls_key, "Its private key; default: in the same file")
      ->type_name("FILE")
      ->needs(cert);
  server
      .add_option("--tls-ca", options.tls_ca,
                  "Demand client certificates, from these authorities (PEM)")
      ->type_name("FILE")
      ->needs(cert);
  CLI::Option* const tokens =
      server
          .add_option("--token-file", options.token_file,
                      "Let only those write who have one of these tokens, one a line")
          ->type_name("FILE");
  server.add_flag("--protect-reads", options.protect_reads, "Demand a token to read names too")
      ->needs(tokens);
}

}  // namespace

void add_metadata_server(CLI::App& app, Action& action) {
  auto options = std::make_shared<MetadataServerOptions>();
  CLI::App* const server = app.add_subcommand(
      "metadata-server", "Serve segment names over HTTP, for clusters without etcd or redis");
  server->add_option("--host", options->host, "Address to listen on")
      ->type_name("ADDRESS")
      ->capture_default_str();
  server->add_option("--port", options->port, "Port to listen on; 0: any free one")
      ->transform(whole_number_between(0, 65535))
      ->type_name("PORT")
      ->capture_default_str();
  server->add_option("--path", options->path, "Path of the names in the URL")
      ->check(CLI::Validator(
          [](std::string& path) {
            return path.starts_with('/') ? "" : "'" + path + "' is not accepted: it begins with /";
          },
          ""))
      ->type_name("PATH")
      ->capture_default_str();
  server->add_option("--max-entries", options->max_entries, "Maximum number of names")
      ->transform(whole_number_between(1, 100'000'000))
      ->type_name("N")
      ->capture_default_str();
  server->add_option("--max-value-size", options->max_value_bytes, "Maximum size of a value")
      ->transform(size_between(1, 64 << 20))
      ->type_name("SIZE")
      ->default_str("64K");
  add_security(*server, *options);
  server->footer(
      "Names are kept in memory. Exit code 0 after a stop signal.\n"
      "With --token-file a name is changed or removed only with the token that wrote it. An "
      "engine\n"
      "gives its token by TRANSFER_ENGINE_DIRECTORY_TOKEN_FILE, and certificates by\n"
      "TRANSFER_ENGINE_DIRECTORY_TLS_CA, ..._TLS_CERT and ..._TLS_KEY.\n"
      "Examples:\n"
      "  te metadata-server\n"
      "  te metadata-server --host 127.0.0.1 --port 8080\n"
      "  te metadata-server --tls-cert server.crt --tls-key server.key --token-file tokens\n"
      "  te bench target --metadata http://127.0.0.1:8080/metadata --name node-7");
  server->callback(
      [options, &action] { action = [options] { return run_metadata_server(*options); }; });
}

}  // namespace te::tool
